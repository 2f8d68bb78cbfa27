use std::{
    collections::BTreeMap,
    path::Path,
    slice::from_ref,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use arc_swap::ArcSwap;
use async_trait::async_trait;
use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use parking_lot::Mutex;
use troupe_api::{meta::Revision, resources::builtin};

use super::{
    EncryptedStore, EncryptionConfiguration, EncryptionRules,
    ciphers::{Cipher, Opened},
    kms::{DecryptRequest, DecryptResponse, EncryptRequest, EncryptResponse, KmsProvider, KmsService, StatusResponse},
    providers::{AnyProvider, Providers},
    reload::Loaded,
};
use crate::store::{
    RangeRequest, Store, StoreError, StoreEvent, WatchMessage, backup, embedded::EmbeddedStore, etcd::testing::EtcdCluster, memory::MemoryStore,
    prefix_end,
};

const SECRET: Bytes = Bytes::from_static(b"/registry/secrets/default/a");
const GCM_256: &str = "591d44202a5f3fc95f4fc243b5fb0f0cf0880c697306fafbd3db89239229b3bcd9";
const GCM_192: &str = "e6cbfe4e6fc74329e55c0a652aa3e52eeb0fc27f587cf2b368f48c4d066d44867e";
const CBC_256: &str = "57b4d83ba53fc5c854cc1e998d5ba4ef4d1ab2b96a2d5b727191326cab3dcb93";
const SECRETBOX: &str = "03d0263ed0033e29954155c736b09f0fc8e0148cac3aead036a81bb53ff3fa0ed07b61aa2eefe4c1f7391097f4";
const DERIVED: &str =
    "0192978c6a0a04242ebe13d5602b19f98c7789e1d1cdf59200443cbca3cf62568c7e9a31ae5c58fa477d45a18062c940031ba8703afffb42ffd95312b45a1a800f";
const PLAIN: Bytes = Bytes::from_static(b"{\"kind\":\"Secret\"}");

fn configuration(resources: &str) -> Result<EncryptionConfiguration, String> {
    let text = format!("{{apiVersion: apiserver.config.k8s.io/v1, kind: EncryptionConfiguration, resources: [{resources}]}}");
    EncryptionConfiguration::parse(Path::new("e.yaml"), &text, false).map_err(|error| error.to_string())
}

fn rules(resources: &str) -> EncryptionRules {
    EncryptionRules::new(&configuration(resources).expect("a configuration")).expect("rules")
}

fn keys(provider: &str, names: &[&str]) -> String {
    // Each name has a key of its own.
    let key = |name: &&str| format!("{{name: {name}, secret: {}}}", STANDARD.encode([name.as_bytes()[0]; 32]));
    format!("{{{provider}: {{keys: [{}]}}}}", names.iter().map(key).collect::<Vec<_>>().join(","))
}

fn one(resource: &str, providers: &[String]) -> String {
    format!("{{resources: ['{resource}'], providers: [{}]}}", providers.join(","))
}

struct Both {
    raw: Arc<MemoryStore>,
    rules: Arc<ArcSwap<EncryptionRules>>,
    store: EncryptedStore,
}

fn both(resources: &str) -> Both {
    let (raw, rules) = (Arc::new(MemoryStore::new()), Arc::new(ArcSwap::from_pointee(rules(resources))));
    Both { store: EncryptedStore::new(raw.clone(), rules.clone(), &builtin()), raw, rules }
}

impl Both {
    async fn raw_value(&self, key: &Bytes) -> Bytes {
        self.raw.get(key, None).await.expect("reads").0.expect("is there").value
    }

    async fn value(&self, key: &Bytes) -> Result<Bytes, String> {
        self.store.get(key, None).await.map(|(kv, _)| kv.expect("is there").value).map_err(|error| error.to_string())
    }

    fn exchange(&self, resources: &str) {
        self.rules.store(Arc::new(rules(resources)));
    }
}

#[tokio::test]
async fn each_provider_seals_under_its_name_and_opens_again() {
    for (provider, prefix) in [("aescbc", "k8s:enc:aescbc:v1:k1:"), ("aesgcm", "k8s:enc:aesgcm:v1:k1:"), ("secretbox", "k8s:enc:secretbox:v1:k1:")] {
        let both = both(&one("secrets", &[keys(provider, &["k1"])]));
        both.store.create(SECRET, PLAIN, None).await.expect("creates");
        let raw = both.raw_value(&SECRET).await;
        assert!(raw.starts_with(prefix.as_bytes()), "{provider}");
        assert!(!raw.windows(6).any(|window| window == b"Secret"), "{provider} hides it");
        assert_eq!(both.value(&SECRET).await, Ok(PLAIN), "{provider}");
        assert!(!both.store.is_stale(&SECRET).await.expect("reads"));
    }
}

/// Sealed by upstream's server.
#[test]
fn what_upstream_sealed_is_opened() {
    let key = b"0123456789abcdef0123456789abcdef";
    let open = |cipher: Option<Cipher>, sealed: &str| {
        cipher
            .expect("a key")
            .open(&hex::decode(sealed).expect("hex"), b"/registry/secrets/default/a")
            .map(|plain| String::from_utf8(plain).expect("text"))
    };
    let hello = Ok("hello".to_owned());
    assert_eq!(open(Cipher::gcm(key), GCM_256), hello);
    assert_eq!(open(Cipher::gcm(&key[..24]), GCM_192), hello);
    assert_eq!(open(Cipher::cbc(key), CBC_256), hello);
    assert_eq!(open(Cipher::secretbox(key), SECRETBOX), hello);
    let derived = super::kms::DataKey::of(key, 1).expect("a seed");
    let opened = derived.open(&hex::decode(DERIVED).expect("hex"), b"/registry/secrets/default/a");
    assert_eq!(opened, Ok(b"hello".to_vec()));
}

#[tokio::test]
async fn a_value_that_was_moved_or_changed_is_not_believed() {
    let both = both(&one("secrets", &[keys("aesgcm", &["k1"])]));
    both.store.create(SECRET, PLAIN, None).await.expect("creates");
    let (raw, other) = (both.raw_value(&SECRET).await, Bytes::from_static(b"/registry/secrets/default/b"));
    both.raw.create(other.clone(), raw.clone(), None).await.expect("creates");
    let refused = both.value(&other).await.expect_err("is bound to its place");
    assert_eq!(refused, "unable to transform key \"/registry/secrets/default/b\": cipher: message authentication failed");
    let mut changed = raw.to_vec();
    *changed.last_mut().expect("bytes") ^= 1;
    let revision = both.raw.get(&SECRET, None).await.expect("reads").0.expect("is there").mod_revision;
    both.raw.update(SECRET, changed.into(), revision, None).await.expect("updates");
    assert!(both.value(&SECRET).await.is_err());
}

#[tokio::test]
async fn keys_are_rotated_without_losing_what_the_old_ones_sealed() {
    let both = both(&one("secrets", &["{identity: {}}".into()]));
    let revision = both.store.create(SECRET, PLAIN, None).await.expect("creates");
    assert_eq!(both.raw_value(&SECRET).await, PLAIN);
    both.exchange(&one("secrets", &[keys("aescbc", &["new", "old"]), "{identity: {}}".into()]));
    assert_eq!((both.value(&SECRET).await, both.store.is_stale(&SECRET).await.expect("reads")), (Ok(PLAIN), true));
    let revision = both.store.update(SECRET, PLAIN, revision, None).await.expect("updates");
    assert!(both.raw_value(&SECRET).await.starts_with(b"k8s:enc:aescbc:v1:new:"));
    assert!(!both.store.is_stale(&SECRET).await.expect("reads"));
    both.exchange(&one("secrets", &[keys("aescbc", &["other", "new"])]));
    assert_eq!((both.value(&SECRET).await, both.store.is_stale(&SECRET).await.expect("reads")), (Ok(PLAIN), true));
    both.exchange(&one("secrets", &[keys("aescbc", &["zzz"])]));
    let refused = both.value(&SECRET).await.expect_err("no key");
    assert_eq!(refused, "unable to transform key \"/registry/secrets/default/a\": no matching key was found for the provided AES transformer");
    both.exchange(&one("configmaps", &[keys("aescbc", &["new"])]));
    assert!(both.value(&SECRET).await.expect_err("no provider").contains("identity transformer tried to read encrypted data"));
    // Whoever loses a race is told what it lost to, in the open.
    both.exchange(&one("secrets", &[keys("aescbc", &["new"])]));
    let lost = both.store.update(SECRET, PLAIN, Revision(1), None).await.expect_err("loses");
    assert!(matches!(lost, StoreError::Conflict { current: Some(kv) } if kv.value == PLAIN && kv.mod_revision == revision));
}

#[tokio::test]
async fn lists_and_watches_are_open_and_one_that_cannot_be_is_left_as_it_is() {
    let both = both(&one("secrets", &[keys("secretbox", &["k1"])]));
    let mut watch = both.store.watch(Bytes::from_static(b"/registry/"), Revision(1)).await.expect("watches");
    both.store.create(SECRET, PLAIN, None).await.expect("creates");
    let odd = Bytes::from_static(b"/registry/secrets/default/odd");
    both.raw.create(odd, Bytes::from_static(b"k8s:enc:secretbox:v1:k2:x"), None).await.expect("creates");
    let mut seen = Vec::new();
    while seen.len() < 2 {
        if let Some(WatchMessage::Events(events)) = watch.recv().await {
            seen.extend(events.into_iter().map(|event| match event {
                StoreEvent::Put { kv, .. } => kv.value,
                StoreEvent::Delete { .. } => panic!("nothing was deleted"),
            }));
        }
    }
    assert_eq!(seen, [PLAIN, Bytes::from_static(b"k8s:enc:secretbox:v1:k2:x")]);
    let start = Bytes::from_static(b"/registry/secrets/");
    let listed = both.store.range(RangeRequest { end: prefix_end(&start), start, limit: 0, at: None }).await.expect("ranges");
    assert_eq!(listed.items.into_iter().map(|kv| kv.value).collect::<Vec<_>>(), seen);
}

/// What a backup holds is what lies there: whoever restores it needs the keys of then.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sealed_state_is_backed_up_and_restored_as_it_lies_there() {
    let shared = Arc::new(ArcSwap::from_pointee(rules(&one("secrets", &[keys("secretbox", &["k1"])]))));
    let (first, second) = (tempfile::tempdir().expect("a directory"), tempfile::tempdir().expect("a directory"));
    let raw: Arc<dyn Store> = Arc::new(EmbeddedStore::open(first.path()).expect("opens"));
    let store = EncryptedStore::new(raw.clone(), shared.clone(), &builtin());
    store.create(SECRET, PLAIN, None).await.expect("creates");
    let taken = backup::export(&*raw, Vec::new()).await.expect("takes").0;
    assert!(!taken.windows(PLAIN.len()).any(|window| *window == PLAIN), "nothing lies in it in the open");
    let options = backup::RestoreOptions { margin: 100, force: false };
    let mut reader = backup::BackupReader::new(&*taken).expect("a backup");
    EmbeddedStore::restore(&second.path().join("store"), &mut reader, options).await.expect("restores");
    let restored: Arc<dyn Store> = Arc::new(EmbeddedStore::open(second.path().join("store")).expect("opens"));
    let open = EncryptedStore::new(restored.clone(), shared, &builtin());
    assert_eq!(open.get(&SECRET, None).await.expect("reads").0.expect("is there").value, PLAIN);
    let other = Arc::new(ArcSwap::from_pointee(rules(&one("secrets", &[keys("secretbox", &["zz"])]))));
    assert!(EncryptedStore::new(restored, other, &builtin()).get(&SECRET, None).await.is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_etcd_holds_what_is_sealed_and_another_server_opens_it() {
    let dir = tempfile::tempdir().expect("a directory");
    let cluster = EtcdCluster::start(dir.path(), 1);
    let raw: Arc<dyn Store> = Arc::new(cluster.connect().await);
    let shared = Arc::new(ArcSwap::from_pointee(rules(&one("*.", &[keys("aescbc", &["k1"])]))));
    let store = EncryptedStore::new(raw.clone(), shared.clone(), &builtin());
    let mut watch = store.watch(Bytes::from_static(b"/registry/"), Revision(1)).await.expect("watches");
    let revision = store.create(SECRET, PLAIN, None).await.expect("creates");
    store.update(SECRET, PLAIN, revision, None).await.expect("updates");
    assert!(raw.get(&SECRET, None).await.expect("reads").0.expect("is there").value.starts_with(b"k8s:enc:aescbc:v1:k1:"));
    let events = crate::store::suite::take_events(&mut watch, 2).await;
    let StoreEvent::Put { kv, previous: Some(previous) } = &events[1] else { panic!("no update: {events:?}") };
    assert_eq!((&kv.value, &previous.value), (&PLAIN, &PLAIN));
    let other = EncryptedStore::new(Arc::new(cluster.connect().await), shared, &builtin());
    assert_eq!(other.get(&SECRET, None).await.expect("reads").0.expect("is there").value, PLAIN);
}

/// Keys change while others write and read.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_are_rotated_under_load_without_a_failed_request() {
    let mut names = ["a", "b", "c", "d"];
    let both = Arc::new(both(&one("secrets", &[keys("aesgcm", &names)])));
    let (done, stop) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
    let mut work = tokio::task::JoinSet::new();
    for worker in 0..4 {
        let (both, done, stop) = (both.clone(), done.clone(), stop.clone());
        work.spawn(async move {
            let key = Bytes::from(format!("/registry/secrets/default/w{worker}"));
            let mut revision = both.store.create(key.clone(), PLAIN, None).await.expect("creates");
            while !stop.load(Ordering::Relaxed) {
                assert_eq!(both.value(&key).await, Ok(PLAIN));
                revision = both.store.update(key.clone(), PLAIN, revision, None).await.expect("updates");
                done.fetch_add(1, Ordering::Relaxed);
                tokio::task::yield_now().await;
            }
        });
    }
    for _ in 0..20 {
        names.rotate_left(1);
        both.exchange(&one("secrets", &[keys("aesgcm", &names)]));
        let before = done.load(Ordering::Relaxed);
        while done.load(Ordering::Relaxed) < before + 8 {
            assert!(work.try_join_next().is_none(), "a worker has failed");
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
    }
    stop.store(true, Ordering::Relaxed);
    // One that failed says so here.
    work.join_all().await;
}

#[tokio::test]
async fn wildcards_cover_groups_and_everything_and_the_first_rule_wins() {
    let text = [
        one("events", &["{identity: {}}".into()]),
        one("*.apps", &[keys("aesgcm", &["apps"])]),
        one("*.", &[keys("aesgcm", &["core"])]),
        one("*.*", &[keys("aesgcm", &["any"])]),
    ];
    let both = both(&text.join(","));
    for (key, prefix) in [
        ("/registry/deployments/default/d", "k8s:enc:aesgcm:v1:apps:"),
        ("/registry/minions/n", "k8s:enc:aesgcm:v1:core:"),
        ("/registry/events/default/e", "{"),
        ("/registry/stable.example.com/crontabs/default/c", "k8s:enc:aesgcm:v1:any:"),
        ("/registry/masterleases/10.0.0.1", "{"),
    ] {
        both.store.create(Bytes::from(key), PLAIN, None).await.expect("creates");
        assert!(both.raw_value(&Bytes::from(key)).await.starts_with(prefix.as_bytes()), "{key}");
        assert_eq!(both.value(&Bytes::from(key)).await, Ok(PLAIN), "{key}");
    }
}

#[test]
fn a_configuration_that_cannot_work_is_refused_in_upstreams_words_and_tells_no_secret() {
    let gcm = keys("aesgcm", &["k1"]);
    let short = "{aescbc: {keys: [{name: k, secret: aGVsbG8=}]}}".to_owned();
    for (resources, why) in [
        (String::new(), "resources: Required value: at least one resources is required"),
        (one("Secrets", from_ref(&gcm)), "resource name should not contain capital letters"),
        (one("*", from_ref(&gcm)), "use '*.' to encrypt all the resources from core API group or *.* to encrypt all resources"),
        (one("secrets.*", from_ref(&gcm)), "encrypting the same resource across groups is not supported"),
        (one("*.events.k8s.io", from_ref(&gcm)), "Use 'events' instead in the config file"),
        (one("serviceipallocations", from_ref(&gcm)), "resources which do not have REST API/s cannot be encrypted"),
        (one("secrets", &[]), "resources[0].providers: Required value: at least one resources[0].providers is required"),
        (one("secrets", &["{}".into()]), "provider does not contain any of the expected providers"),
        (
            one("secrets", &[short]),
            "resources[0].providers[0].aescbc.keys[0].secret: Invalid value: \"REDACTED\": secret is not of the expected length, got 5, expected one of [16 24 32]",
        ),
        (one("secrets", &["{aesgcm: {keys: [{name: k, secret: '?'}]}}".into()]), "secrets must be base64 encoded"),
        (one("secrets", &["{kms: {apiVersion: v2, name: 'a:b', endpoint: 'unix:///x'}}".into()]), "must not contain ':'"),
        (one("secrets", &["{kms: {apiVersion: v2, name: a, endpoint: 'http://x', timeout: 0s}}".into()]), "only unix is supported"),
        (one("secrets", &["{kms: {apiVersion: v2, name: a, endpoint: 'unix:///x', cachesize: 3}}".into()]), "cachesize is not supported in v2"),
        (one("secrets", &["{aesgcm: {keys: [], key: 1}}".into()]), "unknown field `key`"),
        (format!("{{resources: [secrets, '*.'], providers: [{gcm}]}}"), "overlapping resources"),
        (format!("{{resources: [secrets, secrets], providers: [{gcm}]}}"), "the same resource cannot be specified multiple times"),
    ] {
        let refused = configuration(&resources).map(|_| ()).expect_err(&resources);
        assert!(refused.contains(why), "{resources}: {refused}");
    }
    let masked = configuration(&[one("*.", from_ref(&gcm)), one("secrets", &[gcm])].join(",")).expect("each is valid");
    let refused = EncryptionRules::new(&masked).map(|_| ()).expect_err("masked").to_string();
    assert_eq!(refused, "error while building transformers: resource \"secrets\" is masked by earlier rule \"*.\"");
    let shown = format!("{:?}", configuration(&one("secrets", &[keys("aesgcm", &["k1"])])).expect("valid"));
    assert!(!shown.contains(&STANDARD.encode([b'k'; 32])), "{shown}");
}

/// A service that keeps one key at a time.
#[derive(Default)]
struct FakeKms {
    key_id: Mutex<String>,
    sick: Mutex<Option<String>>,
    /// It opens nothing.
    refuses: AtomicBool,
    opened: AtomicUsize,
}

#[async_trait]
impl KmsService for FakeKms {
    async fn status(&self) -> Result<StatusResponse, String> {
        let healthz = self.sick.lock().clone().unwrap_or_else(|| "ok".into());
        Ok(StatusResponse { version: "v2".into(), healthz, key_id: self.key_id.lock().clone() })
    }

    async fn encrypt(&self, request: EncryptRequest) -> Result<EncryptResponse, String> {
        let ciphertext = request.plaintext.iter().rev().map(|byte| !byte).collect();
        Ok(EncryptResponse { ciphertext, key_id: self.key_id.lock().clone(), annotations: BTreeMap::from([("a.example".into(), b"x".to_vec())]) })
    }

    async fn decrypt(&self, request: DecryptRequest) -> Result<DecryptResponse, String> {
        self.opened.fetch_add(1, Ordering::Relaxed);
        assert_eq!(request.annotations.len(), 1);
        if self.refuses.load(Ordering::Relaxed) {
            return Err("x".repeat(1 << 20));
        }
        Ok(DecryptResponse { plaintext: request.ciphertext.iter().rev().map(|byte| !byte).collect() })
    }
}

fn of_service(service: &Arc<FakeKms>) -> (Arc<KmsProvider>, Providers) {
    let provider = KmsProvider::new("vault", service.clone());
    let mut providers = Providers::default();
    providers.add(&[AnyProvider::kms(provider.clone())]);
    (provider, providers)
}

#[tokio::test]
async fn a_service_seals_seeds_and_opens_those_of_others() {
    let service = Arc::new(FakeKms { key_id: Mutex::new("1".into()), ..FakeKms::default() });
    let (provider, providers) = of_service(&service);
    assert_eq!(providers.seal("secrets", &PLAIN, &SECRET), Err("got unexpected nil transformer".into()));
    assert_eq!(provider.check().await, Ok(()));
    let sealed = providers.seal("secrets", &PLAIN, &SECRET).expect("seals");
    assert!(sealed.starts_with(b"k8s:enc:kms:v2:vault:"));
    assert_eq!(providers.open("secrets", &sealed, &SECRET).await, Ok(Opened { value: PLAIN, stale: false }));
    assert_eq!(service.opened.load(Ordering::Relaxed), 0, "its own seed is known");
    // Another server, later, under another key.
    *service.key_id.lock() = "2".into();
    let (provider, providers) = of_service(&service);
    assert_eq!(provider.check().await, Ok(()));
    for _ in 0..3 {
        assert_eq!(providers.open("secrets", &sealed, &SECRET).await, Ok(Opened { value: PLAIN, stale: true }));
    }
    assert_eq!(service.opened.load(Ordering::Relaxed), 1, "a seed is opened once");
    assert!(providers.open("secrets", &sealed, b"/registry/secrets/default/b").await.is_err());
    assert!(providers.open("secrets", &Bytes::from_static(b"k8s:enc:kms:v2:vault:junk"), &SECRET).await.is_err());
}

#[tokio::test]
async fn a_service_that_does_not_open_a_seed_is_not_waited_for_with_every_value() {
    let service = Arc::new(FakeKms { key_id: Mutex::new("1".into()), ..FakeKms::default() });
    let (provider, providers) = of_service(&service);
    assert_eq!(provider.check().await, Ok(()));
    let sealed = providers.seal("secrets", &PLAIN, &SECRET).expect("seals");
    service.refuses.store(true, Ordering::Relaxed);
    assert!(providers.open("secrets", &sealed, &SECRET).await.is_ok(), "its own seed is known");
    let (_, other) = of_service(&service);
    for _ in 0..100 {
        let refused = other.open("secrets", &sealed, &SECRET).await.expect_err("is refused");
        assert!(refused.contains("failed to decrypt DEK") && refused.len() < 2000, "{refused}");
    }
    assert_eq!(service.opened.load(Ordering::Relaxed), 1, "it was asked once");
    service.refuses.store(false, Ordering::Relaxed);
    for _ in 0..200 {
        if other.open("secrets", &sealed, &SECRET).await.is_ok() {
            assert_eq!(service.opened.load(Ordering::Relaxed), 2, "and once more, a while later");
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    panic!("the service opens the seed again, and is not asked");
}

#[tokio::test]
async fn a_service_that_is_not_well_says_so() {
    let service = Arc::new(FakeKms { sick: Mutex::new(Some("sealed".into())), ..FakeKms::default() });
    let (provider, _) = of_service(&service);
    let refused = provider.check().await.expect_err("is not well");
    assert!(
        refused.starts_with("kmsv2 Provider vault is not healthy, error: [got unexpected healthz status: sealed, got invalid KMSv2 KeyID hash"),
        "{refused}"
    );
    *service.sick.lock() = None;
    assert!(provider.check().await.is_err(), "an answer counts for a moment");
}

#[tokio::test]
async fn a_new_file_is_used_and_a_bad_one_is_not() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = dir.path().join("encryption.yaml");
    let write = |resources: &str| {
        let text = format!("{{apiVersion: apiserver.config.k8s.io/v1, kind: EncryptionConfiguration, resources: [{resources}]}}");
        std::fs::write(&path, text).expect("writes");
    };
    write(&one("secrets", &["{identity: {}}".into()]));
    let loaded = Loaded::open(&path, true).await.map_err(|error| error.to_string()).expect("loads");
    let raw = Arc::new(MemoryStore::new());
    let store = loaded.store(raw.clone(), &builtin());
    assert_eq!(loaded.health().expect("what may be reloaded has a check").check().await, Ok(()));
    let mut reloader = loaded.reloader().expect("reloads");
    assert_eq!(reloader.look().await, Ok(false));
    write("{resources: [secrets]}");
    assert!(reloader.look().await.expect_err("is refused").contains("at least one resources[0].providers is required"));
    write(&one("secrets", &[keys("secretbox", &["k1"])]));
    assert_eq!(reloader.look().await, Ok(true));
    store.create(SECRET, PLAIN, None).await.expect("creates");
    assert!(raw.get(&SECRET, None).await.expect("reads").0.expect("is there").value.starts_with(b"k8s:enc:secretbox:v1:k1:"));
}
