//! Bearer tokens that are bootstrap tokens.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Secret;
use subtle::ConstantTimeEq;

use super::{BootstrapToken, NAMESPACE, field, groups, has_expired, is_token};
use crate::{
    auth::{Authenticator, Credentials, TokenOwner},
    meta::{Clock, GroupResource, ObjectKey},
    service::{Listers, UserInfo},
    status::Status,
};

/// Authenticates holders of bootstrap tokens as `system:bootstrap:ID`.
pub struct BootstrapTokenAuthenticator {
    listers: Arc<dyn Listers>,
    clock: Arc<dyn Clock>,
    /// The API server's own audiences, which such tokens are for.
    audiences: Vec<String>,
}

impl BootstrapTokenAuthenticator {
    pub fn new(listers: Arc<dyn Listers>, clock: Arc<dyn Clock>, audiences: Vec<String>) -> Self {
        BootstrapTokenAuthenticator { listers, clock, audiences }
    }

    /// The holder; `None` for every other text, and for tokens that are wrong, over or not meant for this.
    fn holder(&self, text: &str) -> Option<UserInfo> {
        let token: BootstrapToken = text.parse().ok()?;
        let key = ObjectKey::new(NAMESPACE, token.secret_name());
        let stored = self.listers.get(&GroupResource::new("", "secrets"), &key)?;
        let secret = stored.typed::<Secret>().ok()?;
        let known = field(&secret, "token-secret");
        let right = bool::from(known.as_bytes().ct_eq(token.secret.as_bytes()));
        let usable = secret.metadata.deletion_timestamp.is_none() && is_token(&secret) && field(&secret, "token-id") == token.id;
        if !right || !usable || has_expired(&secret, self.clock.now()) || field(&secret, "usage-bootstrap-authentication") != "true" {
            return None;
        }
        Some(UserInfo { name: format!("system:bootstrap:{}", token.id), groups: groups(&secret)?, ..UserInfo::default() })
    }
}

impl Authenticator for BootstrapTokenAuthenticator {
    fn authenticate(&self, credentials: &Credentials<'_>) -> Result<Option<UserInfo>, Status> {
        Ok(credentials.bearer.and_then(|token| self.holder(token)))
    }

    fn review_token(&self, token: &str, audiences: &[String]) -> Result<Option<TokenOwner>, String> {
        let Some(user) = self.holder(token) else { return Ok(None) };
        let wanted = if audiences.is_empty() { &self.audiences } else { audiences };
        let audiences: Vec<String> = wanted.iter().filter(|audience| self.audiences.contains(audience)).cloned().collect();
        Ok((!audiences.is_empty()).then_some(TokenOwner { user, audiences }))
    }
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;
    use serde_json::{Value, json};

    use super::*;
    use crate::{
        auth::rbac::tests::FixedListers,
        meta::{SystemClock, time::format_time},
    };

    fn encode(text: &str) -> String {
        use base64::{Engine, prelude::BASE64_STANDARD};
        BASE64_STANDARD.encode(text)
    }

    fn secret(ends_in: i64, groups: &str) -> Value {
        let end = SystemClock.now() + SignedDuration::from_secs(ends_in);
        json!({"apiVersion": "v1", "kind": "Secret", "type": super::super::SECRET_TYPE,
            "metadata": {"name": "bootstrap-token-abcdef", "namespace": "kube-system"},
            "data": {"token-id": encode("abcdef"), "token-secret": encode("0123456789abcdef"), "expiration": encode(&format_time(end)),
                "usage-bootstrap-authentication": encode("true"), "auth-extra-groups": encode(groups)}})
    }

    fn authenticate(secret: Value, token: &str) -> Option<UserInfo> {
        let mut listers = FixedListers::default();
        listers.add(&GroupResource::new("", "secrets"), secret);
        let authenticator = BootstrapTokenAuthenticator::new(Arc::new(listers), Arc::new(SystemClock), vec!["api".into()]);
        authenticator.authenticate(&Credentials { bearer: Some(token), ..Credentials::default() }).expect("no opinion at worst")
    }

    #[test]
    fn the_holder_of_a_token_is_a_bootstrapper() {
        let user = authenticate(secret(60, super::super::NODE_GROUP), "abcdef.0123456789abcdef").expect("a user");
        assert_eq!(user.name, "system:bootstrap:abcdef");
        assert_eq!(user.groups, ["system:bootstrappers", "system:bootstrappers:kubeadm:default-node-token"]);
    }

    #[test]
    fn wrong_expired_and_malformed_tokens_authenticate_nobody() {
        for (token, ends_in, groups) in [
            ("abcdef.0123456789abcdeg", 60, ""),
            ("abcdee.0123456789abcdef", 60, ""),
            ("abcdef", 60, ""),
            ("abcdef.0123456789abcdef", -1, ""),
            ("abcdef.0123456789abcdef", 60, "system:masters"),
        ] {
            assert_eq!(authenticate(secret(ends_in, groups), token), None, "{token} {ends_in} {groups}");
        }
    }
}
