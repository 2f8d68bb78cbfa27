//! Whether a rule allows a request. Pure.

use k8s_openapi::api::rbac::v1::PolicyRule;

use crate::auth::Attributes;

/// A rule of a role. Its names may be many: they are found by search.
#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    policy: PolicyRule,
    /// The places of the names, in the names' order.
    by_name: Box<[u32]>,
}

impl From<PolicyRule> for Rule {
    fn from(policy: PolicyRule) -> Self {
        let names = list(&policy.resource_names);
        let mut by_name: Box<[u32]> = (0..u32::try_from(names.len()).unwrap_or(u32::MAX)).collect();
        by_name.sort_unstable_by_key(|at| &names[*at as usize]);
        Rule { policy, by_name }
    }
}

impl Rule {
    /// The rule as it is written.
    pub fn policy(&self) -> &PolicyRule {
        &self.policy
    }

    /// Whether it allows what `attributes` ask for.
    pub fn allows(&self, attributes: &Attributes<'_>) -> bool {
        let is_for_all = || list(&self.policy.resource_names).is_empty();
        allows_but_for_names(&self.policy, attributes) && (attributes.path.is_some() || is_for_all() || self.names(attributes.name))
    }

    /// Whether `name` is one of its names.
    pub fn names(&self, name: &str) -> bool {
        let names = list(&self.policy.resource_names);
        self.by_name.binary_search_by(|at| names[*at as usize].as_str().cmp(name)).is_ok()
    }
}

fn allows_but_for_names(rule: &PolicyRule, attributes: &Attributes<'_>) -> bool {
    if !matches(&rule.verbs, attributes.verb) {
        return false;
    }
    match attributes.path {
        Some(path) => list(&rule.non_resource_urls).iter().any(|pattern| url_matches(pattern, path)),
        None => {
            matches(list(&rule.api_groups), attributes.group)
                && list(&rule.resources).iter().any(|pattern| resource_matches(pattern, attributes.resource, attributes.subresource))
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

    fn allows(rule: &PolicyRule, attributes: &Attributes<'_>) -> bool {
        Rule::from(rule.clone()).allows(attributes)
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
        let many = Rule::from(rule(&["get"], &[""], &["configmaps"], &["c", "a", "b", "a"]));
        assert!(["a", "b", "c"].iter().all(|name| many.allows(&ask("get", "", "configmaps", "", name))));
        assert!(["", "aa", "d"].iter().all(|name| !many.allows(&ask("get", "", "configmaps", "", name))));
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
