//! Whether a flow schema covers a request. Pure.

use k8s_openapi::api::flowcontrol::v1::{FlowSchema, NonResourcePolicyRule, PolicyRulesWithSubjects, ResourcePolicyRule, Subject};
use troupe_api::{auth::Attributes, service::UserInfo};

/// Whether one of the schema's rules covers the request.
pub fn covers(schema: &FlowSchema, user: &UserInfo, attributes: &Attributes<'_>) -> bool {
    let rules = schema.spec.as_ref().and_then(|spec| spec.rules.as_deref()).unwrap_or_default();
    rules.iter().any(|rule| covers_rule(rule, user, attributes))
}

fn covers_rule(rule: &PolicyRulesWithSubjects, user: &UserInfo, attributes: &Attributes<'_>) -> bool {
    if !rule.subjects.iter().any(|subject| is_subject(subject, user)) {
        return false;
    }
    match attributes.path {
        Some(path) => rule.non_resource_rules.iter().flatten().any(|rule| covers_path(rule, attributes.verb, path)),
        None => rule.resource_rules.iter().flatten().any(|rule| covers_resource(rule, attributes)),
    }
}

fn is_subject(subject: &Subject, user: &UserInfo) -> bool {
    match subject.kind.as_str() {
        "User" => subject.user.as_ref().is_some_and(|wanted| wanted.name == "*" || wanted.name == user.name),
        "Group" => subject.group.as_ref().is_some_and(|wanted| wanted.name == "*" || user.groups.contains(&wanted.name)),
        "ServiceAccount" => subject.service_account.as_ref().is_some_and(|wanted| {
            let account = user.name.strip_prefix("system:serviceaccount:").and_then(|account| account.split_once(':'));
            account.is_some_and(|(namespace, name)| namespace == wanted.namespace && (wanted.name == "*" || wanted.name == name))
        }),
        _ => false,
    }
}

/// A wildcard stands alone.
fn lists(list: &[String], text: &str) -> bool {
    matches!(list, [only] if only == "*") || list.iter().any(|listed| listed == text)
}

fn covers_resource(rule: &ResourcePolicyRule, attributes: &Attributes<'_>) -> bool {
    let resource = match attributes.subresource {
        "" => attributes.resource.to_owned(),
        subresource => format!("{}/{subresource}", attributes.resource),
    };
    if !lists(&rule.verbs, attributes.verb) || !lists(&rule.resources, &resource) || !lists(&rule.api_groups, attributes.group) {
        return false;
    }
    match attributes.namespace {
        "" => rule.cluster_scope.unwrap_or(false),
        namespace => lists(rule.namespaces.as_deref().unwrap_or_default(), namespace),
    }
}

fn covers_path(rule: &NonResourcePolicyRule, verb: &str, path: &str) -> bool {
    let covers = |spec: &String| {
        let prefix = spec.strip_suffix('*').unwrap_or(spec);
        let prefix = if prefix.ends_with('/') { prefix.to_owned() } else { format!("{prefix}/") };
        spec == "*" || spec == path || path.starts_with(&prefix)
    };
    lists(&rule.verbs, verb) && rule.non_resource_urls.iter().any(covers)
}
