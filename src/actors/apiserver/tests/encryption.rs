//! The server on a store that seals.

use std::{path::Path, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use futures::StreamExt;
use serde_json::{Value, json};
use troupe_api::{
    features::FeatureGates,
    meta::Revision,
    resources::builtin,
    service::{DeleteOptions, EventType, ListOptions, Operation, ReplyBody, WatchItem, WatchOptions},
    status::Reason,
};
use troupe_api_server::{
    encryption::{EncryptedStore, EncryptionConfiguration, EncryptionRules},
    store::{Store, memory::MemoryStore},
};

use crate::apiserver::{
    ApiServerOptions,
    testing::{TestApi, boot_with},
};

const KEY: &[u8] = b"/registry/secrets/default/s";

fn rules(keys: &[&str]) -> EncryptionRules {
    let key = |name: &&str| format!("{{name: {name}, secret: {}}}", if *name == "one" { ONE } else { TWO });
    let keys = keys.iter().map(key).collect::<Vec<_>>().join(",");
    let resources = format!(
        "[{{resources: [secrets, widgets.example.org, '*.admissionregistration.k8s.io', limitranges, resourcequotas], providers: [{{aesgcm: {{keys: [{keys}]}}}}, {{identity: {{}}}}]}}]"
    );
    let text = format!("{{apiVersion: apiserver.config.k8s.io/v1, kind: EncryptionConfiguration, resources: {resources}}}");
    let configuration = EncryptionConfiguration::parse(Path::new("e.yaml"), &text, true).expect("a configuration");
    EncryptionRules::new(&configuration).expect("rules")
}

const ONE: &str = "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=";
const TWO: &str = "YWJjZGVmZ2hpamFiY2RlZmdoaWphYmNkZWZnaGlqYWI=";

struct Sealed {
    api: TestApi,
    raw: Arc<MemoryStore>,
    rules: Arc<ArcSwap<EncryptionRules>>,
}

async fn boot() -> Sealed {
    let (raw, rules) = (Arc::new(MemoryStore::new()), Arc::new(ArcSwap::from_pointee(rules(&["one"]))));
    let store = EncryptedStore::new(raw.clone(), rules.clone(), &builtin());
    Sealed { api: boot_with(ApiServerOptions::new(Arc::new(store))).await, raw, rules }
}

impl Sealed {
    async fn raw(&self, key: &[u8]) -> Vec<u8> {
        self.raw.get(key, None).await.expect("reads").0.expect("is there").value.to_vec()
    }
}

fn secret() -> Value {
    json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s", "namespace": "default"}, "stringData": {"password": "hunter2"}})
}

#[actix::test]
async fn secrets_are_sealed_in_the_store_and_open_to_readers_and_watchers() {
    let sealed = boot().await;
    let mut watch = sealed.api.watch("secrets", "default", WatchOptions::default()).await;
    sealed.api.create(secret()).await;
    let raw = sealed.raw(KEY).await;
    assert!(raw.starts_with(b"k8s:enc:aesgcm:v1:one:"));
    let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c", "namespace": "default"}});
    sealed.api.create(map).await;
    assert!(sealed.raw(b"/registry/configmaps/default/c").await.starts_with(b"{"), "no rule names these");
    let read = sealed.api.get("secrets", "default", "s").await.expect("is there");
    assert_eq!(read.str(&["data", "password"]), "aHVudGVyMg==");
    assert_eq!(sealed.api.names("secrets", "default").await, ["s"]);
    let item = watch.next().await.expect("an event");
    assert!(format!("{item:?}").contains("default"), "{item:?}");
    // Another server on the same store reads it, too.
    let store = EncryptedStore::new(sealed.raw.clone(), sealed.rules.clone(), &builtin());
    let other = boot_with(ApiServerOptions::new(Arc::new(store))).await;
    assert_eq!(other.get("secrets", "default", "s").await.expect("is there").str(&["data", "password"]), "aHVudGVyMg==");
}

#[actix::test]
async fn an_unchanged_object_is_sealed_anew_with_the_new_key() {
    let sealed = boot().await;
    let created = sealed.api.create(secret()).await;
    let same = sealed.api.try_update(created.clone().into_value()).await.expect("is kept");
    assert_eq!(same.resource_version(), created.resource_version(), "nothing is written in vain");
    sealed.rules.store(Arc::new(rules(&["two", "one"])));
    assert_eq!(sealed.api.get("secrets", "default", "s").await.expect("is there").str(&["data", "password"]), "aHVudGVyMg==");
    let rewritten = sealed.api.try_update(created.clone().into_value()).await.expect("is written");
    assert_ne!(rewritten.resource_version(), created.resource_version());
    assert!(sealed.raw(KEY).await.starts_with(b"k8s:enc:aesgcm:v1:two:"));
    sealed.rules.store(Arc::new(rules(&["two"])));
    let kept = sealed.api.try_update(rewritten.clone().into_value()).await.expect("is kept");
    assert_eq!(kept.resource_version(), rewritten.resource_version());
}

#[actix::test]
async fn what_no_key_opens_fails_readers_and_comes_back_with_its_key() {
    let sealed = boot().await;
    sealed.api.create(secret()).await;
    let raw = sealed.raw.clone();
    let without = Arc::new(ArcSwap::from_pointee(rules(&["two"])));
    let store = EncryptedStore::new(raw, without.clone(), &builtin());
    let other = boot_with(ApiServerOptions::new(Arc::new(store))).await;
    let told = "Internal error occurred: unable to transform key \"/registry/secrets/default/s\": no matching key was found for the provided AES transformer";
    assert_eq!(other.get("secrets", "default", "s").await.expect_err("no key").message, told);
    let listed = other.list("secrets", "default", Default::default()).await;
    assert_eq!(listed.expect_err("no key").message, told);
    assert!(other.list("secrets", "kube-system", Default::default()).await.is_ok(), "another namespace");
    assert!(other.try_watch("secrets", "", WatchOptions::default()).await.is_err());
    assert_eq!(other.try_create(secret()).await.expect_err("it is there").code, 409);
    without.store(Arc::new(rules(&["two", "one"])));
    let mut found = other.get("secrets", "default", "s").await;
    for _ in 0..100 {
        if found.is_ok() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
        found = other.get("secrets", "default", "s").await;
    }
    assert_eq!(found.expect("is read again").str(&["data", "password"]), "aHVudGVyMg==");
    assert_eq!(other.names("secrets", "").await, ["s"]);
}

#[actix::test]
async fn what_no_key_opens_can_be_deleted_where_that_is_allowed() {
    let sealed = boot().await;
    sealed.api.create(secret()).await;
    let store = EncryptedStore::new(sealed.raw.clone(), Arc::new(ArcSwap::from_pointee(rules(&["two"]))), &builtin());
    let features = FeatureGates::parse(&["AllowUnsafeMalformedObjectDeletion=true".to_owned()]).expect("there is such a feature");
    let other = boot_with(ApiServerOptions { features, ..ApiServerOptions::new(Arc::new(store)) }).await;
    let listed = other.list("secrets", "default", ListOptions::default()).await.expect_err("no key");
    assert_eq!((listed.reason, listed.message.as_str()), (Reason::StorageReadError, "failed to read one or more secrets from the storage"));
    let causes = listed.details.expect("what it is about").causes;
    assert_eq!(causes.iter().map(|cause| cause.field.as_str()).collect::<Vec<_>>(), ["/registry/secrets/default/s"]);
    assert_eq!(other.delete("secrets", "default", "s", DeleteOptions::default()).await.expect_err("no key").code, 500);
    let unsafely = || DeleteOptions { ignore_store_read_error: true, ..DeleteOptions::default() };
    other.create(json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c", "namespace": "default"}})).await;
    for name in ["c", "missing"] {
        let refused = other.delete("configmaps", "default", name, unsafely()).await.expect_err("nothing here cannot be read");
        assert!(refused.code == 422 && refused.message.contains("is exclusively used to delete corrupt object(s)"), "{refused}");
    }
    let all = Operation::DeleteCollection { delete: unsafely(), list: ListOptions::default() };
    assert_eq!(other.call(other.target("secrets", "default", ""), all).await.expect_err("one by one").code, 422);
    match other.delete("secrets", "default", "s", unsafely()).await.expect("is deleted").body {
        ReplyBody::Success { details } => assert_eq!(details, json!({"name": "s", "kind": "Secret"})),
        other => panic!("expected a Status, got {other:?}"),
    }
    assert_eq!(sealed.raw.get(KEY, None).await.expect("reads").0, None);
    assert_eq!(other.names("secrets", "default").await, Vec::<String>::new());
    // Without the feature it is as if nothing were said.
    sealed.api.create(secret()).await;
    sealed.api.delete("secrets", "default", "s", unsafely()).await.expect("is deleted as all else");
}

#[actix::test]
async fn nobody_is_told_that_an_object_is_gone_that_cannot_be_read_for_a_while() {
    let sealed = boot().await;
    let created = sealed.api.create(secret()).await;
    let rules_of_other = Arc::new(ArcSwap::from_pointee(rules(&["one"])));
    let store = EncryptedStore::new(sealed.raw.clone(), rules_of_other.clone(), &builtin());
    let other = boot_with(ApiServerOptions::new(Arc::new(store))).await;
    let revision: u64 = created.resource_version().parse().expect("a revision");
    let options = WatchOptions { resource_version: Some(Revision(revision)), ..WatchOptions::default() };
    let mut watch = other.watch("secrets", "default", options.clone()).await;
    rules_of_other.store(Arc::new(rules(&["two"])));
    let mut changed = created.into_value();
    changed["data"]["password"] = json!("eHh4eA==");
    sealed.api.try_update(changed).await.expect("is written");
    let ends = tokio::time::timeout(Duration::from_secs(10), async {
        while let Some(item) = watch.next().await {
            assert!(!matches!(&item, WatchItem::Event { event: EventType::Deleted, .. }), "{item:?}");
        }
    });
    ends.await.expect("the watch ends");
    assert_eq!(other.get("secrets", "default", "s").await.expect_err("no key").code, 500);
    // Whoever goes on where it was hears that, too.
    let mut resumed = other.watch("secrets", "default", options).await;
    let item = tokio::time::timeout(Duration::from_secs(10), resumed.next()).await.expect("is told something");
    assert!(matches!(&item, Some(WatchItem::End(status)) if status.code == 500), "{item:?}");
    rules_of_other.store(Arc::new(rules(&["two", "one"])));
    for _ in 0..100 {
        if let Ok(found) = other.get("secrets", "default", "s").await {
            assert_eq!(found.str(&["data", "password"]), "eHh4eA==");
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("it is not read again");
}

/// What is enforced: a policy without a binding, which is asked about nothing, and limits and quotas that nothing meets.
fn enforced() -> [Value; 3] {
    let rules = json!([{"operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["configmaps"]}]);
    let policy = json!({"matchConstraints": {"resourceRules": rules}, "validations": [{"expression": "true"}]});
    let [range, quota] = [json!({"limits": [{"type": "Pod", "max": {"cpu": "1k"}}]}), json!({"hard": {"services": "10"}})];
    [
        json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy", "metadata": {"name": "p"}, "spec": policy}),
        json!({"apiVersion": "v1", "kind": "LimitRange", "metadata": {"name": "l", "namespace": "default"}, "spec": range}),
        json!({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "q", "namespace": "default"}, "spec": quota}),
    ]
}

/// What making a pod of that name comes to.
async fn made(api: &TestApi, name: &str) -> u16 {
    let container = json!({"name": "c", "image": "i", "resources": {"limits": {"cpu": "1m"}}});
    let metadata = json!({"name": name, "namespace": "default"});
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {"containers": [container]}});
    api.try_create(pod).await.err().map_or(201, |status| status.code)
}

async fn until_made(api: &TestApi, kind: &str, wanted: u16) {
    for count in 0..200 {
        if made(api, &format!("{}-{wanted}-{count}", kind.to_lowercase())).await == wanted {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("{kind}: pods do not end with {wanted}");
}

#[actix::test]
async fn nothing_is_let_in_past_what_cannot_be_read_and_may_forbid_it() {
    let sealed = boot().await;
    let rules_of_other = Arc::new(ArcSwap::from_pointee(rules(&["two"])));
    let store = EncryptedStore::new(sealed.raw.clone(), rules_of_other.clone(), &builtin());
    let other = boot_with(ApiServerOptions::new(Arc::new(store))).await;
    assert_eq!(made(&other, "before").await, 201);
    for object in enforced() {
        let kind = object["kind"].as_str().expect("a kind").to_owned();
        sealed.api.create(object).await;
        until_made(&other, &kind, 503).await;
        rules_of_other.store(Arc::new(rules(&["two", "one"])));
        until_made(&other, &kind, 201).await;
        rules_of_other.store(Arc::new(rules(&["two"])));
    }
}
