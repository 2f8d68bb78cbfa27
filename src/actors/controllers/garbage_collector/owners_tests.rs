//! What looking at an object costs the API.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::SeqCst},
};

use futures::future::BoxFuture;
use serde_json::{Value, json};
use troupe_api::{
    ApiCall, ApiReply, ApiService, Status,
    meta::{Cause, Object, Uid},
    resources::Registry,
    service::{DeleteOptions, Operation, PatchType, Propagation, Target, UserInfo, WatchOptions, WatchStream},
    stored::StoredObject,
};
use troupe_api_client::Client;

use super::{
    CONCURRENCY, GarbageCollector, Looked,
    graph::{Belief, Deletion, Place, Seen},
    model::absence,
    owners::{ABSENCES, Collector},
};
use crate::apiserver::testing::{TestApi, boot};

/// Counts reads.
struct Counting {
    inner: Arc<dyn ApiService>,
    reads: AtomicUsize,
}

impl ApiService for Counting {
    fn call(&self, call: ApiCall) -> BoxFuture<'static, Result<ApiReply, Status>> {
        if matches!(call.operation, Operation::Get { .. }) {
            self.reads.fetch_add(1, SeqCst);
        }
        self.inner.call(call)
    }

    fn watch(&self, user: Arc<UserInfo>, target: Target, options: WatchOptions, cause: Cause) -> BoxFuture<'static, Result<WatchStream, Status>> {
        self.inner.watch(user, target, options, cause)
    }

    fn registry(&self) -> Arc<Registry> {
        self.inner.registry()
    }
}

struct World {
    api: TestApi,
    counting: Arc<Counting>,
    unit: GarbageCollector,
}

impl World {
    async fn new() -> Self {
        let api = boot().await;
        let counting = Arc::new(Counting { inner: api.server.clone(), reads: AtomicUsize::new(0) });
        let unit = GarbageCollector::new(Client::new(counting.clone(), api.user.clone(), "test"), CONCURRENCY);
        World { api, counting, unit }
    }

    /// Makes a config map and shows it to the graph.
    async fn make(&mut self, name: &str, owners: &[Value]) -> Uid {
        let metadata = json!({"name": name, "namespace": "default", "ownerReferences": owners});
        let made = self.api.create(json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata})).await;
        self.unit.graph.observe(seen(&made));
        Uid(made.str(&["metadata", "uid"]).into())
    }

    /// Looks at an object; gives what came of it and how many reads it took.
    async fn look(&mut self, uid: &Uid) -> (Result<Looked, Status>, usize) {
        let before = self.counting.reads.load(SeqCst);
        let collector = Collector { client: self.unit.client.clone() };
        let mut absent = Vec::new();
        let looked = collector.collect(self.unit.item(uid).expect("in the graph"), &mut absent).await;
        absent.into_iter().for_each(|(uid, place)| self.unit.graph.note_absent(&uid, place));
        (looked, self.counting.reads.load(SeqCst) - before)
    }

    async fn exists(&self, name: &str) -> bool {
        self.api.get("configmaps", "default", name).await.is_ok()
    }
}

fn seen(object: &Object) -> Seen {
    let stored = StoredObject::from_object(object).expect("well formed");
    let place = Place { api_version: object.api_version().into(), kind: object.kind().into(), key: stored.key.clone() };
    Seen { uid: stored.uid(), place, owners: stored.meta().owner_references.clone(), deletion: Deletion::of(stored.meta()) }
}

fn owner(name: &str, uid: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "name": name, "uid": uid})
}

fn dead(count: usize) -> Vec<Value> {
    (0..count).map(|at| owner(&format!("dead-{at}"), &format!("dead-{at}"))).collect()
}

#[actix::test]
async fn what_is_absent_is_looked_for_once_and_not_all_in_one_attempt() {
    let mut world = World::new().await;
    let owners = dead(2 * ABSENCES + 100);
    let first = world.make("first", &owners).await;
    for _ in 0..2 {
        let (looked, reads) = world.look(&first).await;
        assert_eq!((looked.expect("looked"), reads), (Looked::Unfinished, 1 + ABSENCES));
    }
    let (looked, reads) = world.look(&first).await;
    assert_eq!((looked.expect("looked"), reads), (Looked::Done(Vec::new()), 1 + 100));
    assert!(!world.exists("first").await, "without an owner it goes");
    let second = world.make("second", &owners).await;
    let (_, reads) = world.look(&second).await;
    assert_eq!(reads, 1, "another one with the same owners costs no look-ups");
    assert!(!world.exists("second").await);
}

#[actix::test]
async fn an_owner_of_a_kind_that_is_not_served_fails_before_anything_is_looked_for() {
    let mut world = World::new().await;
    let mut owners = dead(100);
    owners.push(json!({"apiVersion": "example.com/v1", "kind": "Nothing", "name": "x", "uid": "x"}));
    let child = world.make("child", &owners).await;
    for _ in 0..3 {
        let (looked, reads) = world.look(&child).await;
        assert!(looked.is_err_and(|status| status.message.contains("no resource example.com/v1 Nothing")));
        assert_eq!(reads, 1);
    }
    assert!(world.exists("child").await);
}

#[actix::test]
async fn one_owner_that_is_there_is_enough_and_dead_references_go() {
    let mut world = World::new().await;
    let mut owners = Vec::new();
    for name in ["a", "b", "c"] {
        owners.push(owner(name, &world.make(name, &[]).await.to_string()));
    }
    let kept = world.make("kept", &owners).await;
    assert_eq!(world.look(&kept).await.1, 2, "itself, and the first of its owners");
    let wrong = json!({"apiVersion": "v1", "kind": "ConfigMap", "name": "other", "uid": owners[0]["uid"]});
    let mixed = world.make("mixed", &[wrong, dead(1).remove(0), owners[1].clone()]).await;
    assert_eq!(world.look(&mixed).await.1, 4);
    let left = world.api.get("configmaps", "default", "mixed").await.expect("it stays");
    let left: Vec<&str> = left.list(&["metadata", "ownerReferences"]).iter().filter_map(|owner| owner["name"].as_str()).collect();
    assert_eq!(left, ["b"]);
}

#[actix::test]
async fn absence_is_of_a_uid_at_a_place_and_ends_when_the_object_is_seen_there() {
    let mut world = World::new().await;
    let child = world.make("child", &[owner("dead-0", "dead-0")]).await;
    let node = world.unit.graph.node(&child).expect("there");
    let (reference, key) = (node.owners[0].clone(), node.place.key.clone());
    let belief = |world: &World| world.unit.graph.belief(&reference, &key.namespace);
    assert_eq!(belief(&world), None);
    let (uid, place) = absence(&reference, &key);
    world.unit.graph.note_absent(&uid, Place { kind: "Secret".into(), ..place.clone() });
    assert_eq!(belief(&world), None, "that was another place");
    world.unit.graph.note_absent(&uid, place.clone());
    assert_eq!(belief(&world), Some(Belief::Absent));
    // As after a backup was restored.
    world.unit.graph.observe(Seen { uid: uid.clone(), place, owners: Arc::default(), deletion: Deletion::default() });
    assert_eq!(belief(&world), Some(Belief::Solid));
    world.unit.graph.forget(&uid);
    assert_eq!(belief(&world), Some(Belief::Absent), "who saw it go need not look");
}

#[actix::test]
async fn a_deletion_in_the_foreground_ends_when_its_own_watch_has_shown_it() {
    let mut world = World::new().await;
    let parent = world.make("parent", &[]).await;
    let foreground = DeleteOptions { propagation: Some(Propagation::Foreground), ..DeleteOptions::default() };
    world.api.delete("configmaps", "default", "parent", foreground).await.expect("deleted");
    let (looked, _) = world.look(&parent).await;
    assert_eq!(looked.expect("looked"), Looked::Done(Vec::new()));
    assert!(world.exists("parent").await, "a dependent may be on its way in the watch");
    let live = world.api.get("configmaps", "default", "parent").await.expect("it waits");
    world.unit.graph.observe(seen(&live));
    world.look(&parent).await.0.expect("looked");
    assert!(!world.exists("parent").await);
}

#[actix::test]
async fn owners_in_a_circle_that_block_each_other_go() {
    let mut world = World::new().await;
    let first = world.make("first", &[]).await;
    let blocking = |name: &str, uid: &Uid| {
        let mut owner = owner(name, &uid.0);
        owner["blockOwnerDeletion"] = json!(true);
        owner
    };
    let second = world.make("second", &[blocking("first", &first)]).await;
    let patch = json!({"metadata": {"ownerReferences": [blocking("second", &second)]}});
    let target = world.api.target("configmaps", "default", "first");
    let patched = world.api.patch(target, PatchType::Merge, patch).await.expect("patched");
    world.unit.graph.observe(seen(&patched));
    let foreground = DeleteOptions { propagation: Some(Propagation::Foreground), ..DeleteOptions::default() };
    world.api.delete("configmaps", "default", "first", foreground).await.expect("deleted");
    for _ in 0..4 {
        for (name, uid) in [("first", &first), ("second", &second)] {
            match world.api.get("configmaps", "default", name).await {
                Ok(live) => drop(world.unit.graph.observe(seen(&live))),
                Err(_) => drop(world.unit.graph.forget(uid)),
            }
            if world.unit.graph.node(uid).is_some() {
                world.look(uid).await.0.expect("looked");
            }
        }
    }
    assert!(!world.exists("first").await && !world.exists("second").await);
}
