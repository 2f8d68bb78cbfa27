//! A gate that asks the API server: TokenReview and SubjectAccessReview, as upstream's components do in webhook mode.
//!
//! Client certificates are known without asking, and so is `system:masters`: the API server itself gets in while nothing
//! else answers. Answers are remembered for upstream's times.

use std::{
    collections::HashMap,
    hash::Hash,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use parking_lot::Mutex;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use troupe_api::{
    Status,
    auth::{Attributes, Authorizer, Credentials, Decision, chain::PrivilegedGroups, groups::ALL_AUTHENTICATED, x509},
    meta::Object,
    service::{Body, Operation, Target, UserInfo, WriteOptions},
};
use troupe_api_client::Client;

use super::gate::Gate;

/// How long answers hold: upstream's kubelet defaults.
const TOKEN: Duration = Duration::from_secs(120);
const ALLOWED: Duration = Duration::from_secs(300);
const DENIED: Duration = Duration::from_secs(30);
/// Answers remembered of each kind.
const REMEMBERED: usize = 1024;

/// See the module.
pub struct DelegatingGate {
    client: Client,
    tokens: Memory<[u8; 32], Option<UserInfo>>,
    decisions: Memory<(String, Vec<String>, Value), bool>,
}

impl DelegatingGate {
    /// A gate that asks as `client`.
    pub fn new(client: Client) -> Self {
        DelegatingGate { client, tokens: Memory::default(), decisions: Memory::default() }
    }

    /// Posts a review and returns its status.
    async fn review(&self, group: &str, kind: &str, spec: Value) -> Result<Value, Status> {
        let resource = self.client.service().registry().by_kind(group, kind).ok_or_else(Status::page_not_found)?;
        let review = json!({"apiVersion": format!("{group}/v1"), "kind": kind, "spec": spec});
        let body = Body::Tree(Object::from_value(review).expect("made as an object"));
        let target = Target { resource, version: "v1".into(), namespace: "".into(), name: "".into(), subresource: "".into() };
        let reply = self.client.call(target, Operation::Create { body, options: WriteOptions::default() }).await?;
        Ok(reply.into_tree()?.remove(&["status"]).unwrap_or_default())
    }

    async fn owner(&self, token: &str) -> Option<UserInfo> {
        let key: [u8; 32] = Sha256::digest(token).into();
        if let Some(known) = self.tokens.get(&key) {
            return known;
        }
        let status = match self.review("authentication.k8s.io", "TokenReview", json!({"token": token})).await {
            Ok(status) => status,
            Err(error) => {
                tracing::warn!(%error, "a token cannot be reviewed");
                return None;
            }
        };
        let user = (status["authenticated"] == true).then(|| user_of(&status["user"]));
        self.tokens.keep(key, user.clone(), TOKEN);
        user
    }
}

#[async_trait]
impl Gate for DelegatingGate {
    async fn identify(&self, credentials: Credentials<'_>) -> Option<UserInfo> {
        if let Some(certificate) = credentials.client_certificate {
            let mut user = x509::user_of(certificate).ok().flatten()?;
            user.groups.push(ALL_AUTHENTICATED.into());
            return Some(user);
        }
        self.owner(credentials.bearer?).await
    }

    async fn allows(&self, user: &UserInfo, attributes: &Attributes<'_>) -> bool {
        if PrivilegedGroups.authorize(user, attributes) == Decision::Allow {
            return true;
        }
        let asked = asked(attributes);
        let key = (user.name.clone(), user.groups.clone(), asked.clone());
        if let Some(known) = self.decisions.get(&key) {
            return known;
        }
        let mut spec = json!({"user": user.name, "uid": user.uid, "groups": user.groups, "extra": user.extra});
        if let (Some(spec), Value::Object(asked)) = (spec.as_object_mut(), asked) {
            spec.extend(asked);
        }
        match self.review("authorization.k8s.io", "SubjectAccessReview", spec).await {
            Ok(status) => {
                let allowed = status["allowed"] == true;
                self.decisions.keep(key, allowed, if allowed { ALLOWED } else { DENIED });
                allowed
            }
            Err(error) => {
                tracing::warn!(%error, user = user.name, "an access cannot be reviewed and is denied");
                false
            }
        }
    }
}

/// The part of a review that says what is to be done.
fn asked(attributes: &Attributes<'_>) -> Value {
    let Attributes { verb, resource, subresource, group, version, namespace, name, path, .. } = attributes;
    match path {
        Some(path) => json!({"nonResourceAttributes": {"verb": verb, "path": path}}),
        None => json!({"resourceAttributes": {"verb": verb, "group": group, "version": version, "resource": resource,
            "subresource": subresource, "namespace": namespace, "name": name}}),
    }
}

fn user_of(info: &Value) -> UserInfo {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let texts = |value: &Value| value.as_array().into_iter().flatten().map(text).collect::<Vec<_>>();
    let extra = info["extra"].as_object().into_iter().flatten().map(|(key, values)| (key.clone(), texts(values))).collect();
    UserInfo { name: text(&info["username"]), uid: text(&info["uid"]), groups: texts(&info["groups"]), extra }
}

/// Answers until they are too old; full, it forgets everything.
struct Memory<K, V>(Mutex<HashMap<K, (V, Instant)>>);

impl<K, V> Default for Memory<K, V> {
    fn default() -> Self {
        Memory(Mutex::default())
    }
}

impl<K: Hash + Eq, V: Clone> Memory<K, V> {
    fn get(&self, key: &K) -> Option<V> {
        let known = self.0.lock();
        known.get(key).filter(|(_, until)| Instant::now() < *until).map(|(value, _)| value.clone())
    }

    fn keep(&self, key: K, value: V, time: Duration) {
        let mut known = self.0.lock();
        if known.len() >= REMEMBERED {
            known.clear();
        }
        known.insert(key, (value, Instant::now() + time));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use futures::{FutureExt, future::BoxFuture};
    use troupe_api::{
        ApiCall, ApiReply, ApiService,
        meta::Cause,
        resources::Registry,
        service::{ReplyBody, WatchOptions, WatchStream},
    };

    use super::*;

    /// An API server that knows one token and lets its owner read logs.
    struct Reviewer(Mutex<Vec<Value>>);

    impl ApiService for Reviewer {
        fn call(&self, call: ApiCall) -> BoxFuture<'static, Result<ApiReply, Status>> {
            let Operation::Create { body: Body::Tree(mut review), .. } = call.operation else { panic!("reviews are created") };
            self.0.lock().push(review.clone().into_value());
            let status = match review.kind() {
                "TokenReview" if review.str(&["spec", "token"]) == "good" => {
                    json!({"authenticated": true, "user": {"username": "u", "groups": ["g"]}})
                }
                "TokenReview" => json!({"authenticated": false}),
                _ => json!({"allowed": review.str(&["spec", "resourceAttributes", "subresource"]) == "log"}),
            };
            review.set(&["status"], status);
            std::future::ready(Ok(ApiReply::created(ReplyBody::Tree(review)))).boxed()
        }

        fn watch(&self, _: Arc<UserInfo>, _: Target, _: WatchOptions, _: Cause) -> BoxFuture<'static, Result<WatchStream, Status>> {
            std::future::ready(Err(Status::page_not_found())).boxed()
        }

        fn registry(&self) -> Arc<Registry> {
            Arc::new(Registry::new(troupe_api::resources::builtin()))
        }
    }

    #[tokio::test]
    async fn the_api_server_is_asked_once_and_masters_need_no_asking() {
        let reviewer = Arc::new(Reviewer(Mutex::default()));
        let gate = DelegatingGate::new(Client::new(reviewer.clone(), Arc::default(), "kubelet"));
        let node = |verb, subresource| Attributes { verb, resource: "nodes", subresource, name: "n", ..Attributes::default() };
        let bearer = |token| Credentials { bearer: Some(token), ..Credentials::default() };
        for _ in 0..3 {
            let user = gate.identify(bearer("good")).await.expect("known");
            assert_eq!((user.name.as_str(), user.groups.len()), ("u", 1));
            assert!(gate.allows(&user, &node("get", "log")).await);
            assert!(!gate.allows(&user, &node("create", "exec")).await);
            assert!(!gate.allows(&user, &Attributes { verb: "get", path: Some("/metrics"), ..Attributes::default() }).await);
            assert_eq!(gate.identify(bearer("bad")).await, None);
        }
        assert_eq!(gate.identify(Credentials::default()).await, None);
        assert_eq!(reviewer.0.lock().len(), 5);
        let master = UserInfo { name: "apiserver".into(), groups: vec!["system:masters".into()], ..UserInfo::default() };
        assert!(gate.allows(&master, &node("create", "exec")).await);
        assert_eq!(reviewer.0.lock().len(), 5);
    }
}
