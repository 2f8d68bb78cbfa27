//! Admission webhooks, through a whole API server and a webhook on this machine.

mod audit;
mod connections;
pub mod endpoint;
mod failures;
mod mutating;
mod operations;
mod validating;
