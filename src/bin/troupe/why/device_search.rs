//! What the scheduler tells of the search for a pod's devices: that it waits for its turn, goes on aside, or took too long, and which selector
//! takes the time. Pure.

use super::{
    pod::Facts,
    report::Reason,
    resource_claim::PodClaim,
    tree::{items, listed, text},
};

/// What helps where a selector takes long.
const QUICKER: &str = "a selector is quick that compares few attributes and loops over no lists within lists: kubectl get resourceclaim -o yaml \
    shows those of the claim, kubectl get deviceclass -o yaml those of its class";
/// What else makes a search long.
const FEWER: &str = "a search is short where few devices are asked for, with few constraints among them";
/// What the scheduler's message has where an expression costs more for one device than it may.
const OVER_LIMIT: &str = "actual cost limit exceeded";

/// What the scheduler's plugin says of the pod, and what `message`, the scheduler's last word about it, says of its selectors.
pub fn reason(facts: &Facts, message: Option<&str>) -> Option<Reason> {
    told(facts).or_else(|| over_limit(message?))
}

fn told(facts: &Facts) -> Option<Reason> {
    let pod = format!("{}/{}", text(&facts.pod["metadata"]["namespace"]), facts.name());
    let search = items(&facts.scheduler["plugins"]["DynamicResources"]).find(|search| text(&search["pod"]) == pod)?;
    let of_claims = match lacking(facts).as_slice() {
        [] => String::new(),
        claims => format!(" of {}", listed(claims)),
    };
    let reason = match text(&search["state"]) {
        "waiting" => Reason::new(format!("the search for devices{of_claims} waits for its turn"))
            .details(["searches that take long go on for two namespaces at once, and for one pod of each: others of its own go first"]),
        "searching" => Reason::new(format!("devices{of_claims} are being searched for aside, as that takes long")),
        _ => {
            let nodes = search["nodes"].as_u64().unwrap_or(1);
            Reason::new(format!("the search for devices{of_claims} took too long on {nodes} nodes"))
                .details(["it is made again when devices or claims change, or after five minutes"])
        }
    };
    Some(match text(&search["selector"]) {
        "" => reason.hint(FEWER),
        selector => reason.details([format!("most of the time goes to {selector}")]).hint(QUICKER),
    })
}

/// Names of claims without devices.
fn lacking(facts: &Facts) -> Vec<&str> {
    let found = facts.resource_claims.iter().filter_map(|claim| match claim {
        PodClaim::Found(found) if !found.claim["status"]["allocation"].is_object() => Some(text(&found.claim["metadata"]["name"])),
        _ => None,
    });
    found.collect()
}

fn over_limit(message: &str) -> Option<Reason> {
    message.contains(OVER_LIMIT).then(|| {
        Reason::new("a selector of its devices costs more for one device than a selector may (a million units), so nobody can tell what it selects")
            .hint(QUICKER)
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::why::resource_claim::DeviceClaim;

    fn facts(search: Value) -> Facts {
        let claim = |name: &str, status: Value| {
            let claim = json!({"metadata": {"namespace": "d", "name": name}, "status": status});
            PodClaim::Found(DeviceClaim { claim, ..DeviceClaim::default() })
        };
        Facts {
            pod: json!({"metadata": {"namespace": "d", "name": "web"}}),
            resource_claims: vec![claim("gpu", json!({})), claim("link", json!({"allocation": {}}))],
            scheduler: json!({"plugins": {"DynamicResources": [{"pod": "d/other", "state": "searching"}, search]}}),
            ..Facts::default()
        }
    }

    fn what(search: Value) -> Option<(String, Vec<String>, Option<String>)> {
        reason(&facts(search), None).map(|reason| (reason.what, reason.details, reason.hint))
    }

    #[test]
    fn a_pod_whose_devices_are_searched_for_learns_how_far_that_is_and_what_takes_long() {
        let selector = "claim d/gpu, request r, class gpu: selector #0";
        let (told, details, hint) = what(json!({"pod": "d/web", "state": "waiting", "selector": selector})).expect("it waits");
        assert_eq!(told, "the search for devices of gpu waits for its turn");
        assert_eq!(details.last().map(String::as_str), Some("most of the time goes to claim d/gpu, request r, class gpu: selector #0"));
        assert_eq!(hint.as_deref(), Some(QUICKER));
        let (told, _, hint) = what(json!({"pod": "d/web", "state": "timedOut", "nodes": 3, "selector": null})).expect("it took too long");
        assert_eq!((told.as_str(), hint.as_deref()), ("the search for devices of gpu took too long on 3 nodes", Some(FEWER)));
        assert_eq!(what(json!({"pod": "e/web", "state": "searching"})), None, "that is another pod");
    }

    #[test]
    fn a_selector_that_costs_more_than_it_may_is_told() {
        let none = facts(json!({"pod": "e/web"}));
        let message = "0/1 nodes are available: 1 claim d/gpu: selector #0: CEL runtime error: operation cancelled: actual cost limit exceeded.";
        let reason = |message: &str| reason(&none, Some(message)).map(|reason| reason.hint);
        assert_eq!(reason(message), Some(Some(QUICKER.to_owned())));
        assert_eq!(reason("0/1 nodes are available: 1 cannot allocate all claims."), None);
    }
}
