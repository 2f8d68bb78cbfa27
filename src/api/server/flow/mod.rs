//! Flow control: which flow schema and priority level a request belongs to, and the seats of each level. The schemas and levels that
//! every cluster has are [`troupe_api::resources::flow_bootstrap`].

mod bounds;
mod classify;
mod dump;
mod matching;
mod metrics;
mod queues;
mod room;
mod sampling;
mod seats;
mod watches;
mod work;

pub use classify::{Classified, Classifier};
pub use dump::Dump;
pub use metrics::COLLECTORS;
pub use room::Parts;
pub use sampling::Sampler;
pub use seats::Seat;
pub use watches::Watching;
pub use work::{Asks, WorkEstimate};
