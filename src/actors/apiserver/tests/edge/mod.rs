//! What clients see at the edge of the API, through the front door: texts, forms and codes that upstream's clients compare.

mod bodies;
mod conflicts;
mod documents;
pub mod door;
mod expressions;
mod pods;
mod services;
