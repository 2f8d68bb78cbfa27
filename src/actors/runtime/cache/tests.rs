use std::{sync::Arc, time::Duration};

use imbl::OrdMap;
use k8s_openapi::api::core::v1::ConfigMap;
use parking_lot::Mutex;
use serde_json::json;
use troupe_api::{
    meta::{Cause, Object, ObjectKey, Revision},
    stored::StoredObject,
};

use super::{Cache, Cached};

fn config_map(name: &str, uid: &str, team: &str, revision: u64) -> (ObjectKey, Cached<ConfigMap>) {
    let metadata = json!({"name": name, "namespace": "n", "uid": uid, "labels": {"team": team}, "resourceVersion": revision.to_string()});
    let tree = Object::from_value(json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata})).expect("an object");
    let stored = Arc::new(StoredObject::from_object(&tree).expect("well formed"));
    let object = stored.typed().expect("fits");
    (stored.key.clone(), Cached { object, stored })
}

fn list(objects: &[(ObjectKey, Cached<ConfigMap>)]) -> OrdMap<ObjectKey, Arc<StoredObject>> {
    objects.iter().map(|(key, cached)| (key.clone(), cached.stored.clone())).collect()
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
    cache.replace(list(&[config_map("a", "1", "x", 1), config_map("b", "2", "x", 2)]), Revision(2));
    assert!(cache.is_synced());
    let heard: Arc<Mutex<Vec<String>>> = Arc::default();
    let notes = heard.clone();
    let whole = cache.clone();
    let subscription = cache.subscribe(move |change| {
        let what = match (&change.old, &change.new) {
            (None, Some(_)) => "added",
            (Some(_), None) => "removed",
            _ => "changed",
        };
        notes.lock().push(format!("{what} {} of {}", change.key.name, whole.list("").len()));
    });
    assert_eq!(std::mem::take(&mut *heard.lock()), ["added a of 2", "added b of 2"]);
    cache.replace(list(&[config_map("b", "2", "y", 3), config_map("c", "3", "x", 4), config_map("d", "4", "x", 4)]), Revision(4));
    assert_eq!(
        std::mem::take(&mut *heard.lock()),
        ["removed a of 3", "changed b of 3", "added c of 3", "added d of 3"],
        "whoever is called back sees the whole new list"
    );
    cache.replace(list(&[config_map("d", "other", "x", 6)]), Revision(6));
    assert!(heard.lock().ends_with(&["removed d of 1".to_owned(), "added d of 1".to_owned()]), "another UID is another object");
    drop(subscription);
    heard.lock().clear();
    cache.apply(ObjectKey::new("n", "d"), None, Revision(7), &Cause::default());
    assert!(heard.lock().is_empty());
}

#[test]
fn an_index_follows_every_change() {
    let cache = Cache::<ConfigMap>::default();
    cache.replace(list(&[config_map("a", "1", "x", 1)]), Revision(1));
    cache.add_index("team", team_of);
    assert_eq!(names(&cache.by_index("team", "x")), ["a"]);
    let (key, moved) = config_map("a", "1", "y", 2);
    cache.apply(key.clone(), Some(moved), Revision(2), &Cause::default());
    assert!(cache.by_index("team", "x").is_empty());
    assert_eq!(names(&cache.by_index("team", "y")), ["a"]);
    cache.replace(list(&[config_map("b", "2", "x", 3), config_map("c", "3", "x", 3)]), Revision(3));
    assert_eq!(names(&cache.by_index("team", "x")), ["b", "c"]);
    cache.apply(ObjectKey::new("n", "b"), None, Revision(4), &Cause::default());
    assert_eq!(names(&cache.by_index("team", "x")), ["c"]);
    assert!(cache.by_index("unheard of", "x").is_empty());
}

#[actix::test]
async fn a_writer_waits_until_its_write_shows() {
    let cache = Cache::<ConfigMap>::default();
    cache.replace(OrdMap::new(), Revision(1));
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
