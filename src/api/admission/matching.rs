//! Which webhooks and policies a request concerns: rules, equivalent resources, selectors. Pure but for a namespace that no cache has.

use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1;
use serde_json::{Map, Value};

use super::{
    Operation, Request,
    view::{Form, ResourceName, View},
};
use crate::{
    meta::{GroupResource, LabelSelector, Object, ObjectKey},
    resources::{
        Registry,
        tree::{at, items, text},
    },
    status::Status,
    stored::StoredObject,
};

/// What a webhook, a policy or a binding is asked about.
#[derive(Clone, Debug)]
pub struct Constraints {
    /// All requests where there are none.
    pub rules: Option<Vec<Rule>>,
    /// What is left out.
    pub excluded: Vec<Rule>,
    /// Whether rules also match by other resources that show the same objects (`matchPolicy: Equivalent`).
    pub equivalent: bool,
    pub namespaces: LabelSelector,
    pub objects: LabelSelector,
}

/// One of the rules (`NamedRuleWithOperations`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rule {
    operations: Vec<String>,
    groups: Vec<String>,
    versions: Vec<String>,
    /// Resource and subresource, each perhaps `*`.
    resources: Vec<(String, String)>,
    scope: String,
    /// The names of objects; all where there are none.
    names: Vec<String>,
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
    /// The name of the object; empty before one is generated.
    pub name: &'a str,
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
            names: texts("resourceNames"),
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
            && (self.names.is_empty() || self.names.iter().any(|name| name == subject.name))
    }

    /// Whether it may speak of a resource, whatever else it says.
    pub fn may_name(&self, group: &str, resource: &str) -> bool {
        let names = |list: &[String]| list.iter().any(|name| name == "*" || name == group);
        names(&self.groups) && self.resources.iter().any(|(name, _)| name == "*" || name == resource)
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

impl Constraints {
    /// Of a webhook.
    pub fn of_webhook(webhook: &Value) -> Self {
        Constraints { rules: Some(rules(webhook, "rules")), excluded: Vec::new(), ..Constraints::selecting(webhook) }
    }

    /// `MatchResources` of a policy or a binding.
    pub fn of_policy(resources: &Value) -> Self {
        let named = Some(rules(resources, "resourceRules")).filter(|rules| !rules.is_empty());
        Constraints { rules: named, excluded: rules(resources, "excludeResourceRules"), ..Constraints::selecting(resources) }
    }

    fn selecting(value: &Value) -> Self {
        Constraints {
            rules: None,
            excluded: Vec::new(),
            equivalent: text(value, &["matchPolicy"]) != "Exact",
            namespaces: selector(at(value, &["namespaceSelector"])),
            objects: selector(at(value, &["objectSelector"])),
        }
    }

    /// How the request is seen by whom these are; `None` if it does not concern them.
    ///
    /// # Errors
    /// 404 when a namespace whose labels count does not exist.
    pub async fn view(&self, request: &Request<'_>, form: Form) -> Result<Option<View>, Status> {
        let Some(resource) = self.named(request) else { return Ok(None) };
        if !self.selects_object(request, form) || !self.selects_namespace(request).await? {
            return Ok(None);
        }
        let kind = form.kind(request, &resource)?;
        Ok(Some(View { resource, kind, form }))
    }

    /// The resource by which a rule matches.
    fn named(&self, request: &Request<'_>) -> Option<ResourceName> {
        if !self.excluded.is_empty() && by_rules(&self.excluded, self.equivalent, request).is_some() {
            return None;
        }
        match &self.rules {
            Some(rules) => by_rules(rules, self.equivalent, request),
            None => Some(own(request)),
        }
    }

    /// Whether the labels of the new object or of the old one are selected.
    fn selects_object(&self, request: &Request<'_>, form: Form) -> bool {
        // A scale shows none of its workload's labels.
        let selects = |object: &Object| self.objects.matches_tree(labels(object).filter(|_| form != Form::Scale));
        self.objects.is_everything() || request.object.as_deref().is_some_and(selects) || request.old.is_some_and(selects)
    }

    /// Whether the labels of the request's namespace are selected; what lies in none always is.
    async fn selects_namespace(&self, request: &Request<'_>) -> Result<bool, Status> {
        let (name, is_namespaces) = (namespace(request), is_namespaces(request));
        if self.namespaces.is_everything() || name.is_empty() && !is_namespaces {
            return Ok(true);
        }
        let written = matches!(request.operation, Operation::Create | Operation::Update) && request.target.subresource.is_empty();
        if let (true, true, Some(object)) = (is_namespaces, written, request.object.as_deref()) {
            return Ok(self.namespaces.matches_tree(labels(object)));
        }
        let namespace = find_namespace(request, name).await?;
        Ok(self.namespaces.matches_projection(&namespace.meta().labels))
    }
}

/// What cannot be read, which validation lets nobody write, selects nothing.
fn selector(value: &Value) -> LabelSelector {
    if value.is_null() {
        return LabelSelector::everything();
    }
    match serde_json::from_value::<v1::LabelSelector>(value.clone()) {
        Ok(selector) => LabelSelector::from(&selector),
        Err(_) => LabelSelector::nothing(),
    }
}

fn rules(value: &Value, list: &str) -> Vec<Rule> {
    items(value, &[list]).iter().map(Rule::read).collect()
}

/// The namespace that webhooks and policies are told of; a Namespace lies in itself.
pub fn namespace<'a>(request: &Request<'a>) -> &'a str {
    if is_namespaces(request) { &request.target.name } else { &request.target.namespace }
}

/// The name that they are told of.
pub fn name<'a>(request: &'a Request<'_>) -> &'a str {
    match request.object.as_deref() {
        Some(object) if request.operation == Operation::Create && request.target.name.is_empty() => object.name(),
        _ => &request.target.name,
    }
}

pub fn is_namespaces(request: &Request<'_>) -> bool {
    request.target.resource.group.is_empty() && &*request.target.resource.plural == "namespaces"
}

/// A namespace.
///
/// # Errors
/// 404 when it does not exist, or what the store says.
pub async fn find_namespace(request: &Request<'_>, name: &str) -> Result<Arc<StoredObject>, Status> {
    let (resource, key) = (GroupResource::new("", "namespaces"), ObjectKey::cluster(name));
    let found = match request.reads.listers().get(&resource, &key) {
        Some(found) => Some(found),
        None => request.reads.live(&resource, &key).await?,
    };
    found.ok_or_else(|| Status::not_found(&resource, name))
}

fn own(request: &Request<'_>) -> ResourceName {
    ResourceName { row: request.target.resource.clone(), version: request.target.version.clone() }
}

/// The resource by which one of the rules matches: the request's own, or an equivalent one where that is wanted.
fn by_rules(rules: &[Rule], equivalent: bool, request: &Request<'_>) -> Option<ResourceName> {
    let target = request.target;
    let mut subject = Subject {
        operation: request.operation,
        group: &target.resource.group,
        version: &target.version,
        resource: &target.resource.plural,
        subresource: &target.subresource,
        namespace: namespace(request),
        name: name(request),
    };
    if rules.iter().any(|rule| rule.matches(&subject)) {
        return Some(own(request));
    }
    if !equivalent {
        return None;
    }
    // Earlier rules count first.
    let equivalents = equivalents(&request.reads.registry(), &own(request), &target.subresource);
    for rule in rules {
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

fn labels(object: &Object) -> Option<&Map<String, Value>> {
    object.at(&["metadata", "labels"])
}
