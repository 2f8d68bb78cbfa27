use std::sync::Arc;

use proptest::prelude::*;
use troupe_api::meta::Revision;

use super::*;
use crate::store::{
    KeyValue, RangeRequest, Store, StoreError, WatchMessage,
    embedded::{EmbeddedOptions, EmbeddedStore, OpenError},
    etcd::{ConnectError, EtcdStore, testing::EtcdCluster},
    memory::MemoryStore,
    prefix_end,
};

const NEAR: RestoreOptions = RestoreOptions { margin: 100, force: false };

fn everything() -> RangeRequest {
    RangeRequest { start: "/registry/".into(), end: prefix_end(b"/registry/"), limit: 0, at: None }
}

async fn contents(store: &dyn Store) -> Vec<(bytes::Bytes, bytes::Bytes)> {
    let range = store.range(everything()).await.expect("ranges");
    range.items.into_iter().map(|kv| (kv.key, kv.value)).collect()
}

/// A store with `count` objects, some changed and some gone again.
async fn filled(store: &dyn Store, count: usize) {
    for n in 0..count {
        let key = bytes::Bytes::from(format!("/registry/configmaps/default/{n:04}"));
        let created = store.create(key.clone(), format!("first {n}").into(), None).await.expect("creates");
        if n.is_multiple_of(3) {
            store.update(key, format!("second {n}").into(), created, None).await.expect("updates");
        } else if n.is_multiple_of(7) {
            store.delete(key, created).await.expect("deletes");
        }
    }
    store.create("/registry/events/default/e".into(), "{}".into(), None).await.expect("creates");
}

async fn backup_of(store: &dyn Store) -> Vec<u8> {
    export(store, Vec::new()).await.expect("takes").0
}

fn reader(backup: &[u8]) -> BackupReader<&[u8]> {
    BackupReader::new(backup).expect("a backup")
}

fn kv(n: u64, value: Vec<u8>) -> KeyValue {
    KeyValue { key: format!("/registry/a/{n}").into(), value: value.into(), create_revision: Revision(n), mod_revision: Revision(n + 1) }
}

fn written(records: &[KeyValue]) -> Vec<u8> {
    let mut writer = BackupWriter::new(Vec::new(), Head::now(Revision(9))).expect("writes");
    for record in records {
        writer.record(record.clone()).expect("writes");
    }
    writer.finish().expect("writes").0
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]

    #[test]
    fn any_records_survive_the_round_trip(values in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..300), 0..20)) {
        let records: Vec<_> = (1..).zip(values).map(|(n, value)| kv(n, value)).collect();
        let backup = written(&records);
        let mut reader = reader(&backup);
        let mut read = Vec::new();
        while let Some(record) = reader.next_record().expect("undamaged") {
            read.push(record);
        }
        prop_assert_eq!(read, records);
    }

    #[test]
    fn one_changed_bit_anywhere_is_noticed(at in any::<prop::sample::Index>(), bit in 0..8_u8) {
        let mut backup = written(&[kv(1, b"one".to_vec()), kv(2, b"two".to_vec())]);
        let at = at.index(backup.len());
        backup[at] ^= 1 << bit;
        prop_assert!(verify(&*backup).is_err());
    }

    #[test]
    fn a_backup_that_breaks_off_anywhere_is_noticed(at in any::<prop::sample::Index>()) {
        let backup = written(&[kv(1, b"one".to_vec()), kv(2, b"two".to_vec())]);
        prop_assert!(verify(&backup[..at.index(backup.len())]).is_err());
    }
}

#[test]
fn a_record_that_is_missing_repeated_or_exchanged_is_noticed() {
    let frames = |frames: &[Frame]| {
        let mut out = b"troupe-backup\n".to_vec();
        frames.iter().for_each(|frame| write_frame(&mut out, frame));
        out
    };
    let whole = written(&[kv(1, b"one".to_vec()), kv(2, b"two".to_vec())]);
    let mut parts = Vec::new();
    let (mut input, mut raw) = (&whole[14..], Vec::new());
    while let Some(frame) = read_frame(&mut input, 0, &mut raw).expect("undamaged") {
        parts.push(frame);
    }
    assert_eq!(frames(&parts), whole);
    let mut missing = parts.clone();
    missing.remove(1);
    let mut repeated = parts.clone();
    repeated.insert(1, parts[1].clone());
    let mut exchanged = parts.clone();
    exchanged.swap(1, 2);
    for broken in [missing, repeated, exchanged] {
        assert!(matches!(verify(&*frames(&broken)), Err(BackupError::Damaged { .. })));
    }
    assert!(matches!(verify(&*frames(&parts[..2])), Err(BackupError::Truncated { records: 1 })));
}

#[test]
fn other_files_and_newer_backups_are_refused() {
    assert!(matches!(verify(&b"PK\x03\x04 something else"[..]), Err(BackupError::Foreign)));
    assert!(matches!(verify(&b""[..]), Err(BackupError::Foreign)));
    let head = Head { format: FORMAT + 1, ..Head::now(Revision(1)) };
    let newer = BackupWriter::new(Vec::new(), head).expect("writes").finish().expect("writes").0;
    assert!(matches!(verify(&*newer), Err(BackupError::NewerFormat { found }) if found == FORMAT + 1));
}

#[tokio::test]
async fn a_backup_is_one_revision_though_the_store_goes_on() {
    let store = Arc::new(MemoryStore::new());
    filled(&*store, 500).await;
    let first = page(&*store, None, None).await.expect("reads");
    assert!(first.more);
    let before = contents(&*store).await;
    store.create("/registry/configmaps/default/0499x".into(), "late".into(), None).await.expect("creates");
    let mut keys: Vec<_> = first.items.iter().map(|kv| kv.key.clone()).collect();
    let mut more = true;
    while more {
        let next = page(&*store, Some(first.revision), keys.last().map(|key| &**key)).await.expect("reads");
        more = next.more;
        keys.extend(next.items.into_iter().map(|kv| kv.key));
    }
    assert_eq!(keys, before.into_iter().map(|(key, _)| key).collect::<Vec<_>>());
}

/// The revisions from before are gone, and those after lie behind every one handed out.
async fn past_is_compacted(store: &dyn Store, backup_revision: Revision) {
    let now = store.current_revision().await.expect("reads");
    assert!(now.0 > backup_revision.0 + NEAR.margin);
    let mut watch = store.watch("/registry/".into(), backup_revision).await.expect("watches");
    let told = tokio::time::timeout(std::time::Duration::from_secs(10), watch.recv()).await.expect("in time");
    assert!(matches!(told, Some(WatchMessage::Ended { compacted: Some(_) })), "{told:?}");
    let old = store.get(b"/registry/configmaps/default/0000", Some(backup_revision)).await;
    assert!(matches!(old, Err(StoreError::Compacted { .. })), "{old:?}");
}

#[tokio::test]
async fn an_embedded_store_is_restored_in_place_of_an_empty_one_only() {
    let dir = tempfile::tempdir().expect("a directory");
    let (from, to) = (dir.path().join("from"), dir.path().join("to"));
    let store = EmbeddedStore::open(&from).expect("opens");
    filled(&store, 300).await;
    let (backup, revision, records) = export(&store, Vec::new()).await.expect("takes");
    let before = contents(&store).await;
    assert_eq!(records, before.len() as u64);
    let in_use = EmbeddedStore::restore(&from, &mut reader(&backup), NEAR).await;
    assert!(matches!(in_use, Err(RestoreError::Open(_))), "{in_use:?}");

    let (restored, old) = EmbeddedStore::restore(&to, &mut reader(&backup), NEAR).await.expect("restores");
    assert_eq!((restored.records, old), (records, None));
    let copy = EmbeddedStore::open(&to).expect("opens");
    assert_eq!(contents(&copy).await, before);
    past_is_compacted(&copy, revision).await;
    drop(copy);

    let refused = EmbeddedStore::restore(&to, &mut reader(&backup), NEAR).await;
    assert!(matches!(refused, Err(RestoreError::NotEmpty { keys }) if keys == records), "{refused:?}");
    let forced = RestoreOptions { force: true, ..NEAR };
    let (again, old) = EmbeddedStore::restore(&to, &mut reader(&backup), forced).await.expect("restores");
    assert!(again.revision > restored.revision, "{again:?}");
    let old = EmbeddedStore::open(old.expect("kept")).expect("opens");
    assert_eq!(contents(&old).await, before);
    assert_eq!(contents(&EmbeddedStore::open(&to).expect("opens")).await, before);
}

#[tokio::test]
async fn a_backup_takes_the_place_of_a_store_of_an_older_format_only_when_forced() {
    let dir = tempfile::tempdir().expect("a directory");
    let (from, to) = (dir.path().join("from"), dir.path().join("to"));
    let store = EmbeddedStore::open(&from).expect("opens");
    filled(&store, 30).await;
    let backup = backup_of(&store).await;
    std::fs::create_dir(&to).expect("makes");
    std::fs::write(to.join("format"), "troupe-store 1\n").expect("writes");
    let refused = EmbeddedStore::restore(&to, &mut reader(&backup), NEAR).await;
    assert!(matches!(refused, Err(RestoreError::Open(OpenError::OlderFormat { found: 1, .. }))), "{refused:?}");
    let forced = RestoreOptions { force: true, ..NEAR };
    let (_, old) = EmbeddedStore::restore(&to, &mut reader(&backup), forced).await.expect("restores");
    let kept = std::fs::read_to_string(old.expect("kept").join("format")).expect("reads");
    assert_eq!(kept, "troupe-store 1\n");
    assert_eq!(contents(&EmbeddedStore::open(&to).expect("opens")).await, contents(&store).await);
}

#[tokio::test]
async fn a_damaged_backup_leaves_the_embedded_store_as_it_was() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("store");
    let options = EmbeddedOptions { min_free: 0, ..EmbeddedOptions::default() };
    let store = EmbeddedStore::open_with(&path, options).expect("opens");
    filled(&store, 30).await;
    let backup = backup_of(&store).await;
    let before = contents(&store).await;
    drop(store);
    let cut = &backup[..backup.len() - 60];
    let forced = RestoreOptions { force: true, ..NEAR };
    let failed = EmbeddedStore::restore(&path, &mut reader(cut), forced).await;
    assert!(matches!(failed, Err(RestoreError::Backup(BackupError::Truncated { .. }))), "{failed:?}");
    assert_eq!(contents(&EmbeddedStore::open(&path).expect("opens")).await, before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn data_moves_from_embedded_to_etcd_and_back() {
    let dir = tempfile::tempdir().expect("a directory");
    let embedded = EmbeddedStore::open(dir.path().join("store")).expect("opens");
    filled(&embedded, 300).await;
    let before = contents(&embedded).await;
    let (backup, revision, records) = export(&embedded, Vec::new()).await.expect("takes");

    let cluster = EtcdCluster::start(dir.path(), 1);
    drop(cluster.connect().await);
    let mut steps = 0;
    let watch_it = |now, target| {
        assert!(now <= target);
        steps += 1;
    };
    let restored = EtcdStore::restore(cluster.options(), &mut reader(&backup), NEAR, watch_it).await;
    assert_eq!(restored.expect("restores").records, records);
    assert!(steps > 0);
    let store = cluster.connect().await;
    assert_eq!(contents(&store).await, before);
    past_is_compacted(&store, revision).await;
    assert_eq!(cluster.etcdctl(&["get", "--prefix", "/troupe", "--keys-only"]), "");
    assert_eq!(cluster.etcdctl(&["lease", "list"]).lines().count(), 2, "events expire again");

    let refused = EtcdStore::restore(cluster.options(), &mut reader(&backup), NEAR, |_, _| {}).await;
    assert!(matches!(refused, Err(RestoreError::NotEmpty { .. })), "{refused:?}");
    let back = backup_of(&store).await;
    let (path, forced) = (dir.path().join("back"), RestoreOptions { force: true, ..NEAR });
    EmbeddedStore::restore(&path, &mut reader(&back), NEAR).await.expect("restores");
    assert_eq!(contents(&EmbeddedStore::open(&path).expect("opens")).await, before);
    EtcdStore::restore(cluster.options(), &mut reader(&back), forced, |_, _| {}).await.expect("restores");
    assert_eq!(contents(&store).await, before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_uses_an_etcd_that_is_half_restored() {
    let dir = tempfile::tempdir().expect("a directory");
    let memory = MemoryStore::new();
    filled(&memory, 300).await;
    let backup = backup_of(&memory).await;
    let cluster = EtcdCluster::start(dir.path(), 1);
    drop(cluster.connect().await);
    let cut = &backup[..backup.len() - 60];
    EtcdStore::restore(cluster.options(), &mut reader(cut), NEAR, |_, _| {}).await.expect_err("the backup breaks off");
    let refused = EtcdStore::connect(cluster.options()).await.err();
    assert!(matches!(refused, Some(ConnectError::Interrupted)));
    let forced = RestoreOptions { force: true, ..NEAR };
    EtcdStore::restore(cluster.options(), &mut reader(&backup), forced, |_, _| {}).await.expect("restores");
    assert_eq!(contents(&cluster.connect().await).await, contents(&memory).await);
}
