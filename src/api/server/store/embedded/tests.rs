use std::{sync::Arc, time::Duration};

use proptest::prelude::*;

use super::*;
use crate::store::{
    Store, StoreEvent,
    memory::MemoryStore,
    suite::{self, RandomOp},
};

fn options() -> EmbeddedOptions {
    EmbeddedOptions { min_free: 0, ..EmbeddedOptions::default() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_embedded_store_passes_the_suite() {
    let root = tempfile::tempdir().expect("a directory");
    let counter = std::sync::atomic::AtomicU32::new(0);
    suite::run(|| async {
        let n = counter.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        Arc::new(EmbeddedStore::open(root.path().join(n.to_string())).expect("opens")) as Arc<dyn Store>
    })
    .await;
}

#[tokio::test]
async fn a_scrape_tells_how_large_the_store_is() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = EmbeddedStore::open(dir.path()).expect("opens");
    store.create("/registry/large".into(), vec![b'x'; 4096].into(), None).await.expect("creates");
    let told = || {
        let page = troupe_api::metrics::render(&crate::store::size::COLLECTORS);
        let samples = troupe_api::metrics::parse::Samples::parse(std::str::from_utf8(&page).expect("text")).expect("parses");
        samples.value("apiserver_storage_size_bytes", &[("storage_cluster_id", "etcd-0")]).unwrap_or_default()
    };
    // Other tests of this process have stores too, and each tells of itself twice a second.
    let large = async {
        while told() < 4096.0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), large).await.expect("it is told");
}

#[tokio::test]
async fn everything_survives_closing_and_opening() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = EmbeddedStore::open(dir.path()).expect("opens");
    let first = store.create("/registry/a".into(), "1".into(), None).await.expect("creates");
    let second = store.update("/registry/a".into(), "2".into(), first, None).await.expect("updates");
    let gone = store.create("/registry/gone".into(), "x".into(), None).await.expect("creates");
    let last = store.delete("/registry/gone".into(), gone).await.expect("deletes");
    drop(store);
    let store = EmbeddedStore::open(dir.path()).expect("opens again");
    assert_eq!(store.current_revision().await.expect("reads"), last);
    let (held, _) = store.get(b"/registry/a", None).await.expect("reads");
    let held = held.expect("exists");
    assert_eq!((&*held.value, held.create_revision, held.mod_revision), (&b"2"[..], first, second));
    assert_eq!(store.get(b"/registry/a", Some(first)).await.expect("reads").0.expect("exists").value, "1");
    let mut watch = store.watch("/registry/".into(), first).await.expect("watches");
    let revisions = suite::take_events(&mut watch, 4).await.iter().map(|event| event.revision()).collect::<Vec<_>>();
    assert_eq!(revisions, [first, second, gone, last]);
}

#[tokio::test]
async fn the_revision_never_goes_back_even_when_its_record_is_compacted() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = EmbeddedStore::open(dir.path()).expect("opens");
    let created = store.create("/registry/a".into(), "1".into(), None).await.expect("creates");
    let deleted = store.delete("/registry/a".into(), created).await.expect("deletes");
    store.compact(deleted).await.expect("compacts");
    drop(store);
    let store = EmbeddedStore::open(dir.path()).expect("opens again");
    assert_eq!(store.current_revision().await.expect("reads"), deleted);
    assert!(matches!(store.get(b"/registry/a", Some(created)).await, Err(StoreError::Compacted { .. })));
    assert_eq!(store.create("/registry/a".into(), "1".into(), None).await.expect("creates"), deleted.next());
}

#[tokio::test]
async fn ttls_run_on_while_the_store_is_closed() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = EmbeddedStore::open(dir.path()).expect("opens");
    store.create("/registry/lease".into(), "v".into(), Some(Duration::from_millis(100))).await.expect("creates");
    drop(store);
    let store = EmbeddedStore::open(dir.path()).expect("opens again");
    let deadline = std::time::Instant::now() + Duration::from_secs(60);
    while store.get(b"/registry/lease", None).await.expect("reads").0.is_some() {
        assert!(std::time::Instant::now() < deadline, "did not expire");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[test]
fn a_second_opening_is_refused_in_plain_words() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = EmbeddedStore::open(dir.path()).expect("opens");
    let error = EmbeddedStore::open(dir.path()).err().expect("is locked").to_string();
    assert!(error.contains("in use by another process (pid "), "{error}");
    drop(store);
    EmbeddedStore::open(dir.path()).expect("opens when the first is closed");
}

#[test]
fn newer_and_foreign_data_are_refused_untouched() {
    let dir = tempfile::tempdir().expect("a directory");
    drop(EmbeddedStore::open(dir.path()).expect("opens"));
    std::fs::write(dir.path().join("format"), "troupe-store 999\n").expect("writes");
    let error = EmbeddedStore::open(dir.path()).err().expect("is refused");
    assert!(matches!(error, OpenError::NewerFormat { found: 999, .. }), "{error}");
    std::fs::write(dir.path().join("format"), "something else").expect("writes");
    assert!(matches!(EmbeddedStore::open(dir.path()), Err(OpenError::Foreign { .. })));
}

#[test]
fn data_of_the_first_format_are_refused_with_advice_and_untouched() {
    let dir = tempfile::tempdir().expect("a directory");
    std::fs::create_dir(dir.path().join("db")).expect("makes");
    std::fs::write(dir.path().join("db/0.jnl"), "old").expect("writes");
    std::fs::write(dir.path().join("format"), "troupe-store 1\n").expect("writes");
    let error = EmbeddedStore::open(dir.path()).err().expect("is refused");
    assert!(matches!(error, OpenError::OlderFormat { found: 1, .. }), "{error}");
    let words = error.to_string();
    assert!(words.contains("take a backup with that version") && words.contains("restore it with --force"), "{words}");
    assert_eq!(std::fs::read(dir.path().join("db/0.jnl")).expect("reads"), b"old");
    assert!(!dir.path().join("log").exists());
}

#[test]
fn a_store_whose_log_is_gone_does_not_open_as_an_empty_one() {
    let dir = tempfile::tempdir().expect("a directory");
    drop(EmbeddedStore::open(dir.path()).expect("opens"));
    std::fs::remove_dir_all(dir.path().join("log")).expect("removes");
    assert!(matches!(EmbeddedStore::open(dir.path()), Err(OpenError::Damaged { .. })));
}

#[tokio::test]
async fn below_the_space_mark_only_deletions_write() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = EmbeddedStore::open_with(dir.path(), options()).expect("opens");
    let created = store.create("/registry/a".into(), "1".into(), None).await.expect("creates");
    drop(store);
    let full = EmbeddedOptions { min_free: u64::MAX, patience: Duration::ZERO, ..EmbeddedOptions::default() };
    let store = EmbeddedStore::open_with(dir.path(), full).expect("opens");
    assert!(matches!(store.create("/registry/b".into(), "1".into(), None).await, Err(StoreError::NoSpace)));
    assert!(matches!(store.update("/registry/a".into(), "2".into(), created, None).await, Err(StoreError::NoSpace)));
    let deleted = store.delete("/registry/a".into(), created).await.expect("deletes");
    store.compact(deleted).await.expect("compacts");
}

#[tokio::test]
async fn a_compaction_behind_the_last_brings_no_revision_back() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = EmbeddedStore::open_with(dir.path(), options()).expect("opens");
    let first = store.create("/registry/a".into(), "1".into(), None).await.expect("creates");
    let second = store.update("/registry/a".into(), "2".into(), first, None).await.expect("updates");
    store.compact(second).await.expect("compacts");
    store.compact(first).await.expect("compacting what is compacted does nothing");
    drop(store);
    let store = EmbeddedStore::open_with(dir.path(), options()).expect("opens again");
    assert!(matches!(store.get(b"/registry/a", Some(first)).await, Err(StoreError::Compacted { .. })));
}

#[tokio::test]
async fn the_store_compacts_itself() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = EmbeddedStore::open_with(dir.path(), EmbeddedOptions { retention: Duration::from_millis(50), ..options() }).expect("opens");
    let first = store.create("/registry/a".into(), "1".into(), None).await.expect("creates");
    store.update("/registry/a".into(), "2".into(), first, None).await.expect("updates");
    let deadline = std::time::Instant::now() + Duration::from_secs(60);
    while store.get(b"/registry/a", Some(first)).await.is_ok() {
        assert!(std::time::Instant::now() < deadline, "never compacted");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(store.get(b"/registry/a", None).await.expect("reads").0.expect("kept").value, "2");
}

#[tokio::test]
async fn watches_older_than_the_memory_are_read_from_the_log() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = EmbeddedStore::open_with(dir.path(), EmbeddedOptions { history_bytes: 4096, ..options() }).expect("opens");
    let mut revision = store.create("/registry/a".into(), "0".into(), None).await.expect("creates");
    for n in 1..3000_u32 {
        let other = store.create(format!("/other/{n}").into(), "x".into(), None);
        let same = store.update("/registry/a".into(), n.to_string().into(), revision, None);
        let (other, same) = tokio::join!(other, same);
        other.expect("creates");
        revision = same.expect("updates");
    }
    let mut watch = store.watch("/registry/".into(), Revision(2)).await.expect("watches");
    for (n, event) in suite::take_events(&mut watch, 3000).await.into_iter().enumerate() {
        let StoreEvent::Put { kv, previous } = event else { panic!("only puts happened") };
        assert_eq!(kv.value, n.to_string());
        assert_eq!(previous.map(|kv| kv.value), n.checked_sub(1).map(|n| n.to_string().into()));
    }
    revision = store.update("/registry/a".into(), "last".into(), revision, None).await.expect("updates");
    assert_eq!(suite::take_events(&mut watch, 1).await[0].revision(), revision);
}

#[tokio::test]
async fn quiet_watches_learn_how_far_they_are_complete() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = EmbeddedStore::open_with(dir.path(), options()).expect("opens");
    let mut watch = store.watch("/quiet/".into(), Revision(2)).await.expect("watches");
    let written = store.create("/registry/a".into(), "0".into(), None).await.expect("creates");
    let told = tokio::time::timeout(Duration::from_secs(10), async {
        loop {
            if watch.recv().await == Some(WatchMessage::Progress(written)) {
                return;
            }
        }
    });
    told.await.expect("progress in time");
}

fn random_op() -> impl Strategy<Value = RandomOp> {
    prop_oneof![
        6 => (0..5_u8, any::<u8>()).prop_map(|(key, value)| RandomOp::Put(key, value)),
        3 => (0..5_u8).prop_map(RandomOp::Delete),
        1 => (0..20_u8).prop_map(RandomOp::Compact),
        1 => Just(RandomOp::Reopen),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]

    #[test]
    fn the_embedded_store_answers_as_the_memory_model_does(ops in proptest::collection::vec(random_op(), 1..120), segment_bytes in prop_oneof![Just(1_u64), Just(400), Just(8 << 20)]) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let dir = tempfile::tempdir().expect("a directory");
            let tiny = || EmbeddedOptions { history_bytes: 1024, segment_bytes, ..options() };
            let model = MemoryStore::new();
            let mut store = EmbeddedStore::open_with(dir.path(), tiny()).expect("opens");
            for op in &ops {
                if matches!(op, RandomOp::Reopen) {
                    drop(store);
                    store = EmbeddedStore::open_with(dir.path(), tiny()).expect("opens again");
                }
                prop_assert_eq!(suite::apply(&store, op).await, suite::apply(&model, op).await);
            }
            prop_assert_eq!(suite::observe(&store).await, suite::observe(&model).await);
            Ok(())
        })?;
    }
}
