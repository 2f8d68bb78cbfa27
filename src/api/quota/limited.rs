//! What nobody may consume without a quota for it: `limitedResources` in the configuration of the plugin `ResourceQuota`.

use super::{
    demand::{Write, in_scope, is_concerned},
    hard,
    scopes::{self, Scope},
};
use crate::meta::{GroupResource, Object, amounts::Amounts, operation::Operation};

/// What objects of one resource may only have, or be, where a quota covers that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LimitedResource {
    pub resource: GroupResource,
    /// Parts of the names under which they consume something.
    pub contains: Vec<String>,
    /// Scopes; of whatever resource, as upstream.
    pub scopes: Vec<Scope>,
}

/// What no quota covers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Uncovered {
    /// Names, in order.
    Resources(Vec<String>),
    /// Scopes, as upstream shows them.
    Scopes(String),
}

/// What a write would consume without a quota although it is `limited`; `None` where that is nothing, or no more than before.
pub fn uncovered(
    limited: &[LimitedResource],
    resource: &GroupResource,
    quotas: &[Object],
    write: Write<'_>,
    now: jiff::Timestamp,
) -> Option<Uncovered> {
    if limited.is_empty() {
        return None;
    }
    let cost = write.evaluator.cost(write.new, now);
    let of_resource = || limited.iter().filter(|one| one.resource == *resource).flat_map(|one| &one.contains);
    let consumed = cost.without_zeros().only(|name| of_resource().any(|part| name.contains(part.as_str())));
    let scopes: Vec<&Scope> = limited.iter().flat_map(|one| &one.scopes).filter(|scope| write.evaluator.in_scope(scope, write.new)).collect();
    let concerned: Vec<&Object> = quotas.iter().filter(|quota| is_concerned(quota, write)).collect();
    if (consumed.is_empty() && scopes.is_empty()) || !costs_more(&concerned, write, &cost, now) {
        return None;
    }
    let covered = |name: &str| concerned.iter().any(|quota| hard(quota).get(name).is_some());
    let missing: Vec<String> = consumed.names().filter(|name| !covered(name)).map(str::to_owned).collect();
    if !missing.is_empty() {
        return Some(Uncovered::Resources(missing));
    }
    let selects = |quota: &Object, name: &str| scopes::of(quota).iter().any(|scope| scope.name == name && write.evaluator.in_scope(scope, write.new));
    let open = scopes.into_iter().filter(|scope| !quotas.iter().any(|quota| selects(quota, &scope.name)));
    let open: Vec<String> = open.map(shown).collect();
    (!open.is_empty()).then(|| Uncovered::Scopes(format!("[{}]", open.join(" "))))
}

/// Whether a write costs any quota that it counts against more than before; where there is none, whether it costs more at all.
fn costs_more(concerned: &[&Object], write: Write<'_>, cost: &Amounts, now: jiff::Timestamp) -> bool {
    let before = write.old.filter(|_| write.operation == Operation::Update);
    let more = |counted: bool| match before.filter(|_| counted) {
        Some(old) => cost.less(&write.evaluator.cost(old, now)),
        None => cost.clone(),
    };
    let counted = |quota: &Object| before.is_some_and(|old| in_scope(quota, write.evaluator, old));
    match concerned {
        [] => !more(true).without_zeros().is_empty(),
        quotas => quotas.iter().any(|&quota| !more(counted(quota)).without_zeros().is_empty()),
    }
}

/// As Go prints one.
fn shown(scope: &Scope) -> String {
    format!("{{{} {} [{}]}}", scope.name, scope.operator, scope.values.join(" "))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::quota::Evaluator;

    fn object(value: Value) -> Object {
        Object::from_value(value).expect("an object")
    }

    fn quota(name: &str, hard: Value, scopes: Value) -> Object {
        object(json!({"metadata": {"name": name}, "spec": {"scopeSelector": {"matchExpressions": scopes}}, "status": {"hard": hard, "used": hard}}))
    }

    fn pod(class: &str) -> Object {
        object(json!({"spec": {"priorityClassName": class, "containers": [{"resources": {"requests": {"cpu": "1"}}}]}}))
    }

    fn limits() -> Vec<LimitedResource> {
        let critical = Scope { name: "PriorityClass".into(), operator: "In".into(), values: vec!["critical".into(), "vital".into()] };
        let resource = GroupResource::new("", "pods");
        vec![LimitedResource { resource, contains: vec!["requests.".into()], scopes: vec![critical] }]
    }

    fn found(limited: &[LimitedResource], quotas: &[Object], new: &Object, old: Option<&Object>) -> Option<Uncovered> {
        let operation = if old.is_some() { Operation::Update } else { Operation::Create };
        let write = Write { evaluator: &Evaluator::Pods, operation, new, old };
        uncovered(limited, &GroupResource::new("", "pods"), quotas, write, jiff::Timestamp::UNIX_EPOCH)
    }

    #[test]
    fn what_is_limited_needs_a_quota() {
        let covering = quota("q", json!({"requests.cpu": "9"}), json!([]));
        let missing = Some(Uncovered::Resources(vec!["requests.cpu".into()]));
        assert_eq!(found(&limits(), &[], &pod(""), None), missing);
        assert_eq!(found(&limits(), &[quota("other", json!({"pods": "9"}), json!([]))], &pod(""), None), missing);
        assert_eq!(found(&limits(), std::slice::from_ref(&covering), &pod(""), None), None);
        assert_eq!(found(&[], &[], &pod("critical"), None), None);
        let of_others = LimitedResource { resource: GroupResource::new("", "services"), scopes: Vec::new(), ..limits().remove(0) };
        assert_eq!(found(&[of_others], &[], &pod(""), None), None);
    }

    #[test]
    fn a_scope_that_is_limited_needs_a_quota_that_selects_it() {
        let only_scope = vec![LimitedResource { contains: Vec::new(), ..limits().remove(0) }];
        let refused = Some(Uncovered::Scopes("[{PriorityClass In [critical vital]}]".into()));
        assert_eq!(found(&only_scope, &[], &pod("critical"), None), refused);
        assert_eq!(found(&only_scope, &[], &pod("usual"), None), None);
        let of = |class: &str| quota("q", json!({"pods": "1"}), json!([{"scopeName": "PriorityClass", "operator": "In", "values": [class]}]));
        assert_eq!(found(&only_scope, &[of("critical")], &pod("critical"), None), None);
        assert_eq!(found(&only_scope, &[of("vital")], &pod("critical"), None), refused);
    }

    #[test]
    fn what_was_there_before_needs_none() {
        let pod = pod("critical");
        assert_eq!(found(&limits(), &[], &pod, Some(&pod)), None);
    }
}
