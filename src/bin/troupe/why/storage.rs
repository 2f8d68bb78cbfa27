//! Why a claim is not bound. Pure.

use serde_json::Value;
use troupe_api::{local_path, meta::quantity::Quantity};

use super::{
    generic,
    report::{Reason, Report},
    tree::{items, listed, newest, text},
};

/// A claim with what it may be bound to.
#[derive(Clone, Debug, Default)]
pub struct ClaimFacts {
    pub claim: Value,
    pub events: Vec<Value>,
    pub volumes: Vec<Value>,
    /// Its storage class; null where there is none of that name.
    pub class: Value,
    /// Names of the pods that mount it.
    pub pods: Vec<String>,
}

/// Explains a PersistentVolumeClaim.
pub fn claim(facts: &ClaimFacts) -> Report {
    let (meta, spec) = (&facts.claim["metadata"], &facts.claim["spec"]);
    let object = format!("persistentvolumeclaim {}/{}", text(&meta["namespace"]), text(&meta["name"]));
    if meta["deletionTimestamp"].is_string() {
        return Report { object, state: "Terminating".into(), reasons: deleted(facts), ..Report::default() };
    }
    let phase = match text(&facts.claim["status"]["phase"]) {
        "" => "Pending",
        phase => phase,
    };
    match phase {
        "Bound" => {
            let state = format!("Bound to volume {}: nothing is wrong", text(&spec["volumeName"]));
            return Report { object, state, ..Report::default() };
        }
        "Lost" => {
            let reason = Reason::new(format!("its volume {} does not exist any more", text(&spec["volumeName"])));
            let reason = reason.hint("the data is gone: delete the claim and make a new one");
            return Report { object, state: "Lost".into(), reasons: vec![reason], ..Report::default() };
        }
        _ => {}
    }
    let mut reasons = vec![waiting(facts)];
    let trouble = newest(&facts.events, &["ProvisioningFailed", "VolumeMismatch", "FailedBinding"]);
    reasons.extend(trouble.map(|event| Reason::new(format!("{}: {}", text(&event["reason"]), text(&event["message"])))));
    Report { object, state: format!("{phase}, not bound"), reasons, ..Report::default() }
}

/// The protection finalizer stays as long as a pod uses the claim.
fn deleted(facts: &ClaimFacts) -> Vec<Reason> {
    let names: Vec<&str> = facts.pods.iter().map(String::as_str).collect();
    let finalizers: Vec<&str> = items(&facts.claim["metadata"]["finalizers"]).map(text).collect();
    if finalizers.contains(&"kubernetes.io/pvc-protection") && !names.is_empty() {
        return vec![Reason::new(format!("pods use it: {}", listed(&names))).hint("it goes when they are gone")];
    }
    generic::finalizers(&facts.claim).into_iter().collect()
}

fn waiting(facts: &ClaimFacts) -> Reason {
    let spec = &facts.claim["spec"];
    let class = text(&spec["storageClassName"]);
    if !text(&spec["volumeName"]).is_empty() {
        return by_name(facts, text(&spec["volumeName"]));
    }
    if class.is_empty() {
        return Reason::new("it has no storage class, so a volume that fits must be made by hand").details(volumes(facts));
    }
    if facts.class.is_null() {
        return Reason::new(format!("its storage class {class} does not exist"))
            .details(volumes(facts))
            .hint("kubectl get storageclasses shows which there are; the class of a claim cannot be changed, so make it anew");
    }
    let provisioner = text(&facts.class["provisioner"]);
    if facts.class["volumeBindingMode"] == "WaitForFirstConsumer" && facts.pods.is_empty() {
        return Reason::new(format!("its storage class {class} waits until a pod uses the claim")).hint("nothing is wrong: make the pod");
    }
    if provisioner == "kubernetes.io/no-provisioner" {
        return Reason::new(format!("nobody makes volumes for the storage class {class}: one that fits must be made by hand"))
            .details(volumes(facts));
    }
    let reason = Reason::new(format!("the provisioner {provisioner} of its storage class {class} has not made a volume")).details(volumes(facts));
    if provisioner != local_path::PROVISIONER {
        return reason.hint("a provisioner is a program of its own: does it run in this cluster, and what does it log?");
    }
    let selected = text(&facts.claim["metadata"]["annotations"]["volume.kubernetes.io/selected-node"]);
    match (selected, listed(&facts.pods.iter().map(String::as_str).collect::<Vec<_>>())) {
        ("", pods) => reason.hint(format!("no node has been chosen for the pods that use it: troupe why pod/NAME says why ({pods})")),
        (node, _) => reason.hint(format!("node {node} was chosen; the controllers make the volume, as long as one of them runs")),
    }
}

/// The claim names its volume.
fn by_name(facts: &ClaimFacts, name: &str) -> Reason {
    match facts.volumes.iter().find(|volume| text(&volume["metadata"]["name"]) == name) {
        None => Reason::new(format!("the volume {name} that it names does not exist")),
        Some(volume) => Reason::new(format!("the volume {name} that it names: {}", misfit(volume, &facts.claim).unwrap_or_else(|| "it fits".into()))),
    }
}

/// Why each volume will not do.
fn volumes(facts: &ClaimFacts) -> Vec<String> {
    if facts.volumes.is_empty() {
        return vec!["there are no volumes".into()];
    }
    let each = facts.volumes.iter().map(|volume| {
        let name = text(&volume["metadata"]["name"]);
        format!("volume {name}: {}", misfit(volume, &facts.claim).unwrap_or_else(|| "nothing obvious against it".into()))
    });
    each.take(10).collect()
}

fn misfit(volume: &Value, claim: &Value) -> Option<String> {
    let (has, wants) = (&volume["spec"], &claim["spec"]);
    let bound = &has["claimRef"];
    if bound.is_object() && (bound["name"] != claim["metadata"]["name"] || bound["namespace"] != claim["metadata"]["namespace"]) {
        return Some(format!("it belongs to claim {}/{}", text(&bound["namespace"]), text(&bound["name"])));
    }
    if text(&has["storageClassName"]) != text(&wants["storageClassName"]) {
        return Some(format!("its storage class is {:?}", text(&has["storageClassName"])));
    }
    let lacking: Vec<&str> = items(&wants["accessModes"]).filter(|mode| !items(&has["accessModes"]).any(|known| known == *mode)).map(text).collect();
    if !lacking.is_empty() {
        return Some(format!("it cannot be used {}", listed(&lacking)));
    }
    let amount = |value: &Value| value.as_str().and_then(|text| Quantity::parse(text).ok()).map_or(0.0, |amount| amount.as_f64());
    let (size, wanted) = (&has["capacity"]["storage"], &wants["resources"]["requests"]["storage"]);
    (amount(size) < amount(wanted)).then(|| format!("it has {}, the claim asks for {}", text(size), text(wanted)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn facts(spec: Value) -> ClaimFacts {
        let claim = json!({"metadata": {"namespace": "d", "name": "data"}, "spec": spec, "status": {"phase": "Pending"}});
        ClaimFacts { claim, ..ClaimFacts::default() }
    }

    #[test]
    fn each_volume_that_does_not_fit_is_told_why() {
        let mut facts = facts(json!({"storageClassName": "", "accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": "2Gi"}}}));
        let volume = |name: &str, spec: Value| json!({"metadata": {"name": name}, "spec": spec});
        facts.volumes = vec![
            volume("small", json!({"accessModes": ["ReadWriteMany"], "capacity": {"storage": "1Gi"}})),
            volume("once", json!({"accessModes": ["ReadWriteOnce"], "capacity": {"storage": "9Gi"}})),
            volume("taken", json!({"claimRef": {"namespace": "d", "name": "other"}})),
            volume("fast", json!({"storageClassName": "fast"})),
        ];
        let text = claim(&facts).text();
        for wanted in [
            "small: it has 1Gi, the claim asks for 2Gi",
            "once: it cannot be used ReadWriteMany",
            "taken: it belongs to claim d/other",
            "fast: its storage class is \"fast\"",
        ] {
            assert!(text.contains(wanted), "{wanted} is missing in:\n{text}");
        }
    }

    #[test]
    fn a_class_that_is_missing_or_waits_for_a_pod_is_named() {
        let mut facts = facts(json!({"storageClassName": "fast"}));
        assert!(claim(&facts).text().contains("its storage class fast does not exist"));
        facts.class = json!({"provisioner": "example.com/disk", "volumeBindingMode": "WaitForFirstConsumer"});
        assert!(claim(&facts).text().contains("waits until a pod uses the claim"));
        facts.pods = vec!["web".into()];
        assert!(claim(&facts).text().contains("the provisioner example.com/disk"));
        facts.class["provisioner"] = local_path::PROVISIONER.into();
        assert!(claim(&facts).text().contains("no node has been chosen for the pods that use it"));
        facts.claim["metadata"]["annotations"] = json!({"volume.kubernetes.io/selected-node": "one"});
        assert!(claim(&facts).text().contains("node one was chosen"));
        facts.claim["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
        facts.claim["metadata"]["finalizers"] = json!(["kubernetes.io/pvc-protection"]);
        assert!(claim(&facts).text().contains("pods use it: web"));
    }
}
