//! Rules: the operations and resources that a webhook or a policy names. Pure.

use serde_json::Value;
use troupe_api::resources::tree::{items, text};

use crate::admission::Operation;

/// One rule (`RuleWithOperations`, in policies `NamedRuleWithOperations`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rule {
    operations: Vec<String>,
    groups: Vec<String>,
    versions: Vec<String>,
    /// Resource and subresource, each perhaps `*`.
    resources: Vec<(String, String)>,
    scope: String,
    /// The objects that it speaks of; none stands for all.
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
    /// Whether the objects are Namespaces, which lie in none.
    pub is_namespace: bool,
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
        let names_group = self.groups.iter().any(|name| name == "*" || name == group);
        names_group && self.resources.iter().any(|(name, _)| name == "*" || name == resource)
    }

    fn fits_scope(&self, subject: &Subject<'_>) -> bool {
        let in_namespace = !subject.is_namespace && !subject.namespace.is_empty();
        match &*self.scope {
            "" | "*" => true,
            "Namespaced" => in_namespace,
            "Cluster" => !in_namespace,
            _ => false,
        }
    }
}
