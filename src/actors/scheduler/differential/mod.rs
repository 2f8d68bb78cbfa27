//! Random clusters and pods: filters and scores equal those of a slow, obvious reference, whatever happened to the snapshot before.

mod random_cluster;
mod reference;

use std::{cmp::Reverse, collections::BTreeMap, sync::Arc};

use k8s_openapi::api::{core::v1::Pod, policy::v1::PodDisruptionBudget};
use rand::{SeedableRng, rngs::StdRng};
use serde_json::{Value, json};
use troupe_api::meta::{LabelSelector, ObjectKey};

use self::{
    random_cluster::{Random, TestCluster, TestObjects},
    reference::{Options, Reference, Verdict},
};
use super::{
    budget::Budget,
    configuration::Configuration,
    decide::{Decision, SchedulingContext, Unschedulable, decide, scores},
    features::Features,
    framework::{Filters, Profile},
    node_info::NodeInfo,
    object_lookup::ObjectLookup,
    placed_pod::PlacedPod,
    plugins::{Parts, default_profile},
    pod_info::PodInfo,
    preemption::{select, select_by_pods},
    snapshot::Snapshot,
    terms::Labels,
    usage::Usage,
};

/// Random clusters that are tried; each is compared six times.
const CASES: u64 = 1_000;

/// How many nodes each plugin rejected, and how many none did: what never happens is not tested.
type Seen = BTreeMap<&'static str, usize>;

impl ObjectLookup for TestObjects {
    fn namespace_labels(&self, namespace: &str) -> Arc<Labels> {
        Arc::new(self.namespaces.get(namespace).cloned().unwrap_or_default())
    }

    fn namespaces_matching(&self, selector: &LabelSelector) -> Vec<Arc<str>> {
        self.namespaces.iter().filter(|(_, labels)| selector.matches(labels)).map(|(name, _)| Arc::from(name.as_str())).collect()
    }

    fn default_selector(&self, _pod: &Pod) -> LabelSelector {
        LabelSelector::from_map(&self.default_selector)
    }

    fn budgets(&self) -> Vec<Budget> {
        Vec::new()
    }
}

fn verdicts(filters: &Filters<'_>, node: &NodeInfo) -> BTreeMap<&'static str, Verdict> {
    filters.ask_all(node).into_iter().map(|(plugin, rejection)| (plugin, Verdict { unresolvable: rejection.unresolvable })).collect()
}

/// Compares all nodes' verdicts and the scores of those that are feasible.
fn compare(seen: &mut Seen, seed: u64, cluster: &TestCluster, snapshot: &Snapshot, pod: &PodInfo, (profile, options): (&Profile, &Options)) {
    let reference = Reference { cluster, pod: &pod.pod, options };
    let Ok((filters, _)) = profile.pre_filter(pod, snapshot) else { return };
    let mut feasible: Vec<&NodeInfo> = Vec::new();
    for node in snapshot.nodes() {
        let (got, want) = (verdicts(&filters, node), reference.verdicts(&node.name));
        assert_eq!(got, want, "seed {seed}, node {}: {:#?}\n{}", node.name, pod.pod.spec, cluster.tell());
        got.keys().for_each(|plugin| *seen.entry(plugin).or_default() += 1);
        if got.is_empty() {
            *seen.entry("nobody").or_default() += 1;
            feasible.push(node);
        }
    }
    if feasible.len() < 2 {
        feasible = snapshot.nodes().iter().map(|node| &**node).collect();
    }
    let names: Vec<&str> = feasible.iter().map(|node| &*node.name).collect();
    let (got, want) = (scores(pod, profile, snapshot, &feasible).totals, reference.scores(&names));
    assert_eq!(got, want, "seed {seed}, scores of {names:?}: {:#?}\n{}", pod.pod.spec, cluster.tell());
}

fn compare_all(profile: &Profile, options: &Options, cases: u64) -> Seen {
    let mut seen = Seen::new();
    for seed in 0..cases {
        let mut random = Random(StdRng::seed_from_u64(seed));
        let (mut cluster, mut snapshot) = (TestCluster::default(), Snapshot::default());
        cluster.begin(&mut random, &mut snapshot);
        for _ in 0..3 {
            let info = |cluster: &TestCluster, pod| PodInfo::with_defaults(pod, &cluster.around, &profile.spread_defaults);
            let incoming = cluster.incoming(&mut random);
            let pod = info(&cluster, incoming);
            if random.chance(2) {
                snapshot.prepare(&pod);
            }
            compare(&mut seen, seed, &cluster, &snapshot, &pod, (profile, options));
            cluster.change(&mut random, &mut snapshot);
            compare(&mut seen, seed, &cluster, &snapshot, &info(&cluster, pod.pod.clone()), (profile, options));
        }
    }
    seen
}

fn all_were_seen(seen: &Seen) {
    let wanted = [
        "NodeUnschedulable",
        "TaintToleration",
        "NodeAffinity",
        "NodePorts",
        "NodeResourcesFit",
        "PodTopologySpread",
        "InterPodAffinity",
        "NodeDeclaredFeatures",
    ];
    assert!(wanted.iter().chain(&["nobody"]).all(|plugin| seen.get(plugin).is_some_and(|nodes| *nodes > 100)), "{seen:?}");
}

#[test]
fn filters_and_scores_equal_the_reference() {
    all_were_seen(&compare_all(&default_profile(), &Options::default(), CASES));
}

/// Arguments of every plugin that takes some which filters or scores here, and nodes that are in use.
#[test]
fn with_other_arguments_they_equal_it_too() {
    let added = json!({
        "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [{"matchExpressions": [{"key": "rack", "operator": "In", "values": ["r1"]}]}]},
        "preferredDuringSchedulingIgnoredDuringExecution": [
            {"weight": 30, "preference": {"matchExpressions": [{"key": "topology.kubernetes.io/zone", "operator": "In", "values": ["z2"]}]}},
        ],
    });
    let constraints = json!([
        {"maxSkew": 1, "topologyKey": "rack", "whenUnsatisfiable": "DoNotSchedule"},
        {"maxSkew": 2, "topologyKey": "topology.kubernetes.io/zone", "whenUnsatisfiable": "ScheduleAnyway"},
    ]);
    let plugin = |name: &str, args: Value| json!({"name": name, "args": args});
    let strategy = json!({"type": "MostAllocated", "resources": [{"name": "cpu", "weight": 3}, {"name": "memory", "weight": 1}]});
    let configuration = json!({
        "apiVersion": "kubescheduler.config.k8s.io/v1", "kind": "KubeSchedulerConfiguration",
        "profiles": [{"pluginConfig": [
            plugin("NodeResourcesFit", json!({"scoringStrategy": strategy})),
            plugin("InterPodAffinity", json!({"hardPodAffinityWeight": 17, "ignorePreferredTermsOfExistingPods": true})),
            plugin("NodeAffinity", json!({"addedAffinity": added})),
            plugin("PodTopologySpread", json!({"defaultingType": "List", "defaultConstraints": constraints})),
        ]}],
    });
    let parts = Parts::default();
    let figures = [("n2", 0_i64, 6_i64 << 30), ("n3", 100_000, 0)];
    parts.usage.set(figures.map(|(node, cpu, memory)| (node.to_owned(), Usage { cpu, memory, ..Usage::default() })).into());
    let setup = Configuration::parse(&configuration.to_string(), Features::default()).expect("usable").setup(&parts);
    let profile = setup.profiles.iter().next().expect("one");
    let options = Options {
        most_allocated: true,
        cpu_weight: 3,
        hard_weight: 17,
        ignores_others: true,
        constraints: Some(serde_json::from_value(constraints).expect("constraints")),
        added: Some(serde_json::from_value(added).expect("affinity")),
        busy: [("n2".to_owned(), 75), ("n3".to_owned(), 100)].into(),
    };
    all_were_seen(&compare_all(profile, &options, CASES / 2));
}

#[test]
fn whatever_lets_a_pod_on_a_node_is_hinted_at() {
    let (profile, mut helped) = (default_profile(), 0);
    for seed in 0..CASES * 2 {
        let mut random = Random(StdRng::seed_from_u64(seed));
        let (mut cluster, mut snapshot) = (TestCluster::default(), Snapshot::default());
        cluster.begin(&mut random, &mut snapshot);
        let pod = PodInfo::new(cluster.incoming(&mut random), &cluster.around);
        for _ in 0..8 {
            let before = attempt(&profile, &pod, &snapshot);
            let change = cluster.step(&mut random, &mut snapshot);
            let (Decision::Unschedulable(Unschedulable { rejected_by, message, .. }), Some(change)) = (before, change) else { continue };
            if !rejected_by.is_empty() && matches!(attempt(&profile, &pod, &snapshot), Decision::Bind { .. }) {
                helped += 1;
                let hinted = profile.may_help(&rejected_by, &change, || Some(pod.clone()));
                assert!(hinted, "seed {seed}, {message} {change:#?}: {:#?}\n{}", pod.pod.spec, cluster.tell());
            }
        }
    }
    assert!(helped > 50, "{helped}");
}

fn attempt(profile: &Profile, pod: &PodInfo, cluster: &Snapshot) -> Decision {
    decide(pod, &SchedulingContext { profile, cluster, start: 0, chance: 0, budgets: &Vec::new, ranked: &|_| () }).0
}

#[test]
fn pods_thought_away_and_back_leave_filters_as_they_were() {
    let profile = default_profile();
    for seed in 0..CASES / 3 {
        let mut random = Random(StdRng::seed_from_u64(seed));
        let (mut cluster, mut snapshot) = (TestCluster::default(), Snapshot::default());
        cluster.begin(&mut random, &mut snapshot);
        let pod = PodInfo::new(cluster.incoming(&mut random), &cluster.around);
        let Ok((mut filters, _)) = profile.pre_filter(&pod, &snapshot) else { continue };
        for node in snapshot.nodes() {
            let before = verdicts(&filters, node);
            let gone: Vec<Arc<PlacedPod>> = node.pods.values().filter(|_| random.chance(2)).cloned().collect();
            let mut emptier = NodeInfo::clone(node);
            gone.iter().for_each(|other| filters.remove_pod(other, &mut emptier));
            let less = cluster.without(&gone);
            let want = Reference { cluster: &less, pod: &pod.pod, options: &Options::default() }.verdicts(&node.name);
            assert_eq!(verdicts(&filters, &emptier), want, "seed {seed}, node {}: {:#?}\n{}", node.name, pod.pod.spec, less.tell());
            gone.iter().for_each(|other| filters.add_pod(other, &mut emptier));
            assert_eq!(verdicts(&filters, &emptier), before, "seed {seed}");
        }
    }
}

/// Pods with priorities and ages.
fn rank(cluster: &mut TestCluster, random: &mut Random, snapshot: &mut Snapshot) {
    for pod in cluster.pods.values_mut() {
        let ranked = Arc::make_mut(pod);
        let started = json!({"startTime": format!("2026-01-0{}T00:00:00Z", 1 + random.below(2))});
        ranked.status = random.chance(2).then(|| serde_json::from_value(started).expect("a status"));
        let Some(spec) = &mut ranked.spec else { continue };
        spec.priority = Some(i32::try_from(random.below(3)).expect("small"));
        let node = spec.node_name.clone().unwrap_or_default();
        snapshot.set_pod(&node, pod);
    }
}

/// A pod that wants more than most nodes have left.
fn demanding(cluster: &mut TestCluster, random: &mut Random, priority: usize) -> Arc<Pod> {
    let mut pod = serde_json::to_value(&*cluster.incoming(random)).expect("a tree");
    pod["spec"]["priority"] = json!(priority);
    pod["spec"]["containers"][0]["resources"]["requests"]["cpu"] = json!(format!("{}m", 1500 + 500 * random.below(4)));
    if random.chance(2) {
        // Most wishes are about which pods a node has.
        pod["spec"]["affinity"] = json!(null);
        pod["spec"]["topologySpreadConstraints"] = json!(null);
        pod["spec"]["containers"][0]["ports"] = json!(null);
    }
    Arc::new(serde_json::from_value(pod).expect("a pod"))
}

/// The pods that have to go: all less important ones, but for those that can stay, the most important and eldest first.
fn victims_by_reference(cluster: &TestCluster, pod: &PodInfo, node: &NodeInfo) -> Option<Vec<ObjectKey>> {
    let mut lower: Vec<Arc<PlacedPod>> = node.pods.values().filter(|other| other.priority < pod.priority()).cloned().collect();
    lower.sort_by_key(|other| (Reverse(other.priority), other.started.is_none(), other.started, other.key().clone()));
    let fits_without = |gone: &[Arc<PlacedPod>]| {
        let less = cluster.without(gone);
        Reference { cluster: &less, pod: &pod.pod, options: &Options::default() }.verdicts(&node.name).is_empty()
    };
    if !fits_without(&lower) {
        return None;
    }
    let mut gone = lower.clone();
    for other in &lower {
        let fewer: Vec<Arc<PlacedPod>> = gone.iter().filter(|pod| pod.key() != other.key()).cloned().collect();
        if fits_without(&fewer) {
            gone = fewer;
        }
    }
    let keys: Vec<ObjectKey> = gone.iter().map(|pod| pod.key().clone()).collect();
    (!keys.is_empty()).then_some(keys)
}

#[test]
fn victims_equal_those_of_the_reference() {
    let (profile, mut by_taken, mut by_pods) = (default_profile(), 0, 0);
    for seed in 0..CASES {
        let mut random = Random(StdRng::seed_from_u64(seed));
        let (mut cluster, mut snapshot) = (TestCluster::default(), Snapshot::default());
        cluster.begin(&mut random, &mut snapshot);
        rank(&mut cluster, &mut random, &mut snapshot);
        let pod = PodInfo::new(demanding(&mut cluster, &mut random, 2), &cluster.around);
        let Ok((mut filters, _)) = profile.pre_filter(&pod, &snapshot) else { continue };
        for node in snapshot.nodes() {
            let run = select(&pod, node, &mut filters, &[]).ok();
            let got = run.map(|run| run.victims().map(|victim| victim.pod.key().clone()).collect::<Vec<ObjectKey>>());
            let want = victims_by_reference(&cluster, &pod, node);
            assert_eq!(got, want, "seed {seed}, node {}: {:#?}\n{}", node.name, pod.pod.spec, cluster.tell());
            *(if filters.are_by_taken() { &mut by_taken } else { &mut by_pods }) += usize::from(got.is_some());
        }
    }
    assert!(by_taken > 20 && by_pods > 20, "{by_taken} nodes by sums, {by_pods} by pods");
}

#[test]
fn victims_by_sums_equal_those_by_pods_whoever_is_nominated_and_guarded() {
    let (profile, mut nominated) = (default_profile(), 0);
    let budget = |namespace: &str, allowed: usize| {
        let spec = json!({"selector": {"matchLabels": {"app": "web"}}});
        let status = json!({"disruptionsAllowed": allowed, "currentHealthy": 1, "desiredHealthy": 1, "expectedPods": 1});
        let budget = json!({"metadata": {"namespace": namespace, "name": "b"}, "spec": spec, "status": status});
        Budget::of(&serde_json::from_value::<PodDisruptionBudget>(budget).expect("a budget"))
    };
    for seed in 0..CASES * 3 {
        let mut random = Random(StdRng::seed_from_u64(seed));
        let (mut cluster, mut snapshot) = (TestCluster::default(), Snapshot::default());
        cluster.begin(&mut random, &mut snapshot);
        rank(&mut cluster, &mut random, &mut snapshot);
        for _ in 0..random.below(4) {
            let priority = 1 + random.below(3);
            let other = demanding(&mut cluster, &mut random, priority);
            snapshot.nominations_mut().set(Arc::new(PlacedPod::of(&other)), &format!("n{}", random.below(6)));
        }
        let budgets = [budget("a", random.below(2)), budget("b", 0)];
        let pod = PodInfo::new(demanding(&mut cluster, &mut random, 2), &cluster.around);
        let Ok((mut filters, _)) = profile.pre_filter(&pod, &snapshot) else { continue };
        if random.chance(2) {
            filters.note_nominated();
        }
        for node in snapshot.nodes().iter().filter(|_| filters.are_by_taken()).collect::<Vec<_>>() {
            let got = select(&pod, node, &mut filters, &budgets);
            nominated += usize::from(got.is_ok() && !filters.nominated(node).is_empty());
            assert_eq!(got, select_by_pods(&pod, node, &mut filters, &budgets), "seed {seed}, node {}: {:#?}", node.name, cluster.tell());
        }
    }
    assert!(nominated > 5, "{nominated} nodes with nominated pods and victims");
}
