//! What every backend must do. Each backend's tests run it on fresh stores.

use std::{collections::BTreeMap, future::Future, sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::{
    sync::mpsc::Receiver,
    time::{Instant, timeout},
};
use troupe_api::meta::Revision;

use super::{KeyValue, RangeRequest, Store, StoreError, StoreEvent, WatchMessage, prefix_end};

const PATIENCE: Duration = Duration::from_secs(10);

/// Runs everything; `fresh` makes an empty store.
pub async fn run<F: Future<Output = Arc<dyn Store>>>(fresh: impl Fn() -> F) {
    writes_compare_and_swap(&*fresh().await).await;
    revisions_start_at_two_and_count_every_write(&*fresh().await).await;
    ranges_page_at_a_revision(&*fresh().await).await;
    old_revisions_stay_readable_until_compacted(&*fresh().await).await;
    watches_deliver_each_change_once_in_order(fresh().await).await;
    watches_resume_from_any_kept_revision(&*fresh().await).await;
    watches_of_quiet_keys_tell_how_far_they_are(&*fresh().await).await;
    watches_from_the_future_begin_there(&*fresh().await).await;
    slow_watchers_are_told_to_resume(&*fresh().await).await;
    values_with_a_ttl_expire(&*fresh().await).await;
    concurrent_creates_have_one_winner(fresh().await).await;
}

fn all() -> RangeRequest {
    under("/registry/")
}

fn under(prefix: &'static str) -> RangeRequest {
    RangeRequest { start: prefix.into(), end: prefix_end(prefix.as_bytes()), limit: 0, at: None }
}

async fn put(store: &dyn Store, key: &'static str, value: &'static str) -> Revision {
    match store.get(key.as_bytes(), None).await.expect("reads").0 {
        Some(kv) => store.update(key.into(), value.into(), kv.mod_revision, None).await.expect("updates"),
        None => store.create(key.into(), value.into(), None).await.expect("creates"),
    }
}

async fn remove(store: &dyn Store, key: &'static str) -> Revision {
    let held = store.get(key.as_bytes(), None).await.expect("reads").0.expect("exists");
    store.delete(key.into(), held.mod_revision).await.expect("deletes")
}

/// The next `count` events, whatever messages they come in.
pub async fn take_events(watch: &mut Receiver<WatchMessage>, count: usize) -> Vec<StoreEvent> {
    let mut events = Vec::new();
    while events.len() < count {
        match timeout(PATIENCE, watch.recv()).await.expect("an event in time").expect("an open watch") {
            WatchMessage::Events(more) => events.extend(more),
            WatchMessage::Progress(_) => {}
            WatchMessage::Ended { compacted } => panic!("ended early, compacted {compacted:?}"),
        }
    }
    events
}

async fn ending(watch: &mut Receiver<WatchMessage>) -> Option<Revision> {
    loop {
        match timeout(PATIENCE, watch.recv()).await.expect("an end in time").expect("an open watch") {
            WatchMessage::Ended { compacted } => return compacted,
            WatchMessage::Events(_) | WatchMessage::Progress(_) => {}
        }
    }
}

async fn writes_compare_and_swap(store: &dyn Store) {
    let key = Bytes::from_static(b"/registry/a");
    let created = store.create(key.clone(), "1".into(), None).await.expect("creates");
    let Err(StoreError::Conflict { current: Some(held) }) = store.create(key.clone(), "2".into(), None).await else { panic!("must conflict") };
    assert_eq!(held, KeyValue { key: key.clone(), value: "1".into(), create_revision: created, mod_revision: created });
    let updated = store.update(key.clone(), "2".into(), created, None).await.expect("updates");
    assert!(updated > created);
    assert!(matches!(store.update(key.clone(), "3".into(), created, None).await, Err(StoreError::Conflict { current: Some(_) })));
    assert!(matches!(store.delete(key.clone(), created).await, Err(StoreError::Conflict { current: Some(_) })));
    let held = store.get(&key, None).await.expect("reads").0.expect("exists");
    assert_eq!((held.create_revision, held.mod_revision, &*held.value), (created, updated, &b"2"[..]));
    let deleted = store.delete(key.clone(), updated).await.expect("deletes");
    assert_eq!(store.get(&key, None).await.expect("reads"), (None, deleted));
    assert!(matches!(store.update(key.clone(), "3".into(), updated, None).await, Err(StoreError::Conflict { current: None })));
    assert!(matches!(store.delete(key.clone(), updated).await, Err(StoreError::Conflict { current: None })));
    let again = store.create(key.clone(), "4".into(), None).await.expect("creates again");
    assert_eq!(store.get(&key, None).await.expect("reads").0.expect("exists").create_revision, again);
}

async fn revisions_start_at_two_and_count_every_write(store: &dyn Store) {
    assert_eq!(store.current_revision().await.expect("reads"), Revision(1));
    for n in 2..6_u64 {
        let key = format!("/registry/{n}");
        assert_eq!(store.create(key.into(), "v".into(), None).await.expect("creates"), Revision(n));
    }
    let _ = store.create("/registry/2".into(), "v".into(), None).await.expect_err("conflicts");
    assert_eq!(store.current_revision().await.expect("reads"), Revision(5));
    assert!(matches!(store.get(b"/registry/2", Some(Revision(9))).await, Err(StoreError::FutureRevision(Revision(9)))));
}

async fn ranges_page_at_a_revision(store: &dyn Store) {
    for key in ["/registry/pods/a/1", "/registry/pods/a/2", "/registry/pods/b/1", "/registry/podsx/c"] {
        put(store, key, "old").await;
    }
    let first = store.range(RangeRequest { limit: 2, ..under("/registry/pods/") }).await.expect("ranges");
    assert_eq!((first.items.len(), first.more, first.count), (2, true, 3));
    put(store, "/registry/pods/b/1", "new").await;
    put(store, "/registry/pods/c/1", "new").await;
    remove(store, "/registry/pods/a/1").await;
    let mut start = first.items[1].key.to_vec();
    start.push(0);
    let second = RangeRequest { start: start.into(), at: Some(first.revision), limit: 2, ..under("/registry/pods/") };
    let second = store.range(second).await.expect("ranges");
    assert_eq!((second.items.len(), second.more, second.count, second.revision), (1, false, 1, first.revision));
    assert_eq!(&*second.items[0].value, b"old");
    let now = store.range(under("/registry/pods/")).await.expect("ranges");
    let keys = now.items.iter().map(|kv| kv.key.clone()).collect::<Vec<_>>();
    assert_eq!(keys, ["/registry/pods/a/2", "/registry/pods/b/1", "/registry/pods/c/1"]);
    let everything = RangeRequest { start: Bytes::from_static(&[0]), end: Bytes::from_static(&[0]), limit: 0, at: None };
    assert_eq!(store.range(everything).await.expect("ranges").count, 4);
    let upside_down = RangeRequest { start: "b".into(), end: "a".into(), limit: 0, at: None };
    assert_eq!(store.range(upside_down).await.expect("ranges").count, 0);
}

async fn old_revisions_stay_readable_until_compacted(store: &dyn Store) {
    let first = put(store, "/registry/a", "1").await;
    let second = put(store, "/registry/a", "2").await;
    let gone = remove(store, "/registry/a").await;
    let other = put(store, "/registry/b", "1").await;
    let value = |kv: Option<KeyValue>| kv.map(|kv| kv.value);
    assert_eq!(value(store.get(b"/registry/a", Some(first)).await.expect("reads").0), Some("1".into()));
    assert_eq!(value(store.get(b"/registry/a", Some(second)).await.expect("reads").0), Some("2".into()));
    assert_eq!(value(store.get(b"/registry/a", Some(gone)).await.expect("reads").0), None);
    store.compact(second).await.expect("compacts");
    assert!(matches!(store.get(b"/registry/a", Some(first)).await, Err(StoreError::Compacted { .. })));
    assert_eq!(value(store.get(b"/registry/a", Some(second)).await.expect("reads").0), Some("2".into()));
    store.compact(other).await.expect("compacts");
    store.compact(second).await.expect("compacting what is compacted does nothing");
    assert!(matches!(store.range(RangeRequest { at: Some(gone), ..all() }).await, Err(StoreError::Compacted { .. })));
    assert_eq!(store.range(RangeRequest { at: Some(other), ..all() }).await.expect("ranges").count, 1);
    assert!(matches!(store.compact(Revision(other.0 + 1)).await, Err(StoreError::FutureRevision(_))));
}

async fn watches_deliver_each_change_once_in_order(store: Arc<dyn Store>) {
    let mut watch = store.watch("/registry/w/".into(), Revision(2)).await.expect("watches");
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..4 {
        let store = store.clone();
        writers.spawn(async move {
            for n in 0..50 {
                let prefix = if n % 2 == 0 { "w" } else { "other" };
                store.create(format!("/registry/{prefix}/{writer}-{n}").into(), "v".into(), None).await.expect("creates");
            }
        });
    }
    writers.join_all().await;
    let events = take_events(&mut watch, 100).await;
    assert_eq!(events.len(), 100);
    assert!(events.windows(2).all(|pair| pair[0].revision() < pair[1].revision()));
    assert!(events.iter().all(|event| event.key().starts_with(b"/registry/w/")));
}

async fn watches_resume_from_any_kept_revision(store: &dyn Store) {
    let first = put(store, "/registry/a", "1").await;
    let second = put(store, "/registry/a", "2").await;
    let third = remove(store, "/registry/a").await;
    let mut watch = store.watch("/registry/".into(), second).await.expect("watches");
    let events = take_events(&mut watch, 2).await;
    let kv = |value: &'static str, mod_revision| KeyValue { key: "/registry/a".into(), value: value.into(), create_revision: first, mod_revision };
    assert_eq!(events[0], StoreEvent::Put { kv: kv("2", second), previous: Some(kv("1", first)) });
    assert_eq!(events[1], StoreEvent::Delete { key: "/registry/a".into(), revision: third, previous: kv("2", second) });
    let next = put(store, "/registry/b", "1").await;
    assert_eq!(take_events(&mut watch, 1).await[0].revision(), next);
    store.compact(second).await.expect("compacts");
    let mut late = store.watch("/registry/".into(), first).await.expect("watches");
    assert_eq!(ending(&mut late).await, Some(second));
    let mut kept = store.watch("/registry/".into(), third).await.expect("watches");
    assert_eq!(take_events(&mut kept, 2).await.len(), 2);
}

async fn watches_of_quiet_keys_tell_how_far_they_are(store: &dyn Store) {
    let first = put(store, "/registry/quiet/a", "1").await;
    put(store, "/registry/other/a", "1").await;
    let last = put(store, "/registry/other/a", "2").await;
    let mut watch = store.watch("/registry/quiet/".into(), first.next()).await.expect("watches");
    loop {
        match timeout(PATIENCE, watch.recv()).await.expect("it is told in time").expect("an open watch") {
            WatchMessage::Progress(revision) if revision >= last => break,
            WatchMessage::Progress(_) => {}
            other => panic!("nothing happened, and it is told {other:?}"),
        }
    }
}

async fn watches_from_the_future_begin_there(store: &dyn Store) {
    put(store, "/registry/a", "1").await;
    let mut watch = store.watch("/registry/".into(), Revision(4)).await.expect("watches");
    put(store, "/registry/a", "2").await;
    put(store, "/registry/a", "3").await;
    assert_eq!(take_events(&mut watch, 1).await[0].revision(), Revision(4));
}

async fn slow_watchers_are_told_to_resume(store: &dyn Store) {
    let mut slow = store.watch("/registry/".into(), Revision(2)).await.expect("watches");
    let mut revision = store.create("/registry/a".into(), "v".into(), None).await.expect("creates");
    for _ in 0..1500 {
        revision = store.update("/registry/a".into(), "v".into(), revision, None).await.expect("updates");
    }
    let mut seen = Revision(1);
    loop {
        match timeout(PATIENCE, slow.recv()).await.expect("in time").expect("an open watch") {
            WatchMessage::Events(events) => {
                for event in events {
                    assert_eq!(event.revision(), seen.next(), "no gap before the end");
                    seen = event.revision();
                }
            }
            WatchMessage::Progress(_) => {}
            WatchMessage::Ended { compacted } => {
                assert_eq!(compacted, None);
                break;
            }
        }
    }
    let mut resumed = store.watch("/registry/".into(), seen.next()).await.expect("watches");
    let missing = usize::try_from(revision.0 - seen.0).expect("few");
    assert_eq!(take_events(&mut resumed, missing).await.last().map(StoreEvent::revision), Some(revision));
}

async fn values_with_a_ttl_expire(store: &dyn Store) {
    let ttl = Some(Duration::from_millis(300));
    store.create("/registry/short".into(), "v".into(), ttl).await.expect("creates");
    let kept = store.create("/registry/kept".into(), "v".into(), ttl).await.expect("creates");
    store.update("/registry/kept".into(), "w".into(), kept, None).await.expect("updates");
    let mut watch = store.watch("/registry/".into(), Revision(5)).await.expect("watches");
    let deadline = Instant::now() + PATIENCE;
    while store.get(b"/registry/short", None).await.expect("reads").0.is_some() {
        assert!(Instant::now() < deadline, "did not expire");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(matches!(&take_events(&mut watch, 1).await[0], StoreEvent::Delete { key, .. } if key == "/registry/short"));
    assert!(store.get(b"/registry/kept", None).await.expect("reads").0.is_some(), "a write without ttl takes it off");
}

async fn concurrent_creates_have_one_winner(store: Arc<dyn Store>) {
    let mut racers = tokio::task::JoinSet::new();
    for racer in 0..16 {
        let store = store.clone();
        racers.spawn(async move { store.create("/registry/prize".into(), format!("{racer}").into(), None).await.is_ok() });
    }
    let winners = racers.join_all().await.into_iter().filter(|won| *won).count();
    assert_eq!(winners, 1);
}

/// A random operation, for comparing a backend with the model.
#[derive(Clone, Debug)]
pub enum RandomOp {
    Put(u8, u8),
    Delete(u8),
    Compact(u8),
    Reopen,
}

/// Applies one operation and returns what it answered, in a comparable form.
pub async fn apply(store: &dyn Store, op: &RandomOp) -> String {
    let key = |n: u8| Bytes::from(format!("/registry/k/{n}"));
    match op {
        RandomOp::Put(n, value) => {
            let value = Bytes::from(vec![*value; usize::from(*value)]);
            match store.get(&key(*n), None).await.expect("reads").0 {
                Some(kv) => format!("{:?}", store.update(key(*n), value, kv.mod_revision, None).await),
                None => format!("{:?}", store.create(key(*n), value, None).await),
            }
        }
        RandomOp::Delete(n) => {
            let expected = store.get(&key(*n), None).await.expect("reads").0.map_or(Revision(1), |kv| kv.mod_revision);
            format!("{:?}", store.delete(key(*n), expected).await)
        }
        RandomOp::Compact(back) => {
            let current = store.current_revision().await.expect("reads");
            format!("{:?}", store.compact(Revision(current.0.saturating_sub(u64::from(*back)))).await)
        }
        RandomOp::Reopen => String::new(),
    }
}

/// Everything a store answers: each revision's whole range and every watch from each kept revision.
pub async fn observe(store: &dyn Store) -> BTreeMap<u64, String> {
    let current = store.current_revision().await.expect("reads");
    let mut seen = BTreeMap::new();
    for revision in 1..=current.0 {
        let at = Revision(revision);
        let range = store.range(RangeRequest { at: Some(at), ..all() }).await;
        let mut watch = store.watch("/registry/".into(), at.next()).await.expect("watches");
        let events = match &range {
            Ok(_) => take_events(&mut watch, usize::try_from(current.0 - revision).expect("few")).await,
            Err(_) => Vec::new(),
        };
        seen.insert(revision, format!("{range:?} {events:?}"));
    }
    seen
}
