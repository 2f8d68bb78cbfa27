use std::{sync::Arc, time::Duration};

use futures::FutureExt;
use imbl::OrdMap;
use k8s_openapi::api::core::v1::ConfigMap;
use parking_lot::Mutex;
use serde_json::json;
use troupe_api::{
    decoding::{Decoded, decoded_here},
    meta::{Cause, Object, ObjectKey, Revision},
    stored::StoredObject,
};

use super::{Cache, Change, Subscription, dense};
use crate::runtime::turn::{BYTES, OBJECTS};

fn config_map(name: &str, uid: &str, team: &str, revision: u64) -> (ObjectKey, Arc<StoredObject>) {
    let metadata = json!({"name": name, "namespace": "n", "uid": uid, "labels": {"team": team}, "resourceVersion": revision.to_string()});
    let tree = Object::from_value(json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata})).expect("an object");
    let stored = Arc::new(StoredObject::from_object(&tree).expect("well formed"));
    (stored.key.clone(), stored)
}

fn list(objects: &[(ObjectKey, Arc<StoredObject>)]) -> OrdMap<ObjectKey, Arc<StoredObject>> {
    objects.iter().cloned().collect()
}

/// Notes what happens to which key.
fn notes(cache: &Cache<ConfigMap>) -> (Arc<Mutex<Vec<String>>>, Subscription<ConfigMap>) {
    let heard: Arc<Mutex<Vec<String>>> = Arc::default();
    let notes = heard.clone();
    let subscription = cache.subscribe(move |change| notes.lock().push(format!("{} {}", what(change), change.key.name)));
    (heard, subscription)
}

fn what(change: &Change<ConfigMap>) -> &'static str {
    match (change.is_addition(), change.is_removal()) {
        (true, _) => "added",
        (_, true) => "removed",
        _ => "changed",
    }
}

fn names(objects: &[Arc<ConfigMap>]) -> Vec<String> {
    objects.iter().filter_map(|object| object.metadata.name.clone()).collect()
}

fn team_of(object: &ConfigMap) -> Vec<Arc<str>> {
    object.metadata.labels.iter().flat_map(|labels| labels.get("team").map(|team| Arc::from(team.as_str()))).collect()
}

#[test]
fn a_new_list_replaces_everything_and_announces_the_difference() {
    let cache = Cache::<ConfigMap>::default();
    assert!(!cache.is_synced());
    cache.replace_now(list(&[config_map("a", "1", "x", 1), config_map("b", "2", "x", 2)]), Revision(2));
    assert!(cache.is_synced());
    let heard: Arc<Mutex<Vec<String>>> = Arc::default();
    let notes = heard.clone();
    let whole = cache.clone();
    let subscription = cache.subscribe(move |change| notes.lock().push(format!("{} {} of {}", what(change), change.key.name, whole.list("").len())));
    assert!(heard.lock().is_empty(), "nothing before it is awaited");
    subscription.filled().now_or_never().expect("few objects take one turn");
    assert_eq!(std::mem::take(&mut *heard.lock()), ["added a of 2", "added b of 2"]);
    cache.replace_now(list(&[config_map("b", "2", "y", 3), config_map("c", "3", "x", 4), config_map("d", "4", "x", 4)]), Revision(4));
    assert_eq!(
        std::mem::take(&mut *heard.lock()),
        ["removed a of 3", "changed b of 3", "added c of 3", "added d of 3"],
        "whoever is called back sees the whole new list"
    );
    cache.replace_now(list(&[config_map("d", "other", "x", 6)]), Revision(6));
    assert!(heard.lock().ends_with(&["removed d of 1".to_owned(), "added d of 1".to_owned()]), "another UID is another object");
    drop(subscription);
    heard.lock().clear();
    cache.apply(ObjectKey::new("n", "d"), None, Revision(7), &Cause::default());
    assert!(heard.lock().is_empty());
}

#[test]
fn an_index_follows_every_change() {
    let cache = Cache::<ConfigMap>::default();
    cache.replace_now(list(&[config_map("a", "1", "x", 1)]), Revision(1));
    cache.add_index("team", team_of);
    assert_eq!(names(&cache.by_index("team", "x")), ["a"]);
    let (key, moved) = config_map("a", "1", "y", 2);
    cache.apply(key.clone(), Some(moved), Revision(2), &Cause::default());
    assert!(cache.by_index("team", "x").is_empty());
    assert_eq!(names(&cache.by_index("team", "y")), ["a"]);
    cache.replace_now(list(&[config_map("b", "2", "x", 3), config_map("c", "3", "x", 3)]), Revision(3));
    assert_eq!(names(&cache.by_index("team", "x")), ["b", "c"]);
    cache.apply(ObjectKey::new("n", "b"), None, Revision(4), &Cause::default());
    assert_eq!(names(&cache.by_index("team", "x")), ["c"]);
    assert!(cache.by_index("unheard of", "x").is_empty());
}

#[actix::test]
async fn a_writer_waits_until_its_write_shows() {
    let cache = Cache::<ConfigMap>::default();
    cache.replace_now(OrdMap::new(), Revision(1));
    let patience = Duration::from_secs(5);
    assert!(cache.wait_for(Revision(1), patience).await);
    assert!(!cache.wait_for(Revision(5), Duration::from_millis(5)).await, "nothing came: read live");
    let (waiting, (key, object)) = (cache.clone(), config_map("a", "1", "x", 5));
    let (shown, ()) = tokio::join!(waiting.wait_for(Revision(5), patience), async {
        cache.apply(key.clone(), Some(object), Revision(5), &Cause::default());
    });
    assert!(shown);
    let (gone, ()) = tokio::join!(cache.wait_gone(&key, "1", patience), async {
        cache.apply(key.clone(), None, Revision(6), &Cause::default());
    });
    assert!(gone);
    cache.advance(Revision(9));
    assert!(cache.wait_for(Revision(8), patience).await, "a bookmark counts");
}

const LARGE: usize = 200 << 10;

/// Many objects of a size in bytes.
fn many(count: usize, size: usize) -> OrdMap<ObjectKey, Arc<StoredObject>> {
    let filling = "x".repeat(size);
    let one = |at: usize| {
        let metadata = json!({"name": format!("c{at:05}"), "namespace": "n", "uid": at.to_string(), "labels": {"team": "x"}});
        let tree = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"a": filling}});
        let stored = Arc::new(StoredObject::from_object(&Object::from_value(tree).expect("an object")).expect("well formed"));
        (stored.key.clone(), stored)
    };
    (0..count).map(one).collect()
}

/// Polls a future to its end; gives what was decoded in each turn.
fn turns(future: impl Future<Output = ()>) -> Vec<Decoded> {
    let mut future = std::pin::pin!(future);
    let mut task = std::task::Context::from_waker(std::task::Waker::noop());
    let mut turns = Vec::new();
    loop {
        let before = decoded_here();
        let done = future.as_mut().poll(&mut task).is_ready();
        let after = decoded_here();
        turns.push(Decoded { objects: after.objects - before.objects, bytes: after.bytes - before.bytes });
        if done {
            return turns;
        }
    }
}

/// What one turn may decode: the last object may begin just below the bound.
fn fits_a_turn(decoded: &Decoded) -> bool {
    decoded.bytes < BYTES + LARGE + 1024
}

#[test]
fn a_dense_tree_has_the_same_objects_and_is_made_a_turn_at_a_time() {
    for count in [0, 1, 2, 17, 3 * OBJECTS] {
        let (objects, mut made) = (many(count, 10), OrdMap::new());
        let turns = turns(async { made = dense(objects.clone()).await });
        assert_eq!(made, objects);
        assert_eq!(turns.len(), count / OBJECTS + 1);
    }
}

#[test]
fn who_hears_of_an_object_by_a_list_or_late_hears_of_its_cause() {
    let cache = Cache::<ConfigMap>::default();
    let heard: Arc<Mutex<Vec<(String, u128)>>> = Arc::default();
    let listens = || {
        let notes = heard.clone();
        let subscription = cache.subscribe(move |change| notes.lock().push((change.key.name.to_string(), change.cause.trace)));
        subscription.filled().now_or_never();
        subscription
    };
    let taken = || std::mem::take(&mut *heard.lock());
    let caused = |trace| Cause { trace, ..Cause::default() };
    let early = listens();
    let (a, b) = (config_map("a", "1", "x", 1), config_map("b", "2", "x", 2));
    cache.note_cause(&b.0, Revision(2), &caused(7));
    cache.replace_now(list(&[a.clone(), b.clone()]), Revision(2));
    assert_eq!(taken(), [("a".to_owned(), 0), ("b".to_owned(), 7)]);
    cache.apply(a.0.clone(), Some(config_map("a", "1", "y", 3).1), Revision(3), &caused(8));
    assert_eq!(taken(), [("a".to_owned(), 8)]);
    drop(early);
    let _late = listens();
    assert_eq!(taken(), [("a".to_owned(), 8), ("b".to_owned(), 7)]);
}

#[test]
fn nothing_is_decoded_for_whoever_needs_only_keys_and_metadata() {
    let (cache, objects) = (Cache::<ConfigMap>::default(), many(600, 100));
    cache.add_meta_index("team", |meta| meta.labels.get("team").map(Arc::from).into_iter().collect());
    let before = decoded_here();
    let (heard, subscription) = notes(&cache);
    subscription.filled().now_or_never();
    let turns_of_list = turns(cache.replace(objects.clone(), Revision(1))).len();
    assert_eq!(heard.lock().len(), 600);
    assert!(turns_of_list > 600 / OBJECTS, "even keys are told a turn at a time");
    let (key, stored) = objects.get_min().cloned().expect("many");
    cache.apply(key.clone(), Some(Arc::new(stored.at_revision(Revision(2)))), Revision(2), &Cause::default());
    assert_eq!(cache.index_count("team", "x"), 600);
    let (late, subscription) = notes(&cache);
    let turns_of_subscription = turns(subscription.filled()).len();
    assert_eq!((late.lock().len(), cache.keys().len()), (600, 600));
    assert!(turns_of_subscription > 600 / OBJECTS);
    assert_eq!(decoded_here(), before);
}

#[test]
fn large_objects_are_decoded_once_for_all_and_a_few_in_a_turn() {
    let (cache, objects) = (Cache::<ConfigMap>::default(), many(60, LARGE));
    let looks = |change: &Change<ConfigMap>| assert!(change.after().is_some_and(|map| map.data.is_some()));
    let subscriptions: Vec<_> = (0..5).map(|_| cache.subscribe(looks)).collect();
    assert!(subscriptions.iter().all(|subscription| subscription.filled().now_or_never().is_none()), "the first list is not in");
    let listed = turns(cache.replace(objects.clone(), Revision(1)));
    assert_eq!(listed.iter().map(|turn| turn.objects).sum::<usize>(), 60, "once, not for each subscriber");
    assert!(listed.iter().all(fits_a_turn), "{listed:?}");
    let late = turns(cache.subscribe(looks).filled());
    assert!(late.iter().all(fits_a_turn), "{late:?}");
}

#[test]
fn an_index_of_what_is_large_is_filed_a_turn_at_a_time_before_and_after() {
    let (cache, objects) = (Cache::<ConfigMap>::default(), many(60, LARGE));
    cache.add_index("first", team_of);
    let listed = turns(cache.replace(objects.clone(), Revision(1)));
    assert!(listed.len() > 10 && listed.iter().all(fits_a_turn), "{listed:?}");
    let before = decoded_here();
    cache.add_index("second", team_of);
    assert!(decoded_here().bytes - before.bytes < BYTES + LARGE + 1024, "whoever adds an index does not wait for all of it");
    assert!(!cache.is_synced());
    // What changes meanwhile is filed where its turn was, and not where it comes.
    let (first, last) = (objects.get_min().cloned().expect("many"), objects.get_max().cloned().expect("many"));
    cache.apply(first.0.clone(), None, Revision(2), &Cause::default());
    cache.apply(last.0.clone(), None, Revision(3), &Cause::default());
    let (key, moved) = config_map("b", "1", "y", 4);
    cache.apply(key, Some(moved), Revision(4), &Cause::default());
    let filed = turns(cache.synced());
    assert!(filed.len() > 10 && filed.iter().all(fits_a_turn), "{filed:?}");
    assert!(cache.is_synced());
    for name in ["first", "second"] {
        assert_eq!((cache.index_count(name, "x"), cache.index_count(name, "y")), (58, 1), "{name}");
    }
}

#[test]
fn a_subscriber_hears_of_everything_once_whatever_happens_while_it_is_told() {
    let (cache, objects) = (Cache::<ConfigMap>::default(), many(3 * OBJECTS, 100));
    turns(cache.replace(objects.clone(), Revision(1)));
    let (heard, subscription) = notes(&cache);
    let mut filled = std::pin::pin!(subscription.filled());
    let mut task = std::task::Context::from_waker(std::task::Waker::noop());
    assert!(filled.as_mut().poll(&mut task).is_pending());
    assert_eq!(heard.lock().len(), OBJECTS);
    let keys: Vec<ObjectKey> = objects.keys().cloned().collect();
    let change = |at: usize, gone: bool, revision: u64| {
        let stored = (!gone).then(|| Arc::new(objects[&keys[at]].at_revision(Revision(revision))));
        cache.apply(keys[at].clone(), stored, Revision(revision), &Cause::default());
    };
    heard.lock().clear();
    // Passed: news at once. Ahead: told as it is when its turn comes, or not at all.
    change(0, false, 2);
    change(1, true, 3);
    change(2 * OBJECTS, false, 4);
    change(2 * OBJECTS + 1, true, 5);
    let (key, _) = config_map("zzz", "z", "x", 6);
    cache.apply(key.clone(), Some(config_map("zzz", "z", "x", 6).1), Revision(6), &Cause::default());
    assert_eq!(std::mem::take(&mut *heard.lock()), ["changed c00000", "removed c00001"]);
    while filled.as_mut().poll(&mut task).is_pending() {}
    let heard = std::mem::take(&mut *heard.lock());
    let expected: Vec<String> =
        (OBJECTS..3 * OBJECTS).filter(|at| *at != 2 * OBJECTS + 1).map(|at| format!("added c{at:05}")).chain(["added zzz".to_owned()]).collect();
    assert_eq!(heard, expected);
}

#[test]
fn a_new_list_is_told_to_its_end_before_a_new_subscriber_is() {
    let (cache, objects) = (Cache::<ConfigMap>::default(), many(3 * OBJECTS, 100));
    let (early, subscription) = notes(&cache);
    subscription.filled().now_or_never();
    let mut replacing = std::pin::pin!(cache.replace(objects.clone(), Revision(1)));
    let mut task = std::task::Context::from_waker(std::task::Waker::noop());
    while early.lock().is_empty() {
        assert!(replacing.as_mut().poll(&mut task).is_pending());
    }
    let (late, subscription) = notes(&cache);
    let mut filled = std::pin::pin!(subscription.filled());
    assert!(filled.as_mut().poll(&mut task).is_pending());
    assert!(late.lock().is_empty() && !cache.is_synced(), "the list is not in before everybody heard of it");
    while replacing.as_mut().poll(&mut task).is_pending() {}
    while filled.as_mut().poll(&mut task).is_pending() {}
    assert_eq!((early.lock().len(), late.lock().len()), (3 * OBJECTS, 3 * OBJECTS));
    assert_eq!(*early.lock(), *late.lock());
}

#[test]
fn an_object_that_does_not_decode_hides_no_other() {
    let cache = Cache::<ConfigMap>::default();
    let tree = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "bad", "namespace": "n", "uid": "1"}, "data": 7});
    let bad = Arc::new(StoredObject::from_object(&Object::from_value(tree).expect("an object")).expect("well formed"));
    let (heard, subscription) = notes(&cache);
    subscription.filled().now_or_never();
    cache.replace_now(list(&[(bad.key.clone(), bad.clone()), config_map("good", "2", "x", 2)]), Revision(2));
    assert_eq!(*heard.lock(), ["added bad", "added good"]);
    assert_eq!(names(&cache.list("")), ["good"]);
    assert!(cache.get(&bad.key).is_none() && cache.contains(&bad.key));
}
