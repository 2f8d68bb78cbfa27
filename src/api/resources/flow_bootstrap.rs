//! The priority levels and flow schemas that exist after the first start.

use serde::Deserialize;
use serde_json::{Value, json};

use crate::meta::Object;

const BOOTSTRAP: &str = include_str!("../../../config/flowcontrol/bootstrap.yaml");
const API_VERSION: &str = "flowcontrol.apiserver.k8s.io/v1";
/// Requests that may wait in a queue.
const QUEUE_LENGTH: u32 = 50;

#[derive(Deserialize)]
struct Bootstrap {
    levels: Vec<Level>,
    schemas: Vec<Schema>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Level {
    name: String,
    shares: Option<u32>,
    #[serde(default)]
    lendable: u32,
    queues: Option<u32>,
    #[serde(default)]
    hand_size: u32,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Schema {
    name: String,
    level: String,
    precedence: u32,
    by: Option<String>,
    #[serde(default)]
    groups: Vec<String>,
    #[serde(default)]
    users: Vec<String>,
    /// Names in `kube-system`.
    #[serde(default)]
    service_accounts: Vec<String>,
    resources: Option<Vec<Resources>>,
    paths: Option<Vec<String>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Resources {
    verbs: Vec<String>,
    group: String,
    names: Vec<String>,
    #[serde(default)]
    cluster_scope: bool,
}

/// All of them, priority levels first.
pub fn objects() -> Vec<Object> {
    let bootstrap: Bootstrap = serde_norway::from_str(BOOTSTRAP).expect("the built-in flow schemas parse");
    let levels = bootstrap.levels.iter().map(|level| object("PriorityLevelConfiguration", &level.name, level.spec()));
    let schemas = bootstrap.schemas.iter().map(|schema| object("FlowSchema", &schema.name, schema.spec()));
    levels.chain(schemas).collect()
}

fn object(kind: &str, name: &str, spec: Value) -> Object {
    let meta = json!({"name": name, "annotations": {"apf.kubernetes.io/autoupdate-spec": "true"}});
    let object = Object::from_value(json!({"apiVersion": API_VERSION, "kind": kind, "metadata": meta, "spec": spec}));
    object.expect("an object is an object")
}

impl Level {
    fn spec(&self) -> Value {
        let Some(shares) = self.shares else {
            return json!({"type": "Exempt", "exempt": {"nominalConcurrencyShares": 0, "lendablePercent": 0}});
        };
        let response = match self.queues {
            Some(queues) => json!({"type": "Queue", "queuing": {"queues": queues, "handSize": self.hand_size, "queueLengthLimit": QUEUE_LENGTH}}),
            None => json!({"type": "Reject"}),
        };
        json!({"type": "Limited", "limited": {"nominalConcurrencyShares": shares, "lendablePercent": self.lendable, "limitResponse": response}})
    }
}

impl Schema {
    fn spec(&self) -> Value {
        let users = self.users.iter().map(|name| json!({"kind": "User", "user": {"name": name}}));
        let groups = self.groups.iter().map(|name| json!({"kind": "Group", "group": {"name": name}}));
        let accounts = self.service_accounts.iter();
        let accounts = accounts.map(|name| json!({"kind": "ServiceAccount", "serviceAccount": {"namespace": "kube-system", "name": name}}));
        let subjects: Vec<Value> = users.chain(groups).chain(accounts).collect();
        let mut rule = json!({"subjects": subjects});
        match (&self.resources, &self.paths) {
            (None, None) => {
                rule["resourceRules"] = json!([{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"], "clusterScope": true, "namespaces": ["*"]}]);
                rule["nonResourceRules"] = json!([{"verbs": ["*"], "nonResourceURLs": ["*"]}]);
            }
            (resources, paths) => {
                if let Some(resources) = resources {
                    rule["resourceRules"] = resources.iter().map(Resources::rule).collect();
                }
                if let Some(paths) = paths {
                    rule["nonResourceRules"] = json!([{"verbs": ["get"], "nonResourceURLs": paths}]);
                }
            }
        }
        let mut spec = json!({"priorityLevelConfiguration": {"name": self.level}, "matchingPrecedence": self.precedence, "rules": [rule]});
        if let Some(by) = &self.by {
            spec["distinguisherMethod"] = json!({"type": by});
        }
        spec
    }
}

impl Resources {
    fn rule(&self) -> Value {
        let mut rule = json!({"verbs": self.verbs, "apiGroups": [self.group], "resources": self.names, "namespaces": ["*"]});
        if self.cluster_scope {
            rule["clusterScope"] = json!(true);
        }
        rule
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_built_in_objects_are_upstreams() {
        let objects = objects();
        let names = |kind: &str| objects.iter().filter(|object| object.kind() == kind).map(Object::name).collect::<Vec<_>>();
        assert_eq!(names("PriorityLevelConfiguration").len(), 8);
        assert_eq!(names("FlowSchema").len(), 11);
        let leader = objects.iter().find(|object| object.name() == "system-leader-election").expect("is there");
        assert_eq!(leader.list(&["spec", "rules"])[0]["subjects"].as_array().map(Vec::len), Some(3));
        assert_eq!(leader.list(&["spec", "rules"])[0]["resourceRules"][0]["apiGroups"], json!(["coordination.k8s.io"]));
        let catch_all = objects.iter().find(|object| object.name() == "catch-all").expect("is there");
        assert_eq!(catch_all.str(&["spec", "limited", "limitResponse", "type"]), "Reject");
    }
}
