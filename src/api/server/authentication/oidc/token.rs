//! A token taken apart (RFC 7519), before anything about it is believed.

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use serde::Deserialize;
use serde_json::{Map, Value};

/// How long ago the time may be that a token begins at, in seconds.
const LEEWAY: f64 = 300.0;
const GOOGLE: &str = "accounts.google.com";

/// Its parts.
pub struct Token<'a> {
    pub header: Header,
    pub claims: Map<String, Value>,
    /// What is signed.
    pub message: &'a [u8],
    pub signature: Vec<u8>,
}

#[derive(Deserialize)]
pub struct Header {
    pub alg: String,
    #[serde(default)]
    pub kid: String,
    /// What in the header must be understood.
    pub crit: Option<Value>,
}

impl<'a> Token<'a> {
    /// Nothing where it is none.
    pub fn of(text: &'a str) -> Option<Self> {
        let (message, signature) = text.rsplit_once('.')?;
        let (header, claims) = message.split_once('.').filter(|(_, claims)| !claims.contains('.'))?;
        let decode = |part: &str| BASE64_URL_SAFE_NO_PAD.decode(part).ok();
        Some(Token {
            header: serde_json::from_slice(&decode(header)?).ok()?,
            claims: serde_json::from_slice(&decode(claims)?).ok()?,
            message: message.as_bytes(),
            signature: decode(signature)?,
        })
    }

    /// Who says to have issued it.
    pub fn issuer(&self) -> String {
        let issuer = self.claims.get("iss").and_then(Value::as_str).unwrap_or_default();
        // Google leaves the scheme out.
        if issuer == GOOGLE { format!("https://{GOOGLE}") } else { issuer.to_owned() }
    }

    /// Checks whom it is for and when.
    ///
    /// # Errors
    /// What does not fit.
    pub fn check(&self, audiences: &[String], now: f64) -> Result<(), String> {
        let number = |claim: &str| self.claims.get(claim).and_then(Value::as_f64);
        match number("exp") {
            Some(ends) if ends > now => {}
            Some(_) => return Err("oidc: token is expired".into()),
            None => return Err("oidc: token has no time at which it ends".into()),
        }
        if number("nbf").is_some_and(|begins| begins > now + LEEWAY) {
            return Err("oidc: current time before the nbf (not before) time".into());
        }
        let found: Vec<&str> = match self.claims.get("aud") {
            Some(Value::String(one)) => vec![one],
            Some(Value::Array(all)) => all.iter().filter_map(Value::as_str).collect(),
            _ => Vec::new(),
        };
        if found.iter().any(|audience| audiences.iter().any(|wanted| wanted == audience)) {
            return Ok(());
        }
        Err(format!("oidc: expected audience in {audiences:?} got {found:?}"))
    }
}
