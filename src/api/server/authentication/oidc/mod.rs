//! Tokens of OpenID Connect issuers.

mod authenticator;
mod keys;
pub mod mapping;
mod provider;
#[cfg(test)]
mod tests;
mod token;

pub use authenticator::JwtAuthenticator;
