//! What the store takes on the disk: segments are dropped whole, what is needed of them is carried forward, and nobody notices.

use std::time::{Duration, Instant};

use super::*;
use crate::store::{StoreEvent, prefix_end, suite};

const SEGMENT: u64 = 16 << 10;

fn options() -> EmbeddedOptions {
    EmbeddedOptions { min_free: 0, segment_bytes: SEGMENT, history_bytes: 4096, ..EmbeddedOptions::default() }
}

/// Bytes in the log of the store in `path`, and the numbers of its segments.
fn log_files(path: &Path) -> (u64, Vec<u64>) {
    let entries = std::fs::read_dir(path.join("log")).expect("lists").map(|entry| entry.expect("lists"));
    let files = entries.filter_map(|entry| {
        let number = entry.file_name().to_str()?.strip_suffix(".log")?.parse::<u64>().ok()?;
        // It may have been dropped meanwhile.
        Some((number, entry.metadata().map_or(0, |metadata| metadata.len())))
    });
    let files = files.collect::<std::collections::BTreeMap<_, _>>();
    (files.values().sum(), files.into_keys().collect())
}

async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !holds() {
        assert!(Instant::now() < deadline, "never: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn compact_all(store: &EmbeddedStore) {
    store.compact(store.current_revision().await.expect("reads")).await.expect("compacts");
}

fn everything(at: Option<Revision>) -> RangeRequest {
    RangeRequest { start: "/".into(), end: prefix_end(b"/"), limit: 0, at }
}

fn value(n: usize, round: usize) -> Bytes {
    format!("{n} {round} {}", "x".repeat((n * 31 + round * 7) % 300)).into()
}

/// Updates `keys` keys in so many rounds, and leaves them.
async fn churn(store: &EmbeddedStore, keys: usize, rounds: usize) {
    let mut revisions = vec![None; keys];
    for round in 0..rounds {
        let writes = revisions.iter_mut().enumerate().map(async |(n, revision)| {
            let key = Bytes::from(format!("/hot/{n}"));
            let written = match *revision {
                Some(expected) => store.update(key, value(n, round), expected, None).await,
                None => store.create(key, value(n, round), None).await,
            };
            *revision = Some(written.expect("writes"));
        });
        futures::future::join_all(writes).await;
    }
}

async fn clear(store: &EmbeddedStore, prefix: &'static str) {
    let request = RangeRequest { start: prefix.into(), end: prefix_end(prefix.as_bytes()), limit: 0, at: None };
    let held = store.range(request).await.expect("ranges").items;
    let deletions = held.into_iter().map(|kv| store.delete(kv.key, kv.mod_revision));
    futures::future::try_join_all(deletions).await.expect("deletes");
}

#[tokio::test]
async fn segments_of_which_nothing_is_needed_are_dropped_whole() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = EmbeddedStore::open_with(dir.path(), options()).expect("opens");
    churn(&store, 8, 300).await;
    clear(&store, "/hot/").await;
    let (before, _) = log_files(dir.path());
    assert!(before > 15 * SEGMENT, "history is kept: {before}");
    let last = store.current_revision().await.expect("reads");
    store.compact(last).await.expect("compacts");
    eventually("one segment is left", || log_files(dir.path()).1.len() == 1).await;
    drop(store);
    let store = EmbeddedStore::open_with(dir.path(), options()).expect("opens again");
    assert_eq!(store.current_revision().await.expect("reads"), last);
    assert_eq!(store.range(everything(None)).await.expect("ranges").count, 0, "nothing comes back");
    assert!(matches!(store.get(b"/hot/1", Some(Revision(5))).await, Err(StoreError::Compacted { .. })));
}

#[tokio::test]
async fn what_is_needed_is_carried_forward_as_it_was() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = EmbeddedStore::open_with(dir.path(), options()).expect("opens");
    let lease = store.create("/cold/lease".into(), "held".into(), Some(Duration::from_secs(4))).await.expect("creates");
    for n in 0..20 {
        let made = store.create(format!("/cold/{n}").into(), "first".into(), None).await.expect("creates");
        store.update(format!("/cold/{n}").into(), format!("second {n}").into(), made, None).await.expect("updates");
    }
    let cold = async |store: &EmbeddedStore| {
        let request = RangeRequest { start: "/cold/".into(), end: prefix_end(b"/cold/"), limit: 0, at: None };
        store.range(request).await.expect("ranges").items
    };
    let before = cold(&store).await;
    for _ in 0..4 {
        churn(&store, 8, 60).await;
        clear(&store, "/hot/").await;
        compact_all(&store).await;
    }
    eventually("the first segments are gone", || log_files(dir.path()).1[0] > 5).await;
    assert_eq!(cold(&store).await, before);
    drop(store);
    let store = EmbeddedStore::open_with(dir.path(), options()).expect("opens again");
    let after = cold(&store).await;
    assert!(after == before || after.iter().all(|kv| kv.mod_revision != lease), "as it was, but for what expires");
    let deadline = Instant::now() + Duration::from_secs(60);
    while store.get(b"/cold/lease", None).await.expect("reads").0.is_some() {
        assert!(Instant::now() < deadline, "what was carried forward expires as before");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn history_is_carried_forward_and_told_until_it_is_compacted() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = EmbeddedStore::open_with(dir.path(), options()).expect("opens");
    let old = store.create("/a/old".into(), "1".into(), None).await.expect("creates");
    let gone = store.create("/a/gone".into(), "1".into(), None).await.expect("creates");
    churn(&store, 8, 200).await;
    compact_all(&store).await;
    let begin = store.current_revision().await.expect("reads");
    // Both first versions lie in the first segment and are history from now on.
    let updated = store.update("/a/old".into(), "2".into(), old, None).await.expect("updates");
    let deleted = store.delete("/a/gone".into(), gone).await.expect("deletes");
    eventually("the first segment is gone", || log_files(dir.path()).1[0] > 1).await;
    let check = async |store: &EmbeddedStore| {
        assert_eq!(store.get(b"/a/old", Some(begin)).await.expect("reads").0.expect("there").value, "1");
        assert_eq!(store.get(b"/a/gone", Some(begin)).await.expect("reads").0.expect("there").value, "1");
        assert_eq!(store.get(b"/a/old", None).await.expect("reads").0.expect("there").mod_revision, updated);
        assert_eq!(store.get(b"/a/gone", None).await.expect("reads").0, None);
        let mut watch = store.watch("/a/".into(), begin.next()).await.expect("watches");
        let events = suite::take_events(&mut watch, 2).await;
        assert!(matches!(&events[0], StoreEvent::Put { kv, previous: Some(previous) } if kv.value == "2" && previous.mod_revision == old));
        assert!(matches!(&events[1], StoreEvent::Delete { revision, previous, .. } if *revision == deleted && previous.mod_revision == gone));
    };
    check(&store).await;
    drop(store);
    let store = EmbeddedStore::open_with(dir.path(), options()).expect("opens again");
    check(&store).await;
    compact_all(&store).await;
    drop(store);
    let store = EmbeddedStore::open_with(dir.path(), options()).expect("opens again");
    assert_eq!(store.get(b"/a/gone", None).await.expect("reads").0, None, "what is deleted stays so");
    assert_eq!(store.get(b"/a/old", None).await.expect("reads").0.expect("there").value, "2");
}

#[tokio::test]
async fn the_disk_is_bounded_by_what_is_needed() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = EmbeddedStore::open_with(dir.path(), options()).expect("opens");
    for round in 0..30 {
        churn(&store, 100, 5).await;
        clear(&store, "/hot/").await;
        for n in 0..20 {
            store.create(format!("/kept/{round}-{n}").into(), value(n, round), None).await.expect("creates");
        }
        if round % 5 == 4 {
            compact_all(&store).await;
        }
    }
    compact_all(&store).await;
    let kept = store.range(everything(None)).await.expect("ranges").items;
    assert_eq!(kept.len(), 600);
    let needed = kept.iter().map(|kv| kv.key.len() + kv.value.len() + 64).sum::<usize>() as u64;
    let written = store.current_revision().await.expect("reads").0;
    assert!(written > 18_000, "{written}");
    let bound = 2 * needed + 6 * SEGMENT;
    eventually("the disk is given back", || log_files(dir.path()).0 <= bound).await;
    drop(store);
    let store = EmbeddedStore::open_with(dir.path(), options()).expect("opens again");
    assert_eq!(store.range(everything(None)).await.expect("ranges").items, kept);
    assert!(log_files(dir.path()).0 <= bound);
}

#[tokio::test]
async fn history_is_bounded_by_its_size_and_what_is_new_stays() {
    const HISTORY: u64 = 10 * SEGMENT;
    let dir = tempfile::tempdir().expect("a directory");
    let bounded = EmbeddedOptions { history_on_disk: Some(HISTORY), ..options() };
    let store = EmbeddedStore::open_with(dir.path(), bounded.clone()).expect("opens");
    let kept = store.create("/kept/a".into(), "kept".into(), None).await.expect("creates");
    let begin = store.current_revision().await.expect("reads");
    let mut old = store.watch("/".into(), begin.next()).await.expect("watches");
    let mut most = 0;
    for _ in 0..20 {
        churn(&store, 8, 200).await;
        most = most.max(log_files(dir.path()).0);
        clear(&store, "/hot/").await;
    }
    let bound = 2 * HISTORY + 8 * SEGMENT;
    assert!(most <= bound, "{most} of {bound}");
    let check = async |store: &EmbeddedStore| {
        assert!(matches!(store.get(b"/kept/a", Some(begin)).await, Err(StoreError::Compacted { .. })));
        assert_eq!(store.get(b"/kept/a", None).await.expect("reads").0.expect("there").mod_revision, kept);
        let current = store.current_revision().await.expect("reads");
        let recent = Revision(current.0 - 100);
        assert!(store.range(everything(Some(recent))).await.is_ok(), "what is recent can be read");
        let mut watch = store.watch("/".into(), begin.next()).await.expect("watches");
        assert!(matches!(watch.recv().await, Some(WatchMessage::Ended { compacted: Some(_) })));
        let mut watch = store.watch("/hot/".into(), recent.next()).await.expect("watches");
        assert_eq!(suite::take_events(&mut watch, 100).await.len(), 100);
    };
    check(&store).await;
    old.close();
    drop(store);
    let store = EmbeddedStore::open_with(dir.path(), bounded).expect("opens again");
    check(&store).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_and_watches_notice_nothing_of_segments_that_go() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = Arc::new(EmbeddedStore::open_with(dir.path(), options()).expect("opens"));
    let mut readers = tokio::task::JoinSet::new();
    let made = store.create("/seen/a".into(), "1".into(), None).await.expect("creates");
    for _ in 0..3 {
        let store = store.clone();
        readers.spawn(async move {
            let mut seen = 0;
            loop {
                let current = store.current_revision().await.expect("reads");
                let at = Revision(current.0.saturating_sub(rand::random_range(0..400)).max(2));
                match store.get(b"/seen/a", Some(at)).await {
                    Ok((kv, _)) => assert!(kv.expect("always there").mod_revision <= at),
                    Err(StoreError::Compacted { .. }) => {}
                    Err(error) => panic!("{error}"),
                }
                let Ok(mut watch) = store.watch("/seen/".into(), at.next()).await else { continue };
                match watch.recv().await {
                    Some(WatchMessage::Events(events)) => assert!(events[0].revision() > at),
                    Some(WatchMessage::Ended { compacted: Some(_) } | WatchMessage::Progress(_)) => {}
                    other => panic!("{other:?}"),
                }
                seen += 1;
                if store.get(b"/seen/end", None).await.expect("reads").0.is_some() {
                    return seen;
                }
            }
        });
    }
    let mut revision = made;
    for n in 0..3000_usize {
        revision = store.update("/seen/a".into(), value(n, 0), revision, None).await.expect("updates");
        if n % 100 == 99 && n > 300 {
            store.compact(Revision(revision.0 - 200)).await.expect("compacts");
        }
    }
    store.create("/seen/end".into(), "".into(), None).await.expect("creates");
    assert!(readers.join_all().await.into_iter().all(|seen| seen > 10));
    assert!(log_files(dir.path()).1[0] > 3, "segments went");
}

#[tokio::test]
async fn a_segment_that_cannot_be_read_stays_and_nothing_is_lost() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = EmbeddedStore::open_with(dir.path(), options()).expect("opens");
    store.create("/cold/a".into(), "kept".into(), None).await.expect("creates");
    churn(&store, 8, 200).await;
    let first = dir.path().join("log/0000000000000001.log");
    let whole = std::fs::read(&first).expect("reads");
    let mut damaged = whole.clone();
    let value = damaged.windows(4).position(|bytes| bytes == b"kept").expect("the first record");
    damaged[value] ^= 1;
    std::fs::write(&first, &damaged).expect("writes");
    compact_all(&store).await;
    churn_elsewhere(&store).await;
    assert_eq!(log_files(dir.path()).1[0], 1, "it stays");
    assert_eq!(store.get(b"/cold/a", None).await.expect("reads").0.expect("there").value, "kept");
    drop(store);
    let error = EmbeddedStore::open_with(dir.path(), options()).err().expect("is refused").to_string();
    assert!(error.contains("0000000000000001.log, byte ") && error.contains("restore a backup"), "{error}");
    assert_eq!(std::fs::read(&first).expect("reads"), damaged, "and is left as it is");
    std::fs::write(&first, &whole).expect("writes");
    let store = EmbeddedStore::open_with(dir.path(), options()).expect("opens when it is mended");
    assert_eq!(store.get(b"/cold/a", None).await.expect("reads").0.expect("there").value, "kept");
}

async fn churn_elsewhere(store: &EmbeddedStore) {
    for n in 0..50 {
        store.create(format!("/more/{n}").into(), value(n, 1), None).await.expect("the store goes on");
    }
}
