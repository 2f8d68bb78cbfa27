//! `LimitRanger`: containers get their namespace's default requests and limits; pods and claims stay within its bounds.

use async_trait::async_trait;
use serde_json::{Value, json};
use troupe_api::{
    meta::{GroupResource, Object, Quantity, amounts::Amounts},
    quota::pod_resources::{self, FOR_LIMIT_RANGES},
    resources::tree::{at, text},
    status::{Status, aggregate},
};

use super::{Attributes, MutatingPlugin, Operation, Plugin, ValidatingPlugin};

const ANNOTATION: &str = "kubernetes.io/limit-ranger";

/// The plugin.
#[derive(Clone, Copy, Debug, Default)]
pub struct LimitRanger;

impl Plugin for LimitRanger {
    fn name(&self) -> &'static str {
        "LimitRanger"
    }

    fn operations(&self) -> &'static [Operation] {
        super::plugin::WRITES
    }
}

#[async_trait]
impl MutatingPlugin for LimitRanger {
    async fn admit(&self, request: &mut Attributes<'_>) -> Result<(), Status> {
        if !is_of_interest(request) || &*request.target.resource.plural != "pods" {
            return Ok(());
        }
        let ranges = ranges(request)?;
        if let Some(pod) = request.object_mut() {
            for range in &ranges {
                set_defaults(pod, range);
            }
        }
        Ok(())
    }
}

#[async_trait]
impl ValidatingPlugin for LimitRanger {
    async fn validate(&self, request: &Attributes<'_>) -> Result<(), Status> {
        let Some(object) = request.object().filter(|_| is_of_interest(request)) else { return Ok(()) };
        for range in ranges(request)? {
            let errors = match &*request.target.resource.plural {
                "pods" => check_pod(&range, object),
                _ => check_claim(&range, object),
            };
            if !errors.is_empty() {
                return Err(request.forbidden(aggregate(&errors)));
            }
        }
        Ok(())
    }
}

/// New pods, resized pods, and claims; what is being deleted is left in peace.
fn is_of_interest(request: &Attributes<'_>) -> bool {
    let pod = *request.target.resource.group == *"" && *request.target.resource.plural == *"pods";
    let concerned = match request.operation {
        Operation::Create => request.is_main("", "pods") || request.is_main("", "persistentvolumeclaims"),
        Operation::Update => pod && &*request.target.subresource == "resize" || request.is_main("", "persistentvolumeclaims"),
        _ => false,
    };
    concerned && !request.old.is_some_and(Object::is_terminating)
}

fn ranges(request: &Attributes<'_>) -> Result<Vec<Object>, Status> {
    let (listers, resource) = (request.reads.listers(), GroupResource::new("", "limitranges"));
    listers.require(&resource)?;
    Ok(listers.list(&resource, &request.target.namespace).iter().map(|range| range.to_object()).collect())
}

fn limits(range: &Object) -> &[Value] {
    range.list(&["spec", "limits"])
}

/// Fills in what containers don't say, and notes on the pod what that was.
fn set_defaults(pod: &mut Object, range: &Object) {
    let (mut requests, mut maxima) = (Amounts::default(), Amounts::default());
    for limit in limits(range).iter().filter(|limit| text(limit, &["type"]) == "Container") {
        for (target, field) in [(&mut requests, "defaultRequest"), (&mut maxima, "default")] {
            for (name, amount) in Amounts::read(limit.get(field)).iter() {
                target.set(name, amount);
            }
        }
    }
    let mut notes = Vec::new();
    for (field, what) in [("containers", "container"), ("initContainers", "init container")] {
        let mut containers = pod.list(&["spec", field]).to_vec();
        for container in &mut containers {
            let name = text(container, &["name"]).to_owned();
            let missing_limits = fill(container, "limits", &maxima);
            let missing_requests = fill(container, "requests", &requests);
            for (names, kind) in [(missing_requests, "request"), (missing_limits, "limit")] {
                if !names.is_empty() {
                    notes.push(format!("{} {kind} for {what} {name}", names.join(", ")));
                }
            }
        }
        if !containers.is_empty() {
            pod.set(&["spec", field], containers);
        }
    }
    if !notes.is_empty() {
        pod.set(&["metadata", "annotations", ANNOTATION], format!("LimitRanger plugin set: {}", notes.join("; ")));
    }
}

/// Sets the amounts that a container lacks; returns their names.
fn fill(container: &mut Value, side: &str, defaults: &Amounts) -> Vec<String> {
    let known = Amounts::read(Some(at(container, &["resources", side])));
    let missing: Vec<(&str, Quantity)> = defaults.iter().filter(|(name, _)| known.get(name).is_none()).collect();
    for (name, amount) in &missing {
        container["resources"][side][*name] = json!(amount.to_string());
    }
    missing.into_iter().map(|(name, _)| name.to_owned()).collect()
}

fn check_pod(range: &Object, pod: &Object) -> Vec<String> {
    let mut errors = Vec::new();
    for limit in limits(range) {
        match text(limit, &["type"]) {
            "Container" => {
                for container in ["containers", "initContainers"].into_iter().flat_map(|field| pod.list(&["spec", field])) {
                    let side = |side: &str| Amounts::read(Some(at(container, &["resources", side])));
                    check(limit, "Container", &side("requests"), &side("limits"), &mut errors);
                }
            }
            "Pod" => {
                let (requests, limits) = (pod_resources::requests(pod, FOR_LIMIT_RANGES), pod_resources::limits(pod, FOR_LIMIT_RANGES));
                check(limit, "Pod", &requests, &limits, &mut errors);
            }
            _ => {}
        }
    }
    errors
}

fn check_claim(range: &Object, claim: &Object) -> Vec<String> {
    const KIND: &str = "PersistentVolumeClaim";
    let requests = Amounts::read(claim.get(&["spec", "resources", "requests"]));
    let mut errors = Vec::new();
    for limit in limits(range).iter().filter(|limit| text(limit, &["type"]) == KIND) {
        for (name, least) in Amounts::read(limit.get("min")).iter() {
            errors.extend(below(KIND, name, least, &requests, &Amounts::default()));
        }
        for (name, most) in Amounts::read(limit.get("max")).iter() {
            let what = format!("maximum {name} usage per {KIND} is {most}");
            match requests.get(name) {
                None => errors.push(format!("{what}.  No request is specified")),
                Some(request) if request > most => errors.push(format!("{what}, but request is {request}")),
                Some(_) => {}
            }
        }
    }
    errors
}

fn check(limit: &Value, kind: &str, requests: &Amounts, limits: &Amounts, errors: &mut Vec<String>) {
    for (name, least) in Amounts::read(limit.get("min")).iter() {
        errors.extend(below(kind, name, least, requests, limits));
    }
    for (name, most) in Amounts::read(limit.get("max")).iter() {
        errors.extend(above(kind, name, most, requests, limits));
    }
    for (name, most) in Amounts::read(limit.get("maxLimitRequestRatio")).iter() {
        errors.extend(ratio(kind, name, most, requests, limits));
    }
}

fn below(kind: &str, name: &str, least: Quantity, requests: &Amounts, limits: &Amounts) -> Option<String> {
    let what = format!("minimum {name} usage per {kind} is {least}");
    match (requests.get(name), limits.get(name)) {
        (None, _) => Some(format!("{what}.  No request is specified")),
        (Some(request), _) if request < least => Some(format!("{what}, but request is {request}")),
        (_, Some(limit)) if limit < least => Some(format!("{what}, but limit is {limit}")),
        _ => None,
    }
}

fn above(kind: &str, name: &str, most: Quantity, requests: &Amounts, limits: &Amounts) -> Option<String> {
    let what = format!("maximum {name} usage per {kind} is {most}");
    match (requests.get(name), limits.get(name)) {
        (_, None) => Some(format!("{what}.  No limit is specified")),
        (_, Some(limit)) if limit > most => Some(format!("{what}, but limit is {limit}")),
        (Some(request), _) if request > most => Some(format!("{what}, but request is {request}")),
        _ => None,
    }
}

fn ratio(kind: &str, name: &str, most: Quantity, requests: &Amounts, limits: &Amounts) -> Option<String> {
    let what = format!("{name} max limit to request ratio per {kind} is {most}");
    let set = |amounts: &Amounts| amounts.get(name).filter(|amount| !amount.is_zero());
    let Some(request) = set(requests) else { return Some(format!("{what}, but no request is specified or request is 0")) };
    let Some(limit) = set(limits) else { return Some(format!("{what}, but no limit is specified or limit is 0")) };
    let found = limit.as_f64() / request.as_f64();
    (found > most.as_f64()).then(|| format!("{what}, but provided ratio is {found:.6}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(limits: Value) -> Object {
        Object::from_value(json!({"spec": {"limits": [limits]}})).expect("an object")
    }

    fn pod(resources: Value) -> Object {
        Object::from_value(json!({"spec": {"containers": [{"name": "c", "resources": resources}]}})).expect("an object")
    }

    #[test]
    fn containers_get_what_they_do_not_say_and_the_pod_tells() {
        let mut pod = pod(json!({"requests": {"cpu": "10m"}}));
        let range =
            range(json!({"type": "Container", "default": {"cpu": "1", "memory": "1Gi"}, "defaultRequest": {"cpu": "100m", "memory": "64Mi"}}));
        set_defaults(&mut pod, &range);
        let resources = &pod.list(&["spec", "containers"])[0]["resources"];
        assert_eq!(resources, &json!({"requests": {"cpu": "10m", "memory": "64Mi"}, "limits": {"cpu": "1", "memory": "1Gi"}}));
        assert_eq!(pod.annotation(ANNOTATION), Some("LimitRanger plugin set: memory request for container c; cpu, memory limit for container c"));
    }

    #[test]
    fn bounds_are_enforced_in_upstreams_words() {
        let cases = [
            (json!({"min": {"cpu": "100m"}}), json!({}), "minimum cpu usage per Container is 100m.  No request is specified"),
            (json!({"min": {"cpu": "100m"}}), json!({"requests": {"cpu": "50m"}}), "minimum cpu usage per Container is 100m, but request is 50m"),
            (json!({"max": {"cpu": "1"}}), json!({"requests": {"cpu": "50m"}}), "maximum cpu usage per Container is 1.  No limit is specified"),
            (json!({"max": {"cpu": "1"}}), json!({"limits": {"cpu": "2"}}), "maximum cpu usage per Container is 1, but limit is 2"),
            (
                json!({"maxLimitRequestRatio": {"cpu": "2"}}),
                json!({"requests": {"cpu": "1"}, "limits": {"cpu": "3"}}),
                "cpu max limit to request ratio per Container is 2, but provided ratio is 3.000000",
            ),
        ];
        for (mut limits, resources, want) in cases {
            limits["type"] = json!("Container");
            assert_eq!(check_pod(&range(limits), &pod(resources)), [want]);
        }
    }

    #[test]
    fn several_errors_are_listed_in_brackets() {
        let limits = json!({"type": "Pod", "min": {"cpu": "100m"}, "max": {"cpu": "1"}});
        let errors = check_pod(&range(limits), &pod(json!({})));
        assert_eq!(
            aggregate(&errors),
            "[minimum cpu usage per Pod is 100m.  No request is specified, maximum cpu usage per Pod is 1.  No limit is specified]"
        );
    }

    #[test]
    fn claims_stay_within_their_bounds() {
        let limits = range(json!({"type": "PersistentVolumeClaim", "min": {"storage": "1Gi"}, "max": {"storage": "2Gi"}}));
        let claim = |storage: &str| Object::from_value(json!({"spec": {"resources": {"requests": {"storage": storage}}}})).expect("an object");
        assert_eq!(check_claim(&limits, &claim("3Gi")), ["maximum storage usage per PersistentVolumeClaim is 2Gi, but request is 3Gi"]);
        assert_eq!(check_claim(&limits, &claim("1Mi")), ["minimum storage usage per PersistentVolumeClaim is 1Gi, but request is 1Mi"]);
        assert_eq!(check_claim(&limits, &claim("1Gi")), Vec::<String>::new());
    }
}
