//! Evaluators: what the objects of a resource cost, under which names, and which writes change that.

use super::{
    devices, pods,
    scopes::{self, Scope},
    storage,
};
use crate::meta::{GroupResource, Object, amounts::Amounts, operation::Operation};

/// Measures the objects of one resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Evaluator {
    Pods,
    Services,
    Claims,
    /// Claims of devices (resource.k8s.io).
    ResourceClaims,
    /// Counts objects under `count/RESOURCE.GROUP`, and for some under an older name too.
    Count {
        name: String,
        alias: Option<&'static str>,
    },
}

const SERVICES: [&str; 4] = ["count/services", "services", "services.nodeports", "services.loadbalancers"];

impl Evaluator {
    pub fn of(resource: &GroupResource) -> Evaluator {
        match (&*resource.group, &*resource.resource) {
            ("", "pods") => Evaluator::Pods,
            ("", "services") => Evaluator::Services,
            ("", "persistentvolumeclaims") => Evaluator::Claims,
            ("resource.k8s.io", "resourceclaims") => Evaluator::ResourceClaims,
            ("", plural) => Evaluator::Count { name: format!("count/{plural}"), alias: alias(plural) },
            (group, plural) => Evaluator::Count { name: format!("count/{plural}.{group}"), alias: None },
        }
    }

    /// Whether a quota's resource name is one of this evaluator's.
    pub fn tracks(&self, name: &str) -> bool {
        match self {
            Evaluator::Pods => pods::tracks(name),
            Evaluator::Services => SERVICES.contains(&name),
            Evaluator::Claims => storage::tracks(name),
            Evaluator::ResourceClaims => devices::tracks(name),
            Evaluator::Count { name: own, alias } => name == own || Some(name) == *alias,
        }
    }

    /// Whether a write may change what the object costs. `old` is there for updates.
    pub fn handles(&self, operation: Operation, subresource: &str, new: &Object, old: Option<&Object>) -> bool {
        let updates = operation == Operation::Update;
        match (self, subresource) {
            (Evaluator::Pods, "") if updates => old.is_some_and(|old| scopes::is_terminating(old) != scopes::is_terminating(new)),
            (Evaluator::Pods, "resize") => updates,
            (Evaluator::Services | Evaluator::Claims | Evaluator::ResourceClaims, "") => updates || operation == Operation::Create,
            (Evaluator::Claims, "status") => old.is_some_and(|old| storage::is_of_interest(new, old)),
            (_, "") => operation == Operation::Create,
            _ => false,
        }
    }

    /// What the object costs.
    pub fn cost(&self, object: &Object, now: jiff::Timestamp) -> Amounts {
        match self {
            Evaluator::Pods => pods::cost(object, now),
            Evaluator::Services => service(object),
            Evaluator::Claims => storage::cost(object),
            Evaluator::ResourceClaims => devices::cost(object),
            Evaluator::Count { name, alias } => {
                let mut cost = Amounts::default();
                cost.count(name.as_str(), 1);
                if let Some(alias) = alias {
                    cost.count(*alias, 1);
                }
                cost
            }
        }
    }

    /// Whether the object is in a scope; kinds without scopes are in none.
    pub fn in_scope(&self, scope: &Scope, object: &Object) -> bool {
        match self {
            Evaluator::Pods => scopes::matches_pod(scope, object),
            Evaluator::Claims => scopes::matches_claim(scope, object),
            _ => false,
        }
    }

    /// What an object must say so that it can be counted under `names`.
    pub fn missing<'a>(&self, names: impl Iterator<Item = &'a str>, object: &Object) -> Option<String> {
        match self {
            Evaluator::Pods => pods::missing(names, object),
            _ => None,
        }
    }
}

fn alias(plural: &str) -> Option<&'static str> {
    ["configmaps", "resourcequotas", "replicationcontrollers", "secrets"].into_iter().find(|alias| *alias == plural)
}

/// Node ports that are still to be allocated count too.
fn service(service: &Object) -> Amounts {
    let ports = service.list(&["spec", "ports"]);
    let all = i64::try_from(ports.len()).unwrap_or(i64::MAX);
    let asked = ports.iter().filter(|port| port["nodePort"].as_i64().unwrap_or(0) != 0).count();
    let balanced = service.str(&["spec", "type"]) == "LoadBalancer";
    let node_ports = match service.str(&["spec", "type"]) {
        "NodePort" => all,
        "LoadBalancer" if service.get(&["spec", "allocateLoadBalancerNodePorts"]) == Some(&false.into()) => i64::try_from(asked).unwrap_or(i64::MAX),
        "LoadBalancer" => all,
        _ => 0,
    };
    let mut cost = Amounts::default();
    cost.count("count/services", 1);
    cost.count("services", 1);
    cost.count("services.nodeports", node_ports);
    cost.count("services.loadbalancers", i64::from(balanced));
    cost
}
