//! Random clusters.

use std::{collections::BTreeMap, sync::Arc};

use k8s_openapi::api::core::v1::{Node, Pod};
use rand::{RngCore, rngs::StdRng};
use serde_json::{Value, json};

use crate::scheduler::{framework::ClusterChange, placed_pod::PlacedPod, snapshot::Snapshot, terms::Labels};

/// Numbers by chance.
pub struct Random(pub StdRng);

impl Random {
    pub fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.0.next_u64() % bound as u64).expect("small")
    }

    /// Once in so many times.
    pub fn chance(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }

    fn one<'a>(&mut self, of: &[&'a str]) -> &'a str {
        of[self.below(of.len())]
    }
}

/// Namespaces, and what selects all pods by default.
#[derive(Clone, Debug, Default)]
pub struct TestObjects {
    pub namespaces: BTreeMap<String, Labels>,
    pub default_selector: Labels,
}

/// A cluster as the API shows it.
#[derive(Clone, Debug, Default)]
pub struct TestCluster {
    pub nodes: BTreeMap<String, Arc<Node>>,
    /// Pods that have a node.
    pub pods: BTreeMap<String, Arc<Pod>>,
    pub around: TestObjects,
    made: usize,
}

impl TestCluster {
    pub fn begin(&mut self, random: &mut Random, snapshot: &mut Snapshot) {
        let team = |name: &str| Labels::from([("team".to_owned(), name.to_owned())]);
        self.around.namespaces = [("a", team("x")), ("b", team("y")), ("c", Labels::new())].map(|(name, labels)| (name.to_owned(), labels)).into();
        if random.chance(2) {
            self.around.default_selector = Labels::from([("app".to_owned(), "web".to_owned())]);
        }
        for number in 0..2 + random.below(5) {
            self.set_node(&format!("n{number}"), random, snapshot);
        }
        for _ in 0..random.below(14) {
            self.add_pod(random, snapshot);
        }
    }

    /// Some things happen.
    pub fn change(&mut self, random: &mut Random, snapshot: &mut Snapshot) {
        for _ in 0..1 + random.below(4) {
            self.step(random, snapshot);
        }
    }

    /// One thing happens, if it can.
    pub fn step(&mut self, random: &mut Random, snapshot: &mut Snapshot) -> Option<ClusterChange> {
        match random.below(6) {
            0 | 1 => self.add_pod(random, snapshot).map(ClusterChange::PodAdded),
            2 | 3 => {
                let all: Vec<String> = self.pods.keys().cloned().collect();
                let pod = self.pods.remove(all.get(random.below(all.len().max(1)))?)?;
                snapshot.remove_pod(PlacedPod::of(&pod).key()).map(ClusterChange::PodRemoved)
            }
            4 => {
                let name = format!("n{}", random.below(8));
                let old = self.nodes.get(&name).cloned();
                let new = self.set_node(&name, random, snapshot);
                Some(old.map_or(ClusterChange::NodeAdded(new.clone()), |old| ClusterChange::NodeUpdated { old, new }))
            }
            _ => {
                let name = format!("n{}", random.below(8));
                self.nodes.remove(&name);
                snapshot.remove_node(&name).map(ClusterChange::NodeRemoved)
            }
        }
    }

    fn set_node(&mut self, name: &str, random: &mut Random, snapshot: &mut Snapshot) -> Arc<Node> {
        let mut labels = json!({});
        if !random.chance(8) {
            labels["kubernetes.io/hostname"] = json!(name);
        }
        for (key, values) in [("topology.kubernetes.io/zone", ["z1", "z2", "z3"]), ("rack", ["r1", "r2", "r1"])] {
            if !random.chance(5) {
                labels[key] = json!(random.one(&values));
            }
        }
        let effects = ["NoSchedule", "NoExecute", "PreferNoSchedule"];
        let mut taints = Vec::new();
        while taints.len() < 2 && random.chance(5) {
            taints.push(json!({"key": "t", "value": "v", "effect": effects[random.below(3)]}));
        }
        let images: Vec<Value> = ["i1", "i2"]
            .iter()
            .filter(|_| random.chance(2))
            .map(|name| json!({"names": [format!("{name}:latest")], "sizeBytes": 600_000_000_i64}))
            .collect();
        let allocatable =
            json!({"cpu": (2 + random.below(4)).to_string(), "memory": "8Gi", "pods": (3 + random.below(9)).to_string(), "example.com/gpu": "2"});
        let features = [json!([]), json!(["Other", "RestartAllContainersOnContainerExits"])][random.below(2)].clone();
        let node = json!({
            "metadata": {"name": name, "labels": labels}, "spec": {"taints": taints, "unschedulable": random.chance(12)},
            "status": {"allocatable": allocatable, "images": images, "declaredFeatures": features},
        });
        let node: Arc<Node> = Arc::new(serde_json::from_value(node).expect("a node"));
        self.nodes.insert(name.to_owned(), node.clone());
        snapshot.set_node(node.clone());
        node
    }

    fn add_pod(&mut self, random: &mut Random, snapshot: &mut Snapshot) -> Option<Arc<PlacedPod>> {
        let node = format!("n{}", random.below(7));
        let mut pod = self.pod(random, 3);
        pod["spec"]["nodeName"] = json!(node);
        if random.chance(8) {
            pod["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        }
        let pod: Arc<Pod> = Arc::new(serde_json::from_value(pod).expect("a pod"));
        snapshot.set_pod(&node, &pod);
        let placed = snapshot.pod(PlacedPod::of(&pod).key()).cloned();
        self.pods.insert(pod.metadata.name.clone().expect("named"), pod);
        placed
    }

    /// A pod that wants a node.
    pub fn incoming(&mut self, random: &mut Random) -> Arc<Pod> {
        Arc::new(serde_json::from_value(self.pod(random, 2)).expect("a pod"))
    }

    /// A pod that has each kind of wish once in so many times.
    fn pod(&mut self, random: &mut Random, wishes: usize) -> Value {
        self.made += 1;
        let requests = json!({"cpu": format!("{}m", random.below(9) * 100), "memory": format!("{}Mi", random.below(20) * 100)});
        let mut container = json!({"name": "c", "image": random.one(&["i1", "i2:latest", "i3"]), "resources": {"requests": requests}});
        if random.chance(4) {
            container["resources"]["requests"]["example.com/gpu"] = json!("1");
        }
        if random.chance(6) {
            container["ports"] = json!([{"containerPort": 80, "hostPort": 80 + random.below(2)}]);
        }
        if random.chance(8) {
            container["restartPolicyRules"] = json!([{"action": "RestartAllContainers", "exitCodes": {"operator": "In", "values": [1]}}]);
        }
        let mut spec = json!({"containers": [container], "affinity": affinity(random, wishes)});
        if random.chance(wishes) {
            spec["topologySpreadConstraints"] = (0..1 + random.below(2)).map(|_| constraint(random)).collect();
        }
        if random.chance(3) {
            spec["tolerations"] =
                json!([{"key": "t", "operator": "Exists", "effect": random.one(&["NoSchedule", "NoExecute", "PreferNoSchedule", ""])}]);
        }
        let labels = json!({"app": random.one(&["web", "db"]), "hash": random.one(&["1", "2"])});
        let name = format!("p{}", self.made);
        json!({"metadata": {"name": name, "namespace": random.one(&["a", "b", "c"]), "labels": labels}, "spec": spec})
    }

    /// The same without some pods.
    pub fn without(&self, gone: &[Arc<PlacedPod>]) -> TestCluster {
        let mut less = self.clone();
        let is_gone = |name: &str| gone.iter().any(|pod| &*pod.key().name == name);
        less.pods.retain(|name, _| !is_gone(name));
        less
    }

    /// For people.
    pub fn tell(&self) -> String {
        let pods = self.pods.values().map(|pod| serde_json::to_string(pod).expect("prints"));
        let nodes = self.nodes.values().map(|node| serde_json::to_string(node).expect("prints"));
        format!("{:?}\n{}", self.around, nodes.chain(pods).collect::<Vec<_>>().join("\n"))
    }
}

fn selector(random: &mut Random) -> Value {
    match random.below(6) {
        0 => json!({}),
        1 => json!({"matchExpressions": [{"key": "app", "operator": "In", "values": ["web", "db"]}]}),
        2 => json!({"matchExpressions": [{"key": "hash", "operator": "NotIn", "values": ["1"]}]}),
        3 => json!({"matchLabels": {"app": "db"}, "matchExpressions": [{"key": "hash", "operator": "Exists"}]}),
        _ => json!({"matchLabels": {"app": random.one(&["web", "db"])}}),
    }
}

fn topology(random: &mut Random) -> &'static str {
    random.one(&["kubernetes.io/hostname", "topology.kubernetes.io/zone", "rack"])
}

fn term(random: &mut Random) -> Value {
    let mut term = json!({"topologyKey": topology(random)});
    if !random.chance(8) {
        term["labelSelector"] = selector(random);
    }
    match random.below(6) {
        0 => term["namespaces"] = json!(["b"]),
        1 => term["namespaceSelector"] = json!({}),
        2 => term["namespaceSelector"] = json!({"matchLabels": {"team": random.one(&["x", "y"])}}),
        3 => {
            term["namespaces"] = json!(["c"]);
            term["namespaceSelector"] = json!({"matchExpressions": [{"key": "team", "operator": "In", "values": ["x", "z"]}]});
        }
        _ => {}
    }
    term
}

fn affinity(random: &mut Random, wishes: usize) -> Value {
    let mut affinity = json!({});
    for kind in ["podAffinity", "podAntiAffinity"] {
        if random.chance(wishes * 2) {
            affinity[kind]["requiredDuringSchedulingIgnoredDuringExecution"] = (0..1 + random.below(2)).map(|_| term(random)).collect();
        }
        if random.chance(wishes) {
            let weighted = |random: &mut Random| json!({"weight": 1 + random.below(100), "podAffinityTerm": term(random)});
            affinity[kind]["preferredDuringSchedulingIgnoredDuringExecution"] = (0..1 + random.below(2)).map(|_| weighted(random)).collect();
        }
    }
    if random.chance(wishes * 2) {
        let expression = json!({"key": "rack", "operator": random.one(&["In", "NotIn"]), "values": ["r1"]});
        affinity["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"] =
            json!({"nodeSelectorTerms": [{"matchExpressions": [expression]}]});
    }
    if random.chance(wishes * 2) {
        let expression = json!({"key": "topology.kubernetes.io/zone", "operator": "In", "values": ["z1"]});
        affinity["nodeAffinity"]["preferredDuringSchedulingIgnoredDuringExecution"] =
            json!([{"weight": 1 + random.below(100), "preference": {"matchExpressions": [expression]}}]);
    }
    affinity
}

fn constraint(random: &mut Random) -> Value {
    let action = random.one(&["DoNotSchedule", "ScheduleAnyway"]);
    let mut constraint =
        json!({"maxSkew": 1 + random.below(2), "topologyKey": topology(random), "whenUnsatisfiable": action, "labelSelector": selector(random)});
    if action == "DoNotSchedule" && random.chance(3) {
        constraint["minDomains"] = json!(1 + random.below(4));
    }
    if random.chance(3) {
        constraint["matchLabelKeys"] = json!(["hash"]);
    }
    if random.chance(2) {
        constraint["nodeAffinityPolicy"] = json!(random.one(&["Honor", "Ignore"]));
        constraint["nodeTaintsPolicy"] = json!(random.one(&["Honor", "Ignore"]));
    }
    constraint
}
