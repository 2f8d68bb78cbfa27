//! Why a Deployment is not complete, or a namespace not gone. Pure.

use serde_json::Value;

use super::{
    denials,
    report::{Reason, Report},
    tree::{condition, items, newest, text},
};

/// A Deployment, its newest ReplicaSet with events, and the explanations of its pods that are not well.
#[derive(Clone, Debug, Default)]
pub struct DeploymentFacts {
    pub deployment: Value,
    /// Null when there is none yet.
    pub replica_set: Value,
    pub events: Vec<Value>,
    pub pods: Vec<Report>,
}

/// Explains a Deployment.
pub fn deployment(facts: &DeploymentFacts) -> Report {
    let Value::Object(_) = &facts.deployment else { return Report::default() };
    let (meta, spec, status) = (&facts.deployment["metadata"], &facts.deployment["spec"], &facts.deployment["status"]);
    let count = |field: &str| status[field].as_i64().unwrap_or(0);
    let wanted = spec["replicas"].as_i64().unwrap_or(1);
    let state = format!("{} of {wanted} replicas up to date, {} available", count("updatedReplicas"), count("availableReplicas"));
    let mut reasons = Vec::new();
    if spec["paused"] == true {
        reasons.push(Reason::new("it is paused: changes of its template wait").hint("kubectl rollout resume"));
    }
    if count("observedGeneration") < meta["generation"].as_i64().unwrap_or(0) {
        reasons.push(Reason::new("the controller has not seen its newest version yet"));
    }
    let refused = condition(&facts.deployment, "ReplicaFailure").filter(|condition| condition["status"] == "True");
    let refused = refused.map(|condition| text(&condition["message"]).to_owned());
    let refused = refused.or_else(|| newest(&facts.events, &["FailedCreate"]).map(|event| text(&event["message"]).to_owned()));
    let complete = count("availableReplicas") >= wanted && count("updatedReplicas") >= wanted && count("replicas") == wanted;
    if let Some(message) = refused.filter(|_| !complete) {
        let hint = denials::hint(&message).unwrap_or_else(|| "the ReplicaSet controller tries again by itself".into());
        reasons.push(Reason::new(format!("its pods are refused: {message}")).hint(hint));
    }
    if let Some(stuck) = condition(&facts.deployment, "Progressing").filter(|condition| condition["reason"] == "ProgressDeadlineExceeded") {
        reasons.push(Reason::new(format!("the rollout is stuck: {}", text(&stuck["message"]))).hint("kubectl rollout undo takes it back"));
    }
    reasons.extend(facts.pods.iter().map(Report::as_reason));
    if reasons.is_empty() && !complete {
        reasons.push(Reason::new("the rollout goes on: nothing is in its way"));
    }
    let state = if reasons.is_empty() { format!("{state}: nothing is wrong") } else { state };
    Report { object: format!("deployment {}/{}", text(&meta["namespace"]), text(&meta["name"])), state, reasons, ..Report::default() }
}

/// A namespace, and what is still in it while it is being deleted.
#[derive(Clone, Debug, Default)]
pub struct NamespaceFacts {
    pub namespace: Value,
    /// Objects by the resource that the namespace's conditions name.
    pub remaining: Vec<(String, Vec<Value>)>,
}

/// Objects named of each resource.
const NAMED: usize = 5;

/// Explains a namespace.
pub fn namespace(facts: &NamespaceFacts) -> Report {
    let namespace = &facts.namespace;
    let object = format!("namespace {}", text(&namespace["metadata"]["name"]));
    if !namespace["metadata"]["deletionTimestamp"].is_string() {
        return Report { object, state: format!("{}: nothing is wrong", text(&namespace["status"]["phase"])), ..Report::default() };
    }
    let mut reasons: Vec<Reason> = items(&namespace["status"]["conditions"])
        .filter(|condition| condition["status"] == "True")
        .map(|condition| Reason::new(format!("{}: {}", text(&condition["type"]), text(&condition["message"]))))
        .collect();
    reasons.extend(facts.remaining.iter().filter(|(_, objects)| !objects.is_empty()).map(|(resource, objects)| left(resource, objects)));
    let finalizers = items(&namespace["metadata"]["finalizers"]).chain(items(&namespace["spec"]["finalizers"]).filter(|name| *name != "kubernetes"));
    let finalizers: Vec<&str> = finalizers.map(text).collect();
    if !finalizers.is_empty() {
        reasons.push(Reason::new(format!("finalizers hold it: {}", finalizers.join(", "))));
    }
    if reasons.is_empty() {
        reasons.push(Reason::new("its objects are being deleted"));
    }
    Report { object, state: "Terminating".into(), reasons, ..Report::default() }
}

/// What is left of one resource, and what holds each.
fn left(resource: &str, objects: &[Value]) -> Reason {
    let mut held = false;
    let each = objects.iter().take(NAMED).map(|object| {
        let name = text(&object["metadata"]["name"]);
        let finalizers: Vec<&str> = items(&object["metadata"]["finalizers"]).map(text).collect();
        held |= !finalizers.is_empty();
        if finalizers.is_empty() { name.to_owned() } else { format!("{name}, held by finalizers: {}", finalizers.join(", ")) }
    });
    let mut each: Vec<String> = each.collect();
    if objects.len() > NAMED {
        each.push(format!("… and {} more", objects.len() - NAMED));
    }
    let reason = Reason::new(format!("{} {resource} are left", objects.len())).details(each);
    if held {
        reason.hint("the controllers behind these finalizers take them off; if one is gone for good, take its finalizer off by kubectl patch")
    } else {
        reason
    }
}

/// The resources that a condition's message names: `pods. has 1 resource instances, deployments.apps has 2 resource instances`.
pub fn resources_in(message: &str) -> Vec<String> {
    let list = message.split_once(": ").map_or(message, |(_, list)| list);
    let names = list.split(", ").filter_map(|part| part.split_once(" has ").map(|(name, _)| name.trim_end_matches('.').to_owned()));
    names.filter(|name| !name.is_empty() && !name.contains(' ')).collect()
}
