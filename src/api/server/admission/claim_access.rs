//! `ResourceClaimAccess`: what claims for devices may say depends on where they are and on who writes them.
//!
//! Devices with the rights of an administrator are for namespaces that are marked so. Only who may bind claims says which
//! devices a claim got and who uses it, and only who may speak for a driver says what became of its devices. Upstream has no
//! plugin for it but checks it along with the object, so refusals are 422 as there.

use std::collections::{BTreeSet, HashMap};

use async_trait::async_trait;
use serde_json::Value;
use troupe_api::{
    auth::{self, Decision, forbidden},
    meta::{GroupResource, Object, ObjectKey},
    resources::{
        tree::{flag, items, text},
        validation::devices::device_key,
    },
    status::{FieldError, Status},
};

use super::{Attributes, Operation, Plugin, ValidatingPlugin};

const MARK: &str = "resource.kubernetes.io/admin-access";
const NODE_NAME: &str = "authentication.kubernetes.io/node-name";
/// An update needs one of these; which of them the client used makes no difference to what it writes.
const VERBS: [&str; 2] = ["update", "patch"];

/// The plugin.
#[derive(Clone, Copy, Debug, Default)]
pub struct ResourceClaimAccess;

impl Plugin for ResourceClaimAccess {
    fn name(&self) -> &'static str {
        "ResourceClaimAccess"
    }
}

#[async_trait]
impl ValidatingPlugin for ResourceClaimAccess {
    async fn validate(&self, request: &Attributes<'_>) -> Result<(), Status> {
        let (resource, subresource) = (&request.target.resource, &*request.target.subresource);
        let Some(object) = request.object().filter(|_| &*resource.group == "resource.k8s.io") else { return Ok(()) };
        let errors = match (request.operation, &*resource.plural, subresource) {
            (Operation::Create, "resourceclaims", "") => asks_for_rights(request, object.list(&["spec", "devices", "requests"])).await?,
            (Operation::Create, "resourceclaimtemplates", "") => {
                asks_for_rights(request, object.list(&["spec", "spec", "devices", "requests"])).await?
            }
            (Operation::Update, "resourceclaims", "status") => status_update(request, object, request.old).await?,
            _ => return Ok(()),
        };
        if errors.is_empty() { Ok(()) } else { Err(Status::invalid(&resource.group, &resource.kind, object.name(), errors)) }
    }
}

async fn asks_for_rights(request: &Attributes<'_>, requests: &[Value]) -> Result<Vec<FieldError>, Status> {
    let Some(index) = requests.iter().position(|request| flag(request, &["exactly", "adminAccess"])) else { return Ok(Vec::new()) };
    in_marked_namespace(request, format!("spec.devices.requests[{index}].adminAccess")).await
}

/// An error about `field` unless the namespace is marked for administrators.
async fn in_marked_namespace(request: &Attributes<'_>, field: String) -> Result<Vec<FieldError>, Status> {
    let (namespaces, key) = (GroupResource::new("", "namespaces"), ObjectKey::cluster(request.target.namespace.clone()));
    let found = match request.reads.listers().get(&namespaces, &key) {
        Some(found) => Some(found),
        None => request.reads.live(&namespaces, &key).await?,
    };
    if found.is_some_and(|namespace| namespace.to_object().str(&["metadata", "labels", MARK]) == "true") {
        return Ok(Vec::new());
    }
    Ok(vec![FieldError::forbidden(field, format!("admin access to devices requires the `{MARK}: true` label on the containing namespace"))])
}

async fn status_update(request: &Attributes<'_>, new: &Object, old: Option<&Object>) -> Result<Vec<FieldError>, Status> {
    let Some(old) = old else { return Ok(Vec::new()) };
    let granted = |claim: &Object| {
        let results = claim.list(&["status", "allocation", "devices", "results"]);
        results.iter().position(|result| flag(result, &["adminAccess"]))
    };
    let mut errors = match (granted(old), granted(new)) {
        (None, Some(index)) => in_marked_namespace(request, format!("status.allocation.devices.results[{index}].adminAccess")).await?,
        _ => Vec::new(),
    };
    errors.extend(binding(request, new, old));
    if new.get(&["status", "allocation"]).is_some() {
        errors.extend(device_statuses(request, new, old));
    }
    Ok(errors)
}

/// Which devices a claim got, and who uses it.
fn binding(request: &Attributes<'_>, new: &Object, old: &Object) -> Option<FieldError> {
    let same = |field| new.get(&["status", field]) == old.get(&["status", field]);
    if same("allocation") && same("reservedFor") {
        return None;
    }
    let refusal = refusal(request, &VERBS, "binding", "", "")?;
    let needs = r#"changing status.allocation or status.reservedFor requires resource="resourceclaims/binding", verb="update" permission"#;
    Some(FieldError::forbidden("status.allocation", format!("{needs}: {refusal}")))
}

/// What became of devices: an error for each driver that the writer may not speak for.
fn device_statuses(request: &Attributes<'_>, new: &Object, old: &Object) -> Vec<FieldError> {
    let prefixes: &[&str] = if is_on_node_of(request, new) { &["associated-node", "arbitrary-node"] } else { &["arbitrary-node"] };
    let verbs: Vec<String> = prefixes.iter().flat_map(|prefix| VERBS.map(|verb| format!("{prefix}:{verb}"))).collect();
    let verbs: Vec<&str> = verbs.iter().map(String::as_str).collect();
    let shown = prefixes.iter().map(|prefix| format!("{prefix}:update")).collect::<Vec<_>>().join(" ");
    let needs = format!(r#"changing status.devices requires resource="resourceclaims/driver", verb="[{shown}]" permission"#);
    let drivers = changed_drivers(new, old);
    let refusals = drivers.iter().filter_map(|driver| refusal(request, &verbs, "driver", &request.target.namespace, driver));
    refusals.map(|refusal| FieldError::forbidden("status.devices", format!("{needs}: {refusal}"))).collect()
}

/// Drivers of devices of which something else is said than before.
fn changed_drivers<'a>(new: &'a Object, old: &'a Object) -> BTreeSet<&'a str> {
    let devices = |claim: &'a Object| claim.list(&["status", "devices"]).iter();
    let mut before: HashMap<String, &Value> = devices(old).map(|device| (device_key(device), device)).collect();
    let mut changed: Vec<&Value> = devices(new).filter(|device| before.remove(&device_key(device)) != Some(*device)).collect();
    changed.extend(before.into_values());
    changed.into_iter().map(|device| text(device, &["driver"])).collect()
}

/// Whether the writer is a service account whose pod runs on the one node that the claim is allocated on.
fn is_on_node_of(request: &Attributes<'_>, claim: &Object) -> bool {
    let Some([node]) = request.user.extra.get(NODE_NAME).map(Vec::as_slice) else { return false };
    let is_account = request.user.name.strip_prefix("system:serviceaccount:").is_some_and(|name| name.split(':').count() == 2);
    is_account && !node.is_empty() && allocated_node(claim) == Some(node.as_str())
}

/// The node of an allocation that can be used on no other.
fn allocated_node(claim: &Object) -> Option<&str> {
    let [term] = claim.list(&["status", "allocation", "nodeSelector", "nodeSelectorTerms"]) else { return None };
    let [field] = items(term, &["matchFields"]) else { return None };
    let [name] = items(field, &["values"]) else { return None };
    let is_by_name = text(field, &["key"]) == "metadata.name" && text(field, &["operator"]) == "In";
    name.as_str().filter(|_| is_by_name && items(term, &["matchExpressions"]).is_empty())
}

/// Why the writer may do none of `verbs` with a part of claims.
fn refusal(request: &Attributes<'_>, verbs: &[&str], part: &str, namespace: &str, name: &str) -> Option<Status> {
    let authorizer = request.reads.authorizer()?;
    let resource = &request.target.resource;
    let mut first = None;
    for &verb in verbs {
        let attributes = auth::Attributes {
            verb,
            resource: &resource.plural,
            subresource: part,
            group: &resource.group,
            version: &request.target.version,
            namespace,
            name,
            ..auth::Attributes::default()
        };
        match authorizer.authorize(request.user, &attributes) {
            Decision::Allow => return None,
            Decision::Deny(why) | Decision::NoOpinion(why) => first = first.or_else(|| Some(forbidden(request.user, &attributes, &why))),
        }
    }
    first
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn object(value: Value) -> Object {
        Object::from_value(value).expect("an object")
    }

    #[test]
    fn only_drivers_of_which_something_changed_are_asked_for() {
        let device = |driver: &str, data: i32| json!({"driver": driver, "pool": "p", "device": "d", "data": {"a": data}});
        let claim = |devices: Value| object(json!({"status": {"devices": devices}}));
        let old = claim(json!([device("same", 1), device("changed", 1), device("gone", 1)]));
        let new = claim(json!([device("same", 1), device("changed", 2), device("came", 1)]));
        assert_eq!(changed_drivers(&new, &old), BTreeSet::from(["came", "changed", "gone"]));
        assert!(changed_drivers(&old, &old).is_empty());
    }

    #[test]
    fn an_allocation_is_on_a_node_only_when_it_names_just_that() {
        let claim = |term: Value| object(json!({"status": {"allocation": {"nodeSelector": {"nodeSelectorTerms": [term]}}}}));
        let by_name = |values: Value| json!([{"key": "metadata.name", "operator": "In", "values": values}]);
        assert_eq!(allocated_node(&claim(json!({"matchFields": by_name(json!(["n1"]))}))), Some("n1"));
        assert_eq!(allocated_node(&claim(json!({"matchFields": by_name(json!(["n1", "n2"]))}))), None);
        assert_eq!(allocated_node(&claim(json!({"matchFields": by_name(json!(["n1"])), "matchExpressions": [{"key": "a"}]}))), None);
        assert_eq!(allocated_node(&object(json!({}))), None);
    }
}
