//! Tokens out of secrets (KEP-2799): each day on which one is used is noted on its secret, and those that were made for service accounts and that
//! nobody uses any more are marked as invalid, and deleted when nobody missed them.
//!
//! [`usage`] and [`tracking`] belong to an API server, [`cleaner`] to the controllers.

pub mod cleaner;
mod plan;
pub mod tracking;
pub mod usage;

pub use cleaner::{LegacyTokenCleaner, UNUSED};
pub use tracking::LegacyTokenTracking;
pub use usage::{NotedUses, TokenUseController};
