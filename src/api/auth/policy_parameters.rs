//! Nobody makes an admission policy read for them what they may not read themselves: the check on writes of policies and bindings that
//! name parameters.

use serde_json::Value;

use super::{Attributes, Authorizer, Decision, decide, groups, rbac::escalation::Write};
use crate::{
    meta::{GroupVersion, Object},
    resources::Registry,
    status::FieldError,
};

const GROUP: &str = "admissionregistration.k8s.io";
const POLICIES: [&str; 2] = ["validatingadmissionpolicies", "mutatingadmissionpolicies"];
const BINDINGS: [&str; 2] = ["validatingadmissionpolicybindings", "mutatingadmissionpolicybindings"];

/// The resource that parameters are of; `*` for what is not known.
struct Kind {
    group: String,
    version: String,
    resource: String,
}

impl Kind {
    fn of(param_kind: Option<&Value>, registry: &Registry) -> Self {
        let any = || "*".to_owned();
        let text = |name: &str| param_kind.and_then(|kind| kind.get(name)).and_then(Value::as_str).unwrap_or_default();
        if param_kind.is_none() || text("apiVersion").matches('/').count() > 1 {
            return Kind { group: any(), version: any(), resource: any() };
        }
        let GroupVersion { group, version } = GroupVersion::parse(text("apiVersion"));
        let row = registry.by_kind(&group, text("kind")).filter(|row| row.serves(&version));
        Kind { group: group.to_string(), version: version.to_string(), resource: row.map_or_else(any, |row| row.plural.to_string()) }
    }
}

/// What is wrong with a write, if its user may not read the parameters that it names. `policy` finds a binding's policy.
pub async fn fault(
    write: &Write<'_>,
    registry: &Registry,
    policy: impl Fn(&str, &str) -> Option<Object>,
    authorizer: &dyn Authorizer,
) -> Option<FieldError> {
    let resource = &*write.resource.resource;
    let is_master = write.user.groups.iter().any(|group| group == groups::MASTERS);
    if &*write.resource.group != GROUP || is_master {
        None
    } else if POLICIES.contains(&resource) {
        of_policy(write, registry, authorizer).await
    } else if let Some(index) = BINDINGS.iter().position(|binding| *binding == resource) {
        of_binding(write, registry, policy(POLICIES[index], write.new.str(&["spec", "policyName"])), authorizer).await
    } else {
        None
    }
}

/// What an object names in its spec, where anything of that is not the same as before: what is said about parameters tells what they are,
/// so that whoever changes it must be able to read them, too.
fn named<'a>(write: &'a Write<'_>, field: &str) -> Option<&'a Value> {
    let is_same = write.old.is_some_and(|old| old.get(&["spec"]) == write.new.get(&["spec"]));
    if is_same { None } else { write.new.get(&["spec", field]).filter(|value| value.is_object()) }
}

async fn may(write: &Write<'_>, authorizer: &dyn Authorizer, kind: &Kind, verb: &str, namespace: &str, name: &str) -> bool {
    let (group, version, resource) = (&*kind.group, &*kind.version, &*kind.resource);
    let attributes = Attributes { verb, resource, group, version, namespace, name, ..Attributes::default() };
    decide(authorizer, write.user, &attributes).await == Decision::Allow
}

async fn of_policy(write: &Write<'_>, registry: &Registry, authorizer: &dyn Authorizer) -> Option<FieldError> {
    let kind = named(write, "paramKind")?;
    if may(write, authorizer, &Kind::of(Some(kind), registry), "get", "*", "*").await {
        return None;
    }
    let part = |name: &str| write.new.str(&["spec", "paramKind", name]);
    let detail = format!(
        "user {} must have \"get\" permission on all objects of the referenced paramKind (kind={}, apiVersion={})",
        write.user.name,
        part("kind"),
        part("apiVersion")
    );
    Some(FieldError::forbidden("spec.paramKind", detail))
}

async fn of_binding(write: &Write<'_>, registry: &Registry, policy: Option<Object>, authorizer: &dyn Authorizer) -> Option<FieldError> {
    let reference = named(write, "paramRef")?;
    let part = |name: &str| reference.get(name).and_then(Value::as_str).unwrap_or_default();
    let kind = policy.as_ref().and_then(|policy| policy.get(&["spec", "paramKind"]));
    let kind_of = Kind::of(kind, registry);
    let verb = if part("name").is_empty() { "list" } else { "get" };
    if may(write, authorizer, &kind_of, verb, part("namespace"), part("name")).await {
        return None;
    }
    let who = format!("user {} does not have {verb:?} permission", write.user.name);
    let minimum = "to determine minimum required permissions and";
    let detail = match (&policy, kind) {
        (None, _) => {
            let name = write.new.str(&["spec", "policyName"]);
            format!("unable to get policy {name} {minimum} {who} for all groups, versions and resources")
        }
        (_, Some(kind)) if kind_of.resource == "*" => {
            format!("unable to resolve paramKind {kind} {minimum} {who} for all groups, versions and resources")
        }
        _ => format!("{who} on the object referenced by paramRef"),
    };
    Some(FieldError::forbidden("spec.paramRef", detail))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{meta::GroupResource, resources::builtin, service::UserInfo};

    /// Lets everybody read config maps, one by one.
    struct Readers;

    impl Authorizer for Readers {
        fn authorize(&self, _user: &UserInfo, attributes: &Attributes<'_>) -> Decision {
            match (attributes.verb, attributes.resource) {
                ("get", "configmaps") => Decision::Allow,
                _ => Decision::NoOpinion(String::new()),
            }
        }
    }

    fn said(resource: &str, groups: &[&str], new: &Value, old: Option<&Value>) -> String {
        let user = UserInfo { name: "eve".into(), groups: groups.iter().map(|group| (*group).to_owned()).collect(), ..UserInfo::default() };
        let object = |value: &Value| Object::from_value(json!({"spec": value})).expect("an object");
        let (new, old, resource) = (object(new), old.map(object), GroupResource::new(GROUP, resource));
        let write = Write { user: &user, resource: &resource, namespace: "", new: &new, old: old.as_ref() };
        let policy = |_: &str, name: &str| (name == "known").then(|| object(&json!({"paramKind": {"apiVersion": "v1", "kind": "ConfigMap"}})));
        futures::executor::block_on(fault(&write, &Registry::new(builtin()), policy, &Readers)).map(|error| error.to_string()).unwrap_or_default()
    }

    fn kind(kind: &str) -> Value {
        json!({"paramKind": {"apiVersion": "v1", "kind": kind}})
    }

    #[test]
    fn a_policy_takes_parameters_that_its_writer_may_read() {
        let secret = said("validatingadmissionpolicies", &[], &kind("Secret"), None);
        let want = "spec.paramKind: Forbidden: user eve must have \"get\" permission on all objects of the referenced paramKind (kind=Secret, apiVersion=v1)";
        assert_eq!(secret, want);
        assert_eq!(said("mutatingadmissionpolicies", &[], &kind("ConfigMap"), None), "");
        assert_eq!(said("validatingadmissionpolicies", &[groups::MASTERS], &kind("Secret"), None), "");
        assert_eq!(said("validatingadmissionpolicies", &[], &kind("Secret"), Some(&kind("Secret"))), "", "it is there already");
        assert_eq!(said("validatingadmissionpolicies", &[], &json!({}), None), "");
    }

    #[test]
    fn whoever_changes_what_is_asked_about_parameters_may_read_them() {
        let policy = |expression: &str| json!({"paramKind": {"apiVersion": "v1", "kind": "Secret"}, "validations": [{"expression": expression}]});
        let (old, new) = (policy("true"), policy("params.data.a == 'b'"));
        let of = |groups: &[&str], new: &Value| said("validatingadmissionpolicies", groups, new, Some(&old));
        assert!(of(&[], &new).starts_with("spec.paramKind: Forbidden: user eve must have"));
        assert_eq!(of(&[], &old), "", "nothing of it changes");
        assert_eq!(of(&[groups::MASTERS], &new), "");
        let binding = |actions: Value| json!({"policyName": "gone", "paramRef": {"name": "p", "namespace": "n"}, "validationActions": actions});
        let (old, new) = (binding(json!(["Deny"])), binding(json!(["Audit"])));
        let of = |new: &Value| said("validatingadmissionpolicybindings", &[], new, Some(&old));
        assert!(of(&new).starts_with("spec.paramRef: Forbidden: unable to get policy gone"));
        assert_eq!(of(&old), "", "nothing of it changes");
    }

    #[test]
    fn a_binding_gives_parameters_that_its_writer_may_read() {
        let binding = |policy: &str, reference: Value| json!({"policyName": policy, "paramRef": reference});
        let named = || json!({"name": "p", "namespace": "n"});
        let of = |spec: &Value, old: Option<&Value>| said("validatingadmissionpolicybindings", &[], spec, old);
        assert_eq!(of(&binding("known", named()), None), "");
        assert_eq!(
            of(&binding("known", json!({"selector": {}})), None),
            "spec.paramRef: Forbidden: user eve does not have \"list\" permission on the object referenced by paramRef"
        );
        let unknown = "spec.paramRef: Forbidden: unable to get policy gone to determine minimum required permissions and user eve does not have \"get\" \
                       permission for all groups, versions and resources";
        assert_eq!(of(&binding("gone", named()), None), unknown);
        assert_eq!(of(&binding("gone", named()), Some(&binding("gone", named()))), "", "it is there already");
        assert_eq!(of(&binding("gone", named()), Some(&binding("known", named()))), unknown);
    }
}
