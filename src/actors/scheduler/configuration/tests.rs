use std::{collections::BTreeMap, sync::Arc, time::Duration};

use k8s_openapi::api::core::v1::{Node, Pod};
use serde_json::json;

use super::Configuration;
use crate::scheduler::{
    decide::{Decision, SchedulingContext, decide},
    features::Features,
    framework::{Point, Profile, Profiles},
    object_lookup::NoObjects,
    plugins::{Parts, profile_of, registry},
    pod_info::PodInfo,
    snapshot::Snapshot,
    spread::SpreadDefaults,
};

const HEAD: &str = "apiVersion: kubescheduler.config.k8s.io/v1\nkind: KubeSchedulerConfiguration\n";

fn read(text: &str) -> Result<Configuration, String> {
    read_with(Features::default(), text)
}

fn read_with(features: Features, text: &str) -> Result<Configuration, String> {
    Configuration::parse(&format!("{HEAD}{text}"), features).map_err(|error| error.to_string())
}

fn profiles(text: &str) -> Profiles {
    read(text).expect("usable").setup(&Parts::default()).profiles
}

fn only(text: &str) -> Arc<Profile> {
    profiles(text).iter().next().expect("one").clone()
}

fn asked(profile: &Profile) -> BTreeMap<Point, Vec<&'static str>> {
    Point::ALL.map(|point| (point, profile.at(point).map(|plugin| plugin.name()).collect())).into()
}

fn scoring(profile: &Profile) -> Vec<(&'static str, i64)> {
    profile.scoring().map(|(plugin, weight)| (plugin.name(), weight)).collect()
}

fn refused(text: &str) -> String {
    read(text).map(drop).expect_err(text)
}

#[test]
fn without_profiles_it_is_what_upstream_has_by_default() {
    let (standard, read) = (profile_of(&Parts::default()), only("profiles: []\n"));
    assert_eq!(asked(&read), asked(&standard));
    assert_eq!(scoring(&read), scoring(&standard));
    assert_eq!(&*read.name, "default-scheduler");
    assert_eq!(asked(&read)[&Point::Filter][..3], ["NodeUnschedulable", "NodeName", "TaintToleration"]);
    assert!(registry::DEFAULTS.iter().all(|(name, _)| registry::points_of(name).is_some()));
}

#[test]
fn plugins_are_disabled_ordered_and_weighted() {
    let profile = only(
        "profiles:
- plugins:
    preFilter: {disabled: [{name: '*'}], enabled: [{name: NodePorts}]}
    filter: {disabled: [{name: NodePorts}], enabled: [{name: NodeName}]}
    score: {disabled: [{name: ImageLocality}, {name: NodeInterference}], enabled: [{name: InterPodAffinity, weight: 7}]}
    multiPoint: {disabled: [{name: TaintToleration}], enabled: [{name: NodeAffinity, weight: 9}]}
",
    );
    let asked = asked(&profile);
    assert_eq!(asked[&Point::PreFilter], ["NodePorts"]);
    // What is named again at a point comes first, as upstream.
    assert_eq!(
        asked[&Point::Filter],
        ["NodeName", "NodeUnschedulable", "NodeAffinity", "NodeResourcesFit", "PodTopologySpread", "InterPodAffinity", "NodeDeclaredFeatures"]
    );
    let expected = [("InterPodAffinity", 7), ("NodeAffinity", 9), ("NodeResourcesFit", 1), ("PodTopologySpread", 2)];
    assert_eq!(scoring(&profile), [&expected[..], &[("NodeResourcesBalancedAllocation", 1)]].concat());
}

#[test]
fn everything_off_leaves_what_is_named() {
    let profile = only(
        "profiles:
- plugins:
    multiPoint: {disabled: [{name: '*'}], enabled: [{name: PrioritySort}, {name: DefaultBinder}, {name: NodeResourcesFit}]}
",
    );
    assert_eq!(asked(&profile)[&Point::Filter], ["NodeResourcesFit"]);
    assert_eq!(scoring(&profile), [("NodeResourcesFit", 1)], "a weight that is not given is 1");
}

#[test]
fn what_cannot_be_is_told_in_upstreams_words() {
    let of = |plugins: &str| format!("profiles: [{{plugins: {plugins}}}]\n");
    let creating = |why: &str| format!("initializing profiles: creating profile for scheduler name default-scheduler: {why}");
    let args = |plugin: &str, args: &str| format!("profiles: [{{pluginConfig: [{{name: {plugin}, args: {args}}}]}}]\n");
    let at = "profiles[0].pluginConfig[0].args";
    for (text, why) in [
        (of("{filter: {enabled: [{name: Foo}]}}"), creating("FilterPlugin \"Foo\" does not exist")),
        (of("{filter: {enabled: [{name: ImageLocality}]}}"), creating("plugin \"ImageLocality\" does not extend FilterPlugin plugin")),
        (of("{filter: {enabled: [{name: NodeName}, {name: NodeName}]}}"), creating("plugin \"NodeName\" already registered as \"FilterPlugin\"")),
        (
            of("{multiPoint: {disabled: [{name: '*'}], enabled: [{name: PrioritySort}]}}"),
            creating("at least one bind plugin is needed for profile with scheduler name \"default-scheduler\""),
        ),
        (
            of("{queueSort: {disabled: [{name: '*'}]}}"),
            creating("only one queue sort plugin required for profile with scheduler name \"default-scheduler\", but got 0"),
        ),
        (
            "profiles: [{schedulerName: a}, {schedulerName: a}, {}]\n".into(),
            "[profiles[1].schedulerName: Duplicate value: profiles[0].schedulerName, profiles[2].schedulerName: Required value]".into(),
        ),
        ("parallelism: 0\n".into(), "parallelism: Invalid value: 0: should be an integer value greater than zero".into()),
        ("percentageOfNodesToScore: 101\n".into(), "percentageOfNodesToScore: Invalid value: 101: not in valid range [0-100]".into()),
        (
            "podInitialBackoffSeconds: 20\n".into(),
            "podMaxBackoffSeconds: Invalid value: 10: must be greater than or equal to PodInitialBackoffSeconds".into(),
        ),
        (
            args("InterPodAffinity", "{hardPodAffinityWeight: 101}"),
            format!("{at}.hardPodAffinityWeight: Invalid value: 101: not in valid range [0, 100]"),
        ),
        (
            args("NodeResourcesFit", "{scoringStrategy: {type: MostAllocated, resources: [{name: cpu, weight: 101}]}}"),
            format!("{at}.scoringStrategy.resources[0].weight: Invalid value: 101: resource weight of cpu not in valid range (0, 100]"),
        ),
        (
            args("NodeResourcesFit", "{scoringStrategy: {type: RequestedToCapacityRatio}}"),
            format!("{at}.scoringStrategy.requestedToCapacityRatio: Required value: must be specified when type is RequestedToCapacityRatio"),
        ),
        (
            args("PodTopologySpread", "{defaultConstraints: [{maxSkew: 1, topologyKey: zone, whenUnsatisfiable: ScheduleAnyway}]}"),
            format!("{at}.defaultingType: Invalid value: \"System\": when .defaultConstraints are not empty"),
        ),
        (
            args("DefaultPreemption", "{minCandidateNodesPercentage: -1}"),
            format!("{at}.minCandidateNodesPercentage: Invalid value: -1: not in valid range [0, 100]"),
        ),
        (
            args("VolumeBinding", "{bindTimeoutSeconds: -1}"),
            format!("{at}.bindTimeoutSeconds: Invalid value: -1: invalid BindTimeoutSeconds, should not be a negative value"),
        ),
        (args("DynamicResources", "{filterTimeout: -1s}"), format!("{at}.filterTimeout: Invalid value: \"-1s\": must be zero or positive")),
        ("profils: []\n".into(), "strict decoding error: unknown field \"profils\"".into()),
        ("profiles: [{plugin: {}}]\n".into(), "strict decoding error: unknown field \"profiles[0].plugin\"".into()),
        (
            args("NodeAffinity", "{added: 1}"),
            "strict decoding error: decoding .profiles[0].pluginConfig[0]: strict decoding error: decoding args for plugin NodeAffinity: \
             strict decoding error: unknown field \"added\""
                .into(),
        ),
        (
            args("NodeAffinity", "{kind: VolumeBindingArgs}"),
            "decoding .profiles[0].pluginConfig[0]: args for plugin NodeAffinity were not of type NodeAffinityArgs.kubescheduler.config.k8s.io, \
             got VolumeBindingArgs.kubescheduler.config.k8s.io"
                .into(),
        ),
        ("parallelism: many\n".into(), "parallelism: expected a whole number of 32 bits, found \"many\"".into()),
        (
            "leaderElection: {leaderElect: false}\n".into(),
            "leaderElection.leaderElect has no effect: the scheduler always stands for election".into(),
        ),
    ] {
        assert_eq!(refused(&text), why, "{text}");
    }
    let stock = "leaderElection: {leaderElect: true}\nclientConnection: {kubeconfig: \"\"}\nparallelism: 4\n";
    assert!(read(stock).is_ok());
    let other = Configuration::parse("apiVersion: kubescheduler.config.k8s.io/v1beta3\nkind: KubeSchedulerConfiguration\n", Features::default());
    assert!(other.expect_err("refused").to_string().contains("v1beta3"));
}

#[test]
fn the_sample_is_usable() {
    let sample = Configuration::parse(include_str!("../../../../config/samples/scheduler.yaml"), Features::default()).expect("usable");
    let names: Vec<_> = sample.setup(&Parts::default()).profiles.iter().map(|profile| profile.name.to_string()).collect();
    assert_eq!(names, ["default-scheduler", "packing"]);
}

#[test]
fn times_and_shares_are_as_they_are_set() {
    let configuration = read(
        "podInitialBackoffSeconds: 2\npodMaxBackoffSeconds: 3\npercentageOfNodesToScore: 30\nprofiles: [{schedulerName: a}, {schedulerName: b, percentageOfNodesToScore: 50}]\n",
    );
    let setup = configuration.expect("usable").setup(&Parts::default());
    assert_eq!((setup.backoffs.initial, setup.backoffs.most), (Duration::from_secs(2), Duration::from_secs(3)));
    let shares: Vec<_> = setup.profiles.iter().map(|profile| (&*profile.name, profile.percentage_of_nodes_to_score)).collect();
    assert_eq!(shares, [("a", Some(30)), ("b", Some(50))]);
}

fn node(name: &str, cpu: &str) -> Arc<Node> {
    let node = json!({"metadata": {"name": name, "labels": {"pool": name}}, "status": {"allocatable": {"cpu": cpu, "memory": "8Gi", "pods": "10"}}});
    Arc::new(serde_json::from_value(node).expect("a node"))
}

fn pod(scheduler: &str) -> Arc<Pod> {
    let requests = json!({"cpu": "1", "memory": "1Gi"});
    let spec = json!({"schedulerName": scheduler, "containers": [{"name": "c", "resources": {"requests": requests}}]});
    Arc::new(serde_json::from_value(json!({"metadata": {"name": "p", "namespace": "n"}, "spec": spec})).expect("a pod"))
}

#[test]
fn each_profile_decides_by_its_own_arguments() {
    let profiles = profiles(
        "profiles:
- schedulerName: spreads
- schedulerName: packs
  plugins: {score: {disabled: [{name: '*'}], enabled: [{name: NodeResourcesFit}]}}
  pluginConfig: [{name: NodeResourcesFit, args: {scoringStrategy: {type: MostAllocated, resources: [{name: cpu}]}}}]
- schedulerName: pinned
  pluginConfig:
  - name: NodeAffinity
    args:
      addedAffinity:
        requiredDuringSchedulingIgnoredDuringExecution:
          nodeSelectorTerms: [{matchExpressions: [{key: pool, operator: In, values: [none]}]}]
",
    );
    let mut cluster = Snapshot::default();
    [node("large", "8"), node("small", "2")].into_iter().for_each(|node| cluster.set_node(node));
    let decided = |scheduler: &str| {
        let pod = pod(scheduler);
        let profile = profiles.of(&pod).expect("one of ours");
        let info = PodInfo::with_defaults(pod.clone(), &NoObjects, &profile.spread_defaults);
        match decide(&info, &SchedulingContext { profile, cluster: &cluster, start: 0, chance: 0, budgets: &Vec::new, ranked: &|_| () }).0 {
            Decision::Bind { node } => node.to_string(),
            Decision::Unschedulable(unschedulable) => unschedulable.message,
            Decision::Failed(why) => why,
        }
    };
    assert_eq!(decided("spreads"), "large");
    assert_eq!(decided("packs"), "small");
    assert!(
        decided("pinned").starts_with("0/2 nodes are available: 2 node(s) didn't match scheduler-enforced node affinity."),
        "{}",
        decided("pinned")
    );
    assert!(profiles.of(&pod("default-scheduler")).is_none(), "whom nobody serves is left alone");
}

#[test]
fn default_constraints_spread_pods_that_have_none() {
    let list = "[{maxSkew: 1, topologyKey: zone, whenUnsatisfiable: DoNotSchedule}]";
    let text = format!("profiles: [{{pluginConfig: [{{name: PodTopologySpread, args: {{defaultingType: List, defaultConstraints: {list}}}}}]}}]\n");
    let SpreadDefaults::List(constraints) = &only(&text).spread_defaults else { panic!("a list") };
    assert_eq!((constraints.len(), constraints[0].topology_key.as_str()), (1, "zone"));
    assert_eq!(only("profiles: [{}]\n").spread_defaults, SpreadDefaults::System);
}

#[test]
fn the_shape_of_volumes_scores_needs_its_feature() {
    let of = |shape: &str| format!("profiles: [{{pluginConfig: [{{name: VolumeBinding, args: {{shape: {shape}}}}}]}}]\n");
    let on = Features { scores_capacity: true, ..Features::default() };
    let shape = of("[{utilization: 0, score: 0}, {utilization: 100, score: 10}]");
    assert!(refused(&shape).ends_with("unexpected field `shape`, remove it or turn on the feature gate StorageCapacityScoring"));
    assert!(read_with(on, &shape).is_ok() && read_with(on, &of("[]")).is_ok());
    let wrong = read_with(on, &of("[{utilization: 0, score: 11}]")).map(drop).expect_err("the score is too high");
    assert!(wrong.ends_with("args.shape[0].score: Invalid value: 11: not in valid range [0, 10]"), "{wrong}");
}
