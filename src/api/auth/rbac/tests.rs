use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{escalation::Write, *};
use crate::{
    meta::{GroupResource, Object, ObjectKey},
    stored::StoredObject,
};

/// A cache with fixed content, which does not count changes.
#[derive(Default)]
pub(crate) struct FixedListers(BTreeMap<(String, ObjectKey), Arc<StoredObject>>);

/// A cache that changes and counts.
struct CountingListers(parking_lot::Mutex<(FixedListers, u64)>);

impl Listers for CountingListers {
    fn get(&self, resource: &GroupResource, key: &ObjectKey) -> Option<Arc<StoredObject>> {
        self.0.lock().0.get(resource, key)
    }

    fn list(&self, resource: &GroupResource, namespace: &str) -> Vec<Arc<StoredObject>> {
        self.0.lock().0.list(resource, namespace)
    }

    fn version(&self, _resource: &GroupResource) -> Option<crate::meta::Revision> {
        Some(crate::meta::Revision(self.0.lock().1))
    }
}

impl FixedListers {
    pub(crate) fn add(&mut self, resource: &GroupResource, object: Value) {
        let object = Object::from_value(object).expect("an object");
        let stored = StoredObject::from_object(&object).expect("well formed");
        self.0.insert((resource.to_string(), stored.key.clone()), Arc::new(stored));
    }

    pub(crate) fn remove(&mut self, resource: &GroupResource, key: &ObjectKey) {
        self.0.remove(&(resource.to_string(), key.clone()));
    }
}

impl Listers for FixedListers {
    fn get(&self, resource: &GroupResource, key: &ObjectKey) -> Option<Arc<StoredObject>> {
        self.0.get(&(resource.to_string(), key.clone())).cloned()
    }

    fn list(&self, resource: &GroupResource, namespace: &str) -> Vec<Arc<StoredObject>> {
        let of = |(kind, key): &(String, ObjectKey)| *kind == resource.to_string() && (namespace.is_empty() || &*key.namespace == namespace);
        self.0.iter().filter(|(key, _)| of(key)).map(|(_, stored)| stored.clone()).collect()
    }
}

fn resource(name: &str) -> GroupResource {
    GroupResource::new(GROUP, name)
}

fn role(kind: &str, namespace: &str, name: &str, rules: Value) -> Value {
    json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": kind, "metadata": {"name": name, "namespace": namespace}, "rules": rules})
}

fn binding(kind: &str, namespace: &str, name: &str, role: (&str, &str), subject: Value) -> Value {
    let role = json!({"apiGroup": GROUP, "kind": role.0, "name": role.1});
    let metadata = json!({"name": name, "namespace": namespace});
    json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": kind, "metadata": metadata, "roleRef": role, "subjects": [subject]})
}

fn policy() -> Rbac {
    Rbac::new(Arc::new(content()))
}

fn content() -> FixedListers {
    let mut listers = FixedListers::default();
    let reader = json!([{"verbs": ["get", "list"], "apiGroups": [""], "resources": ["pods"]}]);
    listers.add(&resource("clusterroles"), role("ClusterRole", "", "reader", reader.clone()));
    listers.add(&resource("roles"), role("Role", "ns", "writer", json!([{"verbs": ["create"], "apiGroups": [""], "resources": ["pods"]}])));
    listers.add(
        &resource("clusterrolebindings"),
        binding("ClusterRoleBinding", "", "readers", ("ClusterRole", "reader"), json!({"kind": "Group", "name": "readers"})),
    );
    listers.add(
        &resource("clusterrolebindings"),
        binding("ClusterRoleBinding", "", "broken", ("ClusterRole", "gone"), json!({"kind": "User", "name": "ann"})),
    );
    listers.add(
        &resource("rolebindings"),
        binding("RoleBinding", "ns", "writers", ("Role", "writer"), json!({"kind": "ServiceAccount", "name": "bot"})),
    );
    listers.add(&resource("rolebindings"), binding("RoleBinding", "ns", "ann", ("ClusterRole", "reader"), json!({"kind": "User", "name": "ann"})));
    listers
}

fn user(name: &str, groups: &[&str]) -> UserInfo {
    UserInfo { name: name.into(), groups: groups.iter().map(|group| (*group).to_owned()).collect(), ..UserInfo::default() }
}

fn pods<'a>(verb: &'a str, namespace: &'a str) -> Attributes<'a> {
    Attributes { verb, resource: "pods", namespace, ..Attributes::default() }
}

#[test]
fn cluster_bindings_hold_everywhere_and_role_bindings_in_their_namespace() {
    let rbac = policy();
    let reader = user("rob", &["readers"]);
    assert_eq!(rbac.authorize(&reader, &pods("list", "")), Decision::Allow);
    assert_eq!(rbac.authorize(&reader, &pods("get", "ns")), Decision::Allow);
    assert_ne!(rbac.authorize(&reader, &pods("create", "ns")), Decision::Allow);
    let bot = user("system:serviceaccount:ns:bot", &[]);
    assert_eq!(rbac.authorize(&bot, &pods("create", "ns")), Decision::Allow);
    assert_ne!(rbac.authorize(&bot, &pods("create", "other")), Decision::Allow);
    assert_ne!(rbac.authorize(&user("system:serviceaccount:other:bot", &[]), &pods("create", "ns")), Decision::Allow);
    let ann = user("ann", &[]);
    assert_eq!(rbac.authorize(&ann, &pods("get", "ns")), Decision::Allow);
    assert_ne!(rbac.authorize(&ann, &pods("get", "")), Decision::Allow);
}

#[test]
fn reasons_name_the_binding_or_the_missing_role() {
    let rbac = policy();
    let (_, reason) = rbac.explain(&user("rob", &["readers"]), &pods("get", "ns"));
    assert_eq!(reason, "RBAC: allowed by ClusterRoleBinding \"readers\" of ClusterRole \"reader\" to Group \"readers\"");
    let (_, reason) = rbac.explain(&user("system:serviceaccount:ns:bot", &[]), &pods("create", "ns"));
    assert_eq!(reason, "RBAC: allowed by RoleBinding \"writers/ns\" of Role \"writer\" to ServiceAccount \"bot/ns\"");
    let denied = rbac.authorize(&user("ann", &[]), &pods("delete", "ns"));
    assert_eq!(denied, Decision::NoOpinion("RBAC: clusterrole.rbac.authorization.k8s.io \"gone\" not found".into()));
}

fn check(rbac: &Rbac, who: &UserInfo, kind: &str, namespace: &str, new: Value, old: Option<Value>) -> Result<(), crate::Status> {
    let object = |value| Object::from_value(value).expect("an object");
    let (new, old) = (object(new), old.map(object));
    let write = Write { user: who, resource: &resource(kind), namespace, new: &new, old: old.as_ref() };
    futures::executor::block_on(escalation::check(&write, rbac.resolver(), rbac))
}

#[test]
fn nobody_grants_what_they_do_not_hold() {
    let rbac = policy();
    let reader = user("rob", &["readers"]);
    let held = json!([{"verbs": ["get"], "apiGroups": [""], "resources": ["pods"], "resourceNames": ["a"]}]);
    assert_eq!(check(&rbac, &reader, "roles", "ns", role("Role", "ns", "r", held), None), Ok(()));
    let more =
        json!([{"verbs": ["get", "create", "delete"], "apiGroups": [""], "resources": ["pods"]}, {"verbs": ["get"], "nonResourceURLs": ["/x"]}]);
    let status = check(&rbac, &reader, "roles", "ns", role("Role", "ns", "r", more.clone()), None).expect_err("escalates");
    let want = "roles.rbac.authorization.k8s.io \"r\" is forbidden: user \"rob\" (groups=[\"readers\"]) is attempting to grant RBAC permissions not currently held:\n\
                {APIGroups:[\"\"], Resources:[\"pods\"], Verbs:[\"create\" \"delete\"]}\n{NonResourceURLs:[\"/x\"], Verbs:[\"get\"]}";
    assert_eq!((status.code, status.message.as_str()), (403, want));
    assert_eq!(check(&rbac, &user("root", &["system:masters"]), "roles", "ns", role("Role", "ns", "r", more), None), Ok(()));
}

/// RBAC with a webhook before it that allows whom it was asked about before, and nobody whom it is asked about.
struct Stricter(Rbac);

impl Authorizer for Stricter {
    fn authorize(&self, _user: &UserInfo, _attributes: &Attributes<'_>) -> Decision {
        Decision::Allow
    }

    fn decide<'a>(&'a self, _user: &'a UserInfo, _attributes: &'a Attributes<'a>) -> Option<futures::future::BoxFuture<'a, Decision>> {
        Some(Box::pin(std::future::ready(Decision::Deny("no".into()))))
    }
}

#[test]
fn whoever_may_escalate_is_asked_of_those_who_ask_others() {
    let (authorizer, object) = (Stricter(policy()), |value| Object::from_value(value).expect("an object"));
    let rules = json!([{"verbs": ["delete"], "apiGroups": [""], "resources": ["pods"]}]);
    for (kind, new) in [
        ("roles", role("Role", "ns", "r", rules)),
        ("rolebindings", binding("RoleBinding", "ns", "b", ("Role", "writer"), json!({"kind": "User", "name": "eve"}))),
    ] {
        let write = Write { user: &user("rob", &["readers"]), resource: &resource(kind), namespace: "ns", new: &object(new), old: None };
        let checked = futures::executor::block_on(escalation::check(&write, authorizer.0.resolver(), &authorizer));
        assert_eq!(checked.expect_err("escalates").code, 403, "{kind}");
    }
}

#[test]
fn bindings_need_the_rules_of_their_role_and_a_role_that_exists() {
    let rbac = policy();
    let reader = user("rob", &["readers"]);
    let to = json!({"kind": "User", "name": "eve"});
    let own = binding("RoleBinding", "ns", "b", ("ClusterRole", "reader"), to.clone());
    assert_eq!(check(&rbac, &reader, "rolebindings", "ns", own.clone(), None), Ok(()));
    let foreign = binding("RoleBinding", "ns", "b", ("Role", "writer"), to.clone());
    assert_eq!(check(&rbac, &reader, "rolebindings", "ns", foreign, None).expect_err("escalates").code, 403);
    let missing = binding("ClusterRoleBinding", "", "b", ("ClusterRole", "gone"), to);
    assert_eq!(check(&rbac, &reader, "clusterrolebindings", "", missing, None).expect_err("no such role").code, 404);
    let mut finalized = own.clone();
    finalized["metadata"]["finalizers"] = json!(["x"]);
    assert_eq!(check(&rbac, &user("nobody", &[]), "rolebindings", "ns", finalized, Some(own)), Ok(()));
}

#[test]
fn aggregation_needs_all_there_is() {
    let rbac = policy();
    let mut gathering = role("ClusterRole", "", "g", json!([]));
    gathering["aggregationRule"] = json!({"clusterRoleSelectors": [{"matchLabels": {"a": "b"}}]});
    let status = check(&rbac, &user("rob", &["readers"]), "clusterroles", "", gathering, None).expect_err("too much");
    assert!(status.message.ends_with("must have cluster-admin privileges to use the aggregationRule"), "{}", status.message);
}

#[test]
fn what_is_known_of_the_policy_goes_when_it_changes() {
    let listers = Arc::new(CountingListers(parking_lot::Mutex::new((content(), 1))));
    let rbac = Rbac::new(listers.clone());
    let reader = user("rob", &["readers"]);
    for _ in 0..2 {
        assert_eq!(rbac.authorize(&reader, &pods("list", "")), Decision::Allow);
        assert_ne!(rbac.authorize(&user("rob", &[]), &pods("list", "")), Decision::Allow);
    }
    let mut state = listers.0.lock();
    state.0.remove(&resource("clusterrolebindings"), &ObjectKey::cluster("readers"));
    state.1 += 1;
    drop(state);
    assert_ne!(rbac.authorize(&reader, &pods("list", "")), Decision::Allow);
}
