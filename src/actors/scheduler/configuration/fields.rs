//! The fields of a `KubeSchedulerConfiguration`.

use crate::document_shape::{
    Shape::{self, Any, Bool, Duration, Int32, Int64, List, Number, Object, Text},
    TEXTS,
};

pub const CONFIGURATION: Shape = Object(&[
    ("apiVersion", &Text),
    ("kind", &Text),
    ("parallelism", &Int32),
    ("leaderElection", &LEADER_ELECTION),
    ("clientConnection", &CLIENT_CONNECTION),
    ("enableProfiling", &Bool),
    ("enableContentionProfiling", &Bool),
    ("percentageOfNodesToScore", &Int32),
    ("podInitialBackoffSeconds", &Int64),
    ("podMaxBackoffSeconds", &Int64),
    ("profiles", &List(&PROFILE)),
    ("extenders", &List(&EXTENDER)),
    ("delayCacheUntilActive", &Bool),
]);

const LEADER_ELECTION: Shape = Object(&[
    ("leaderElect", &Bool),
    ("leaseDuration", &Duration),
    ("renewDeadline", &Duration),
    ("retryPeriod", &Duration),
    ("resourceLock", &Text),
    ("resourceName", &Text),
    ("resourceNamespace", &Text),
]);

const CLIENT_CONNECTION: Shape =
    Object(&[("kubeconfig", &Text), ("acceptContentTypes", &Text), ("contentType", &Text), ("qps", &Number), ("burst", &Int32)]);

const PROFILE: Shape = Object(&[
    ("schedulerName", &Text),
    ("percentageOfNodesToScore", &Int32),
    ("plugins", &PLUGINS),
    ("pluginConfig", &List(&Object(&[("name", &Text), ("args", &Any)]))),
]);

const PLUGINS: Shape = Object(&[
    ("preEnqueue", &PLUGIN_SET),
    ("queueSort", &PLUGIN_SET),
    ("preFilter", &PLUGIN_SET),
    ("filter", &PLUGIN_SET),
    ("postFilter", &PLUGIN_SET),
    ("preScore", &PLUGIN_SET),
    ("score", &PLUGIN_SET),
    ("reserve", &PLUGIN_SET),
    ("permit", &PLUGIN_SET),
    ("preBind", &PLUGIN_SET),
    ("bind", &PLUGIN_SET),
    ("postBind", &PLUGIN_SET),
    ("multiPoint", &PLUGIN_SET),
    ("placementGenerate", &PLUGIN_SET),
    ("placementScore", &PLUGIN_SET),
]);

const PLUGIN_SET: Shape = Object(&[("enabled", &List(&PLUGIN)), ("disabled", &List(&PLUGIN))]);

const PLUGIN: Shape = Object(&[("name", &Text), ("weight", &Int32)]);

const EXTENDER: Shape = Object(&[
    ("urlPrefix", &Text),
    ("filterVerb", &Text),
    ("preemptVerb", &Text),
    ("prioritizeVerb", &Text),
    ("weight", &Int64),
    ("bindVerb", &Text),
    ("enableHTTPS", &Bool),
    ("tlsConfig", &TLS),
    ("httpTimeout", &Duration),
    ("nodeCacheCapable", &Bool),
    ("managedResources", &List(&Object(&[("name", &Text), ("ignoredByScheduler", &Bool)]))),
    ("ignorable", &Bool),
]);

const TLS: Shape = Object(&[
    ("insecure", &Bool),
    ("serverName", &Text),
    ("certFile", &Text),
    ("keyFile", &Text),
    ("caFile", &Text),
    ("certData", &Text),
    ("keyData", &Text),
    ("caData", &Text),
]);

const POINTS: Shape = List(&Object(&[("utilization", &Int32), ("score", &Int32)]));
const RESOURCES: Shape = List(&Object(&[("name", &Text), ("weight", &Int64)]));

const EXPRESSIONS: Shape = List(&Object(&[("key", &Text), ("operator", &Text), ("values", &TEXTS)]));
const NODE_TERM: Shape = Object(&[("matchExpressions", &EXPRESSIONS), ("matchFields", &EXPRESSIONS)]);
const NODE_AFFINITY: Shape = Object(&[
    ("requiredDuringSchedulingIgnoredDuringExecution", &Object(&[("nodeSelectorTerms", &List(&NODE_TERM))])),
    ("preferredDuringSchedulingIgnoredDuringExecution", &List(&Object(&[("weight", &Int32), ("preference", &NODE_TERM)]))),
]);

const SPREAD: Shape = Object(&[
    ("maxSkew", &Int32),
    ("topologyKey", &Text),
    ("whenUnsatisfiable", &Text),
    ("labelSelector", &Object(&[("matchLabels", &Shape::Map), ("matchExpressions", &EXPRESSIONS)])),
    ("minDomains", &Int32),
    ("nodeAffinityPolicy", &Text),
    ("nodeTaintsPolicy", &Text),
    ("matchLabelKeys", &TEXTS),
]);

const HEAD: [(&str, &Shape); 2] = [("apiVersion", &Text), ("kind", &Text)];

/// The fields of a plugin's arguments; `None` for plugins that take none.
pub fn arguments_of(plugin: &str) -> Option<&'static Shape> {
    const DEFAULT_PREEMPTION: Shape = Object(&[HEAD[0], HEAD[1], ("minCandidateNodesPercentage", &Int32), ("minCandidateNodesAbsolute", &Int32)]);
    const INTER_POD_AFFINITY: Shape = Object(&[HEAD[0], HEAD[1], ("hardPodAffinityWeight", &Int32), ("ignorePreferredTermsOfExistingPods", &Bool)]);
    const NODE_AFFINITY_ARGS: Shape = Object(&[HEAD[0], HEAD[1], ("addedAffinity", &NODE_AFFINITY)]);
    const BALANCED: Shape = Object(&[HEAD[0], HEAD[1], ("resources", &RESOURCES)]);
    const FIT: Shape = Object(&[
        HEAD[0],
        HEAD[1],
        ("ignoredResources", &TEXTS),
        ("ignoredResourceGroups", &TEXTS),
        ("scoringStrategy", &Object(&[("type", &Text), ("resources", &RESOURCES), ("requestedToCapacityRatio", &Object(&[("shape", &POINTS)]))])),
    ]);
    const SPREAD_ARGS: Shape = Object(&[HEAD[0], HEAD[1], ("defaultConstraints", &List(&SPREAD)), ("defaultingType", &Text)]);
    const VOLUME_BINDING: Shape = Object(&[HEAD[0], HEAD[1], ("bindTimeoutSeconds", &Int64), ("shape", &POINTS)]);
    const DEVICES: Shape = Object(&[HEAD[0], HEAD[1], ("bindingTimeout", &Duration), ("filterTimeout", &Duration)]);
    match plugin {
        "DefaultPreemption" => Some(&DEFAULT_PREEMPTION),
        "DynamicResources" => Some(&DEVICES),
        "InterPodAffinity" => Some(&INTER_POD_AFFINITY),
        "NodeAffinity" => Some(&NODE_AFFINITY_ARGS),
        "NodeResourcesBalancedAllocation" => Some(&BALANCED),
        "NodeResourcesFit" => Some(&FIT),
        "PodTopologySpread" => Some(&SPREAD_ARGS),
        "VolumeBinding" => Some(&VOLUME_BINDING),
        _ => None,
    }
}
