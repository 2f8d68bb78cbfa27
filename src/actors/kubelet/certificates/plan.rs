//! When a certificate is renewed. Pure.

use std::time::Duration;

use jiff::Timestamp;
use troupe_api::{
    auth::{
        pki::KeyedCertificate,
        x509::{CertificateFacts, facts_of_pem},
    },
    certificates::Draft,
};

/// What to do about a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    Request,
    /// Nothing for so long.
    Wait(Duration),
}

/// Renewal comes when between seven and nine tenths of the certificate's time have passed, as `jitter` (0 to 1) says.
/// One that cannot be read, or does not say what the draft says, is replaced at once.
pub fn next(held: Option<&KeyedCertificate>, draft: &Draft, jitter: f64, now: Timestamp) -> Next {
    let Some(facts) = held.and_then(|held| facts_of_pem(held.certificate_pem.as_bytes())) else { return Next::Request };
    if !fits(&facts, draft) {
        return Next::Request;
    }
    let total = facts.not_after.duration_since(facts.not_before).as_secs_f64();
    let passed = now.duration_since(facts.not_before).as_secs_f64();
    let left = total * (0.7 + 0.2 * jitter.clamp(0.0, 1.0)) - passed;
    if left > 0.0 { Next::Wait(Duration::from_secs_f64(left)) } else { Next::Request }
}

fn fits(facts: &CertificateFacts, draft: &Draft) -> bool {
    facts.common_name == draft.common_name
        && draft.ips.iter().all(|ip| facts.ips.contains(ip))
        && draft.dns_names.iter().all(|name| facts.dns_names.contains(name))
}
