//! Which requests a webhook or a policy concerns, and in which form it sees their objects: rules, equivalent resources, selectors. Pure but
//! for a namespace that no cache has.

mod convert;
mod form;
mod rule;

use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1;
use serde_json::{Map, Value};
use troupe_api::{
    meta::{GroupResource, GroupVersionKind, LabelSelector, Object, ObjectKey},
    resources::{
        Resource,
        tree::{at, items, text},
    },
    status::Status,
    stored::StoredObject,
};

use super::{Attributes, Operation, resource_name::ResourceName};

pub use convert::{Converted, back};
pub use form::{Form, shown, shown_as, shown_or_same, shown_schema, taken, taken_strictly};
pub use rule::{Rule, Subject};

/// A request as whoever matches it sees it (upstream's `VersionedAttributes`): by the resource that its rule names.
#[derive(Clone, Debug)]
pub struct Matched {
    /// The request's own resource, or an equivalent one.
    pub resource: ResourceName,
    /// The kind in which the objects are shown.
    pub kind: GroupVersionKind,
    pub form: Form,
    /// The objects of a custom resource in that kind, where it is not the request's.
    pub converted: Arc<Converted>,
}

/// What says which requests are matched.
#[derive(Debug)]
pub struct MatchResources {
    rules: Vec<Rule>,
    /// What is not matched whatever the rules say.
    excluded: Vec<Rule>,
    /// Whether every resource is matched that is not excluded.
    any_resource: bool,
    /// Whether rules also match by other resources that show the same objects (`matchPolicy: Equivalent`).
    equivalent: bool,
    namespaces: LabelSelector,
    objects: LabelSelector,
}

impl MatchResources {
    /// As a webhook has them: without rules nothing is matched.
    pub fn of_webhook(webhook: &Value) -> Self {
        MatchResources { rules: rules(webhook, "rules"), excluded: Vec::new(), any_resource: false, ..MatchResources::read(webhook) }
    }

    /// As a policy or its binding has them (`MatchResources`): without rules all resources are matched.
    pub fn of_policy(resources: &Value) -> Self {
        let rules = rules(resources, "resourceRules");
        MatchResources { any_resource: rules.is_empty(), rules, ..MatchResources::read(resources) }
    }

    fn read(value: &Value) -> Self {
        MatchResources {
            rules: Vec::new(),
            excluded: rules(value, "excludeResourceRules"),
            any_resource: false,
            equivalent: text(value, &["matchPolicy"]) != "Exact",
            namespaces: selector(at(value, &["namespaceSelector"])),
            objects: selector(at(value, &["objectSelector"])),
        }
    }

    /// Whether a resource may be matched, whatever requests for it say.
    pub fn may_match(&self, resource: &Resource) -> bool {
        self.any_resource || self.rules.iter().any(|rule| rule.may_name(&resource.group, &resource.plural))
    }

    /// Whether equivalent resources are matched too.
    pub fn is_equivalent(&self) -> bool {
        self.equivalent
    }

    /// How the request is to be shown; `None` if it is not matched.
    ///
    /// # Errors
    /// 404 when a namespace whose labels count does not exist; 500 where an object cannot be converted to the version that is matched.
    pub async fn matched(&self, request: &Attributes<'_>) -> Result<Option<Matched>, Status> {
        let Some(resource) = self.by_rules(request) else { return Ok(None) };
        let form = Form::of(request);
        if !self.object_selected(request, form) || !self.namespace_selected(request).await? {
            return Ok(None);
        }
        let kind = form.kind(request, &resource)?;
        let converted = Converted::of(request, &resource, form).await?;
        Ok(Some(Matched { resource, kind, form, converted }))
    }

    /// The resource by which a rule matches: the request's own, or an equivalent one where that is wanted.
    fn by_rules(&self, request: &Attributes<'_>) -> Option<ResourceName> {
        let matches = |rules: &[Rule], subject: &Subject<'_>| rules.iter().any(|rule| rule.matches(subject));
        let is_own = self.any_resource || matches(&self.rules, &own_subject(request));
        if !is_own && !self.equivalent {
            return None;
        }
        let equivalents = match self.equivalent && !(is_own && self.excluded.is_empty()) {
            true => request.equivalents(),
            false => &[],
        };
        let is_excluded = |name: &ResourceName| matches(&self.excluded, &subject(request, name));
        if matches(&self.excluded, &own_subject(request)) || equivalents.iter().any(is_excluded) {
            return None;
        }
        if is_own {
            return Some(ResourceName::requested(request.target));
        }
        // Earlier rules count first.
        let by_rule = |rule: &Rule| equivalents.iter().find(|other| rule.matches(&subject(request, other)));
        self.rules.iter().find_map(by_rule).cloned()
    }

    /// Whether the labels of the new object or of the old one are selected.
    fn object_selected(&self, request: &Attributes<'_>, form: Form) -> bool {
        // A scale shows none of its workload's labels.
        let selects = |object: &Object| self.objects.matches_tree(labels(object).filter(|_| form != Form::Scale));
        self.objects.is_everything() || request.object().is_some_and(selects) || request.old.is_some_and(selects)
    }

    /// Whether the labels of the request's namespace are selected; what lies in none always is.
    async fn namespace_selected(&self, request: &Attributes<'_>) -> Result<bool, Status> {
        let (name, is_namespace) = (request.namespace(), request.target.resource.is_namespace());
        if self.namespaces.is_everything() || name.is_empty() && !is_namespace {
            return Ok(true);
        }
        let written = matches!(request.operation, Operation::Create | Operation::Update) && request.target.subresource.is_empty();
        if let (true, true, Some(object)) = (is_namespace, written, request.object()) {
            return Ok(self.namespaces.matches_tree(labels(object)));
        }
        Ok(self.namespaces.matches_projection(&namespace(request, name).await?.meta().labels))
    }
}

/// A namespace, past the cache where that lacks it.
///
/// # Errors
/// 404 when it does not exist.
pub async fn namespace(request: &Attributes<'_>, name: &str) -> Result<Arc<StoredObject>, Status> {
    let (resource, key) = (GroupResource::new("", "namespaces"), ObjectKey::cluster(name));
    let found = match request.reads.listers().get(&resource, &key) {
        Some(found) => Some(found),
        None => request.reads.live(&resource, &key).await?,
    };
    found.ok_or_else(|| Status::not_found(&resource, name))
}

fn rules(value: &Value, field: &str) -> Vec<Rule> {
    items(value, &[field]).iter().map(Rule::read).collect()
}

/// The request as rules are held against it.
fn own_subject<'a>(request: &'a Attributes<'_>) -> Subject<'a> {
    let target = request.target;
    Subject {
        operation: request.operation,
        group: &target.resource.group,
        version: &target.version,
        resource: &target.resource.plural,
        subresource: &target.subresource,
        namespace: request.namespace(),
        is_namespace: target.resource.is_namespace(),
        name: request.name(),
    }
}

/// The request as rules are held against it when its resource is called `name`.
fn subject<'a>(request: &'a Attributes<'_>, name: &'a ResourceName) -> Subject<'a> {
    Subject { group: &name.row.group, version: &name.version, resource: &name.row.plural, ..own_subject(request) }
}

/// What cannot be read, which validation lets nobody write, selects nothing.
pub fn selector(value: &Value) -> LabelSelector {
    if value.is_null() {
        return LabelSelector::everything();
    }
    match serde_json::from_value::<v1::LabelSelector>(value.clone()) {
        Ok(selector) => LabelSelector::from(&selector),
        Err(_) => LabelSelector::nothing(),
    }
}

fn labels(object: &Object) -> Option<&Map<String, Value>> {
    object.at(&["metadata", "labels"])
}
