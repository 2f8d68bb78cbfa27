//! Why a ResourceClaim has no devices, and what of its claims keeps a pod waiting (KEP-4381). Pure.

use jiff::Timestamp;
use serde_json::Value;

use super::{
    generic,
    report::{Reason, Report},
    tree::{items, listed, text},
    warnings::warnings,
};

/// A claim with what its devices depend on.
#[derive(Clone, Debug, Default)]
pub struct DeviceClaim {
    pub claim: Value,
    pub events: Vec<Value>,
    /// Device classes that it asks for and that do not exist.
    pub missing_classes: Vec<String>,
    /// How many devices all nodes offer together.
    pub offered: usize,
    /// Names of the pods that name it and have not ended.
    pub users: Vec<String>,
    pub now: Timestamp,
}

/// A claim as a pod names it.
#[derive(Clone, Debug)]
pub enum PodClaim {
    /// There is none of that name.
    Missing {
        name: String,
    },
    /// It was not made from its template yet.
    Unmade {
        name: String,
        template: String,
        has_template: bool,
    },
    Found(DeviceClaim),
}

/// What of a pod's claims keeps it waiting.
pub fn of_pod(claims: &[PodClaim]) -> Vec<Reason> {
    claims.iter().filter_map(of_claim).collect()
}

fn of_claim(claim: &PodClaim) -> Option<Reason> {
    Some(match claim {
        PodClaim::Missing { name } => Reason::new(format!("its resource claim {name} does not exist")).hint("create the ResourceClaim"),
        PodClaim::Unmade { name, template, has_template: false } => {
            Reason::new(format!("its claim {name}: the ResourceClaimTemplate {template} does not exist")).hint("create the template")
        }
        PodClaim::Unmade { name, template, .. } => {
            Reason::new(format!("its claim {name} was not made from the template {template} yet")).hint("the resource claim controller makes it")
        }
        PodClaim::Found(found) => {
            let reason = waits(found, &format!("its resource claim {}", text(&found.claim["metadata"]["name"])))?;
            reason.details(warnings(&found.events, found.now).fresh.into_iter().map(|told| told.what))
        }
    })
}

/// Explains a ResourceClaim.
pub fn explain(facts: &DeviceClaim) -> Report {
    let meta = &facts.claim["metadata"];
    let object = format!("resourceclaim {}/{}", text(&meta["namespace"]), text(&meta["name"]));
    let deleted = meta["deletionTimestamp"].is_string();
    let allocated = allocated(&facts.claim);
    let users = reserved_for(&facts.claim);
    let state = match (deleted, allocated) {
        (true, _) => "Terminating".to_owned(),
        (false, None) => "no devices yet".to_owned(),
        (false, Some(devices)) => format!("allocated ({})", devices.join(", ")),
    };
    let state = if users.is_empty() { state } else { format!("{state}, reserved for {}", listed(&users)) };
    let mut reasons: Vec<Reason> =
        if deleted { generic::finalizers(&facts.claim).into_iter().collect() } else { waits(facts, "it").into_iter().collect() };
    let warned = warnings(&facts.events, facts.now);
    reasons.extend(warned.fresh);
    let state = if reasons.is_empty() && !deleted { format!("{state}: nothing is wrong") } else { state };
    Report { object, state, reasons, earlier: warned.earlier, ..Report::default() }
}

/// Devices that were allocated, as driver, pool and name; `None` as long as none were.
fn allocated(claim: &Value) -> Option<Vec<String>> {
    let allocation = &claim["status"]["allocation"];
    let results = items(&allocation["devices"]["results"]);
    let named = results.map(|device| format!("{}/{}/{}", text(&device["driver"]), text(&device["pool"]), text(&device["device"])));
    allocation.is_object().then(|| named.collect())
}

fn reserved_for(claim: &Value) -> Vec<&str> {
    items(&claim["status"]["reservedFor"]).map(|user| text(&user["name"])).collect()
}

/// What keeps a claim's users waiting, where `claim` is how it is called.
fn waits(facts: &DeviceClaim, claim: &str) -> Option<Reason> {
    if facts.claim["metadata"]["deletionTimestamp"].is_string() {
        return Some(Reason::new(format!("{claim} is being deleted")).hint("it goes when no pod uses it any more; then make a new one"));
    }
    if facts.claim["status"]["allocation"].is_object() {
        return unready(&facts.claim, claim);
    }
    let wanted: Vec<String> = items(&facts.claim["spec"]["devices"]["requests"]).map(request).collect();
    let reason = Reason::new(format!("{claim} has no devices yet; it asks for {}", wanted.join(", ")));
    let missing = facts.missing_classes.iter().map(|class| format!("device class {class} does not exist"));
    let reason = reason.details(missing);
    Some(if !facts.missing_classes.is_empty() {
        reason.hint("device classes come with the driver of the devices: kubectl get deviceclasses")
    } else if facts.users.is_empty() {
        reason.hint("devices are allocated when a pod that uses the claim gets a node")
    } else if facts.offered == 0 {
        reason.details(["no node offers any devices: there are no ResourceSlices"]).hint("a driver on the nodes publishes them; see its pods")
    } else {
        let offered = format!("nodes offer {} devices in all", facts.offered);
        reason.details([offered]).hint("kubectl get resourceslices -o yaml shows them: do any fit, and are they free?")
    })
}

/// Devices whose drivers say that they are not ready.
fn unready(claim: &Value, named: &str) -> Option<Reason> {
    let told = items(&claim["status"]["devices"]).flat_map(|device| {
        let bad = items(&device["conditions"]).filter(|condition| condition["type"] == "Ready" && condition["status"] != "True");
        bad.map(move |condition| format!("device {} of {}: {}", text(&device["device"]), text(&device["driver"]), text(&condition["message"])))
    });
    let told: Vec<String> = told.collect();
    (!told.is_empty()).then(|| Reason::new(format!("{named} has devices that are not ready")).details(told))
}

/// `gpu (2 of class a)`
fn request(request: &Value) -> String {
    let exact = &request["exactly"];
    let alternatives = items(&request["firstAvailable"]).map(amount).collect::<Vec<_>>().join(" or ");
    let wanted = if exact.is_object() { amount(exact) } else { alternatives };
    format!("{} ({wanted})", text(&request["name"]))
}

fn amount(request: &Value) -> String {
    let class = text(&request["deviceClassName"]);
    match text(&request["allocationMode"]) {
        "All" => format!("all of class {class}"),
        _ => format!("{} of class {class}", request["count"].as_i64().unwrap_or(1)),
    }
}

/// The device classes that a claim asks for.
pub fn classes(claim: &Value) -> Vec<&str> {
    let requests = items(&claim["spec"]["devices"]["requests"]);
    let all = requests.flat_map(|request| std::iter::once(&request["exactly"]).chain(items(&request["firstAvailable"])));
    let mut classes: Vec<&str> = all.map(|one| text(&one["deviceClassName"])).filter(|class| !class.is_empty()).collect();
    classes.sort_unstable();
    classes.dedup();
    classes
}

/// The claims of a pod: what it calls them, and the ResourceClaim's name, empty where it is still to be made from the template that follows.
/// Those that its status says it does not need are left out.
pub fn named_by(pod: &Value) -> Vec<(&str, &str, &str)> {
    let told = |name: &str| items(&pod["status"]["resourceClaimStatuses"]).find(|status| status["name"] == name);
    let claims = items(&pod["spec"]["resourceClaims"]).filter_map(|claim| {
        let (name, own, template) = (text(&claim["name"]), text(&claim["resourceClaimName"]), text(&claim["resourceClaimTemplateName"]));
        match told(name) {
            _ if !own.is_empty() => Some((name, own, "")),
            Some(status) => Some((name, text(&status["resourceClaimName"]), template)).filter(|(_, made, _)| !made.is_empty()),
            None => Some((name, "", template)),
        }
    });
    claims.collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn claim() -> DeviceClaim {
        let requests = json!([{"name": "gpu", "exactly": {"deviceClassName": "gpu.example.com", "count": 2}},
            {"name": "any", "firstAvailable": [{"name": "a", "deviceClassName": "big"}, {"name": "b", "deviceClassName": "small", "allocationMode": "All"}]}]);
        let claim = json!({"metadata": {"namespace": "d", "name": "c"}, "spec": {"devices": {"requests": requests}}});
        DeviceClaim { claim, users: vec!["web".into()], ..DeviceClaim::default() }
    }

    #[test]
    fn a_claim_without_devices_tells_what_it_asks_for_and_what_is_not_there() {
        let mut facts = claim();
        assert_eq!(classes(&facts.claim), ["big", "gpu.example.com", "small"]);
        let told = explain(&facts).text();
        assert!(told.starts_with("resourceclaim d/c: no devices yet\n"), "{told}");
        assert!(told.contains("it asks for gpu (2 of class gpu.example.com), any (1 of class big or all of class small)"), "{told}");
        assert!(told.contains("no node offers any devices"), "{told}");
        facts.offered = 8;
        assert!(explain(&facts).text().contains("nodes offer 8 devices in all"));
        facts.missing_classes = vec!["big".into()];
        assert!(explain(&facts).text().contains("device class big does not exist"));
        let reasons = of_pod(&[PodClaim::Found(facts.clone())]);
        assert!(reasons[0].what.starts_with("its resource claim c has no devices yet"), "{reasons:?}");
        facts.events = vec![json!({"type": "Warning", "reason": "FailedAllocation", "message": "no luck"})];
        assert!(of_pod(&[PodClaim::Found(facts.clone())])[0].details.contains(&"FailedAllocation: no luck".to_owned()));
        facts.missing_classes.clear();
        facts.users.clear();
        assert!(explain(&facts).text().contains("allocated when a pod that uses the claim gets a node"));
    }

    #[test]
    fn an_allocated_claim_is_well_unless_its_devices_are_not() {
        let mut facts = claim();
        facts.claim["status"] = json!({"allocation": {"devices": {"results": [{"driver": "gpu.example.com", "pool": "one", "device": "gpu-0"}]}},
            "reservedFor": [{"resource": "pods", "name": "web"}]});
        let wanted = "resourceclaim d/c: allocated (gpu.example.com/one/gpu-0), reserved for web: nothing is wrong\n";
        assert_eq!(explain(&facts).text(), wanted);
        assert!(of_pod(&[PodClaim::Found(facts.clone())]).is_empty());
        let conditions = json!([{"type": "Ready", "status": "False", "message": "no link"}]);
        facts.claim["status"]["devices"] = json!([{"driver": "gpu.example.com", "device": "gpu-0", "conditions": conditions}]);
        assert!(explain(&facts).text().contains("device gpu-0 of gpu.example.com: no link"));
        facts.claim["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
        facts.claim["metadata"]["finalizers"] = json!(["resource.kubernetes.io/delete-protection"]);
        assert!(explain(&facts).text().contains("finalizers hold it: resource.kubernetes.io/delete-protection"));
        assert!(of_pod(&[PodClaim::Found(facts)])[0].what.contains("is being deleted"));
    }

    #[test]
    fn claims_of_a_pod_are_its_own_or_made_from_templates() {
        let mut pod =
            json!({"spec": {"resourceClaims": [{"name": "a", "resourceClaimName": "mine"}, {"name": "b", "resourceClaimTemplateName": "t"}]}});
        assert_eq!(named_by(&pod), [("a", "mine", ""), ("b", "", "t")]);
        pod["status"]["resourceClaimStatuses"] = json!([{"name": "b", "resourceClaimName": "web-b-x"}]);
        assert_eq!(named_by(&pod), [("a", "mine", ""), ("b", "web-b-x", "t")]);
        pod["status"]["resourceClaimStatuses"] = json!([{"name": "b"}]);
        assert_eq!(named_by(&pod), [("a", "mine", "")]);
        let unmade = |has_template| PodClaim::Unmade { name: "b".into(), template: "t".into(), has_template };
        let told = of_pod(&[PodClaim::Missing { name: "mine".into() }, unmade(false), unmade(true)]);
        let told: Vec<&str> = told.iter().map(|reason| reason.what.as_str()).collect();
        let wanted = [
            "its resource claim mine does not exist",
            "its claim b: the ResourceClaimTemplate t does not exist",
            "its claim b was not made from the template t yet",
        ];
        assert_eq!(told, wanted);
    }
}
