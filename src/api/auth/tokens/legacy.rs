//! Tokens that live in secrets of type `kubernetes.io/service-account-token`, as long as those. Each use is noted (KEP-2799): such tokens do not
//! end by themselves, and those that nobody uses are taken away.

use std::sync::Arc;

use base64::{
    Engine,
    prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD},
};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{
    Issuer, KeyError, KeySet, TokenUses,
    claims::user_name,
    metrics,
    usage::{INVALID_SINCE, LAST_USED, is_noted},
};
use crate::{
    auth::{Authenticator, Credentials, TokenOwner},
    meta::{Clock, GroupResource, ObjectKey},
    notices::Notices,
    service::{Listers, UserInfo},
    status::Status,
    stored::StoredObject,
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
    keys: KeySet,
    /// The API server's own audiences, which these tokens are for.
    audiences: Vec<String>,
    listers: Arc<dyn Listers>,
    clock: Arc<dyn Clock>,
    uses: Arc<dyn TokenUses>,
}

/// What a token is about.
struct Found {
    secret: Arc<StoredObject>,
    account: Arc<StoredObject>,
}

/// Of a service account only the secrets that were made for it.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Account {
    secrets: Vec<SecretReference>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct SecretReference {
    name: String,
}

impl LegacyVerifier {
    /// Accepts tokens that one of `keys` signed, and tells `uses` of them.
    pub fn new(keys: impl Into<KeySet>, audiences: Vec<String>, listers: Arc<dyn Listers>, clock: Arc<dyn Clock>, uses: Arc<dyn TokenUses>) -> Self {
        LegacyVerifier { keys: keys.into(), audiences, listers, clock, uses }
    }

    /// Whose token it is, and which of `audiences` it is for; `Ok(None)` for tokens of other issuers, and for what is no JWT at all.
    fn verify(&self, token: &str, audiences: &[String], notices: Option<&Notices>) -> Result<Option<TokenOwner>, String> {
        let Some(claims) = claims_of(token).filter(|claims| claims.iss == ISSUER) else { return Ok(None) };
        let signed = token.rsplit_once('.').and_then(|(message, signature)| Some((message, BASE64_URL_SAFE_NO_PAD.decode(signature).ok()?)));
        let keys = self.keys.load();
        if !signed.is_some_and(|(message, signature)| keys.iter().any(|trusted| trusted.key.verifies(message.as_bytes(), &signature))) {
            return Err("invalid signature".to_owned());
        }
        metrics::legacy();
        annotate(notices, "legacy-token", &claims.sub);
        let audiences = self.matching_audiences(audiences)?;
        if claims.sub != user_name(&claims.namespace, &claims.account) {
            return Err("sub claim is missing or wrong".to_owned());
        }
        let found = self.check_objects(&claims, token)?;
        self.follow(&claims, &found, notices)?;
        let groups = vec!["system:serviceaccounts".into(), format!("system:serviceaccounts:{}", claims.namespace)];
        let user = UserInfo { name: claims.sub, uid: claims.uid, groups, ..UserInfo::default() };
        Ok(Some(TokenOwner { user, audiences }))
    }

    /// Those of the audiences asked for (the API server's own by default) that such tokens are for.
    fn matching_audiences(&self, asked: &[String]) -> Result<Vec<String>, String> {
        let wanted = if asked.is_empty() { &self.audiences } else { asked };
        let matching: Vec<String> = wanted.iter().filter(|audience| self.audiences.contains(audience)).cloned().collect();
        if matching.is_empty() {
            return Err(format!("token audiences {:?} is invalid for the target audiences {wanted:?}", self.audiences));
        }
        Ok(matching)
    }

    /// The secret must still hold this token, and the account must still be the same.
    fn check_objects(&self, claims: &LegacyClaims, token: &str) -> Result<Found, String> {
        let find = |resource: &str, name: &str| {
            let key = ObjectKey::new(claims.namespace.as_str(), name);
            self.listers.get(&GroupResource::new("", resource), &key)
        };
        let invalidated = || "Token has been invalidated".to_owned();
        let secret = find("secrets", &claims.secret).ok_or_else(invalidated)?;
        if secret.meta().deletion_timestamp.is_some() {
            return Err(invalidated());
        }
        let held = BASE64_STANDARD.decode(secret.to_object().str(&["data", "token"])).unwrap_or_default();
        if held != token.as_bytes() {
            return Err("Token does not match server's copy".to_owned());
        }
        let account = find("serviceaccounts", &claims.account).ok_or_else(|| format!("serviceaccounts \"{}\" not found", claims.account))?;
        let found = &account.meta().uid;
        if account.meta().deletion_timestamp.is_some() {
            return Err(format!("ServiceAccount {}/{} has been deleted", claims.namespace, claims.account));
        }
        if **found != *claims.uid {
            return Err(format!("ServiceAccount UID ({found}) does not match claim ({})", claims.uid));
        }
        Ok(Found { secret, account })
    }

    /// Notes the use of a token on its secret, in the audit event and for the client, and refuses it where the secret is marked as invalid.
    fn follow(&self, claims: &LegacyClaims, found: &Found, notices: Option<&Notices>) -> Result<(), String> {
        if !is_noted(found.secret.meta().labels.get(LAST_USED), self.clock.now()) {
            self.uses.used(&found.secret.key);
        }
        let LegacyClaims { namespace, secret, account, .. } = claims;
        if found.secret.meta().labels.get(INVALID_SINCE).is_some_and(|since| !since.is_empty()) {
            annotate(notices, "legacy-token-invalidated", &format!("{secret}/{namespace}"));
            metrics::invalidated();
            return Err(format!(
                "the token in secret {namespace}/{secret} for service account {namespace}/{account} has been marked invalid. Use tokens from the \
                 TokenRequest API or manually created secret-based tokens, or remove the '{INVALID_SINCE}' label from the secret to temporarily \
                 allow use of this token"
            ));
        }
        let of_account: Account = serde_json::from_slice(&found.account.encoded()).unwrap_or_default();
        let was_generated = of_account.secrets.iter().any(|reference| reference.name == *secret);
        annotate(notices, if was_generated { "legacy-token-autogenerated-secret" } else { "legacy-token-manual-secret" }, secret);
        if let (true, Some(notices)) = (was_generated, notices) {
            notices
                .warn("Use tokens from the TokenRequest API or manually created secret-based tokens instead of auto-generated secret-based tokens.");
        }
        metrics::taken(was_generated);
        Ok(())
    }
}

/// Adds an annotation of `authentication.k8s.io` to the audit event.
fn annotate(notices: Option<&Notices>, name: &str, text: &str) {
    if let Some(notices) = notices {
        notices.annotate(format!("authentication.k8s.io/{name}"), text);
    }
}

fn claims_of(token: &str) -> Option<LegacyClaims> {
    let claims = token.split('.').nth(1)?;
    serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(claims).ok()?).ok()
}

impl Authenticator for LegacyVerifier {
    fn authenticate(&self, credentials: &Credentials<'_>) -> Result<Option<UserInfo>, Status> {
        let Some(token) = credentials.bearer else { return Ok(None) };
        let owner = self.verify(token, &[], credentials.notices).map_err(|reason| {
            tracing::debug!(reason, "a token out of a secret was refused");
            Status::unauthorized()
        })?;
        Ok(owner.map(|owner| owner.user))
    }

    fn review_token(&self, token: &str, audiences: &[String]) -> Result<Option<TokenOwner>, String> {
        self.verify(token, audiences, None).map_err(|reason| format!("[invalid bearer token, {reason}]"))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use jiff::Timestamp;
    use parking_lot::Mutex;
    use ring::{
        rand::SystemRandom,
        signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair},
    };
    use serde_json::Value;

    use super::*;
    use crate::auth::{rbac::tests::FixedListers, tokens::SigningKey};

    /// An hour before midnight.
    #[derive(Debug)]
    struct Late;

    impl Clock for Late {
        fn now(&self) -> Timestamp {
            "2026-01-31T23:00:00Z".parse().expect("a time")
        }

        fn instant(&self) -> Instant {
            Instant::now()
        }
    }

    /// Remembers what it is told.
    #[derive(Default)]
    struct Heard(Mutex<Vec<String>>);

    impl TokenUses for Heard {
        fn used(&self, secret: &ObjectKey) {
            self.0.lock().push(secret.to_string());
        }
    }

    fn issuer() -> Issuer {
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new()).expect("a key");
        Issuer::new(SigningKey::from_pkcs8(pkcs8.as_ref()).expect("reads"))
    }

    fn token(issuer: &Issuer) -> String {
        issuer.issue_legacy(&ObjectKey::new("ns", "bot"), "u1", "s").expect("signs")
    }

    /// A cluster whose secret holds `held`, and has these labels; its service account refers to these secrets.
    fn following(issuer: &Issuer, held: &str, uid: &str, labels: Value, secrets: Value) -> (LegacyVerifier, Arc<Heard>) {
        let mut listers = FixedListers::default();
        let meta = |name: &str, labels: Value| json!({"name": name, "namespace": "ns", "uid": uid, "labels": labels});
        let account = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": meta("bot", json!({})), "secrets": secrets});
        listers.add(&GroupResource::new("", "serviceaccounts"), account);
        let data = json!({"token": BASE64_STANDARD.encode(held)});
        let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": meta("s", labels), "data": data});
        listers.add(&GroupResource::new("", "secrets"), secret);
        let heard: Arc<Heard> = Arc::default();
        let audiences = issuer.audiences().to_vec();
        (LegacyVerifier::new(vec![issuer.public_key().clone()], audiences, Arc::new(listers), Arc::new(Late), heard.clone()), heard)
    }

    fn verifier(issuer: &Issuer, held: &str, uid: &str) -> LegacyVerifier {
        following(issuer, held, uid, json!({}), json!([])).0
    }

    #[test]
    fn a_token_holds_as_long_as_its_secret_and_its_account() {
        let issuer = issuer();
        let token = token(&issuer);
        let user = verifier(&issuer, &token, "u1").verify(&token, &[], None).expect("is good").expect("an owner").user;
        assert_eq!((user.name.as_str(), user.uid.as_str()), ("system:serviceaccount:ns:bot", "u1"));
        assert_eq!(user.groups, ["system:serviceaccounts", "system:serviceaccounts:ns"]);
        let refused = |verifier: LegacyVerifier| verifier.verify(&token, &[], None).expect_err("is refused");
        assert_eq!(refused(verifier(&issuer, "another", "u1")), "Token does not match server's copy");
        assert_eq!(refused(verifier(&issuer, &token, "u2")), "ServiceAccount UID (u2) does not match claim (u1)");
        assert_eq!(refused(verifier(&self::issuer(), &token, "u1")), "invalid signature");
    }

    #[test]
    fn other_tokens_are_left_to_others() {
        let issuer = issuer();
        assert_eq!(verifier(&issuer, "", "u").verify("abc", &[], None), Ok(None));
        assert_eq!(verifier(&issuer, "", "u").verify("a.e30.b", &[], None), Ok(None));
    }

    #[test]
    fn each_day_of_use_is_noted_once() {
        let issuer = issuer();
        let token = token(&issuer);
        let heard = |labels: Value| {
            let (verifier, heard) = following(&issuer, &token, "u1", labels, json!([]));
            verifier.review_token(&token, &[]).expect("is good").expect("an owner");
            heard.0.lock().clone()
        };
        let noted = ["ns/s".to_owned()];
        assert_eq!(heard(json!({})), noted);
        assert_eq!(heard(json!({LAST_USED: "2026-01-30"})), noted);
        assert!(heard(json!({LAST_USED: "2026-01-31"})).is_empty());
        assert!(heard(json!({LAST_USED: "2026-02-01"})).is_empty(), "another server's clock is ahead");
    }

    #[test]
    fn what_is_said_of_a_use_depends_on_who_made_the_secret() {
        let issuer = issuer();
        let token = token(&issuer);
        let told = |secrets: Value| {
            let (verifier, _) = following(&issuer, &token, "u1", json!({}), secrets);
            let notices = Notices::default();
            let credentials = Credentials { bearer: Some(&token), notices: Some(&notices), ..Credentials::default() };
            verifier.authenticate(&credentials).expect("is good").expect("a user");
            (notices.warnings().len(), json!(notices.annotations()))
        };
        let (name, subject) = ("authentication.k8s.io/legacy-token", "system:serviceaccount:ns:bot");
        assert_eq!(told(json!([{"name": "other"}])), (0, json!({name: subject, format!("{name}-manual-secret"): "s"})));
        assert_eq!(told(json!([{"name": "s"}])), (1, json!({name: subject, format!("{name}-autogenerated-secret"): "s"})));
    }

    #[test]
    fn a_token_that_is_marked_as_invalid_is_refused_and_its_use_noted() {
        let issuer = issuer();
        let token = token(&issuer);
        let (verifier, heard) = following(&issuer, &token, "u1", json!({INVALID_SINCE: "2026-01-01"}), json!([{"name": "s"}]));
        let notices = Notices::default();
        let refusal = verifier.verify(&token, &[], Some(&notices)).expect_err("is refused");
        let want = "the token in secret ns/s for service account ns/bot has been marked invalid. Use tokens from the TokenRequest API or manually \
                    created secret-based tokens, or remove the 'kubernetes.io/legacy-token-invalid-since' label from the secret to temporarily \
                    allow use of this token";
        assert_eq!(refusal, want);
        assert_eq!(notices.annotations().get("authentication.k8s.io/legacy-token-invalidated").map(String::as_str), Some("s/ns"));
        assert!(notices.warnings().is_empty());
        assert_eq!(heard.0.lock().len(), 1);
    }
}
