use std::{collections::BTreeSet, sync::Arc};

use k8s_openapi::api::{
    core::v1::{Node, PersistentVolume, PersistentVolumeClaim, Pod},
    storage::v1::{CSIDriver, CSINode, CSIStorageCapacity, StorageClass, VolumeAttachment},
};
use serde_json::{Value, from_value, json};
use troupe_api::meta::ObjectKey;

use super::{
    Storage,
    assumed::Assumed,
    choose::{Choice, PodVolumes, exclusive_claims},
};
use crate::scheduler::{
    framework::{NodeFilter, NodeScorer, Rejection},
    node_info::NodeInfo,
    object_lookup::NoObjects,
    placed_pod::PlacedPod,
    plugins::{CapacityScorer, Exclusive, NewVolumes, ShapePoint},
    pod_info::PodInfo,
    snapshot::Snapshot,
};

#[derive(Clone, Default)]
struct World {
    claims: Vec<Arc<PersistentVolumeClaim>>,
    volumes: Vec<Arc<PersistentVolume>>,
    classes: Vec<Arc<StorageClass>>,
    /// How many volumes of which driver each node takes.
    limits: Vec<(&'static str, i32)>,
    /// Names of volumes that are attached to every node.
    attached: Vec<&'static str>,
    /// What the driver of class `make` says, if it tells how much room it has.
    capacities: Option<Vec<Arc<CSIStorageCapacity>>>,
    /// Drivers that keep pods from nodes without them.
    required: Vec<&'static str>,
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

    fn csi_node(&self, name: &str) -> Option<Arc<CSINode>> {
        let driver = |(name, count): &(&str, i32)| json!({"name": name, "nodeID": "x", "allocatable": {"count": count}});
        let drivers: Vec<Value> = self.limits.iter().map(driver).collect();
        Some(Arc::new(from_value(json!({"metadata": {"name": name}, "spec": {"drivers": drivers}})).expect("a CSINode")))
    }

    fn driver(&self, name: &str) -> Option<Arc<CSIDriver>> {
        let is_required = self.required.contains(&name);
        let driver = json!({"metadata": {"name": name}, "spec": {"preventPodSchedulingIfMissing": is_required}});
        Some(Arc::new(from_value(driver).expect("a driver")))
    }

    fn capacities(&self, _provisioner: &str, class: &str) -> Option<Vec<Arc<CSIStorageCapacity>>> {
        let told = self.capacities.clone()?;
        Some(told.into_iter().filter(|capacity| capacity.storage_class_name == class).collect())
    }

    fn attachments(&self, node: &str) -> Vec<Arc<VolumeAttachment>> {
        let attachment = |name: &&str| {
            let spec = json!({"attacher": "csi.example.com", "nodeName": node, "source": {"persistentVolumeName": name}});
            Arc::new(from_value(json!({"metadata": {"name": name}, "spec": spec})).expect("an attachment"))
        };
        self.attached.iter().map(attachment).collect()
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
fn a_volume_is_made_only_where_its_driver_has_room_for_it() {
    let world = |told: Option<Value>| {
        let told = told.map(|told| from_value::<Vec<CSIStorageCapacity>>(told).expect("capacities").into_iter().map(Arc::new).collect());
        World { capacities: told, ..World::new().claim("data", "make", json!({})) }
    };
    let place = |zone: &str, more: Value| {
        let mut told = json!({"metadata": {"name": zone}, "storageClassName": "make", "nodeTopology": {"matchLabels": {"zone": zone}}});
        merge(&mut told, more);
        told
    };
    let goes = |told: Option<Value>, zone: &str| world(told).try_on(&["data"], &node("one", zone)).map(|choice| choice.provisions.len());
    let no_room = Err(vec!["node(s) did not have enough free storage".to_owned()]);
    assert_eq!(goes(None, "a"), Ok(1), "the driver does not tell");
    assert_eq!(goes(Some(json!([])), "a"), no_room);
    let told = json!([place("a", json!({"capacity": "1Gi"})), place("b", json!({"capacity": "100Gi", "maximumVolumeSize": "1Mi"}))]);
    assert_eq!((goes(Some(told.clone()), "a"), goes(Some(told.clone()), "b"), goes(Some(told), "c")), (Ok(1), no_room.clone(), no_room.clone()));
    let other = place("a", json!({"storageClassName": "other", "capacity": "1Gi"}));
    assert_eq!(goes(Some(json!([other])), "a"), no_room, "of another class");
}

#[test]
fn nodes_score_by_the_part_of_their_storage_that_would_be_used() {
    let shape = [ShapePoint { utilization: 0, score: 0 }, ShapePoint { utilization: 100, score: 10 }];
    let score = |world: &World, claims: &[&str], zone: &str| {
        let volumes = PodVolumes::of(&pod(claims), world).expect("their claims are there");
        CapacityScorer { shape: &shape, volumes }.score(&NodeInfo::new(Arc::new(node("one", zone)), 0))
    };
    let sized = |size: &str| json!({"spec": {"capacity": {"storage": size}}});
    let found = World::new().claim("quarter", "wait", json!({})).claim("half", "make", json!({})).volume("four", "wait", "a", sized("4Gi")).volume(
        "two",
        "make",
        "a",
        sized("2Gi"),
    );
    assert_eq!((score(&found, &["quarter"], "a"), score(&found, &["quarter", "half"], "a")), (25, 38), "the mean of all classes");
    assert_eq!(score(&found, &["quarter"], "b"), 0, "it does not fit there");
    let told = |capacities: Value| {
        let told = from_value::<Vec<CSIStorageCapacity>>(capacities).expect("capacities").into_iter().map(Arc::new).collect();
        World { capacities: Some(told), ..World::new().claim("one", "make", json!({})).claim("two", "make", json!({})) }
    };
    let room = |zone: &str, room: &str| json!({"storageClassName": "make", "nodeTopology": {"matchLabels": {"zone": zone}}, "capacity": room});
    let made = told(json!([room("a", "10Gi"), room("b", "1Gi")]));
    assert_eq!((score(&made, &["one"], "a"), score(&made, &["one", "two"], "a")), (10, 20), "they share the room");
    assert_eq!(score(&made, &["one", "two"], "b"), 100, "each would fit for itself");
    let silent = World { capacities: None, ..made };
    assert_eq!(score(&silent, &["one"], "a"), 0, "the driver does not tell");
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

/// A cluster of one node with these pods.
fn cluster(pods: &[Pod]) -> Snapshot {
    let mut cluster = Snapshot::default();
    cluster.set_node(Arc::new(node("one", "a")));
    pods.iter().for_each(|pod| drop(cluster.set_pod("one", pod)));
    cluster
}

fn named(name: &str, claims: &[&str]) -> Pod {
    let mut pod = pod(claims);
    (pod.metadata.name, pod.metadata.uid) = (Some(name.into()), Some(name.into()));
    pod
}

#[test]
fn a_claim_for_one_pod_alone_is_in_use_by_another_that_has_a_node() {
    let exclusive = World::new().claim("data", "now", json!({"spec": {"accessModes": ["ReadWriteOncePod"]}})).claim("shared", "now", json!({}));
    let pod = pod(&["data", "shared"]);
    let claims = exclusive_claims(&pod, &exclusive);
    assert_eq!(claims, BTreeSet::from(["data".to_owned()]));
    let placed = PlacedPod::of(&pod);
    let asked = |cluster: &Snapshot| Exclusive::new(claims.clone(), &placed, cluster).filter(&cluster.nodes()[0]).is_ok();
    assert!(asked(&cluster(&[named("q", &["shared"])])));
    let used = cluster(&[named("q", &["data"])]);
    assert!(!asked(&used), "a pod that is only assumed there counts");
    let mut filter = Exclusive::new(claims.clone(), &placed, &used);
    let other = used.pod(&ObjectKey::new("n", "q")).expect("there").clone();
    filter.remove_pod(&other, &used.nodes()[0]);
    assert!(filter.filter(&used.nodes()[0]).is_ok(), "it can be preempted");
    filter.add_pod(&other, &used.nodes()[0]);
    assert!(filter.filter(&used.nodes()[0]).is_err());
}

fn with_driver(world: World, name: &str, driver: &str) -> World {
    let source = json!({"spec": {"csi": {"driver": driver, "volumeHandle": name}}});
    world.volume(name, "now", "a", source).bound(&format!("claim-{name}"), name)
}

#[test]
fn a_node_takes_no_more_volumes_of_a_driver_than_it_says() {
    let mut world = ["v1", "v2", "v3", "v4"].into_iter().fold(World::new(), |world, name| with_driver(world, name, "csi.example.com"));
    world = with_driver(world, "other", "csi.other.com").claim("later", "make", json!({}));
    world.limits = vec![("csi.example.com", 2), ("example.com/disk", 0)];
    let fits = |claims: &[&str], there: &[Pod]| {
        let info = PodInfo::new(Arc::new(pod(claims)), &NoObjects);
        let cluster = cluster(there);
        NewVolumes::of(&info, &world, false).is_none_or(|volumes| volumes.filter(&cluster.nodes()[0]).is_ok())
    };
    assert!(fits(&["claim-v1", "claim-v2"], &[]));
    assert!(!fits(&["claim-v1", "claim-v2", "claim-v3"], &[]));
    assert!(fits(&["claim-v2"], &[named("q", &["claim-v1"])]));
    assert!(fits(&["claim-v1", "claim-v2"], &[named("q", &["claim-v1"])]), "one that both use counts once");
    assert!(!fits(&["claim-v3"], &[named("q", &["claim-v1", "claim-v2"])]));
    assert!(fits(&["claim-other"], &[named("q", &["claim-v1", "claim-v2"])]), "another driver has no limit");
    assert!(!fits(&["later"], &[]), "a volume that is yet to be made counts");
    world.attached = vec!["v3", "v4"];
    let info = PodInfo::new(Arc::new(pod(&["claim-v1"])), &NoObjects);
    let refused = NewVolumes::of(&info, &world, false).expect("it brings one").filter(&cluster(&[]).nodes()[0]).expect_err("two are attached");
    assert_eq!(refused, Rejection::resolvable("node(s) exceed max volume count"));
}

#[test]
fn a_driver_may_keep_its_pods_from_nodes_without_it() {
    let mut world = with_driver(with_driver(World::new(), "here", "csi.example.com"), "there", "csi.other.com");
    world.limits = vec![("csi.example.com", 9)];
    world.required = vec!["csi.example.com", "csi.other.com"];
    let asked = |world: &World, claim: &str, is_on: bool| {
        let info = PodInfo::new(Arc::new(pod(&[claim])), &NoObjects);
        NewVolumes::of(&info, world, is_on).expect("it brings one").filter(&cluster(&[]).nodes()[0])
    };
    assert_eq!((asked(&world, "claim-here", true), asked(&world, "claim-there", false)), (Ok(()), Ok(())));
    let missing = Rejection::resolvable("csi.other.com CSI driver is not installed on the node");
    assert_eq!(asked(&world, "claim-there", true), Err(missing));
    world.required.clear();
    assert_eq!(asked(&world, "claim-there", true), Ok(()), "it does not have to be there");
}

#[test]
fn what_is_chosen_for_a_pod_nobody_else_gets() {
    let versioned = |version: &str| json!({"metadata": {"resourceVersion": version, "uid": "u"}});
    let world = World::new().claim("one", "wait", json!({})).claim("two", "wait", json!({})).volume("pv", "wait", "a", versioned("5"));
    let (assumed, key) = (Assumed::default(), ObjectKey::new("n", "p"));
    let choice = world.try_on(&["one"], &node("one", "a")).expect("one is found");
    assumed.assume(key.clone(), choice.clone(), "one");
    assert_eq!(assumed.choice(&key).as_deref(), Some(&choice));
    let seen = |world: &World| World { volumes: world.volumes.iter().map(|volume| assumed.volume(volume.clone())).collect(), ..world.clone() };
    let conflict = why("node(s) didn't find available persistent volumes to bind");
    assert_eq!(seen(&world).try_on(&["two"], &node("one", "a")), conflict, "another claim does not get it");
    assert!(seen(&world).try_on(&["one"], &node("one", "a")).is_ok(), "the same claim does");
    let newer = World::new().claim("two", "wait", json!({})).volume("pv", "wait", "a", versioned("6"));
    assert!(seen(&newer).try_on(&["two"], &node("one", "a")).is_ok(), "what the API shows later counts more");
    assumed.forget(&key);
    assert!(seen(&world).try_on(&["two"], &node("one", "a")).is_ok());
}
