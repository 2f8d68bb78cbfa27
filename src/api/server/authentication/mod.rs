//! Identities that others vouch for: OpenID Connect issuers and a webhook for tokens, as `AuthenticationConfiguration` or flags name them.
//!
//! In: bearer tokens. Out: users, or why there is none. Issuers are asked for their keys when the first token of theirs comes, and again
//! when one is signed with a key that is not known; the webhook is asked for each token that is not remembered. What is remembered is
//! bounded. No token is ever logged.

pub mod config;
mod load;
mod oidc;
mod reload;
mod validation;
mod webhook;

pub use config::{Anonymous, AuthenticationConfiguration};
pub use load::{AuthenticationConfigError, OidcFlags};
pub use oidc::JwtAuthenticator;
pub use reload::RELOADS;
pub use webhook::{COLLECTORS, TokenWebhook};
