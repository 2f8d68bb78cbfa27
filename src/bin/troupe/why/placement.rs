//! Why a pod has no node. Pure.

use std::borrow::Cow;

use serde_json::Value;
use troupe_actors::scheduler::explain::Explanation;

use super::{
    device_search,
    obstacles::obstacles,
    pod::Facts,
    pod_group,
    report::Reason,
    resource_claim, scheduling,
    tree::{condition, items, listed, newest, text},
};

/// Nodes that are described one by one.
const SHOWN: usize = 10;

/// Every reason that shows.
pub fn explain(facts: &Facts) -> Vec<Reason> {
    let pod = &facts.pod;
    let gates: Vec<&str> = items(&pod["spec"]["schedulingGates"]).map(|gate| text(&gate["name"])).collect();
    if !gates.is_empty() {
        return vec![
            Reason::new(format!("scheduling gates hold it back: {}", listed(&gates)))
                .hint("whoever set them removes them when the pod may be scheduled"),
        ];
    }
    let mut reasons = claims(facts);
    // Before those are there the scheduler does not look at it.
    let mut awaited = resource_claim::of_pod(&facts.resource_claims);
    awaited.extend(facts.gang.as_ref().and_then(pod_group::of_pod));
    let mut waits = !awaited.is_empty();
    reasons.extend(awaited);
    let scheduled = condition(pod, "PodScheduled").filter(|condition| condition["status"] == "False");
    let said = scheduled.map(|condition| text(&condition["message"])).filter(|message| !message.is_empty());
    let said = said.or_else(|| newest(&facts.events, &["FailedScheduling"]).map(|event| text(&event["message"])));
    let searched = device_search::reason(facts, said);
    waits |= searched.is_some();
    reasons.extend(searched);
    match said {
        Some(message) => {
            let (facts, ignored) = as_scheduled(facts);
            let explanation = scheduling::explanation(&facts);
            let (lines, remedy) = nodes(&facts, explanation.as_ref());
            reasons.extend(ignored);
            let reason = Reason::new(format!("the scheduler: {message}")).details(lines);
            reasons.push(match remedy {
                Some(remedy) => reason.hint(remedy),
                None => reason,
            });
            reasons.extend(explanation.as_ref().and_then(scheduling::plugins));
        }
        None if facts.nodes.is_empty() => reasons.push(Reason::new("the cluster has no nodes").hint("troupe up makes this machine one")),
        None if waits => {}
        None => reasons.push(nobody(pod)),
    }
    reasons
}

/// The pod as its scheduler sees it: tolerations that compare numbers (KEP-5471) count only where the feature is on there. It is off where
/// nobody can be asked.
fn as_scheduled(facts: &Facts) -> (Cow<'_, Facts>, Option<Reason>) {
    let compares = |toleration: &Value| ["Lt", "Gt"].contains(&text(&toleration["operator"]));
    let has_some = items(&facts.pod["spec"]["tolerations"]).any(compares);
    if !has_some || facts.scheduler["comparesTolerations"] == true {
        return (Cow::Borrowed(facts), None);
    }
    let mut seen = facts.clone();
    if let Some(tolerations) = seen.pod["spec"]["tolerations"].as_array_mut() {
        tolerations.retain(|toleration| !compares(toleration));
    }
    let ignored = "its tolerations with the operators Lt and Gt count for nothing: TaintTolerationComparisonOperators is off in the scheduler";
    let remedy = "switch that feature gate on in API server, controllers, scheduler and kubelets, or tolerate with Equal or Exists";
    (Cow::Owned(seen), Some(Reason::new(ignored).hint(remedy)))
}

fn nobody(pod: &Value) -> Reason {
    match text(&pod["spec"]["schedulerName"]) {
        "" | "default-scheduler" => Reason::new("the scheduler has not decided on it yet"),
        other => Reason::new(format!("it waits for the scheduler {other}")).hint("if nothing of that name runs, remove spec.schedulerName"),
    }
}

/// Claims that are missing or not bound.
pub fn claims(facts: &Facts) -> Vec<Reason> {
    let told = facts.claims.iter().filter_map(|(name, claim)| {
        if claim.is_null() {
            return Some(Reason::new(format!("its claim {name} does not exist")).hint("create the PersistentVolumeClaim"));
        }
        let phase = text(&claim["status"]["phase"]);
        (phase != "Bound").then(|| {
            let class = text(&claim["spec"]["storageClassName"]);
            let hint = match class {
                "" => "no storage class: it takes a PersistentVolume of fitting size and access mode".to_owned(),
                class => format!("storage class {class}: is its provisioner there? kubectl describe pvc {name} tells more"),
            };
            Reason::new(format!("its claim {name} is {}", if phase.is_empty() { "not bound" } else { phase })).hint(hint)
        })
    });
    told.collect()
}

/// What of each node keeps the pod away, also by the word of the scheduler's plugins, and what would let it on the one that lacks least.
fn nodes(facts: &Facts, explanation: Option<&Explanation>) -> (Vec<String>, Option<String>) {
    let judged = facts.nodes.iter().map(|node| {
        let name = text(&node["metadata"]["name"]);
        let tenants: Vec<&Value> = facts.tenants.iter().filter(|pod| text(&pod["spec"]["nodeName"]) == name).collect();
        let mut against = obstacles(node, &facts.pod, &tenants);
        against.extend(explanation.map(|explanation| scheduling::further(explanation, name, &against)).unwrap_or_default());
        (name, against)
    });
    let mut judged: Vec<_> = judged.collect();
    // First where other pods are in its way, or it lacks room: there less has to change than where the pod itself does not want to go.
    let is_out = |name: &str| explanation.is_some_and(|explanation| scheduling::is_out(explanation, name));
    judged.sort_by_key(|(name, against)| (is_out(name), against.len()));
    let lines = judged.iter().take(SHOWN).map(|(name, against)| {
        let against: Vec<&str> = against.iter().map(|obstacle| obstacle.what.as_str()).collect();
        if against.is_empty() { format!("node {name}: nothing obvious against it") } else { format!("node {name}: {}", against.join(", ")) }
    });
    let mut lines: Vec<String> = lines.collect();
    if judged.len() > SHOWN {
        lines.push(format!("… and {} more nodes", judged.len() - SHOWN));
    }
    let nearest = judged.iter().find(|(_, against)| !against.is_empty());
    let remedy = nearest.map(|(name, against)| {
        let all: Vec<&str> = against.iter().map(|obstacle| obstacle.remedy.as_str()).collect();
        format!("it would fit on node {name} if {}", all.join("; and "))
    });
    (lines, remedy)
}
