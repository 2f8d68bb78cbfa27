//! Why a pod has no node, for people: what each plugin has against which nodes, and which pods would have to go. Pure.

use std::{collections::BTreeMap, sync::Arc};

use k8s_openapi::api::core::v1::{Node, Pod};
use serde::{Deserialize, Serialize};

use super::{
    budget::Budget,
    framework::{DryRun, Filters, Profile},
    node_info::NodeInfo,
    object_lookup::ObjectLookup,
    placed_pod::nominated_node,
    plugins::default_profile,
    pod_info::PodInfo,
    preemption::select,
    snapshot::Snapshot,
};

/// What a plugin has against nodes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Finding {
    pub plugin: String,
    pub reason: String,
    /// Names of the nodes.
    pub nodes: Vec<String>,
    /// Other pods' removal could not change it.
    pub unresolvable: bool,
}

/// What removing less important pods could do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum PreemptionFinding {
    /// It is not needed: the pod fits somewhere.
    NotNeeded,
    /// The pod's policy forbids it.
    Never,
    /// It would help nowhere.
    Helpless,
    /// Pods that would have to go, by node.
    Possible(Vec<Victims>),
}

/// Pods of a node that would have to go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Victims {
    pub node: String,
    /// `namespace/name (priority)`
    pub pods: Vec<String>,
    /// So many of them disruption budgets would spare.
    pub broken_budgets: usize,
}

/// All of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Explanation {
    /// In the order of the plugins.
    pub findings: Vec<Finding>,
    /// Nodes that nothing is against.
    pub feasible: Vec<String>,
    pub preemption: PreemptionFinding,
    /// The node that is kept free for it.
    pub nominated_node: Option<String>,
}

/// Explains a pod in a cluster of these nodes, where `pods` have nodes and have not ended, by the default profile without the plugins that look at
/// more: for whoever cannot ask the scheduler.
pub fn explain(pod: Arc<Pod>, nodes: Vec<Arc<Node>>, pods: &[Arc<Pod>], lookup: &dyn ObjectLookup) -> Explanation {
    let mut cluster = Snapshot::default();
    nodes.into_iter().for_each(|node| cluster.set_node(node));
    for pod in pods {
        let node = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()).unwrap_or_default();
        cluster.set_pod(node, pod);
    }
    let (profile, info) = (default_profile(), PodInfo::new(pod, lookup));
    cluster.prepare(&info);
    explain_in(&profile, &info, &cluster, &lookup.budgets())
}

/// Explains a pod by the plugins of a profile, in a cluster that is prepared for it.
pub(super) fn explain_in(profile: &Profile, pod: &PodInfo, cluster: &Snapshot, budgets: &[Budget]) -> Explanation {
    let nominated_node = nominated_node(&pod.pod).map(str::to_owned);
    let all = || cluster.nodes().iter().map(|node| node.name.to_string()).collect::<Vec<String>>();
    let mut filters = match profile.pre_filter(pod, cluster) {
        Ok((filters, _)) => filters,
        Err((plugin, rejection)) => {
            let reason = rejection.reasons.join(", ");
            let findings = vec![Finding { plugin: plugin.to_owned(), reason, nodes: all(), unresolvable: rejection.unresolvable }];
            return Explanation { findings, feasible: Vec::new(), preemption: PreemptionFinding::Helpless, nominated_node };
        }
    };
    let (mut by_reason, mut feasible, mut resolvable) = (BTreeMap::<(usize, String), Finding>::new(), Vec::new(), Vec::new());
    let order = |name: &str| profile.plugins().position(|plugin| plugin.name() == name).unwrap_or(usize::MAX);
    for node in cluster.nodes() {
        let rejections = filters.ask_all(node);
        if rejections.is_empty() {
            feasible.push(node.name.to_string());
        } else if rejections.iter().all(|(_, rejection)| !rejection.unresolvable) {
            resolvable.push(node);
        }
        for (plugin, rejection) in rejections {
            let reason = rejection.reasons.join(", ");
            let finding = by_reason.entry((order(plugin), reason.clone())).or_insert_with(|| Finding {
                plugin: plugin.to_owned(),
                reason,
                nodes: Vec::new(),
                unresolvable: rejection.unresolvable,
            });
            finding.nodes.push(node.name.to_string());
        }
    }
    let preemption = if feasible.is_empty() { preemption(pod, &resolvable, &mut filters, budgets) } else { PreemptionFinding::NotNeeded };
    Explanation { findings: by_reason.into_values().collect(), feasible, preemption, nominated_node }
}

fn preemption(pod: &PodInfo, nodes: &[&Arc<NodeInfo>], filters: &mut Filters<'_>, budgets: &[Budget]) -> PreemptionFinding {
    if pod.pod.spec.as_ref().and_then(|spec| spec.preemption_policy.as_deref()) == Some("Never") {
        return PreemptionFinding::Never;
    }
    let possible: Vec<Victims> = nodes.iter().filter_map(|node| select(pod, node, filters, budgets).ok()).map(|run| victims(&run)).collect();
    if possible.is_empty() { PreemptionFinding::Helpless } else { PreemptionFinding::Possible(possible) }
}

fn victims(run: &DryRun) -> Victims {
    let pods = run.victims().map(|victim| format!("{} (priority {})", victim.pod.key(), victim.priority));
    Victims { node: run.node.to_string(), pods: pods.collect(), broken_budgets: run.broken_budgets }
}
