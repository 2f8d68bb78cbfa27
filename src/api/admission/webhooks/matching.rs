//! Which webhooks a request concerns: rules, equivalent resources, selectors. Pure but for a namespace that no cache has.

use std::sync::Arc;

use serde_json::{Map, Value};

use super::{
    conditions::conditions,
    configuration::Hook,
    convert::Converted,
    form::Form,
    invocation::{Invocation, ResourceName},
};
use crate::{
    admission::{Operation, Request},
    meta::{GroupResource, Object, ObjectKey},
    resources::{
        Registry,
        tree::{items, text},
    },
    status::Status,
};

/// One of a webhook's rules (`RuleWithOperations`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rule {
    operations: Vec<String>,
    groups: Vec<String>,
    versions: Vec<String>,
    /// Resource and subresource, each perhaps `*`.
    resources: Vec<(String, String)>,
    scope: String,
}

/// What rules are held against.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    pub operation: Operation,
    pub group: &'a str,
    pub version: &'a str,
    pub resource: &'a str,
    pub subresource: &'a str,
    /// Of a Namespace itself: its name.
    pub namespace: &'a str,
}

impl Rule {
    pub fn read(rule: &Value) -> Self {
        let texts = |field: &str| items(rule, &[field]).iter().filter_map(Value::as_str).map(str::to_owned).collect::<Vec<_>>();
        let split = |name: String| match name.split_once('/') {
            Some((resource, subresource)) => (resource.to_owned(), subresource.to_owned()),
            None => (name, String::new()),
        };
        Rule {
            operations: texts("operations"),
            groups: texts("apiGroups"),
            versions: texts("apiVersions"),
            resources: texts("resources").into_iter().map(split).collect(),
            scope: text(rule, &["scope"]).to_owned(),
        }
    }

    /// Whether the rule speaks of such requests.
    pub fn matches(&self, subject: &Subject<'_>) -> bool {
        let names = |list: &[String], wanted: &str| list.iter().any(|name| name == "*" || name == wanted);
        let resource = |(resource, subresource): &(String, String)| {
            (resource == "*" || resource == subject.resource) && (subresource == "*" || subresource == subject.subresource)
        };
        self.fits_scope(subject)
            && names(&self.operations, subject.operation.upper())
            && names(&self.groups, subject.group)
            && names(&self.versions, subject.version)
            && self.resources.iter().any(resource)
    }

    fn fits_scope(&self, subject: &Subject<'_>) -> bool {
        let is_namespace = (subject.group, subject.version, subject.resource) == ("", "v1", "namespaces");
        let in_namespace = !is_namespace && !subject.namespace.is_empty();
        match &*self.scope {
            "" | "*" => true,
            "Namespaced" => in_namespace,
            "Cluster" => !in_namespace,
            _ => false,
        }
    }
}

/// The namespace that webhooks are told of; a Namespace lies in itself.
pub fn namespace<'a>(request: &Request<'a>) -> &'a str {
    if is_namespaces(request) { &request.target.name } else { &request.target.namespace }
}

fn is_namespaces(request: &Request<'_>) -> bool {
    request.target.resource.group.is_empty() && &*request.target.resource.plural == "namespaces"
}

/// How `hook` is to be asked about the request; `None` if it is not concerned.
///
/// # Errors
/// 404 when a namespace whose labels count does not exist; what [`conditions`] refuses.
pub async fn invocation(hook: &Arc<Hook>, request: &Request<'_>, form: Form) -> Result<Option<Invocation>, Status> {
    let Some(resource) = by_rules(hook, request) else { return Ok(None) };
    if !object_selected(hook, request, form) || !namespace_selected(hook, request).await? {
        return Ok(None);
    }
    let kind = form.kind(request, &resource)?;
    let converted = Converted::of(request, &resource, form).await?;
    let invocation = Invocation { hook: hook.clone(), resource, kind, form, converted };
    Ok(conditions(&invocation, request).await?.then_some(invocation))
}

/// The resource by which a rule matches: the request's own, or an equivalent one where the webhook wants that.
fn by_rules(hook: &Hook, request: &Request<'_>) -> Option<ResourceName> {
    let own = ResourceName { row: request.target.resource.clone(), version: request.target.version.clone() };
    let mut subject = Subject {
        operation: request.operation,
        group: &own.row.group,
        version: &own.version,
        resource: &own.row.plural,
        subresource: &request.target.subresource,
        namespace: namespace(request),
    };
    if hook.rules.iter().any(|rule| rule.matches(&subject)) {
        return Some(own.clone());
    }
    if !hook.equivalent {
        return None;
    }
    // Earlier rules count first.
    let equivalents = equivalents(&request.reads.registry(), &own, &request.target.subresource);
    for rule in &hook.rules {
        for other in &equivalents {
            (subject.group, subject.version, subject.resource) = (&other.row.group, &other.version, &other.row.plural);
            if rule.matches(&subject) {
                return Some(other.clone());
            }
        }
    }
    None
}

/// The other resources and versions in which the same objects are served.
pub fn equivalents(registry: &Registry, own: &ResourceName, subresource: &str) -> Vec<ResourceName> {
    let rows = registry.rows().iter().filter(|row| row.storage_prefix == own.row.storage_prefix);
    let all = rows.flat_map(|row| row.served.iter().map(move |served| (row, served)));
    let others = all.filter(|(row, served)| row.group != own.row.group || row.plural != own.row.plural || served.version != own.version);
    let others = others.filter(|(_, served)| subresource.is_empty() || served.subresource(subresource).is_some());
    others.map(|(row, served)| ResourceName { row: row.clone(), version: served.version.clone() }).collect()
}

/// Whether the labels of the new object or of the old one are selected.
fn object_selected(hook: &Hook, request: &Request<'_>, form: Form) -> bool {
    // A scale shows none of its workload's labels.
    let selects = |object: &Object| hook.objects.matches_tree(labels(object).filter(|_| form != Form::Scale));
    hook.objects.is_everything() || request.object.as_deref().is_some_and(selects) || request.old.is_some_and(selects)
}

/// Whether the labels of the request's namespace are selected; what lies in none always is.
async fn namespace_selected(hook: &Hook, request: &Request<'_>) -> Result<bool, Status> {
    let name = namespace(request);
    let is_namespaces = is_namespaces(request);
    if hook.namespaces.is_everything() || name.is_empty() && !is_namespaces {
        return Ok(true);
    }
    let written = matches!(request.operation, Operation::Create | Operation::Update) && request.target.subresource.is_empty();
    if let (true, true, Some(object)) = (is_namespaces, written, request.object.as_deref()) {
        return Ok(hook.namespaces.matches_tree(labels(object)));
    }
    let (resource, key) = (GroupResource::new("", "namespaces"), ObjectKey::cluster(name));
    let found = match request.reads.listers().get(&resource, &key) {
        Some(found) => Some(found),
        None => request.reads.live(&resource, &key).await?,
    };
    match found {
        Some(namespace) => Ok(hook.namespaces.matches_projection(&namespace.meta().labels)),
        None => Err(Status::not_found(&resource, name)),
    }
}

fn labels(object: &Object) -> Option<&Map<String, Value>> {
    object.at(&["metadata", "labels"])
}
