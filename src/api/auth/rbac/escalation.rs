//! Nobody grants what they do not hold: the check on writes of roles and bindings.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use k8s_openapi::api::rbac::v1::{PolicyRule, RoleRef};
use serde::Deserialize;
use serde_json::json;

use super::{
    GROUP,
    resolve::Resolver,
    rules::{Rule, list, url_matches},
};
use crate::{
    auth::{Attributes, Authorizer, Decision, decide, groups},
    meta::{GroupResource, Object},
    service::UserInfo,
    status::{Status, aggregate},
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
pub async fn check(write: &Write<'_>, resolver: &Resolver, authorizer: &dyn Authorizer) -> Result<(), Status> {
    let master = write.user.groups.iter().any(|group| group == groups::MASTERS);
    if &*write.resource.group != GROUP || master || write.old.is_some_and(|old| only_gc_fields_differ(write.new, old)) {
        return Ok(());
    }
    match &*write.resource.resource {
        "roles" | "clusterroles" => check_role(write, resolver, authorizer).await,
        "rolebindings" | "clusterrolebindings" => check_binding(write, resolver, authorizer).await,
        _ => Ok(()),
    }
}

async fn check_role(write: &Write<'_>, resolver: &Resolver, authorizer: &dyn Authorizer) -> Result<(), Status> {
    if may(write, authorizer, "escalate", &write.resource.resource, write.new.name()).await {
        return Ok(());
    }
    let rules = write.new.get(&["rules"]).map(Vec::<PolicyRule>::deserialize).transpose();
    let rules = rules.map_err(|error| Status::bad_request(error.to_string()))?.unwrap_or_default();
    let rules: Vec<_> = rules.into_iter().map(|rule| Arc::new(Rule::from(rule))).collect();
    confirm(write, resolver, &rules)?;
    let aggregates = |object: &Object| !object.list(&["aggregationRule", "clusterRoleSelectors"]).is_empty();
    if &*write.resource.resource == "clusterroles" && (aggregates(write.new) || write.old.is_some_and(aggregates)) {
        let refused = |_| Status::forbidden(write.resource, write.new.name(), "must have cluster-admin privileges to use the aggregationRule");
        confirm(write, resolver, &full_authority()).map_err(refused)?;
    }
    Ok(())
}

async fn check_binding(write: &Write<'_>, resolver: &Resolver, authorizer: &dyn Authorizer) -> Result<(), Status> {
    let text = |field: &str| write.new.str(&["roleRef", field]).to_owned();
    let role = RoleRef { api_group: Some(text("apiGroup")), kind: text("kind"), name: text("name") };
    let resource = if role.kind == "ClusterRole" { "clusterroles" } else { "roles" };
    if may(write, authorizer, "bind", resource, &role.name).await {
        return Ok(());
    }
    let rules = resolver.role_rules(&role, write.namespace).map_err(|error| match error {
        super::resolve::ResolveError::NotFound { kind, name } => Status::not_found(&GroupResource::new(GROUP, kind), &name),
        other => Status::internal(other),
    })?;
    confirm(write, resolver, &rules)
}

async fn may(write: &Write<'_>, authorizer: &dyn Authorizer, verb: &str, resource: &str, name: &str) -> bool {
    let attributes = Attributes { verb, group: GROUP, version: "*", resource, namespace: write.namespace, name, ..Attributes::default() };
    decide(authorizer, write.user, &attributes).await == Decision::Allow
}

fn full_authority() -> [Arc<Rule>; 2] {
    let all = || vec!["*".to_owned()];
    [
        PolicyRule { verbs: all(), api_groups: Some(all()), resources: Some(all()), ..PolicyRule::default() },
        PolicyRule { verbs: all(), non_resource_urls: Some(all()), ..PolicyRule::default() },
    ]
    .map(|rule| Arc::new(Rule::from(rule)))
}

/// Refuses rules that the user's own do not cover.
fn confirm(write: &Write<'_>, resolver: &Resolver, rules: &[Arc<Rule>]) -> Result<(), Status> {
    let own = resolver.rules_for(write.user, write.namespace);
    let refused = |why: String| Err(Status::forbidden(write.resource, write.new.name(), why));
    // Few words may grant a great deal: a rule of three long lists has an atom for each combination.
    let held: HashSet<*const Rule> = own.rules.iter().map(Arc::as_ptr).collect();
    let rest: Vec<&Arc<Rule>> = rules.iter().filter(|rule| !held.contains(&Arc::as_ptr(rule))).collect();
    if rest.len().saturating_mul(own.rules.len()) > MAX_PAIRS {
        return refused(format!("{} rules cannot be compared with the {} that are held", rest.len(), own.rules.len()));
    }
    let own_rules: Vec<Held<'_>> = own.rules.iter().map(|rule| Held::new(rule)).collect();
    let rules: Vec<&PolicyRule> = rest.iter().map(|rule| rule.policy()).filter(|rule| !own_rules.iter().any(|own| own.covers(rule))).collect();
    let atoms = rules.iter().fold(0_usize, |sum, rule| sum.saturating_add(atom_count(rule)));
    if atoms > MAX_ATOMS || atoms.saturating_mul(own_rules.len()) > MAX_PAIRS {
        return refused(format!("the rules grant {atoms} permissions that are not held as a whole, of which at most {MAX_ATOMS} can be compared"));
    }
    let missing = uncovered(&own_rules, &rules);
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
        why.push_str(&format!("; resolution errors: [{}]", aggregate(&own.errors)));
    }
    Err(Status::forbidden(write.resource, write.new.name(), why))
}

/// The atoms (one verb, one resource, one name or one URL) of `wanted` that no rule of `own` covers.
fn uncovered(own: &[Held<'_>], wanted: &[&PolicyRule]) -> Vec<PolicyRule> {
    wanted.iter().flat_map(|rule| atoms(rule)).filter(|atom| !own.iter().any(|rule| rule.covers(atom))).collect()
}

/// How many permissions of a role are compared one by one with its writer's.
const MAX_ATOMS: usize = 10_000;
/// How many pairs of a granted and a held rule are compared.
const MAX_PAIRS: usize = 5_000_000;

/// How many atoms a rule has.
fn atom_count(rule: &PolicyRule) -> usize {
    let lengths = [list(&rule.api_groups).len(), list(&rule.resources).len(), rule.verbs.len(), list(&rule.resource_names).len().max(1)];
    let resources = lengths.into_iter().fold(1_usize, usize::saturating_mul);
    resources.saturating_add(list(&rule.non_resource_urls).len().saturating_mul(rule.verbs.len()))
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

/// A list of words, found by search where they are many.
enum Words<'a> {
    All,
    Few(&'a [String]),
    Many(HashSet<&'a str>),
}

impl<'a> Words<'a> {
    fn new(words: &'a [String]) -> Self {
        match words {
            words if words.iter().any(|word| word == "*") => Words::All,
            words if words.len() < 8 => Words::Few(words),
            words => Words::Many(words.iter().map(String::as_str).collect()),
        }
    }

    fn have(&self, word: &str) -> bool {
        match self {
            Words::All => true,
            Words::Few(words) => words.iter().any(|own| own == word),
            Words::Many(words) => words.contains(word),
        }
    }

    fn have_all(&self, words: &[String]) -> bool {
        matches!(self, Words::All) || words.iter().all(|word| self.have(word))
    }
}

/// A rule that a user has, made ready to be compared with many.
struct Held<'a> {
    rule: &'a Rule,
    verbs: Words<'a>,
    api_groups: Words<'a>,
    resources: Words<'a>,
    /// Subresources of any resource, such as `*/scale`.
    of_any_parent: HashSet<&'a str>,
}

impl<'a> Held<'a> {
    fn new(rule: &'a Rule) -> Self {
        let policy = rule.policy();
        let resources = list(&policy.resources);
        Held {
            rule,
            verbs: Words::new(&policy.verbs),
            api_groups: Words::new(list(&policy.api_groups)),
            resources: Words::new(resources),
            of_any_parent: resources.iter().filter_map(|resource| resource.strip_prefix("*/")).collect(),
        }
    }

    /// Whether it allows all that `wanted` does.
    fn covers(&self, wanted: &PolicyRule) -> bool {
        let own_names = list(&self.rule.policy().resource_names);
        let names = list(&wanted.resource_names);
        let names_match = || own_names.is_empty() || (!names.is_empty() && names.iter().all(|name| self.rule.names(name)));
        let of_any_parent = |wanted: &str| wanted.split_once('/').is_some_and(|(_, wanted)| self.of_any_parent.contains(wanted));
        let resource = |wanted: &String| self.resources.have(wanted) || of_any_parent(wanted);
        let url = |wanted: &String| list(&self.rule.policy().non_resource_urls).iter().any(|own| url_matches(own, wanted));
        self.verbs.have_all(&wanted.verbs)
            && self.api_groups.have_all(list(&wanted.api_groups))
            && list(&wanted.resources).iter().all(resource)
            && list(&wanted.non_resource_urls).iter().all(url)
            && names_match()
    }
}

/// Joins atoms that differ only in their verb.
fn compact(atoms: Vec<PolicyRule>) -> Vec<PolicyRule> {
    let mut joined = Vec::<PolicyRule>::new();
    let mut places = HashMap::new();
    for atom in atoms {
        let place = atom.resources.as_ref().map(|_| (atom.api_groups.clone(), atom.resources.clone(), atom.resource_names.clone()));
        let known = place.as_ref().and_then(|place| places.get(place)).copied();
        match known.and_then(|at: usize| joined.get_mut(at)) {
            Some(other) => other.verbs.extend(atom.verbs),
            None => {
                places.extend(place.map(|place| (place, joined.len())));
                joined.push(atom);
            }
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
