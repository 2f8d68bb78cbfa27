//! Verifying service account tokens.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use jiff::Timestamp;
use parking_lot::Mutex;
use serde::Deserialize;
use sha2::{Digest, Sha256};

use super::{Claims, KeySet, Reference, TrustedKey, claims::user_name, metrics};
use crate::{
    auth::{Authenticator, Credentials, TokenOwner, x509::CREDENTIAL_ID},
    meta::{Clock, GroupResource, ObjectKey, time::parse_time},
    notices::Notices,
    service::{Listers, UserInfo},
    status::Status,
};

/// How far clocks may differ, and how long a deleted object still counts, in seconds.
const LEEWAY: i64 = 60;
/// Tokens whose good signature is remembered.
const REMEMBERED: usize = 4096;

/// Authenticates by service account token.
pub struct Verifier {
    keys: KeySet,
    issuers: Vec<String>,
    /// The API server's own audiences.
    audiences: Vec<String>,
    listers: Arc<dyn Listers>,
    clock: Arc<dyn Clock>,
    good: Mutex<Remembered>,
}

/// Claims of tokens with a good signature, by the token's hash; the oldest goes first.
#[derive(Default)]
struct Remembered {
    /// The keys that verified them.
    keys: Arc<Vec<TrustedKey>>,
    claims: HashMap<[u8; 32], Arc<Claims>>,
    order: VecDeque<[u8; 32]>,
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    #[serde(default)]
    kid: String,
}

impl Verifier {
    /// Accepts tokens that one of `keys` signed for one of `issuers`; requests need one of `audiences`.
    pub fn new(keys: impl Into<KeySet>, issuers: Vec<String>, audiences: Vec<String>, listers: Arc<dyn Listers>, clock: Arc<dyn Clock>) -> Self {
        Verifier { keys: keys.into(), issuers, audiences, listers, clock, good: Mutex::default() }
    }

    /// Whether a token is meant to be one of ours and names a key that is not known here.
    pub fn lacks_key_of(&self, token: &str) -> bool {
        let ours = Parts::of(token).filter(|parts| self.issuers.contains(&parts.claims.iss));
        ours.is_some_and(|parts| !parts.header.kid.is_empty() && !self.keys.has(&parts.header.kid))
    }

    /// Checks everything about a token. `Ok(None)` for tokens of other issuers, and for what is no JWT at all.
    ///
    /// # Errors
    /// What is wrong with it, in upstream's words.
    pub fn verify(&self, token: &str, audiences: &[String]) -> Result<Option<TokenOwner>, String> {
        self.verify_telling(token, audiences, None)
    }

    /// The same; what there is to say about a token that is taken is told.
    fn verify_telling(&self, token: &str, audiences: &[String], notices: Option<&Notices>) -> Result<Option<TokenOwner>, String> {
        let Some(claims) = self.claims(token)? else { return Ok(None) };
        let now = self.clock.now();
        check_times(&claims, now.as_second())?;
        let audiences = self.matching_audiences(&claims, audiences)?;
        self.check_objects(&claims, now)?;
        tell_of_age(&claims, now, notices);
        Ok(Some(TokenOwner { user: user_of(&claims), audiences }))
    }

    /// The claims of a token of ours with a good signature.
    fn claims(&self, token: &str) -> Result<Option<Arc<Claims>>, String> {
        let hash: [u8; 32] = Sha256::digest(token).into();
        let keys = self.keys.load();
        if let Some(claims) = self.good.lock().under(&keys).claims.get(&hash) {
            return Ok(Some(claims.clone()));
        }
        let Some(parts) = Parts::of(token) else { return Ok(None) };
        // The issuer is not to be trusted yet; it only says whether the token is meant to be one of ours.
        if !self.issuers.contains(&parts.claims.iss) {
            return Ok(None);
        }
        let named = keys.iter().map(|trusted| &trusted.key).filter(|key| parts.header.kid.is_empty() || key.id() == parts.header.kid);
        let mut candidates = named.filter(|key| key.algorithm() == parts.header.alg);
        if !candidates.any(|key| key.verifies(parts.message, &parts.signature)) {
            return Err("invalid signature".to_owned());
        }
        let claims = Arc::new(parts.claims);
        self.good.lock().under(&keys).remember(hash, claims.clone());
        Ok(Some(claims))
    }

    /// Those of the audiences asked for (the API server's own by default) that the token is for.
    fn matching_audiences(&self, claims: &Claims, asked: &[String]) -> Result<Vec<String>, String> {
        let wanted = if asked.is_empty() { &self.audiences } else { asked };
        let matching = wanted.iter().filter(|audience| claims.aud.contains(audience)).cloned().collect::<Vec<_>>();
        if matching.is_empty() {
            return Err(format!("token audiences {:?} is invalid for the target audiences {wanted:?}", claims.aud));
        }
        Ok(matching)
    }

    /// The service account and what the token is bound to must still be there, and still be the same.
    fn check_objects(&self, claims: &Claims, now: Timestamp) -> Result<(), String> {
        let subject = &claims.kubernetes;
        let namespaced = |reference: &Reference| ObjectKey::new(subject.namespace.as_str(), reference.name.as_str());
        let account = &subject.serviceaccount;
        let gone = format!("serviceaccounts \"{}\" not found", account.name);
        let deleted = format!("service account {}/{} has been deleted", subject.namespace, account.name);
        self.check_object("serviceaccounts", &namespaced(account), account, "service account UID ({}) does not match claim", &gone, &deleted, now)?;
        let invalidated = "service account token has been invalidated";
        let check = |resource: &str, key: ObjectKey, reference: &Reference, mismatch: &str| {
            self.check_object(resource, &key, reference, mismatch, invalidated, invalidated, now)
        };
        if let Some(secret) = &subject.secret {
            check("secrets", namespaced(secret), secret, "secret UID ({}) does not match service account secret ref claim")?;
        }
        match (&subject.pod, &subject.node) {
            (Some(pod), _) => check("pods", namespaced(pod), pod, "pod UID ({}) does not match service account pod ref claim"),
            (None, Some(node)) => {
                check("nodes", ObjectKey::cluster(node.name.as_str()), node, "node UID ({}) does not match service account node ref claim")
            }
            (None, None) => Ok(()),
        }
    }

    #[expect(clippy::too_many_arguments, reason = "one call per kind of object, each with its own words")]
    fn check_object(
        &self,
        resource: &str,
        key: &ObjectKey,
        reference: &Reference,
        mismatch: &str,
        gone: &str,
        deleted: &str,
        now: Timestamp,
    ) -> Result<(), String> {
        let object = self.listers.get(&GroupResource::new("", resource), key).ok_or_else(|| gone.to_owned())?;
        let meta = object.meta();
        if *meta.uid != *reference.uid {
            return Err(format!("{} ({})", mismatch.replace("{}", &meta.uid), reference.uid));
        }
        let since = meta.deletion_timestamp.as_deref().and_then(|time| parse_time(time).ok());
        if since.is_some_and(|since| since.as_second() < now.as_second() - LEEWAY) {
            return Err(deleted.to_owned());
        }
        Ok(())
    }
}

impl Authenticator for Verifier {
    fn authenticate(&self, credentials: &Credentials<'_>) -> Result<Option<UserInfo>, Status> {
        let Some(token) = credentials.bearer else { return Ok(None) };
        match self.verify_telling(token, &[], credentials.notices) {
            Ok(owner) => Ok(owner.map(|owner| owner.user)),
            Err(reason) => {
                tracing::debug!(reason, "a service account token was refused");
                Err(Status::unauthorized())
            }
        }
    }

    fn review_token(&self, token: &str, audiences: &[String]) -> Result<Option<TokenOwner>, String> {
        self.verify(token, audiences).map_err(|reason| format!("[invalid bearer token, {reason}]"))
    }
}

/// A token taken apart, nothing checked.
struct Parts<'a> {
    header: Header,
    claims: Claims,
    message: &'a [u8],
    signature: Vec<u8>,
}

impl<'a> Parts<'a> {
    fn of(token: &'a str) -> Option<Self> {
        let (message, signature) = token.rsplit_once('.')?;
        let (header, claims) = message.split_once('.')?;
        let decode = |part: &str| BASE64_URL_SAFE_NO_PAD.decode(part).ok();
        Some(Parts {
            header: serde_json::from_slice(&decode(header)?).ok()?,
            claims: serde_json::from_slice(&decode(claims)?).ok()?,
            message: message.as_bytes(),
            signature: decode(signature)?,
        })
    }
}

impl Remembered {
    /// Forgets what other keys have verified.
    fn under(&mut self, keys: &Arc<Vec<TrustedKey>>) -> &mut Self {
        if !Arc::ptr_eq(&self.keys, keys) {
            *self = Remembered { keys: keys.clone(), ..Remembered::default() };
        }
        self
    }

    fn remember(&mut self, hash: [u8; 32], claims: Arc<Claims>) {
        if self.claims.insert(hash, claims).is_none() {
            self.order.push_back(hash);
        }
        while self.order.len() > REMEMBERED {
            let oldest = self.order.pop_front().expect("there are more than none");
            self.claims.remove(&oldest);
        }
    }
}

fn check_times(claims: &Claims, now: i64) -> Result<(), String> {
    let wrong = if claims.exp < now - LEEWAY {
        "service account token has expired"
    } else if claims.nbf > now + LEEWAY {
        "service account token is not valid yet"
    } else if claims.iat > now + LEEWAY {
        "service account token is issued in the future"
    } else {
        return Ok(());
    };
    Err(wrong.to_owned())
}

/// A token of a pod lives longer than it should be used; who goes on using it is told of.
fn tell_of_age(claims: &Claims, now: Timestamp, notices: Option<&Notices>) {
    let Some(after) = claims.kubernetes.warnafter.filter(|after| *after != 0) else { return };
    let is_stale = Timestamp::from_second(after).is_ok_and(|after| now > after);
    metrics::projected(is_stale);
    if let (true, Some(notices)) = (is_stale, notices) {
        let seconds = now.as_second() - after;
        let text = format!("subject: {}, seconds after warning threshold: {seconds}", claims.sub);
        notices.annotate("authentication.k8s.io/stale-token", text);
    }
}

/// The user a token stands for.
fn user_of(claims: &Claims) -> UserInfo {
    let subject = &claims.kubernetes;
    let mut extra = std::collections::BTreeMap::new();
    let mut tell = |key: &str, value: &str| {
        if !value.is_empty() {
            extra.insert(key.to_owned(), vec![value.to_owned()]);
        }
    };
    for (reference, name, uid) in [
        (&subject.pod, "authentication.kubernetes.io/pod-name", "authentication.kubernetes.io/pod-uid"),
        (&subject.node, "authentication.kubernetes.io/node-name", "authentication.kubernetes.io/node-uid"),
    ] {
        let Some(reference) = reference else { continue };
        tell(name, &reference.name);
        tell(uid, &reference.uid);
    }
    if !claims.jti.is_empty() {
        tell(CREDENTIAL_ID, &format!("JTI={}", claims.jti));
    }
    UserInfo {
        name: user_name(&subject.namespace, &subject.serviceaccount.name),
        uid: subject.serviceaccount.uid.clone(),
        groups: vec!["system:serviceaccounts".into(), format!("system:serviceaccounts:{}", subject.namespace)],
        extra,
    }
}
