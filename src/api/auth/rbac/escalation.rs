//! Nobody grants what they do not hold: the check on writes of roles and bindings.

use k8s_openapi::api::rbac::v1::{PolicyRule, RoleRef};
use serde::Deserialize;
use serde_json::json;

use super::{
    resolve::{GROUP, Resolver},
    rules::{list, url_matches},
};
use crate::{
    auth::{Attributes, Authorizer, Decision, chain},
    meta::{GroupResource, Object},
    service::UserInfo,
    status::Status,
};

/// A write of a role or binding.
pub struct Write<'a> {
    pub user: &'a UserInfo,
    /// `roles`, `clusterroles`, `rolebindings` or `clusterrolebindings`; others pass.
    pub resource: &'a GroupResource,
    /// Empty for the cluster-scoped ones.
    pub namespace: &'a str,
    pub new: &'a Object,
    /// What it replaces; `None` for a creation.
    pub old: Option<&'a Object>,
}

/// Checks that `write` grants nothing its user does not hold, unless they may `escalate` or `bind`.
///
/// # Errors
/// 403 that lists the missing rules, or the error of a role that is not there.
pub fn check(write: &Write<'_>, resolver: &Resolver, authorizer: &dyn Authorizer) -> Result<(), Status> {
    let master = write.user.groups.iter().any(|group| group == chain::MASTERS);
    if &*write.resource.group != GROUP || master || write.old.is_some_and(|old| only_gc_fields_differ(write.new, old)) {
        return Ok(());
    }
    match &*write.resource.resource {
        "roles" | "clusterroles" => check_role(write, resolver, authorizer),
        "rolebindings" | "clusterrolebindings" => check_binding(write, resolver, authorizer),
        _ => Ok(()),
    }
}

fn check_role(write: &Write<'_>, resolver: &Resolver, authorizer: &dyn Authorizer) -> Result<(), Status> {
    if may(write, authorizer, "escalate", &write.resource.resource, write.new.name()) {
        return Ok(());
    }
    let rules = write.new.get(&["rules"]).map(Vec::<PolicyRule>::deserialize).transpose();
    let rules = rules.map_err(|error| Status::bad_request(error.to_string()))?.unwrap_or_default();
    confirm(write, resolver, &rules)?;
    let aggregates = |object: &Object| !object.list(&["aggregationRule", "clusterRoleSelectors"]).is_empty();
    if &*write.resource.resource == "clusterroles" && (aggregates(write.new) || write.old.is_some_and(aggregates)) {
        let refused = |_| Status::forbidden(write.resource, write.new.name(), "must have cluster-admin privileges to use the aggregationRule");
        confirm(write, resolver, &full_authority()).map_err(refused)?;
    }
    Ok(())
}

fn check_binding(write: &Write<'_>, resolver: &Resolver, authorizer: &dyn Authorizer) -> Result<(), Status> {
    let text = |field: &str| write.new.str(&["roleRef", field]).to_owned();
    let role = RoleRef { api_group: Some(text("apiGroup")), kind: text("kind"), name: text("name") };
    let resource = if role.kind == "ClusterRole" { "clusterroles" } else { "roles" };
    if may(write, authorizer, "bind", resource, &role.name) {
        return Ok(());
    }
    let rules = resolver.role_rules(&role, write.namespace).map_err(|error| match error {
        super::resolve::ResolveError::NotFound { kind, name } => Status::not_found(&GroupResource::new(GROUP, kind), &name),
        other => Status::internal(other),
    })?;
    confirm(write, resolver, &rules)
}

fn may(write: &Write<'_>, authorizer: &dyn Authorizer, verb: &str, resource: &str, name: &str) -> bool {
    let attributes = Attributes { verb, group: GROUP, version: "*", resource, namespace: write.namespace, name, ..Attributes::default() };
    authorizer.authorize(write.user, &attributes) == Decision::Allow
}

fn full_authority() -> [PolicyRule; 2] {
    let all = || vec!["*".to_owned()];
    [
        PolicyRule { verbs: all(), api_groups: Some(all()), resources: Some(all()), ..PolicyRule::default() },
        PolicyRule { verbs: all(), non_resource_urls: Some(all()), ..PolicyRule::default() },
    ]
}

/// Refuses rules that the user's own do not cover.
fn confirm(write: &Write<'_>, resolver: &Resolver, rules: &[PolicyRule]) -> Result<(), Status> {
    let own = resolver.rules_for(write.user, write.namespace);
    let missing = uncovered(&own.rules, rules);
    if missing.is_empty() {
        return Ok(());
    }
    let mut lines = compact(missing).iter().map(describe).collect::<Vec<_>>();
    lines.sort_unstable();
    lines.dedup();
    let groups = quoted(&write.user.groups);
    let mut why =
        format!("user {:?} (groups={groups}) is attempting to grant RBAC permissions not currently held:\n{}", write.user.name, lines.join("\n"));
    if !own.errors.is_empty() {
        why.push_str(&format!("; resolution errors: [{}]", chain::aggregate(&own.errors)));
    }
    Err(Status::forbidden(write.resource, write.new.name(), why))
}

/// The atoms (one verb, one resource, one name or one URL) of `wanted` that no rule of `own` covers.
pub fn uncovered(own: &[PolicyRule], wanted: &[PolicyRule]) -> Vec<PolicyRule> {
    wanted.iter().flat_map(atoms).filter(|atom| !own.iter().any(|rule| covers(rule, atom))).collect()
}

fn atoms(rule: &PolicyRule) -> Vec<PolicyRule> {
    let one = |value: &String| vec![value.clone()];
    let mut atoms = Vec::new();
    for group in list(&rule.api_groups) {
        for resource in list(&rule.resources) {
            for verb in &rule.verbs {
                let atom = PolicyRule { verbs: one(verb), api_groups: Some(one(group)), resources: Some(one(resource)), ..PolicyRule::default() };
                match list(&rule.resource_names) {
                    [] => atoms.push(atom),
                    names => atoms.extend(names.iter().map(|name| PolicyRule { resource_names: Some(one(name)), ..atom.clone() })),
                }
            }
        }
    }
    for url in list(&rule.non_resource_urls) {
        atoms.extend(rule.verbs.iter().map(|verb| PolicyRule { verbs: one(verb), non_resource_urls: Some(one(url)), ..PolicyRule::default() }));
    }
    atoms
}

fn covers(own: &PolicyRule, atom: &PolicyRule) -> bool {
    let each = |owned: &[String], wanted: &[String]| wanted.iter().all(|value| owned.iter().any(|own| own == "*" || own == value));
    let names = list(&own.resource_names);
    let wanted_names = list(&atom.resource_names);
    let names_match = names.is_empty() || (!wanted_names.is_empty() && wanted_names.iter().all(|name| names.contains(name)));
    let resource = |wanted: &String| list(&own.resources).iter().any(|own| own == "*" || own == wanted || is_any_parent(own, wanted));
    let url = |wanted: &String| list(&own.non_resource_urls).iter().any(|own| url_matches(own, wanted));
    each(&own.verbs, &atom.verbs)
        && each(list(&own.api_groups), list(&atom.api_groups))
        && list(&atom.resources).iter().all(resource)
        && list(&atom.non_resource_urls).iter().all(url)
        && names_match
}

/// `*/scale` covers `deployments/scale`.
fn is_any_parent(own: &str, wanted: &str) -> bool {
    match (own.split_once('/'), wanted.split_once('/')) {
        (Some(("*", own)), Some((_, wanted))) => own == wanted,
        _ => false,
    }
}

/// Joins atoms that differ only in their verb.
fn compact(atoms: Vec<PolicyRule>) -> Vec<PolicyRule> {
    let mut joined = Vec::<PolicyRule>::new();
    for atom in atoms {
        let same = |other: &&mut PolicyRule| {
            atom.resources.is_some()
                && other.api_groups == atom.api_groups
                && other.resources == atom.resources
                && other.resource_names == atom.resource_names
        };
        match joined.iter_mut().find(same) {
            Some(other) => other.verbs.extend(atom.verbs),
            None => joined.push(atom),
        }
    }
    joined
}

/// `{APIGroups:[""], Resources:["pods"], Verbs:["get" "list"]}`
fn describe(rule: &PolicyRule) -> String {
    let parts = [
        ("APIGroups", list(&rule.api_groups)),
        ("Resources", list(&rule.resources)),
        ("NonResourceURLs", list(&rule.non_resource_urls)),
        ("ResourceNames", list(&rule.resource_names)),
        ("Verbs", &rule.verbs),
    ];
    let parts = parts.iter().filter(|(_, values)| !values.is_empty()).map(|(name, values)| format!("{name}:{}", quoted(values)));
    format!("{{{}}}", parts.collect::<Vec<_>>().join(", "))
}

/// A list as Go's `%q` prints it.
fn quoted(values: &[String]) -> String {
    let values = values.iter().map(|value| format!("{value:?}")).collect::<Vec<_>>();
    format!("[{}]", values.join(" "))
}

/// Whether an update only touches what the garbage collector touches: finalizers and owner references.
fn only_gc_fields_differ(new: &Object, old: &Object) -> bool {
    let without = |object: &Object| {
        let mut rest = object.clone();
        for field in ["finalizers", "ownerReferences", "managedFields", "resourceVersion", "generation"] {
            rest.remove(&["metadata", field]);
        }
        rest
    };
    let gc_fields = |object: &Object| json!([object.get(&["metadata", "finalizers"]), object.get(&["metadata", "ownerReferences"])]);
    gc_fields(new) != gc_fields(old) && without(new) == without(old)
}
