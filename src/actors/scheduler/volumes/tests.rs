use std::sync::Arc;

use k8s_openapi::api::{
    core::v1::{Node, PersistentVolume, PersistentVolumeClaim, Pod},
    storage::v1::StorageClass,
};
use serde_json::{Value, from_value, json};
use troupe_api::meta::ObjectKey;

use super::{
    Storage,
    choose::{Choice, PodVolumes, is_in_use},
};

#[derive(Default)]
struct World {
    claims: Vec<Arc<PersistentVolumeClaim>>,
    volumes: Vec<Arc<PersistentVolume>>,
    classes: Vec<Arc<StorageClass>>,
    users: Vec<ObjectKey>,
}

impl Storage for World {
    fn claim(&self, _namespace: &str, name: &str) -> Option<Arc<PersistentVolumeClaim>> {
        self.claims.iter().find(|claim| claim.metadata.name.as_deref() == Some(name)).cloned()
    }

    fn volume(&self, name: &str) -> Option<Arc<PersistentVolume>> {
        self.volumes.iter().find(|volume| volume.metadata.name.as_deref() == Some(name)).cloned()
    }

    fn class(&self, name: &str) -> Option<Arc<StorageClass>> {
        self.classes.iter().find(|class| class.metadata.name.as_deref() == Some(name)).cloned()
    }

    fn volumes_of_class(&self, class: &str) -> Vec<Arc<PersistentVolume>> {
        let of_class = |volume: &&Arc<PersistentVolume>| crate::storage::class_of_volume(volume) == class;
        self.volumes.iter().filter(of_class).cloned().collect()
    }

    fn users(&self, _claim: &ObjectKey) -> Vec<ObjectKey> {
        self.users.clone()
    }
}

impl World {
    /// A world with the classes `wait`, `make` (with a provisioner) and `now`.
    fn new() -> Self {
        let class = |name: &str, provisioner: &str, mode: &str| -> Arc<StorageClass> {
            let class = json!({"metadata": {"name": name}, "provisioner": provisioner, "volumeBindingMode": mode});
            Arc::new(from_value(class).expect("a class"))
        };
        let classes = vec![
            class("wait", "kubernetes.io/no-provisioner", "WaitForFirstConsumer"),
            class("make", "example.com/disk", "WaitForFirstConsumer"),
            class("now", "example.com/disk", "Immediate"),
        ];
        World { classes, ..World::default() }
    }

    fn claim(mut self, name: &str, class: &str, more: Value) -> Self {
        let mut claim = json!({
            "metadata": {"name": name, "namespace": "n", "uid": name},
            "spec": {"storageClassName": class, "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
            "status": {"phase": "Pending"},
        });
        merge(&mut claim, more);
        self.claims.push(Arc::new(from_value(claim).expect("a claim")));
        self
    }

    fn volume(mut self, name: &str, class: &str, zone: &str, more: Value) -> Self {
        let requirement = json!({"key": "zone", "operator": "In", "values": [zone]});
        let mut volume = json!({
            "metadata": {"name": name},
            "spec": {
                "storageClassName": class, "accessModes": ["ReadWriteOnce"], "capacity": {"storage": "1Gi"},
                "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [requirement]}]}},
            },
            "status": {"phase": "Available"},
        });
        merge(&mut volume, more);
        self.volumes.push(Arc::new(from_value(volume).expect("a volume")));
        self
    }

    fn bound(self, name: &str, volume: &str) -> Self {
        let annotations = json!({"pv.kubernetes.io/bind-completed": "yes"});
        self.claim(name, "now", json!({"metadata": {"annotations": annotations}, "spec": {"volumeName": volume}, "status": {"phase": "Bound"}}))
    }

    fn try_on(&self, claims: &[&str], node: &Node) -> Result<Choice, Vec<String>> {
        let volumes = PodVolumes::of(&pod(claims), self).map_err(|why| vec![why])?;
        volumes.on_node(node).map_err(|reasons| reasons.into_iter().map(str::to_owned).collect())
    }
}

fn merge(into: &mut Value, more: Value) {
    match (into, more) {
        (Value::Object(into), Value::Object(more)) => {
            for (key, value) in more {
                merge(into.entry(key).or_insert(Value::Null), value);
            }
        }
        (into, more) => *into = more,
    }
}

fn pod(claims: &[&str]) -> Pod {
    let volumes: Vec<Value> = claims.iter().map(|name| json!({"name": name, "persistentVolumeClaim": {"claimName": name}})).collect();
    from_value(json!({"metadata": {"name": "p", "namespace": "n", "uid": "p"}, "spec": {"containers": [], "volumes": volumes}})).expect("a pod")
}

fn node(name: &str, zone: &str) -> Node {
    from_value(json!({"metadata": {"name": name, "labels": {"zone": zone, "topology.kubernetes.io/zone": zone}}})).expect("a node")
}

fn names(choice: &Choice) -> (Vec<(&str, &str)>, Vec<&str>) {
    let bindings = choice
        .bindings
        .iter()
        .map(|(claim, volume)| (claim.metadata.name.as_deref().unwrap_or_default(), volume.metadata.name.as_deref().unwrap_or_default()));
    (bindings.collect(), choice.provisions.iter().filter_map(|claim| claim.metadata.name.as_deref()).collect())
}

fn why(reason: &str) -> Result<Choice, Vec<String>> {
    Err(vec![reason.to_owned()])
}

#[test]
fn a_bound_volume_holds_its_pod_to_nodes_that_reach_it() {
    let world = World::new().volume("pv", "now", "a", json!({})).bound("data", "pv");
    assert_eq!(world.try_on(&["data"], &node("one", "a")), Ok(Choice::default()));
    assert_eq!(world.try_on(&["data"], &node("two", "b")), why("node(s) didn't match PersistentVolume's node affinity"));
    let lost = World::new().bound("data", "gone");
    assert_eq!(lost.try_on(&["data"], &node("one", "a")), why("node(s) unavailable due to one or more pvc(s) bound to non-existent pv(s)"));
}

#[test]
fn claims_that_are_not_there_or_not_bound_at_once_are_waited_for() {
    let world = World::new().claim("data", "now", json!({}));
    assert_eq!(world.try_on(&["data"], &node("one", "a")), why("pod has unbound immediate PersistentVolumeClaims"));
    assert_eq!(world.try_on(&["other"], &node("one", "a")), why("persistentvolumeclaim \"other\" not found"));
    let named = World::new().claim("data", "wait", json!({"spec": {"volumeName": "pv"}}));
    assert_eq!(named.try_on(&["data"], &node("one", "a")), why("pod has unbound immediate PersistentVolumeClaims"));
    let going = World::new().claim("data", "wait", json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}}));
    assert_eq!(going.try_on(&["data"], &node("one", "a")), why("persistentvolumeclaim \"data\" is being deleted"));
    let lost = World::new().claim("data", "now", json!({"spec": {"volumeName": "pv"}, "status": {"phase": "Lost"}}));
    let lost_words = "persistentvolumeclaim \"data\" bound to non-existent persistentvolume \"pv\"";
    assert_eq!(lost.try_on(&["data"], &node("one", "a")), why(lost_words));
}

#[test]
fn claims_that_wait_get_the_smallest_volumes_that_the_node_reaches() {
    let world = World::new()
        .claim("big", "wait", json!({"spec": {"resources": {"requests": {"storage": "5Gi"}}}}))
        .claim("small", "wait", json!({}))
        .volume("huge", "wait", "a", json!({"spec": {"capacity": {"storage": "50Gi"}}}))
        .volume("fits", "wait", "a", json!({"spec": {"capacity": {"storage": "6Gi"}}}))
        .volume("far", "wait", "b", json!({}));
    let choice = world.try_on(&["big", "small"], &node("one", "a")).expect("both are found");
    assert_eq!(names(&choice), (vec![("small", "fits"), ("big", "huge")], vec![]));
    let conflict = "node(s) didn't find available persistent volumes to bind";
    assert_eq!(world.try_on(&["big", "small"], &node("two", "b")), why(conflict), "nobody makes another volume");
}

#[test]
fn volumes_that_are_not_there_are_made_where_the_class_allows() {
    let mut world = World::new().claim("data", "make", json!({}));
    assert_eq!(names(&world.try_on(&["data"], &node("one", "a")).expect("one is made")), (vec![], vec!["data"]));
    let mut picky = StorageClass::clone(&world.classes[1]);
    picky.allowed_topologies = from_value(json!([{"matchLabelExpressions": [{"key": "zone", "values": ["b"]}]}])).expect("terms");
    world.classes[1] = Arc::new(picky);
    assert!(world.try_on(&["data"], &node("one", "a")).is_err());
    assert!(world.try_on(&["data"], &node("two", "b")).is_ok());
}

#[test]
fn a_claim_whose_node_is_selected_goes_nowhere_else() {
    let annotations = json!({"volume.kubernetes.io/selected-node": "one"});
    let world = World::new().claim("data", "make", json!({"metadata": {"annotations": annotations}}));
    assert_eq!(names(&world.try_on(&["data"], &node("one", "a")).expect("it was selected")), (vec![], vec!["data"]));
    assert_eq!(world.try_on(&["data"], &node("two", "a")), why("node(s) didn't find available persistent volumes to bind"));
}

#[test]
fn zones_on_labels_of_volumes_bind_their_pods() {
    let labels = |zone: &str| json!({"metadata": {"labels": {"failure-domain.beta.kubernetes.io/zone": zone}}, "spec": {"nodeAffinity": null}});
    let in_zone = |zone: &str, node: &Node| {
        let world = World::new().volume("pv", "now", "a", labels(zone)).bound("data", "pv");
        PodVolumes::of(&pod(&["data"]), &world).expect("is bound").are_in_zone(node)
    };
    assert!(in_zone("a", &node("one", "a")));
    assert!(in_zone("a__b", &node("two", "b")), "it has several zones");
    assert!(!in_zone("a", &node("two", "b")));
    assert!(in_zone("a", &Node::default()), "a node without zones is in all");
}

#[test]
fn a_claim_for_one_pod_alone_is_in_use_by_another_that_has_a_node() {
    let mut world = World::new().claim("data", "now", json!({"spec": {"accessModes": ["ReadWriteOncePod"]}}));
    world.users = vec![ObjectKey::new("n", "p"), ObjectKey::new("n", "q")];
    assert!(is_in_use(&pod(&["data"]), &world, |_| true));
    assert!(!is_in_use(&pod(&["data"]), &world, |user| &*user.name == "p"), "the pod itself is no other");
    let shared = World { users: world.users.clone(), ..World::new().claim("data", "now", json!({})) };
    assert!(!is_in_use(&pod(&["data"]), &shared, |_| true));
}
