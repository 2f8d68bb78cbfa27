//! Whether a rule allows a request. Pure.

use k8s_openapi::api::rbac::v1::PolicyRule;

use crate::auth::Attributes;

/// Whether `rule` allows what `attributes` ask for.
pub fn allows(rule: &PolicyRule, attributes: &Attributes<'_>) -> bool {
    if !matches(&rule.verbs, attributes.verb) {
        return false;
    }
    match attributes.path {
        Some(path) => list(&rule.non_resource_urls).iter().any(|pattern| url_matches(pattern, path)),
        None => {
            matches(list(&rule.api_groups), attributes.group)
                && list(&rule.resources).iter().any(|pattern| resource_matches(pattern, attributes.resource, attributes.subresource))
                && name_matches(list(&rule.resource_names), attributes.name)
        }
    }
}

/// A list field, absent or not.
pub fn list(field: &Option<Vec<String>>) -> &[String] {
    field.as_deref().unwrap_or_default()
}

fn matches(patterns: &[String], value: &str) -> bool {
    patterns.iter().any(|pattern| pattern == "*" || pattern == value)
}

/// A pattern is `*`, a resource, `resource/subresource` or `*/subresource`.
fn resource_matches(pattern: &str, resource: &str, subresource: &str) -> bool {
    if pattern == "*" {
        return true;
    }
    match pattern.split_once('/') {
        None => subresource.is_empty() && pattern == resource,
        Some((parent, child)) => !subresource.is_empty() && child == subresource && (parent == "*" || parent == resource),
    }
}

fn name_matches(names: &[String], name: &str) -> bool {
    names.is_empty() || names.iter().any(|allowed| allowed == name)
}

/// Whether the path pattern of a rule covers a path; only a trailing `*` is special.
pub fn url_matches(pattern: &str, path: &str) -> bool {
    pattern == path || (pattern.ends_with('*') && path.starts_with(pattern.trim_end_matches('*')))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(verbs: &[&str], groups: &[&str], resources: &[&str], names: &[&str]) -> PolicyRule {
        let owned = |items: &[&str]| items.iter().map(|item| (*item).to_owned()).collect::<Vec<_>>();
        PolicyRule {
            verbs: owned(verbs),
            api_groups: Some(owned(groups)),
            resources: Some(owned(resources)),
            resource_names: (!names.is_empty()).then(|| owned(names)),
            non_resource_urls: None,
        }
    }

    fn ask<'a>(verb: &'a str, group: &'a str, resource: &'a str, subresource: &'a str, name: &'a str) -> Attributes<'a> {
        Attributes { verb, group, resource, subresource, name, ..Attributes::default() }
    }

    #[test]
    fn resources_and_subresources_match_as_upstream_matches_them() {
        let pods = rule(&["get"], &[""], &["pods"], &[]);
        assert!(allows(&pods, &ask("get", "", "pods", "", "a")));
        assert!(!allows(&pods, &ask("get", "", "pods", "log", "a")));
        assert!(!allows(&pods, &ask("list", "", "pods", "", "")));
        assert!(!allows(&pods, &ask("get", "apps", "pods", "", "a")));
        let scales = rule(&["*"], &["*"], &["*/scale", "pods/log"], &[]);
        assert!(allows(&scales, &ask("update", "apps", "deployments", "scale", "a")));
        assert!(allows(&scales, &ask("get", "", "pods", "log", "a")));
        assert!(!allows(&scales, &ask("get", "", "services", "log", "a")));
        assert!(!allows(&scales, &ask("get", "", "deployments", "", "a")));
        assert!(allows(&rule(&["*"], &["*"], &["*"], &[]), &ask("get", "x", "y", "z", "a")));
    }

    #[test]
    fn resource_names_do_not_match_requests_without_a_name() {
        let named = rule(&["get", "list"], &[""], &["configmaps"], &["a"]);
        assert!(allows(&named, &ask("get", "", "configmaps", "", "a")));
        assert!(!allows(&named, &ask("get", "", "configmaps", "", "b")));
        assert!(!allows(&named, &ask("list", "", "configmaps", "", "")));
    }

    #[test]
    fn urls_match_exactly_or_up_to_a_trailing_star() {
        for (pattern, path, want) in
            [("*", "/x", true), ("/api/*", "/api/v1", true), ("/api/*", "/api", false), ("/api", "/api", true), ("/a*b", "/axb", false)]
        {
            assert_eq!(url_matches(pattern, path), want, "{pattern} {path}");
        }
        let urls = PolicyRule { verbs: vec!["get".into()], non_resource_urls: Some(vec!["/healthz".into()]), ..PolicyRule::default() };
        assert!(allows(&urls, &Attributes { verb: "get", path: Some("/healthz"), ..Attributes::default() }));
        assert!(!allows(&urls, &ask("get", "", "healthz", "", "")));
    }
}
