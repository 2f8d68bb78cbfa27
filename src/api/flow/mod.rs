//! Flow control: which flow schema and priority level a request belongs to, and the seats of each level. The schemas and levels that
//! every cluster has are [`crate::resources::flow_bootstrap`].

mod bounds;
mod classify;
mod matching;
mod metrics;
mod queues;
mod seats;

pub use classify::{Classified, Classifier};
pub use metrics::COLLECTORS;
pub use seats::Seat;
