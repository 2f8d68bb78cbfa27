//! Tokens that live in secrets of type `kubernetes.io/service-account-token`, as long as those.

use std::sync::Arc;

use base64::{
    Engine,
    prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD},
};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{Issuer, KeyError, PublicKey, claims::user_name};
use crate::{
    auth::{Authenticator, Credentials, TokenOwner},
    meta::{GroupResource, ObjectKey},
    service::{Listers, UserInfo},
    status::Status,
};

const ISSUER: &str = "kubernetes/serviceaccount";

#[derive(Debug, Serialize, Deserialize)]
struct LegacyClaims {
    iss: String,
    #[serde(rename = "kubernetes.io/serviceaccount/namespace")]
    namespace: String,
    #[serde(rename = "kubernetes.io/serviceaccount/secret.name")]
    secret: String,
    #[serde(rename = "kubernetes.io/serviceaccount/service-account.name")]
    account: String,
    #[serde(rename = "kubernetes.io/serviceaccount/service-account.uid")]
    uid: String,
    sub: String,
}

impl Issuer {
    /// Signs the token that `secret` is to hold for the service account `account`.
    ///
    /// # Errors
    /// When the system has no randomness to give.
    pub fn issue_legacy(&self, account: &ObjectKey, uid: &str, secret: &str) -> Result<String, KeyError> {
        let claims = LegacyClaims {
            iss: ISSUER.into(),
            namespace: account.namespace.to_string(),
            secret: secret.into(),
            account: account.name.to_string(),
            uid: uid.into(),
            sub: user_name(&account.namespace, &account.name),
        };
        self.key.sign(&json!(claims))
    }
}

/// Authenticates by tokens out of secrets.
pub struct LegacyVerifier {
    keys: Vec<PublicKey>,
    /// The API server's own audiences, which these tokens are for.
    audiences: Vec<String>,
    listers: Arc<dyn Listers>,
}

impl LegacyVerifier {
    /// Accepts tokens that one of `keys` signed.
    pub fn new(keys: Vec<PublicKey>, audiences: Vec<String>, listers: Arc<dyn Listers>) -> Self {
        LegacyVerifier { keys, audiences, listers }
    }

    /// Whose token it is; `Ok(None)` for tokens of other issuers, and for what is no JWT at all.
    fn verify(&self, token: &str) -> Result<Option<UserInfo>, String> {
        let Some(claims) = claims_of(token).filter(|claims| claims.iss == ISSUER) else { return Ok(None) };
        let signed = token.rsplit_once('.').and_then(|(message, signature)| Some((message, BASE64_URL_SAFE_NO_PAD.decode(signature).ok()?)));
        if !signed.is_some_and(|(message, signature)| self.keys.iter().any(|key| key.verifies(message.as_bytes(), &signature))) {
            return Err("invalid signature".to_owned());
        }
        if claims.sub != user_name(&claims.namespace, &claims.account) {
            return Err("sub claim is missing or wrong".to_owned());
        }
        self.check_objects(&claims, token)?;
        let groups = vec!["system:serviceaccounts".into(), format!("system:serviceaccounts:{}", claims.namespace)];
        Ok(Some(UserInfo { name: claims.sub, uid: claims.uid, groups, ..UserInfo::default() }))
    }

    /// The secret must still hold this token, and the account must still be the same.
    fn check_objects(&self, claims: &LegacyClaims, token: &str) -> Result<(), String> {
        let find = |resource: &str, name: &str| {
            let key = ObjectKey::new(claims.namespace.as_str(), name);
            self.listers.get(&GroupResource::new("", resource), &key)
        };
        let invalidated = || "Token has been invalidated".to_owned();
        let secret = find("secrets", &claims.secret).ok_or_else(invalidated)?.to_object();
        let held = BASE64_STANDARD.decode(secret.str(&["data", "token"])).unwrap_or_default();
        if secret.is_terminating() || held != token.as_bytes() {
            return Err(invalidated());
        }
        let account = find("serviceaccounts", &claims.account).ok_or_else(|| format!("serviceaccounts \"{}\" not found", claims.account))?;
        let found = &account.meta().uid;
        if account.meta().deletion_timestamp.is_some() {
            return Err(format!("ServiceAccount {}/{} has been deleted", claims.namespace, claims.account));
        }
        if **found != *claims.uid {
            return Err(format!("ServiceAccount UID ({found}) does not match claim ({})", claims.uid));
        }
        Ok(())
    }
}

fn claims_of(token: &str) -> Option<LegacyClaims> {
    let claims = token.split('.').nth(1)?;
    serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(claims).ok()?).ok()
}

impl Authenticator for LegacyVerifier {
    fn authenticate(&self, credentials: &Credentials<'_>) -> Result<Option<UserInfo>, Status> {
        let Some(token) = credentials.bearer else { return Ok(None) };
        self.verify(token).map_err(|reason| {
            tracing::debug!(reason, "a token out of a secret was refused");
            Status::unauthorized()
        })
    }

    fn review_token(&self, token: &str, audiences: &[String]) -> Result<Option<TokenOwner>, String> {
        let refusal = |reason: String| format!("[invalid bearer token, {reason}]");
        let Some(user) = self.verify(token).map_err(refusal)? else { return Ok(None) };
        let wanted = if audiences.is_empty() { &self.audiences } else { audiences };
        let matching: Vec<String> = wanted.iter().filter(|audience| self.audiences.contains(audience)).cloned().collect();
        if matching.is_empty() {
            return Err(refusal(format!("token audiences {:?} is invalid for the target audiences {wanted:?}", self.audiences)));
        }
        Ok(Some(TokenOwner { user, audiences: matching }))
    }
}

#[cfg(test)]
mod tests {
    use ring::{
        rand::SystemRandom,
        signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair},
    };

    use super::*;
    use crate::auth::{rbac::tests::FixedListers, tokens::SigningKey};

    fn issuer() -> Issuer {
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new()).expect("a key");
        Issuer::new(SigningKey::from_pkcs8(pkcs8.as_ref()).expect("reads"))
    }

    fn verifier(issuer: &Issuer, held: &str, uid: &str) -> LegacyVerifier {
        let mut listers = FixedListers::default();
        let meta = |name: &str| json!({"name": name, "namespace": "ns", "uid": uid});
        listers.add(&GroupResource::new("", "serviceaccounts"), json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": meta("bot")}));
        let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": meta("s"), "data": {"token": BASE64_STANDARD.encode(held)}});
        listers.add(&GroupResource::new("", "secrets"), secret);
        LegacyVerifier::new(vec![issuer.public_key().clone()], issuer.audiences().to_vec(), Arc::new(listers))
    }

    #[test]
    fn a_token_holds_as_long_as_its_secret_and_its_account() {
        let issuer = issuer();
        let token = issuer.issue_legacy(&ObjectKey::new("ns", "bot"), "u1", "s").expect("signs");
        let user = verifier(&issuer, &token, "u1").verify(&token).expect("is good").expect("a user");
        assert_eq!((user.name.as_str(), user.uid.as_str()), ("system:serviceaccount:ns:bot", "u1"));
        assert_eq!(user.groups, ["system:serviceaccounts", "system:serviceaccounts:ns"]);
        let refused = |verifier: LegacyVerifier| verifier.verify(&token).expect_err("is refused");
        assert_eq!(refused(verifier(&issuer, "another", "u1")), "Token has been invalidated");
        assert_eq!(refused(verifier(&issuer, &token, "u2")), "ServiceAccount UID (u2) does not match claim (u1)");
        assert_eq!(refused(verifier(&self::issuer(), &token, "u1")), "invalid signature");
    }

    #[test]
    fn other_tokens_are_left_to_others() {
        let issuer = issuer();
        assert_eq!(verifier(&issuer, "", "u").verify("abc"), Ok(None));
        assert_eq!(verifier(&issuer, "", "u").verify("a.e30.b"), Ok(None));
    }
}
