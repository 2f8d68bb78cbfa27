//! What each plugin of the scheduler has against the nodes, and what preemption would need. Pure.

use std::sync::Arc;

use k8s_openapi::api::{
    core::v1::{Namespace, Pod},
    policy::v1::PodDisruptionBudget,
};
use serde::de::DeserializeOwned;
use serde_json::Value;
use troupe_actors::scheduler::{
    budget::Budget,
    explain::{Explanation, Finding, PreemptionFinding, Victims, explain},
    object_lookup::ObjectLookup,
    terms::Labels,
};
use troupe_api::meta::LabelSelector;

use super::{obstacles::Obstacle, pod::Facts, report::Reason};

/// Nodes that are named for one finding.
const SHOWN: usize = 5;

/// What other objects say, as it was fetched.
struct Fetched {
    namespaces: Vec<Namespace>,
    budgets: Vec<PodDisruptionBudget>,
}

impl ObjectLookup for Fetched {
    fn namespace_labels(&self, namespace: &str) -> Arc<Labels> {
        let found = self.namespaces.iter().find(|known| known.metadata.name.as_deref() == Some(namespace));
        Arc::new(found.and_then(|namespace| namespace.metadata.labels.clone()).unwrap_or_default())
    }

    fn namespaces_matching(&self, selector: &LabelSelector) -> Vec<Arc<str>> {
        let matching = self.namespaces.iter().filter(|namespace| selector.selects(&namespace.metadata));
        matching.filter_map(|namespace| namespace.metadata.name.as_deref()).map(Arc::from).collect()
    }

    /// Default constraints only rank nodes, so they keep no pod waiting.
    fn default_selector(&self, _pod: &Pod) -> LabelSelector {
        LabelSelector::everything()
    }

    fn budgets(&self) -> Vec<Budget> {
        self.budgets.iter().map(Budget::of).collect()
    }
}

/// Objects that do not decode are left out.
fn typed<K: DeserializeOwned>(objects: &[Value]) -> Vec<K> {
    objects.iter().filter_map(|object| serde_json::from_value(object.clone()).ok()).collect()
}

/// Plugins whose objections [`obstacles`](super::obstacles) finds by itself and tells with figures.
const TOLD_WITH_FIGURES: [&str; 6] = ["NodeUnschedulable", "NodeName", "TaintToleration", "NodeAffinity", "NodePorts", "NodeResourcesFit"];

/// What the scheduler's plugins say now: by its own word, or else by what the default ones make of nodes and pods. `None` if the pod cannot be
/// read.
pub fn explanation(facts: &Facts) -> Option<Explanation> {
    if let Ok(explanation) = serde_json::from_value(facts.explained.clone()) {
        return Some(explanation);
    }
    let pod = serde_json::from_value(facts.pod.clone()).ok()?;
    let fetched = Fetched { namespaces: typed(&facts.namespaces), budgets: typed(&facts.budgets) };
    let pods: Vec<Arc<Pod>> = typed(&facts.tenants).into_iter().map(Arc::new).collect();
    let nodes = typed(&facts.nodes).into_iter().map(Arc::new).collect();
    Some(explain(Arc::new(pod), nodes, &pods, &fetched))
}

/// Tells it plugin by plugin; `None` if none has anything against any node.
pub fn plugins(explanation: &Explanation) -> Option<Reason> {
    let lines = lines(explanation);
    (!lines.is_empty()).then(|| Reason::new("plugin by plugin").details(lines))
}

/// Whether a plugin has something against the node that no other pod's removal would change.
pub fn is_out(explanation: &Explanation, node: &str) -> bool {
    explanation.findings.iter().any(|finding| finding.unresolvable && finding.nodes.iter().any(|name| name == node))
}

/// What plugins have against a node beside `known`.
pub fn further(explanation: &Explanation, node: &str, known: &[Obstacle]) -> Vec<Obstacle> {
    let about = explanation.findings.iter().filter(|finding| finding.nodes.iter().any(|name| name == node));
    let news = about.filter(|finding| known.is_empty() || !TOLD_WITH_FIGURES.contains(&finding.plugin.as_str()));
    news.map(|finding| {
        let said = finding.reason.strip_prefix("node(s) ").unwrap_or(&finding.reason);
        Obstacle { what: format!("{said} ({})", finding.plugin), remedy: remedy(finding) }
    })
    .collect()
}

/// What takes an objection away.
fn remedy(finding: &Finding) -> String {
    let said = finding.reason.as_str();
    match finding.plugin.as_str() {
        "InterPodAffinity" if said.contains("existing pods") => "the pods that keep it away by their own podAntiAffinity leave".into(),
        "InterPodAffinity" if said.contains("anti-affinity") => {
            "the pods that its podAntiAffinity avoids leave, or that term is only preferred".into()
        }
        "InterPodAffinity" => "a pod that its podAffinity asks for runs near there, or that term is only preferred".into(),
        "PodTopologySpread" if said.contains("label") => "the node has the labels that its topologySpreadConstraints name".into(),
        "PodTopologySpread" => {
            "pods of its kind leave there or come elsewhere, or its topologySpreadConstraints allow a greater maxSkew or ask for fewer minDomains"
                .into()
        }
        "VolumeBinding" if said.contains("node affinity") => "its claims' volumes can be reached from there, or others take their place".into(),
        "VolumeBinding" if said.contains("unbound immediate") => "its claims are bound".into(),
        "VolumeBinding" => "there is a volume for each of its claims that can be reached from there, or their class makes one".into(),
        "DynamicResources" => "a driver offers devices there that its claims ask for, and that are free".into(),
        plugin => format!("{plugin} has nothing against the node any more"),
    }
}

fn lines(explanation: &Explanation) -> Vec<String> {
    let mut lines: Vec<String> = explanation
        .findings
        .iter()
        .map(|finding| {
            let forever = if finding.unresolvable { ", whatever pods go" } else { "" };
            format!("{} on {}: {}{forever}", finding.plugin, nodes(&finding.nodes), finding.reason)
        })
        .collect();
    if lines.is_empty() {
        return lines;
    }
    if !explanation.feasible.is_empty() {
        lines.push(format!("nothing is against {}", nodes(&explanation.feasible)));
    }
    match &explanation.preemption {
        PreemptionFinding::NotNeeded => {}
        PreemptionFinding::Never => lines.push("preemption: the pod's preemptionPolicy is Never".into()),
        PreemptionFinding::Helpless => lines.push("preemption: removing less important pods would help on no node".into()),
        PreemptionFinding::Possible(possible) => lines.extend(possible.iter().take(SHOWN).map(possible_line)),
    }
    lines.extend(explanation.nominated_node.iter().map(|node| format!("node {node} is kept free for it")));
    lines
}

fn possible_line(victims: &Victims) -> String {
    let broken = match victims.broken_budgets {
        0 => String::new(),
        1 => ", against one disruption budget".into(),
        more => format!(", against disruption budgets of {more} pods"),
    };
    format!("preemption on node {}: {} would go{broken}", victims.node, victims.pods.join(", "))
}

fn nodes(names: &[String]) -> String {
    let number = if names.len() == 1 { "1 node".to_owned() } else { format!("{} nodes", names.len()) };
    let more = if names.len() > SHOWN { ", …" } else { "" };
    format!("{number} ({}{more})", names[..names.len().min(SHOWN)].join(", "))
}
