//! What Prometheus reads: metric families under upstream's names and labels, and the text form.
//!
//! A component declares its families as statics ([`Family`]) and names them in a list of [`Collect`]ors; what can be read
//! off existing state at the time of a scrape is a collector of its own. Nothing on a hot path takes a lock: a thread
//! finds the series it used before in a memo of its own, and a series is a few atomics.

mod departures;
mod family;
pub mod health;
pub mod parse;
mod process;
mod series;
mod series_labels;
mod text;

pub use departures::Departures;
pub use family::{Family, Memo, Metric};
pub use process::{BuildInfo, Process};
pub use series::{Counter, Gauge, Histogram, exponential};
pub use series_labels::SeriesLabels;
pub use text::{CONTENT_TYPE, Collect, Text, render};

/// Upstream's buckets for the latency of API and store requests, in seconds.
pub const REQUEST_SECONDS: [f64; 23] =
    [0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.25, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 15.0, 20.0, 30.0, 45.0, 60.0];
/// Prometheus' buckets for what says nothing better, in seconds.
pub const DEFAULT_SECONDS: [f64; 11] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];
