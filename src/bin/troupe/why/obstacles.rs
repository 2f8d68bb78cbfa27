//! What of a node keeps a pod away, and what would have to change. Pure.

use std::collections::BTreeMap;

use serde_json::Value;
use troupe_api::meta::{decimal, quantity::Quantity};

use super::tree::{is_true, items, text};

/// One thing against a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Obstacle {
    pub what: String,
    /// What takes it away.
    pub remedy: String,
}

fn obstacle(what: impl Into<String>, remedy: impl Into<String>) -> Obstacle {
    Obstacle { what: what.into(), remedy: remedy.into() }
}

/// Everything that is against `node` for `pod`, where `tenants` are the pods that it has already.
pub fn obstacles(node: &Value, pod: &Value, tenants: &[&Value]) -> Vec<Obstacle> {
    let name = text(&node["metadata"]["name"]);
    let mut against = Vec::new();
    if !is_true(node, "Ready") {
        against.push(obstacle("not Ready", format!("node {name} is Ready (kubectl describe node {name} tells more)")));
    }
    if node["spec"]["unschedulable"] == true {
        against.push(obstacle("cordoned", format!("it is uncordoned: kubectl uncordon {name}")));
    }
    // A cordoned node, or one that is not Ready, has taints that say the same again.
    let told = |taint: &Value| text(&taint["key"]).starts_with("node.kubernetes.io/") && !against.is_empty();
    let taints: Vec<&Value> = items(&node["spec"]["taints"]).filter(|taint| taint["effect"] != "PreferNoSchedule" && !told(taint)).collect();
    for taint in taints.into_iter().filter(|taint| !tolerates(pod, taint)) {
        let (key, effect) = (text(&taint["key"]), text(&taint["effect"]));
        against.push(obstacle(
            format!("taint {key}:{effect}"),
            format!("the pod tolerates {key}:{effect}, or kubectl taint node {name} {key}:{effect}-"),
        ));
    }
    against.extend(selected(node, pod));
    against.extend(short(node, pod, tenants));
    against.extend(ports(pod, tenants));
    against
}

fn tolerates(pod: &Value, taint: &Value) -> bool {
    items(&pod["spec"]["tolerations"]).any(|toleration| {
        let key = text(&toleration["key"]);
        let effect = text(&toleration["effect"]);
        let numbers = || Some((decimal::parse(text(&toleration["value"]))?, decimal::parse(text(&taint["value"]))?));
        let value = match text(&toleration["operator"]) {
            "Exists" => true,
            "Lt" => numbers().is_some_and(|(bound, value)| value < bound),
            "Gt" => numbers().is_some_and(|(bound, value)| value > bound),
            _ => text(&toleration["value"]) == text(&taint["value"]),
        };
        (key.is_empty() || key == text(&taint["key"])) && (effect.is_empty() || effect == text(&taint["effect"])) && value
    })
}

/// Labels that the pod wants and the node has not.
fn selected(node: &Value, pod: &Value) -> Vec<Obstacle> {
    let name = text(&node["metadata"]["name"]);
    let mut against = Vec::new();
    for (key, value) in pod["spec"]["nodeSelector"].as_object().into_iter().flatten() {
        let value = text(value);
        if node["metadata"]["labels"][key] != *value {
            against.push(obstacle(format!("no label {key}={value}"), format!("it has the label: kubectl label node {name} {key}={value}")));
        }
    }
    let affinity = &pod["spec"]["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"];
    let terms: Vec<&Value> = items(&affinity["nodeSelectorTerms"]).collect();
    if !terms.is_empty() && !terms.iter().any(|term| matches(node, term)) {
        let wanted: Vec<String> = terms.iter().map(|term| spelled(term)).collect();
        against.push(obstacle("its labels do not match the pod's node affinity", format!("it matches {}", wanted.join(", or "))));
    }
    against
}

fn matches(node: &Value, term: &Value) -> bool {
    let labels = items(&term["matchExpressions"]).all(|wanted| holds(node["metadata"]["labels"][text(&wanted["key"])].as_str(), wanted));
    // The only field that can be selected by is the name.
    labels && items(&term["matchFields"]).all(|wanted| holds(node["metadata"]["name"].as_str(), wanted))
}

fn holds(has: Option<&str>, wanted: &Value) -> bool {
    let listed = |value: &str| items(&wanted["values"]).any(|known| known == value);
    let number = |text: &str| text.parse::<i64>().ok();
    let bound = || items(&wanted["values"]).next().and_then(|value| number(text(value)));
    match text(&wanted["operator"]) {
        "In" => has.is_some_and(listed),
        "NotIn" => !has.is_some_and(listed),
        "Exists" => has.is_some(),
        "DoesNotExist" => has.is_none(),
        "Gt" => has.and_then(number).zip(bound()).is_some_and(|(has, bound)| has > bound),
        "Lt" => has.and_then(number).zip(bound()).is_some_and(|(has, bound)| has < bound),
        _ => true,
    }
}

fn spelled(term: &Value) -> String {
    let all = items(&term["matchExpressions"]).chain(items(&term["matchFields"]));
    let each = all.map(|wanted| {
        let values: Vec<&str> = items(&wanted["values"]).map(text).collect();
        let end = if values.is_empty() { String::new() } else { format!(" ({})", values.join(", ")) };
        format!("{} {}{end}", text(&wanted["key"]), text(&wanted["operator"]))
    });
    each.collect::<Vec<_>>().join(" and ")
}

/// Resources of which the pod asks more than the node has left.
fn short(node: &Value, pod: &Value, tenants: &[&Value]) -> Vec<Obstacle> {
    let name = text(&node["metadata"]["name"]);
    let allocatable = |resource: &str| quantity(&node["status"]["allocatable"][resource]);
    let mut against = Vec::new();
    if let Some(most) = allocatable("pods").filter(|most| tenants.len() as f64 >= *most) {
        against.push(obstacle(format!("has {} pods, the most it takes", shown("pods", most)), format!("a pod leaves node {name}")));
    }
    for (resource, wanted) in requests(pod) {
        let all = allocatable(&resource).unwrap_or(0.0);
        let taken: f64 = tenants.iter().filter_map(|tenant| requests(tenant).get(&resource).copied()).sum();
        let free = (all - taken).max(0.0);
        if wanted <= free {
            continue;
        }
        let (wanted_text, free_text, all_text) = (shown(&resource, wanted), shown(&resource, free), shown(&resource, all));
        // What is left is what it gets, however much the node has.
        let fits = rounded(&resource, free, f64::floor);
        let less = if fits > 0.0 {
            format!("the pod asks for at most {} {resource}", shown(&resource, fits))
        } else {
            format!("the pod asks for no {resource}")
        };
        against.push(if wanted > all {
            obstacle(format!("has only {all_text} {resource} in all, the pod asks for {wanted_text}"), format!("{less}, or a larger node comes"))
        } else {
            let more = shown(&resource, rounded(&resource, wanted - free, f64::ceil));
            obstacle(
                format!("has {free_text} of {all_text} {resource} left, the pod asks for {wanted_text}"),
                format!("{more} {resource} are freed there, or {less}"),
            )
        });
    }
    against
}

/// What the scheduler counts for a pod: its containers together, or its most demanding init container.
fn requests(pod: &Value) -> BTreeMap<String, f64> {
    let of = |container: &Value| -> BTreeMap<String, f64> {
        let asked = container["resources"]["requests"].as_object().into_iter().flatten();
        asked.filter_map(|(name, amount)| Some((name.clone(), quantity(amount)?))).collect()
    };
    let mut all = BTreeMap::new();
    let mut add = |amounts: BTreeMap<String, f64>| amounts.into_iter().for_each(|(name, amount)| *all.entry(name).or_insert(0.0) += amount);
    items(&pod["spec"]["containers"]).for_each(|container| add(of(container)));
    items(&pod["spec"]["initContainers"]).filter(|container| container["restartPolicy"] == "Always").for_each(|container| add(of(container)));
    for container in items(&pod["spec"]["initContainers"]).filter(|container| container["restartPolicy"] != "Always") {
        for (name, amount) in of(container) {
            let known = all.entry(name).or_insert(0.0);
            *known = known.max(amount);
        }
    }
    // What is asked for the whole pod counts in place of its containers.
    for (name, amount) in of(&pod["spec"]) {
        all.insert(name, amount);
    }
    for (name, amount) in pod["spec"]["overhead"].as_object().into_iter().flatten() {
        *all.entry(name.clone()).or_insert(0.0) += quantity(amount).unwrap_or(0.0);
    }
    all.retain(|_, amount| *amount > 0.0);
    all
}

fn quantity(value: &Value) -> Option<f64> {
    Quantity::parse(value.as_str()?).ok().map(|amount| amount.as_f64())
}

/// An amount in whole units of those in which it is shown: what fits must not be rounded up, nor what lacks down.
fn rounded(resource: &str, amount: f64, round: fn(f64) -> f64) -> f64 {
    const MI: f64 = 1024.0 * 1024.0;
    let per_one = match resource {
        "cpu" if amount < 10.0 => 1000.0,
        "memory" | "ephemeral-storage" if amount >= 10.0 * 1024.0 * MI => 10.0 / 1024.0 / MI,
        "memory" | "ephemeral-storage" => 1.0 / MI,
        _ => 1.0,
    };
    let units = amount * per_one;
    // Decimal fractions are seldom exact.
    let whole = if (units - units.round()).abs() < 1e-6 { units.round() } else { round(units) };
    whole / per_one
}

/// An amount as people write it.
fn shown(resource: &str, amount: f64) -> String {
    const MI: f64 = 1024.0 * 1024.0;
    match resource {
        "cpu" if amount < 10.0 && amount.fract() != 0.0 => format!("{:.0}m", amount * 1000.0),
        "memory" | "ephemeral-storage" if amount >= 10.0 * 1024.0 * MI => format!("{:.1}Gi", amount / MI / 1024.0),
        "memory" | "ephemeral-storage" => format!("{:.0}Mi", amount / MI),
        _ => format!("{amount:.0}"),
    }
}

/// Ports of the node that another pod has.
fn ports(pod: &Value, tenants: &[&Value]) -> Vec<Obstacle> {
    let of = |pod: &Value| -> Vec<(i64, String)> {
        let all = items(&pod["spec"]["containers"]).flat_map(|container| items(&container["ports"]));
        let host = all.filter_map(|port| Some((port["hostPort"].as_i64().filter(|port| *port > 0)?, text(&port["protocol"]).to_owned())));
        host.map(|(port, protocol)| (port, if protocol.is_empty() { "TCP".into() } else { protocol })).collect()
    };
    let taken = of(pod).into_iter().filter_map(|wanted| {
        let owner = tenants.iter().find(|tenant| of(tenant).contains(&wanted))?;
        let owner = format!("{}/{}", text(&owner["metadata"]["namespace"]), text(&owner["metadata"]["name"]));
        Some(obstacle(
            format!("port {}/{} is taken by pod {owner}", wanted.0, wanted.1),
            format!("pod {owner} goes, or the pod takes another hostPort"),
        ))
    });
    taken.collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn told(node: &Value, pod: &Value, tenants: &[&Value]) -> Vec<String> {
        obstacles(node, pod, tenants).into_iter().map(|obstacle| obstacle.what).collect()
    }

    fn node(allocatable: Value) -> Value {
        json!({"metadata": {"name": "n", "labels": {"zone": "a", "size": "3"}},
            "status": {"allocatable": allocatable, "conditions": [{"type": "Ready", "status": "True"}]}})
    }

    fn pod(requests: Value) -> Value {
        json!({"metadata": {"namespace": "d", "name": "p"}, "spec": {"containers": [{"resources": {"requests": requests}}]}})
    }

    #[test]
    fn taints_are_compared_as_numbers_where_a_toleration_does() {
        let mut tainted = node(json!({"pods": "9"}));
        tainted["spec"] = json!({"taints": [{"key": "sla", "value": "99", "effect": "NoSchedule"}]});
        let of = |operator: &str, value: &str| {
            let mut pod = pod(json!({}));
            pod["spec"]["tolerations"] = json!([{"key": "sla", "operator": operator, "value": value}]);
            told(&tainted, &pod, &[])
        };
        assert_eq!((of("Lt", "100"), of("Gt", "98"), of("Equal", "99")), (vec![], vec![], vec![]));
        assert_eq!((of("Lt", "99"), of("Gt", "99")), (vec!["taint sla:NoSchedule".to_owned()], vec!["taint sla:NoSchedule".to_owned()]));
    }

    #[test]
    fn what_is_left_of_a_node_counts_and_not_what_it_has() {
        let (node, tenant) = (node(json!({"cpu": "2", "memory": "1Gi", "pods": "2"})), pod(json!({"cpu": "1500m"})));
        assert_eq!(told(&node, &pod(json!({"cpu": "500m", "memory": "1Gi"})), &[&tenant]), [] as [&str; 0]);
        assert_eq!(told(&node, &pod(json!({"cpu": "1"})), &[&tenant]), ["has 500m of 2 cpu left, the pod asks for 1"]);
        assert_eq!(told(&node, &pod(json!({"memory": "2Gi"})), &[]), ["has only 1024Mi memory in all, the pod asks for 2048Mi"]);
        assert_eq!(told(&node, &pod(json!({"example.com/gpu": "1"})), &[]), ["has only 0 example.com/gpu in all, the pod asks for 1"]);
        assert_eq!(told(&node, &pod(json!({})), &[&tenant, &tenant]), ["has 2 pods, the most it takes"]);
        let init = json!({"spec": {"containers": [], "initContainers": [{"resources": {"requests": {"cpu": "3"}}}]}});
        assert_eq!(told(&node, &init, &[]), ["has only 2 cpu in all, the pod asks for 3"]);
    }

    #[test]
    fn advice_is_what_would_fit_beside_the_pods_that_are_there() {
        let (node, tenant) = (node(json!({"cpu": "4", "memory": "1000000Ki", "pods": "9"})), pod(json!({"cpu": "3500m", "memory": "600000Ki"})));
        let advice = |asked: Value, tenants: &[&Value]| -> Vec<String> {
            obstacles(&node, &pod(asked), tenants).into_iter().map(|obstacle| obstacle.remedy).collect()
        };
        let both = ["the pod asks for at most 500m cpu, or a larger node comes", "the pod asks for at most 390Mi memory, or a larger node comes"];
        assert_eq!(advice(json!({"cpu": "8", "memory": "2Gi"}), &[&tenant]), both);
        let freed = ["300m cpu are freed there, or the pod asks for at most 500m cpu"];
        assert_eq!(advice(json!({"cpu": "800m"}), &[&tenant]), freed);
        let full = pod(json!({"cpu": "4"}));
        assert_eq!(advice(json!({"cpu": "5"}), &[&full]), ["the pod asks for no cpu, or a larger node comes"]);
        assert_eq!(advice(json!({"memory": "700000Ki"}), &[&tenant]), ["293Mi memory are freed there, or the pod asks for at most 390Mi memory"]);
    }

    #[test]
    fn labels_affinity_and_ports_are_compared() {
        let node = node(json!({}));
        let with = |spec: Value| json!({"metadata": {}, "spec": spec});
        let affinity = |expression: Value| {
            let terms = json!({"nodeSelectorTerms": [{"matchExpressions": [expression]}]});
            with(json!({"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": terms}}}))
        };
        assert_eq!(told(&node, &with(json!({"nodeSelector": {"disk": "ssd"}})), &[]), ["no label disk=ssd"]);
        assert_eq!(told(&node, &affinity(json!({"key": "zone", "operator": "In", "values": ["a", "b"]})), &[]), [] as [&str; 0]);
        assert_eq!(told(&node, &affinity(json!({"key": "size", "operator": "Gt", "values": ["2"]})), &[]), [] as [&str; 0]);
        let apart = affinity(json!({"key": "zone", "operator": "NotIn", "values": ["a"]}));
        assert_eq!(told(&node, &apart, &[]), ["its labels do not match the pod's node affinity"]);
        assert_eq!(obstacles(&node, &apart, &[])[0].remedy, "it matches zone NotIn (a)");
        let web = json!({"metadata": {"namespace": "d", "name": "web"}, "spec": {"containers": [{"ports": [{"hostPort": 80}]}]}});
        assert_eq!(told(&node, &web, &[&web]), ["port 80/TCP is taken by pod d/web"]);
    }
}
