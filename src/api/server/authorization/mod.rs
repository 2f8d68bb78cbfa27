//! Who is asked what a user may do, as `AuthorizationConfiguration` says it.
//!
//! In: a file, and the attributes of requests. Out: authorizers in their order; of webhooks (`SubjectAccessReview`) the decision, which
//! counts for a while and is bounded in number.

mod blocking;
mod conditions;
pub mod config;
mod fixed;
mod load;
mod reload;
mod review;
#[cfg(test)]
mod tests;
mod validation;
mod webhook;

pub use blocking::{BlockingAuthenticator, BlockingAuthorizer};
pub use config::{AuthorizationConfiguration, Mode};
pub use fixed::Always;
pub use load::AuthorizationConfigError;
pub use reload::RELOADS;
pub use webhook::{COLLECTORS, WebhookAuthorizer};
