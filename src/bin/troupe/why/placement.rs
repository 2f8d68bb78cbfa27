//! Why a pod has no node. Pure.

use serde_json::Value;
use troupe_api::meta::quantity::Quantity;

use super::{
    pod::Facts,
    report::Reason,
    tree::{condition, is_true, items, listed, newest, text},
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
    let scheduled = condition(pod, "PodScheduled").filter(|condition| condition["status"] == "False");
    let said = scheduled.map(|condition| text(&condition["message"])).filter(|message| !message.is_empty());
    let said = said.or_else(|| newest(&facts.events, &["FailedScheduling"]).map(|event| text(&event["message"])));
    match said {
        Some(message) => {
            reasons.push(Reason::new(format!("the scheduler: {message}")).details(facts.nodes.iter().take(SHOWN).map(|node| about(node, pod))))
        }
        None if facts.nodes.is_empty() => reasons.push(Reason::new("the cluster has no nodes").hint("troupe up makes this machine one")),
        None => reasons.push(nobody(pod)),
    }
    reasons
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

/// What of a node may keep the pod away, in one line.
fn about(node: &Value, pod: &Value) -> String {
    let name = text(&node["metadata"]["name"]);
    let mut against = Vec::new();
    if !is_true(node, "Ready") {
        against.push("not Ready".to_owned());
    }
    if node["spec"]["unschedulable"] == true {
        against.push("cordoned".to_owned());
    }
    for taint in items(&node["spec"]["taints"]).filter(|taint| taint["effect"] != "PreferNoSchedule" && !tolerates(pod, taint)) {
        against.push(format!("taint {}:{}", text(&taint["key"]), text(&taint["effect"])));
    }
    for (key, value) in pod["spec"]["nodeSelector"].as_object().into_iter().flatten() {
        if node["metadata"]["labels"][key] != *value {
            against.push(format!("no label {key}={}", text(value)));
        }
    }
    against.extend(short(node, pod));
    if against.is_empty() { format!("node {name}: nothing obvious against it") } else { format!("node {name}: {}", against.join(", ")) }
}

fn tolerates(pod: &Value, taint: &Value) -> bool {
    items(&pod["spec"]["tolerations"]).any(|toleration| {
        let key = text(&toleration["key"]);
        let effect = text(&toleration["effect"]);
        let value = toleration["operator"] == "Exists" || text(&toleration["value"]) == text(&taint["value"]);
        (key.is_empty() || key == text(&taint["key"])) && (effect.is_empty() || effect == text(&taint["effect"])) && value
    })
}

/// Resources of which the pod asks more than the whole node has to give.
fn short(node: &Value, pod: &Value) -> Vec<String> {
    let requested = |name: &str| -> f64 {
        let amounts = items(&pod["spec"]["containers"]).map(|container| text(&container["resources"]["requests"][name]));
        amounts.filter_map(|amount| Quantity::parse(amount).ok()).map(|amount| amount.as_f64()).sum()
    };
    let lacking = ["cpu", "memory", "ephemeral-storage"].into_iter().filter(|name| {
        let given = Quantity::parse(text(&node["status"]["allocatable"][*name])).map_or(f64::INFINITY, |amount| amount.as_f64());
        requested(name) > given
    });
    lacking.map(|name| format!("has only {} {name} in all", text(&node["status"]["allocatable"][name]))).collect()
}
