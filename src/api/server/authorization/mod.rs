//! Who is asked what a user may do, as `AuthorizationConfiguration` or flags say it.
//!
//! In: a file, and the attributes of requests. Out: authorizers in their order; of webhooks (`SubjectAccessReview`) the decision, which
//! counts for a while and is bounded in number.

mod abac;
mod blocking;
mod conditions;
pub mod config;
mod fixed;
mod flags;
mod load;
mod reload;
mod review;
#[cfg(test)]
mod tests;
mod validation;
mod webhook;

pub use abac::{AbacAuthorizer, AbacError};
pub use blocking::{BlockingAuthenticator, BlockingAuthorizer};
pub use config::{AuthorizationConfiguration, Mode};
pub use fixed::Always;
pub use flags::AuthorizationFlags;
pub use load::AuthorizationConfigError;
pub use reload::RELOADS;
pub use webhook::{COLLECTORS, WebhookAuthorizer};
