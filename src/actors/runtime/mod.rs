//! Supervisor, traced envelope, key queue, cache, clock, recorder and directory of live actors.

pub mod cache;
pub(crate) mod chaos;
pub mod controller;
pub mod directory;
pub mod doing;
pub mod envelope;
pub mod events;
pub mod fingerprint;
pub mod freshness;
pub mod host;
pub mod lag;
pub mod leader;
pub mod lease;
pub mod metrics;
pub mod panics;
pub mod placement;
pub mod queue;
pub mod recorder;
pub mod resume;
mod spawn;
pub mod system;
pub mod token_bucket;
mod totals;
pub mod turn;
pub mod turns;
pub mod unit;
pub mod work;
