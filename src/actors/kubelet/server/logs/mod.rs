//! Container logs: the runtime's format, the part that is wanted, and following a file that grows and is rotated.

pub mod follow;
pub mod format;
pub mod printer;
pub mod tail;
mod watched;

pub use follow::{LogStreamError, stream};
