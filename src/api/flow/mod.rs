//! Flow control: which flow schema and priority level a request belongs to, and the ones that every cluster has.

mod bootstrap;
mod classify;
mod matching;

pub use bootstrap::objects;
pub use classify::{Classified, Classifier};
