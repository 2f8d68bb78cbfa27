//! RBAC's bootstrap policy: the roles and bindings that exist after first start.
//!
//! The policy stands in `config/rbac` in a compact form that is explained there; [`objects`] unfolds it into API
//! objects with upstream's labels and annotations.

use std::sync::Arc;

use k8s_openapi::api::rbac::v1::{ClusterRole, PolicyRule};
use serde::Deserialize;
use serde_json::{Value, json};

use super::rbac::{GROUP, aggregate::aggregate};
use crate::meta::Object;

const ROLES: &str = include_str!("../../../config/rbac/roles.policy");
const BINDINGS: &str = include_str!("../../../config/rbac/bindings.policy");
const JOINING: &str = include_str!("../../../config/rbac/joining.policy");
const MIGRATION: &str = include_str!("../../../config/rbac/migration.policy");
const TRUST_BUNDLE: &str = include_str!("../../../config/rbac/trust-bundle.policy");
const WORKLOAD: &str = include_str!("../../../config/rbac/workload.policy");
const JOB_WORKLOAD: &str = include_str!("../../../config/rbac/job-workload.policy");
const CANDIDATES: &str = include_str!("../../../config/rbac/candidates.policy");
const POD_CERTIFICATE: &str = include_str!("../../../config/rbac/podcertificate.policy");
const TAINT_RULES: &str = include_str!("../../../config/rbac/device_taints.policy");
const POOL_STATUS: &str = include_str!("../../../config/rbac/pool_status.policy");
const API_VERSION: &str = "rbac.authorization.k8s.io/v1";

/// All bootstrap roles and bindings. Namespaced ones live in `kube-system` and `kube-public`.
pub fn objects() -> Vec<Object> {
    objects_with(&[])
}

/// What is added where it is switched on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Addition {
    /// The controller of storage version migrations.
    StorageMigration,
    /// Bundles of trust anchors.
    TrustBundles,
    /// Workloads and pod groups.
    Workloads,
    /// Workloads of jobs.
    JobWorkloads,
    /// Candidates for leases, among which leaders are chosen.
    Candidates,
    /// Certificates of pods.
    PodCertificates,
    /// Rules that taint devices.
    DeviceTaintRules,
    /// The controller of questions about pools of devices.
    PoolStatus,
}

/// All bootstrap roles and bindings with such additions.
pub fn objects_with(additions: &[Addition]) -> Vec<Object> {
    let added = additions.iter().map(|addition| match addition {
        Addition::StorageMigration => MIGRATION,
        Addition::TrustBundles => TRUST_BUNDLE,
        Addition::Workloads => WORKLOAD,
        Addition::JobWorkloads => JOB_WORKLOAD,
        Addition::Candidates => CANDIDATES,
        Addition::PodCertificates => POD_CERTIFICATE,
        Addition::DeviceTaintRules => TAINT_RULES,
        Addition::PoolStatus => POOL_STATUS,
    });
    let policies: Vec<&str> = [ROLES, BINDINGS, JOINING].into_iter().chain(added).collect();
    unfolded(&policies)
}

fn unfolded(policies: &[&str]) -> Vec<Object> {
    let (mut objects, mut role) = (Vec::<Value>::new(), 0);
    let lines = policies.iter().copied().flat_map(str::lines);
    for line in lines.filter(|line| !line.trim().is_empty() && !line.starts_with('#')) {
        match line.strip_prefix("  ") {
            Some(text) => {
                let rules = objects.get_mut(role).and_then(|role| role["rules"].as_array_mut());
                rules.expect("a rule follows its role in the built-in policy").push(rule(text));
            }
            None => role = place(&mut objects, head(line)),
        }
    }
    gather(&mut objects);
    objects.into_iter().map(|object| Object::from_value(object).expect("built as an object")).collect()
}

/// Where an object stands: a role of an addition may be there already, and then gets more rules.
fn place(objects: &mut Vec<Value>, object: Value) -> usize {
    let is_named_alike = |known: &Value| ["name", "namespace"].iter().all(|field| known["metadata"][*field] == object["metadata"][*field]);
    let known = objects.iter().position(|known| known["kind"] == object["kind"] && is_named_alike(known));
    known.unwrap_or_else(|| {
        objects.push(object);
        objects.len() - 1
    })
}

/// The rules of a bootstrap cluster role with such additions.
pub fn rules_of(cluster_role: &str, additions: &[Addition]) -> Vec<PolicyRule> {
    let role = objects_with(additions).into_iter().find(|object| object.kind() == "ClusterRole" && object.name() == cluster_role);
    let rules = role.and_then(|mut role| role.remove(&["rules"])).unwrap_or_default();
    serde_json::from_value(rules).expect("rules of the built-in policy")
}

/// Fills in the rules of aggregated roles, as the aggregation controller will find them. Roles that gather others are
/// gathered themselves (view into edit, edit into admin), so it takes as many passes as there are such roles.
fn gather(objects: &mut [Value]) {
    let aggregated = (0..objects.len()).filter(|at| objects[*at].get("aggregationRule").is_some()).collect::<Vec<_>>();
    for at in aggregated.iter().flat_map(|_| &aggregated) {
        let roles = objects.iter().filter(|object| object["kind"] == "ClusterRole");
        let roles = roles.map(|role| ClusterRole::deserialize(role).map(Arc::new).expect("a role of the built-in policy")).collect::<Vec<_>>();
        let role = ClusterRole::deserialize(&objects[*at]).expect("a role of the built-in policy");
        objects[*at]["rules"] = json!(aggregate(&role, &roles).unwrap_or_default());
    }
}

/// The line that names a role, or a whole binding.
fn head(line: &str) -> Value {
    let mut words = line.split(' ');
    let (kind, name) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let mut words = words.peekable();
    let namespace = words.next_if_eq(&"in").and_then(|_| words.next());
    let attributes = words.filter_map(|word| word.split_once('=')).collect::<Vec<_>>();
    let mut metadata = json!({
        "name": name,
        "labels": {"kubernetes.io/bootstrapping": "rbac-defaults"},
        "annotations": {"rbac.authorization.kubernetes.io/autoupdate": "true"},
    });
    if let Some(namespace) = namespace {
        metadata["namespace"] = namespace.into();
    }
    match kind {
        "clusterrole" => role("ClusterRole", metadata, &attributes),
        "role" => role("Role", metadata, &attributes),
        "clusterbinding" => binding("ClusterRoleBinding", metadata, &attributes),
        _ => binding("RoleBinding", metadata, &attributes),
    }
}

fn role(kind: &str, mut metadata: Value, attributes: &[(&str, &str)]) -> Value {
    let label = |role: &str| format!("rbac.authorization.k8s.io/aggregate-to-{role}");
    let mut selectors = Vec::new();
    for (attribute, value) in attributes {
        match *attribute {
            "gathers" => selectors.push(json!({"matchLabels": {label(value): "true"}})),
            _ => metadata["labels"][label(value)] = "true".into(),
        }
    }
    let mut role = json!({"apiVersion": API_VERSION, "kind": kind, "metadata": metadata, "rules": []});
    if !selectors.is_empty() {
        role["aggregationRule"] = json!({"clusterRoleSelectors": selectors});
    }
    role
}

fn binding(kind: &str, metadata: Value, attributes: &[(&str, &str)]) -> Value {
    let mut binding = json!({"apiVersion": API_VERSION, "kind": kind, "metadata": metadata});
    let mut subjects = Vec::new();
    for (attribute, value) in attributes {
        match (*attribute, value.split_once('/')) {
            ("clusterrole", _) => binding["roleRef"] = json!({"apiGroup": GROUP, "kind": "ClusterRole", "name": value}),
            ("role", _) => binding["roleRef"] = json!({"apiGroup": GROUP, "kind": "Role", "name": value}),
            ("serviceaccount", Some((namespace, name))) => subjects.push(json!({"kind": "ServiceAccount", "name": name, "namespace": namespace})),
            ("user", _) => subjects.push(json!({"apiGroup": GROUP, "kind": "User", "name": value})),
            _ => subjects.push(json!({"apiGroup": GROUP, "kind": "Group", "name": value})),
        }
    }
    if !subjects.is_empty() {
        binding["subjects"] = subjects.into();
    }
    binding
}

fn listed(text: &str) -> Vec<&str> {
    text.split(',').collect()
}

/// `VERBS GROUPS: RESOURCES [named NAMES]`, or `VERBS URL URL...`.
fn rule(text: &str) -> Value {
    let words = text.split(' ').collect::<Vec<_>>();
    match words[..] {
        [verbs, groups, resources, ref rest @ ..] if groups.ends_with(':') => {
            let groups = groups.trim_end_matches(':').split('+').map(|group| if group == "core" { "" } else { group });
            let mut rule = json!({"apiGroups": groups.collect::<Vec<_>>(), "resources": listed(resources), "verbs": listed(verbs)});
            if let ["named", names] = rest {
                rule["resourceNames"] = json!(listed(names));
            }
            rule
        }
        _ => json!({"nonResourceURLs": words[1..], "verbs": listed(words[0])}),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        auth::{
            Attributes, Authorizer, Decision,
            groups::{ALL_AUTHENTICATED, anonymous},
            rbac::{Rbac, tests::FixedListers},
        },
        meta::GroupResource,
        service::UserInfo,
    };

    fn installed() -> Rbac {
        let mut listers = FixedListers::default();
        for object in objects() {
            let plural = format!("{}s", object.kind().to_lowercase());
            listers.add(&GroupResource::new(GROUP, plural), object.into_value());
        }
        Rbac::new(Arc::new(listers))
    }

    fn allowed(rbac: &Rbac, user: &UserInfo, attributes: &Attributes<'_>) -> bool {
        rbac.authorize(user, attributes) == Decision::Allow
    }

    fn account(name: &str) -> UserInfo {
        let groups = ["system:serviceaccounts", "system:serviceaccounts:kube-system", ALL_AUTHENTICATED].map(str::to_owned).to_vec();
        UserInfo { name: format!("system:serviceaccount:kube-system:{name}"), groups, ..UserInfo::default() }
    }

    #[test]
    fn every_object_is_whole_and_every_binding_refers_to_a_role_there_is() {
        let objects = objects();
        let has =
            |kind: &str, namespace: &str, name: &str| objects.iter().any(|o| o.kind() == kind && o.namespace() == namespace && o.name() == name);
        for object in &objects {
            assert_eq!(object.annotation("rbac.authorization.kubernetes.io/autoupdate"), Some("true"), "{}", object.name());
            assert_eq!(object.label("kubernetes.io/bootstrapping"), Some("rbac-defaults"));
            if object.kind().ends_with("Binding") {
                let (kind, name) = (object.str(&["roleRef", "kind"]), object.str(&["roleRef", "name"]));
                let namespace = if kind == "Role" { object.namespace() } else { "" };
                assert!(has(kind, namespace, name), "{} refers to {kind} {name}", object.name());
            }
        }
        for name in ["cluster-admin", "admin", "edit", "view", "system:node", "system:kube-scheduler", "system:controller:deployment-controller"] {
            assert!(has("ClusterRole", "", name), "{name}");
        }
        assert!(has("Role", "kube-system", "extension-apiserver-authentication-reader"));
    }

    #[test]
    fn aggregated_roles_carry_their_selector_and_label() {
        let objects = objects();
        let edit = objects.iter().find(|object| object.name() == "edit").expect("edit");
        assert_eq!(edit.label("rbac.authorization.k8s.io/aggregate-to-admin"), Some("true"));
        let selectors = json!([{"matchLabels": {"rbac.authorization.k8s.io/aggregate-to-edit": "true"}}]);
        assert_eq!(edit.get(&["aggregationRule", "clusterRoleSelectors"]), Some(&selectors));
        let count = |name: &str| objects.iter().find(|object| object.name() == name).map_or(0, |role| role.list(&["rules"]).len());
        assert!(count("view") > 5 && count("edit") > count("view") && count("admin") > count("edit"));
    }

    #[test]
    fn what_is_switched_on_adds_roles_and_reaches_those_that_gather_them() {
        let (usual, more) = (objects(), objects_with(&[Addition::Workloads]));
        let of_groups = |objects: &[Object], role: &str| {
            let role = objects.iter().find(|object| object.kind() == "ClusterRole" && object.name() == role).expect("a role");
            let rules = role.list(&["rules"]).iter();
            rules.filter(|rule| rule["apiGroups"] == json!(["scheduling.k8s.io"]) && rule["resources"][0] == "podgroups").count()
        };
        for (role, count) in [("view", 1), ("edit", 2), ("admin", 2)] {
            assert_eq!((of_groups(&usual, role), of_groups(&more, role)), (0, count), "{role}");
        }
        assert_eq!(of_groups(&more, "troupe:pod-group-scheduler"), 1);
        assert_eq!(more.len(), usual.len() + 6, "four roles and two bindings");
        assert_eq!(objects_with(&[Addition::StorageMigration]).len(), usual.len() + 2);
        for addition in [Addition::JobWorkloads, Addition::Candidates] {
            assert_eq!(objects_with(&[addition]).len(), usual.len() + 2, "{addition:?}");
        }
        assert_eq!(objects_with(&[Addition::TrustBundles]).len(), usual.len() + 4, "nodes have a role already");
        let of_nodes = |additions: &[Addition]| rules_of("system:node", additions).len();
        assert_eq!(of_nodes(&[Addition::TrustBundles]), of_nodes(&[]) + 1);
        assert_eq!(objects_with(&[Addition::DeviceTaintRules]).len(), usual.len() + 4);
        assert_eq!(objects_with(&[Addition::PoolStatus]).len(), usual.len() + 2);
    }

    #[test]
    fn an_addition_gives_rules_to_a_role_that_there_is() {
        let (usual, more) = (objects(), objects_with(&[Addition::PodCertificates]));
        let rules = |objects: &[Object]| {
            let nodes: Vec<&Object> = objects.iter().filter(|object| object.kind() == "ClusterRole" && object.name() == "system:node").collect();
            assert_eq!(nodes.len(), 1);
            nodes[0].list(&["rules"]).to_vec()
        };
        let (before, after) = (rules(&usual), rules(&more));
        assert_eq!(after[..before.len()], before);
        assert_eq!(after[before.len()..], [rule("create,get,list,watch certificates.k8s.io: podcertificaterequests")]);
        assert_eq!(more.len(), usual.len() + 2, "the cleaner's role and its binding");
    }

    #[test]
    fn strangers_see_public_information_only() {
        let rbac = installed();
        let path = |path| Attributes { verb: "get", path: Some(path), ..Attributes::default() };
        assert!(allowed(&rbac, &anonymous(), &path("/version")));
        assert!(allowed(&rbac, &anonymous(), &path("/livez")));
        assert!(!allowed(&rbac, &anonymous(), &path("/api")));
        assert!(!allowed(&rbac, &anonymous(), &Attributes { verb: "list", resource: "pods", ..Attributes::default() }));
    }

    #[test]
    fn components_and_controllers_may_do_their_work() {
        let rbac = installed();
        let group = "apps";
        let status =
            Attributes { verb: "update", group, resource: "deployments", subresource: "status", namespace: "a", name: "w", ..Attributes::default() };
        assert!(allowed(&rbac, &account("deployment-controller"), &status));
        assert!(!allowed(&rbac, &account("endpoint-controller"), &status));
        let scheduler = UserInfo { name: "system:kube-scheduler".into(), groups: vec![ALL_AUTHENTICATED.into()], ..UserInfo::default() };
        let bind = Attributes { verb: "create", resource: "pods", subresource: "binding", namespace: "a", name: "p", ..Attributes::default() };
        assert!(allowed(&rbac, &scheduler, &bind));
        let review = Attributes { verb: "create", group: "authorization.k8s.io", resource: "selfsubjectaccessreviews", ..Attributes::default() };
        assert!(allowed(&rbac, &scheduler, &review));
        let announced = Attributes { verb: "get", path: Some("/debug/troupe/announced"), ..Attributes::default() };
        let node = UserInfo { name: "system:node:n1".into(), groups: vec!["system:nodes".into(), ALL_AUTHENTICATED.into()], ..UserInfo::default() };
        assert!(allowed(&rbac, &node, &announced) && allowed(&rbac, &scheduler, &announced));
        assert!(!allowed(&rbac, &account("deployment-controller"), &announced));
    }
}
