//! `serviceaccounts/token`: from a TokenRequest to a token.

use std::sync::Arc;

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Issuer, Kubernetes, Reference};
use crate::{
    meta::{
        GroupResource, GroupVersion, Object, ObjectKey,
        time::{format_time, shifted_by_seconds},
    },
    notices::Notices,
    service::Listers,
    status::{FieldError, Status},
    stored::StoredObject,
};

const GROUP: &str = "authentication.k8s.io";
const KIND: &str = "TokenRequest";
/// What a request that names no lifetime gets.
const DEFAULT_SECONDS: i64 = 3600;
const MIN_SECONDS: i64 = 600;
const MAX_SECONDS: i64 = 1 << 32;
/// The lifetime that kubelets ask for the tokens mounted by default, and what those are extended to.
const USUAL_POD_SECONDS: i64 = 3607;
const EXTENDED_SECONDS: i64 = 365 * 24 * 3600;

/// What a token is bound to beside its service account.
#[derive(Default)]
struct Binding {
    pod: Option<Reference>,
    node: Option<Reference>,
    secret: Option<Reference>,
}

/// Annotates audit events with the credential that was issued, by which those of its use name it (`authentication.kubernetes.io/credential-id`).
const ISSUED: &str = "authentication.kubernetes.io/issued-credential-id";

/// The answer to a TokenRequest, but for the token.
pub struct UnsignedToken {
    /// What is to be signed.
    pub claims: Value,
    reply: Object,
    expiry: String,
}

impl UnsignedToken {
    /// The answer with its token.
    pub fn answer(mut self, token: &str) -> Object {
        self.reply.set(&["status"], json!({"token": token, "expirationTimestamp": self.expiry}));
        self.reply
    }
}

/// Answers a TokenRequest for the service account `key`: the request with defaults, token and expiry filled in. The issuer signs itself; `notices`
/// are told which token that is.
///
/// # Errors
/// 404 when the account or the bound object is not there, 409 when a uid is another's, 422 for a bad lifetime.
pub fn token_request(
    issuer: &Issuer,
    listers: &dyn Listers,
    key: &ObjectKey,
    request: &Object,
    now: Timestamp,
    notices: &Notices,
) -> Result<Object, Status> {
    let unsigned = unsigned_token(issuer, listers, key, request, now, notices)?;
    let token = issuer.sign(&unsigned.claims).map_err(|error| Status::internal(format!("failed to generate token: {error}")))?;
    Ok(unsigned.answer(&token))
}

/// The same without the token.
///
/// # Errors
/// Those of [`token_request`].
pub fn unsigned_token(
    issuer: &Issuer,
    listers: &dyn Listers,
    key: &ObjectKey,
    request: &Object,
    now: Timestamp,
    notices: &Notices,
) -> Result<UnsignedToken, Status> {
    for (field, given, wanted, what) in [
        ("metadata.name", request.name(), &key.name, "must match the service account name if specified"),
        ("metadata.namespace", request.namespace(), &key.namespace, "must match the service account namespace if specified"),
    ] {
        if !given.is_empty() && *given != **wanted {
            return Err(Status::invalid(GROUP, KIND, &key.name, vec![FieldError::invalid(field, given, what)]));
        }
    }
    let account = lookup(listers, "serviceaccounts", key)?;
    let uid = &account.meta().uid;
    if !request.uid().is_empty() && *request.uid() != **uid {
        let why = format!("the UID in the token request ({}) does not match the UID of the service account ({uid})", request.uid());
        return Err(Status::conflict(&GroupResource::new(GROUP, KIND), &key.name, why));
    }
    let seconds = request.int(&["spec", "expirationSeconds"]).unwrap_or(DEFAULT_SECONDS);
    check_lifetime(seconds)?;
    let seconds = issuer.longest.map_or(seconds, |longest| seconds.min(longest));
    let audiences = match request.list(&["spec", "audiences"]) {
        [] => issuer.audiences().to_vec(),
        asked => asked.iter().filter_map(|audience| audience.as_str().map(str::to_owned)).collect(),
    };
    let bound = bind(listers, key, request)?;
    let extended = issuer.extend && bound.pod.is_some() && seconds == USUAL_POD_SECONDS && audiences.iter().all(|a| issuer.audiences().contains(a));
    let subject = Kubernetes {
        namespace: key.namespace.to_string(),
        serviceaccount: reference(&account),
        pod: bound.pod,
        node: bound.node,
        secret: bound.secret,
        warnafter: extended.then(|| now.as_second() + seconds),
    };
    let extension = issuer.elsewhere.as_ref().map_or(EXTENDED_SECONDS, |elsewhere| EXTENDED_SECONDS.min(elsewhere.longest));
    let claims = issuer.claims(subject, &audiences, now, if extended { extension } else { seconds });
    let mut reply = request.clone();
    reply.set(&["apiVersion"], "authentication.k8s.io/v1");
    reply.set(&["kind"], KIND);
    for (field, value) in [("name", &*key.name), ("namespace", &*key.namespace), ("uid", &**uid), ("creationTimestamp", &format_time(now))] {
        reply.set(&["metadata", field], value);
    }
    reply.set(&["spec", "audiences"], audiences);
    reply.set(&["spec", "expirationSeconds"], seconds);
    reply.set_default(&["spec", "boundObjectRef"], Value::Null);
    notices.annotate(ISSUED, format!("JTI={}", claims["jti"].as_str().unwrap_or_default()));
    Ok(UnsignedToken { claims, reply, expiry: format_time(shifted_by_seconds(now, seconds)) })
}

/// What is said about a request whose token lasts less than is asked for.
pub fn shortened(issuer: &Issuer, request: &Object) -> Option<String> {
    let asked = request.int(&["spec", "expirationSeconds"]).unwrap_or(DEFAULT_SECONDS);
    let longest = issuer.longest.filter(|longest| *longest < asked)?;
    Some(format!("requested expiration of {asked} seconds shortened to {longest} seconds"))
}

fn check_lifetime(seconds: i64) -> Result<(), Status> {
    let why = match seconds {
        ..MIN_SECONDS => "may not specify a duration less than 10 minutes",
        MIN_SECONDS..=MAX_SECONDS => return Ok(()),
        _ => "may not specify a duration larger than 2^32 seconds",
    };
    Err(Status::invalid(GROUP, KIND, "", vec![FieldError::invalid("spec.expirationSeconds", seconds, why)]))
}

/// Resolves `spec.boundObjectRef`.
fn bind(listers: &dyn Listers, account: &ObjectKey, request: &Object) -> Result<Binding, Status> {
    let field = |name: &str| request.str(&["spec", "boundObjectRef", name]);
    if request.get(&["spec", "boundObjectRef"]).is_none_or(Value::is_null) {
        return Ok(Binding::default());
    }
    let (kind, name) = (field("kind"), field("name"));
    let version = GroupVersion::parse(field("apiVersion"));
    let namespaced = ObjectKey::new(account.namespace.clone(), name);
    let mut binding = Binding::default();
    let object = match (&*version.group, kind) {
        ("", "Pod") => {
            let pod = lookup(listers, "pods", &namespaced)?;
            let (owner, node) = pod_facts(&pod);
            if owner != *account.name {
                let why = format!("cannot bind token for serviceaccount {:?} to pod running with different serviceaccount name.", account.name);
                return Err(Status::bad_request(why));
            }
            binding.node = (!node.is_empty()).then(|| node_reference(listers, &node));
            binding.pod = Some(reference(&pod));
            pod
        }
        ("", "Secret") => {
            let secret = lookup(listers, "secrets", &namespaced)?;
            binding.secret = Some(reference(&secret));
            secret
        }
        ("", "Node") => {
            let node = lookup(listers, "nodes", &ObjectKey::cluster(name))?;
            binding.node = Some(reference(&node));
            node
        }
        _ => {
            let kind = format!("{}/{}, Kind={kind}", version.group, version.version);
            return Err(Status::bad_request(format!("cannot bind token to object of type {kind}")));
        }
    };
    let (wanted, found) = (field("uid"), &object.meta().uid);
    if !wanted.is_empty() && *wanted != **found {
        let why = format!(
            "the UID in the bound object reference ({wanted}) does not match the UID in record. The object might have been deleted and then recreated"
        );
        return Err(Status::conflict(&GroupResource::new("", kind), name, why));
    }
    Ok(binding)
}

/// How many bytes of other objects a request reads: those of the pod that its token is bound to.
pub fn work(listers: &dyn Listers, key: &ObjectKey, request: &Object) -> usize {
    if request.str(&["spec", "boundObjectRef", "kind"]) != "Pod" {
        return 0;
    }
    let pod = ObjectKey::new(key.namespace.clone(), request.str(&["spec", "boundObjectRef", "name"]));
    listers.get(&GroupResource::new("", "pods"), &pod).map_or(0, |pod| pod.encoded_length())
}

/// Of a pod only what tokens depend on.
#[derive(Default, Deserialize)]
#[serde(default)]
struct PodFacts {
    spec: PodSpecFacts,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct PodSpecFacts {
    service_account_name: String,
    node_name: String,
}

/// A pod's service account and node.
fn pod_facts(pod: &StoredObject) -> (String, String) {
    let PodFacts { spec } = serde_json::from_slice(&pod.encoded()).unwrap_or_default();
    (spec.service_account_name, spec.node_name)
}

/// A pod's node; without uid where it is not registered.
fn node_reference(listers: &dyn Listers, name: &str) -> Reference {
    let node = listers.get(&GroupResource::new("", "nodes"), &ObjectKey::cluster(name));
    node.map_or_else(|| Reference { name: name.to_owned(), uid: String::new() }, |node| reference(&node))
}

fn lookup(listers: &dyn Listers, resource: &str, key: &ObjectKey) -> Result<Arc<StoredObject>, Status> {
    let resource = GroupResource::new("", resource);
    listers.get(&resource, key).ok_or_else(|| Status::not_found(&resource, &key.name))
}

fn reference(object: &StoredObject) -> Reference {
    Reference { name: object.key.name.to_string(), uid: object.meta().uid.to_string() }
}
