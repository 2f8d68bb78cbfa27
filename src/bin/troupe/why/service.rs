//! Why nothing answers behind a Service. Pure.

use serde_json::Value;

use super::{
    report::{Reason, Report},
    tree::{is_true, items, listed, newest, text},
};

/// A Service with what stands behind it.
#[derive(Clone, Debug, Default)]
pub struct ServiceFacts {
    pub service: Value,
    /// All pods of its namespace.
    pub pods: Vec<Value>,
    pub slices: Vec<Value>,
    /// Events about it.
    pub events: Vec<Value>,
}

/// Explains a Service.
pub fn explain(facts: &ServiceFacts) -> Report {
    let (meta, spec) = (&facts.service["metadata"], &facts.service["spec"]);
    let object = format!("service {}/{}", text(&meta["namespace"]), text(&meta["name"]));
    if spec["type"] == "ExternalName" {
        let state = format!("an alias of {}: there is nothing to balance", text(&spec["externalName"]));
        return Report { object, state, ..Report::default() };
    }
    let all: Vec<&Value> = facts.slices.iter().flat_map(|slice| items(&slice["endpoints"])).collect();
    let ready = all.iter().filter(|endpoint| endpoint["conditions"]["ready"] != false).count();
    let mut reasons = Vec::new();
    if ready == 0 || ready < all.len() {
        reasons.extend(behind(facts));
    }
    reasons.extend(ports(facts));
    reasons.extend(left_out(facts));
    if spec["type"] == "LoadBalancer" && items(&facts.service["status"]["loadBalancer"]["ingress"]).next().is_none() {
        reasons.push(without_address(facts));
    }
    let state = format!("{ready} of {} endpoints ready{}", all.len(), if reasons.is_empty() { ": nothing is wrong" } else { "" });
    Report { object, state, reasons, ..Report::default() }
}

/// Why it waits for the address of a load balancer: whoever gives them says it in an event, ours and cloud providers' alike.
fn without_address(facts: &ServiceFacts) -> Reason {
    const ERROR: &str = "Error syncing load balancer: failed to ensure load balancer: ";
    let lacks = "it has no address of a load balancer";
    let Some(event) = newest(&facts.events, &["SyncLoadBalancerFailed"]) else {
        return Reason::new(lacks).hint("something outside has to give it one; its node ports work meanwhile");
    };
    let message = text(&event["message"]);
    let by = [&event["source"]["component"], &event["reportingComponent"]].into_iter().map(text).find(|name| !name.is_empty());
    let reason = Reason::new(format!("{lacks}; {} says", by.unwrap_or("somebody"))).quotes(message.strip_prefix(ERROR).unwrap_or(message));
    reason.hint("its node ports work meanwhile")
}

/// What is wrong with the pods that it selects.
fn behind(facts: &ServiceFacts) -> Option<Reason> {
    let spec = &facts.service["spec"];
    let Some(selector) = spec["selector"].as_object().filter(|selector| !selector.is_empty()) else {
        return Some(Reason::new("it has no selector: somebody has to write its EndpointSlices"));
    };
    let wanted: Vec<String> = selector.iter().map(|(key, value)| format!("{key}={}", text(value))).collect();
    let matches = |pod: &&Value| selector.iter().all(|(key, value)| pod["metadata"]["labels"][key] == *value);
    let chosen: Vec<&Value> = facts.pods.iter().filter(matches).collect();
    if chosen.is_empty() {
        let near = nearly(facts, selector);
        let reason = Reason::new(format!("no pod has the labels {}", wanted.join(","))).details(near);
        return Some(reason.hint("compare the selector with the labels in the pods' template; kubectl get pods --show-labels"));
    }
    let unwell: Vec<&str> = chosen.iter().filter(|pod| !is_true(pod, "Ready")).map(|pod| text(&pod["metadata"]["name"])).collect();
    if unwell.is_empty() {
        return Some(Reason::new("its pods are Ready: the endpoints follow in a moment"));
    }
    let first = unwell[0];
    let shown = listed(&unwell[..unwell.len().min(5)]);
    let hint = format!("troupe why pod/{first} -n {} tells what is wrong with it", text(&facts.service["metadata"]["namespace"]));
    Some(Reason::new(format!("{} of its {} pods are not Ready: {shown}", unwell.len(), chosen.len())).hint(hint))
}

/// Pods that have some of the labels: most often one value is misspelt.
fn nearly(facts: &ServiceFacts, selector: &serde_json::Map<String, Value>) -> Vec<String> {
    let near = facts.pods.iter().filter_map(|pod| {
        let odd: Vec<String> = selector
            .iter()
            .filter(|(key, value)| pod["metadata"]["labels"][*key] != **value)
            .map(|(key, _)| match pod["metadata"]["labels"][key].as_str() {
                Some(has) => format!("{key}={has}"),
                None => format!("no {key}"),
            })
            .collect();
        let differs = odd.len() < selector.len() || odd.iter().any(|odd| !odd.starts_with("no "));
        differs.then(|| format!("pod {} has {}", text(&pod["metadata"]["name"]), odd.join(", ")))
    });
    near.take(3).collect()
}

/// What a node's proxy said last when it made no rules for it.
fn left_out(facts: &ServiceFacts) -> Option<Reason> {
    let event = newest(&facts.events, &["TooManyRules", "ReconcileQuarantined"])?;
    let by = match text(&event["source"]["host"]) {
        "" => "a node".to_owned(),
        node => format!("node {node}"),
    };
    let hint = "said until it is changed; kubectl get events shows when, and whether other nodes say it too";
    Some(Reason::new(format!("{by} says {}: {}", text(&event["reason"]), text(&event["message"]))).hint(hint))
}

/// Target ports by name that no container has.
fn ports(facts: &ServiceFacts) -> Vec<Reason> {
    let spec = &facts.service["spec"];
    let selector = spec["selector"].as_object();
    let matches = |pod: &&Value| selector.is_some_and(|wanted| wanted.iter().all(|(key, value)| pod["metadata"]["labels"][key] == *value));
    let chosen: Vec<&Value> = facts.pods.iter().filter(matches).collect();
    let named = items(&spec["ports"]).filter_map(|port| port["targetPort"].as_str());
    let has =
        |pod: &Value, name: &str| items(&pod["spec"]["containers"]).flat_map(|container| items(&container["ports"])).any(|port| port["name"] == name);
    let missing = named.filter(|name| !chosen.is_empty() && !chosen.iter().any(|pod| has(pod, name)));
    missing
        .map(|name| {
            Reason::new(format!("no container of its pods has a port named {name}"))
                .hint("name the port in the pods' template, or give targetPort a number")
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn service(spec: Value) -> ServiceFacts {
        ServiceFacts { service: json!({"metadata": {"namespace": "d", "name": "web"}, "spec": spec}), ..ServiceFacts::default() }
    }

    fn pod(name: &str, labels: Value, ready: &str) -> Value {
        json!({"metadata": {"name": name, "labels": labels}, "spec": {"containers": [{"ports": [{"name": "http", "containerPort": 80}]}]},
            "status": {"conditions": [{"type": "Ready", "status": ready}]}})
    }

    #[test]
    fn a_selector_that_matches_nothing_is_compared_with_the_pods_there_are() {
        let mut facts = service(json!({"selector": {"app": "web", "tier": "front"}, "ports": [{"port": 80}]}));
        facts.pods = vec![pod("web-1", json!({"app": "wep", "tier": "front"}), "True"), pod("db", json!({"role": "db"}), "True")];
        let report = explain(&facts);
        assert_eq!(report.state, "0 of 0 endpoints ready");
        let text = report.text();
        assert!(text.contains("no pod has the labels app=web,tier=front") && text.contains("pod web-1 has app=wep"), "{text}");
        assert!(!text.contains("pod db"), "{text}");
    }

    #[test]
    fn a_load_balancer_without_an_address_says_what_stands_in_the_way() {
        let mut facts = service(json!({"type": "LoadBalancer", "selector": {"app": "web"}, "ports": [{"port": 80}]}));
        facts.slices = vec![json!({"endpoints": [{"conditions": {"ready": true}}]})];
        let outside = explain(&facts).text();
        assert!(outside.contains("something outside has to give it one"), "{outside}");
        let failed = |why: &str, at: &str| {
            let message = format!("Error syncing load balancer: failed to ensure load balancer: {why}");
            json!({"reason": "SyncLoadBalancerFailed", "message": message, "lastTimestamp": at, "source": {"component": "service-controller"}})
        };
        facts.events = vec![
            failed("the requested address 203.0.113.8 is the Service lb's", "2026-01-01T00:00:00Z"),
            failed("the requested address 203.0.113.9 is not in the pool 192.0.2.0/28", "2026-01-01T00:01:00Z"),
        ];
        let told = explain(&facts).text();
        assert!(told.contains("it has no address of a load balancer; service-controller says"), "{told}");
        assert!(told.contains("| the requested address 203.0.113.9 is not in the pool 192.0.2.0/28"), "{told}");
        assert!(!told.contains("something outside") && !told.contains("203.0.113.8"), "{told}");
    }

    #[test]
    fn a_service_that_a_node_left_out_says_so() {
        let mut facts = service(json!({"selector": {"app": "web"}, "ports": [{"port": 80}]}));
        facts.slices = vec![json!({"endpoints": [{"conditions": {"ready": true}}]})];
        assert!(explain(&facts).state.ends_with("nothing is wrong"));
        facts.events = vec![json!({"reason": "TooManyRules", "message": "Not served on this node", "source": {"host": "n1"}})];
        let text = explain(&facts).text();
        assert!(text.contains("node n1 says TooManyRules: Not served on this node"), "{text}");
    }

    #[test]
    fn pods_that_are_not_ready_and_ports_without_a_name_are_told() {
        let mut facts = service(json!({"selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": "metrics"}]}));
        facts.pods = vec![pod("web-1", json!({"app": "web"}), "False")];
        facts.slices = vec![json!({"endpoints": [{"conditions": {"ready": false}}]})];
        let text = explain(&facts).text();
        for wanted in ["0 of 1 endpoints ready", "1 of its 1 pods are not Ready: web-1", "troupe why pod/web-1 -n d", "port named metrics"] {
            assert!(text.contains(wanted), "{wanted} is missing in:\n{text}");
        }
        facts = service(json!({"selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": "http"}]}));
        facts.pods = vec![pod("web-1", json!({"app": "web"}), "True")];
        facts.slices = vec![json!({"endpoints": [{"conditions": {"ready": true}}]})];
        assert_eq!(explain(&facts).state, "1 of 1 endpoints ready: nothing is wrong");
    }
}
