//! Who may approve, sign or attest for a signer of certificates: the verbs of `signers`, which are no objects.

use super::{Attributes, Authorizer, Decision, decide};
use crate::service::UserInfo;

/// Whether the user holds `verb` on the signer, by its name or by its domain (`example.com/*`).
pub async fn may(authorizer: &dyn Authorizer, user: &UserInfo, verb: &str, signer: &str) -> bool {
    let domain = format!("{}/*", signer.split('/').next().unwrap_or_default());
    for name in [signer, &domain] {
        let attributes = Attributes { verb, group: "certificates.k8s.io", version: "*", resource: "signers", name, ..Attributes::default() };
        if decide(authorizer, user, &attributes).await == Decision::Allow {
            return true;
        }
    }
    false
}
