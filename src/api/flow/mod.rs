//! Flow control: which flow schema and priority level a request belongs to, the seats of each level, and the schemas and
//! levels that every cluster has.

mod bootstrap;
mod bounds;
mod classify;
mod matching;
mod metrics;
mod queues;
mod seats;

pub use bootstrap::objects;
pub use classify::{Classified, Classifier};
pub use metrics::COLLECTORS;
pub use seats::Seat;
