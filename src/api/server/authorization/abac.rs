//! Attribute-based access control (`--authorization-policy-file`): policies of a file that say who may do what.
//!
//! In: lines with a `Policy` of `abac.authorization.kubernetes.io/v1beta1` each, as JSON; lines that are empty or begin with `#` are none.
//! Policies without a version are of the first format, whose missing fields stand for everything. Out: what one of them allows is
//! allowed, of all else there is no opinion. The file is read at the start.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use k8s_openapi::api::rbac::v1::PolicyRule;
use serde::Deserialize;
use serde_json::Value;
use troupe_api::{
    auth::{Attributes, Authorizer, Decision, UserRules, groups::ALL_AUTHENTICATED, rbac::rules::Rule},
    service::UserInfo,
};

const VERSION: &str = "abac.authorization.kubernetes.io/v1beta1";
const KIND: &str = "Policy";
const ANY: &str = "*";
const READING: [&str; 3] = ["get", "list", "watch"];

/// Why a file is unusable, in upstream's words.
#[derive(Debug, thiserror::Error)]
pub enum AbacError {
    #[error("open {0}: {1}")]
    Read(PathBuf, std::io::Error),
    #[error("error reading policy file {file}, line {line}: {text}: {why}")]
    Line { file: PathBuf, line: usize, text: String, why: String },
}

/// One policy. What is empty matches nothing, `*` everything.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
struct Policy {
    user: String,
    group: String,
    readonly: bool,
    #[serde(rename = "apiGroup")]
    api_group: String,
    resource: String,
    namespace: String,
    #[serde(rename = "nonResourcePath")]
    non_resource_path: String,
}

impl Policy {
    /// What a line says.
    fn read(line: &str) -> Result<Self, String> {
        let mut value: Value = serde_json::from_str(line).map_err(|error| error.to_string())?;
        let said = |name: &str| value.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        let (version, kind) = (said("apiVersion"), said("kind"));
        if version.is_empty() && kind.is_empty() {
            return serde_json::from_value(value).map(Policy::of_first_format).map_err(|error| error.to_string());
        }
        if version != VERSION || kind != KIND {
            return Err(format!("no kind {kind:?} is registered for version {version:?}; this server reads {VERSION} {KIND}"));
        }
        let spec = value.get_mut("spec").map(Value::take).filter(|spec| !spec.is_null());
        let policy: Policy = spec.map(serde_json::from_value).transpose().map_err(|error| error.to_string())?.unwrap_or_default();
        Ok(policy.for_authenticated())
    }

    /// Everybody are those who are authenticated.
    fn for_authenticated(self) -> Self {
        if self.user != ANY && self.group != ANY {
            return self;
        }
        Policy { user: String::new(), group: ALL_AUTHENTICATED.into(), ..self }
    }

    /// The same of a policy without a version, whose missing fields stand for everything.
    fn of_first_format(self) -> Self {
        let group = if self.user.is_empty() && self.group.is_empty() { ALL_AUTHENTICATED.into() } else { self.group };
        let non_resource_path = if self.namespace.is_empty() && self.resource.is_empty() { ANY.into() } else { String::new() };
        let or_any = |text: String| if text.is_empty() { ANY.into() } else { text };
        let (namespace, resource) = (or_any(self.namespace), or_any(self.resource));
        Policy { group, non_resource_path, namespace, resource, api_group: ANY.into(), ..self }.for_authenticated()
    }

    /// Whether it is about this user: the user and the group that it names both have to be right, and it has to name one.
    fn is_about(&self, user: &UserInfo) -> bool {
        let is_user = self.user.is_empty() || self.user == user.name;
        let is_group = self.group.is_empty() || user.groups.contains(&self.group);
        is_user && is_group && !(self.user.is_empty() && self.group.is_empty())
    }

    fn allows(&self, user: &UserInfo, attributes: &Attributes<'_>) -> bool {
        if !self.is_about(user) || (self.readonly && !READING.contains(&attributes.verb)) {
            return false;
        }
        let is = |policy: &str, asked: &str| policy == ANY || policy == asked;
        match attributes.path {
            Some(path) => covers(&self.non_resource_path, path),
            None => is(&self.namespace, attributes.namespace) && is(&self.resource, attributes.resource) && is(&self.api_group, attributes.group),
        }
    }

    /// The same as rules of RBAC, for reviews of rules.
    fn rules(&self) -> Vec<Arc<Rule>> {
        let verbs: Vec<String> = if self.readonly { READING.map(str::to_owned).to_vec() } else { vec![ANY.into()] };
        let of_resource = (!self.resource.is_empty()).then(|| PolicyRule {
            verbs: verbs.clone(),
            api_groups: Some(vec![self.api_group.clone()]),
            resources: Some(vec![self.resource.clone()]),
            ..PolicyRule::default()
        });
        let of_path = (!self.non_resource_path.is_empty()).then(|| PolicyRule {
            verbs,
            non_resource_urls: Some(vec![self.non_resource_path.clone()]),
            ..PolicyRule::default()
        });
        of_resource.into_iter().chain(of_path).map(|rule| Arc::new(Rule::from(rule))).collect()
    }
}

/// Whether the path of a policy, which may end with `*`, covers one that is asked for.
fn covers(pattern: &str, path: &str) -> bool {
    pattern == ANY || pattern == path || (pattern.ends_with(ANY) && path.starts_with(pattern.trim_end_matches(ANY)))
}

/// The policies of a file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AbacAuthorizer {
    policies: Vec<Policy>,
}

impl AbacAuthorizer {
    /// Reads a file.
    ///
    /// # Errors
    /// When it cannot be read, or a line is no policy.
    pub fn open(path: &Path) -> Result<Self, AbacError> {
        let text = std::fs::read_to_string(path).map_err(|error| AbacError::Read(path.to_owned(), error))?;
        Self::parse(path, &text)
    }

    fn parse(path: &Path, text: &str) -> Result<Self, AbacError> {
        let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty() && !line.trim().starts_with('#'));
        let policy = |(at, line): (usize, &str)| {
            Policy::read(line).map_err(|why| AbacError::Line { file: path.to_owned(), line: at + 1, text: line.to_owned(), why })
        };
        Ok(AbacAuthorizer { policies: lines.map(policy).collect::<Result<_, _>>()? })
    }
}

impl Authorizer for AbacAuthorizer {
    fn authorize(&self, user: &UserInfo, attributes: &Attributes<'_>) -> Decision {
        if self.policies.iter().any(|policy| policy.allows(user, attributes)) {
            return Decision::Allow;
        }
        Decision::NoOpinion("No policy matched.".into())
    }

    fn rules_for(&self, user: &UserInfo, namespace: &str) -> UserRules {
        let here = |policy: &&Policy| policy.is_about(user) && (policy.namespace == ANY || policy.namespace == namespace);
        UserRules { rules: self.policies.iter().filter(here).flat_map(Policy::rules).collect(), ..UserRules::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policies(lines: &[&str]) -> AbacAuthorizer {
        AbacAuthorizer::parse(Path::new("/p"), &lines.join("\n")).expect("policies")
    }

    fn user(name: &str) -> UserInfo {
        UserInfo { name: name.into(), groups: vec![ALL_AUTHENTICATED.into(), "dev".into()], ..UserInfo::default() }
    }

    fn line(spec: &str) -> String {
        format!(r#"{{"apiVersion": "{VERSION}", "kind": "{KIND}", "spec": {{{spec}}}}}"#)
    }

    fn asked(verb: &'static str, namespace: &'static str, group: &'static str, resource: &'static str) -> Attributes<'static> {
        Attributes { verb, namespace, group, resource, ..Attributes::default() }
    }

    fn may(authorizer: &AbacAuthorizer, name: &str, attributes: &Attributes<'_>) -> bool {
        authorizer.authorize(&user(name), attributes) == Decision::Allow
    }

    #[test]
    fn a_policy_allows_its_subject_what_it_names_and_nothing_else() {
        let reader = line(r#""user": "alice", "namespace": "a", "resource": "pods", "readonly": true"#);
        let writer = line(r#""group": "dev", "namespace": "*", "resource": "*", "apiGroup": "apps""#);
        let both = line(r#""user": "bob", "group": "ops", "namespace": "*", "resource": "*", "apiGroup": "*""#);
        let nobody = line(r#""namespace": "*", "resource": "*", "apiGroup": "*""#);
        let all = policies(&["# who may what", "", &reader, &writer, &both, &nobody]);
        assert!(may(&all, "alice", &asked("get", "a", "", "pods")));
        assert!(!may(&all, "alice", &asked("create", "a", "", "pods")) && !may(&all, "alice", &asked("get", "b", "", "pods")));
        assert!(!may(&all, "alice", &asked("get", "a", "", "secrets")) && !may(&all, "bob", &asked("get", "a", "", "pods")));
        assert!(may(&all, "bob", &asked("delete", "b", "apps", "deployments")), "he is in the group");
        let refused = all.authorize(&user("bob"), &asked("get", "a", "", "pods"));
        assert_eq!(refused, Decision::NoOpinion("No policy matched.".into()));
    }

    #[test]
    fn paths_are_matched_whole_or_up_to_a_star() {
        let all =
            policies(&[&line(r#""user": "*", "nonResourcePath": "/logs/*", "readonly": true"#), &line(r#""user": "a", "nonResourcePath": "*""#)]);
        let path = |verb, path| Attributes { verb, path: Some(path), ..Attributes::default() };
        assert!(may(&all, "b", &path("get", "/logs/x")) && !may(&all, "b", &path("post", "/logs/x")));
        assert!(!may(&all, "b", &path("get", "/version")) && may(&all, "a", &path("post", "/version")));
        let unknown = UserInfo { name: "system:anonymous".into(), groups: vec!["system:unauthenticated".into()], ..UserInfo::default() };
        assert_ne!(all.authorize(&unknown, &path("get", "/logs/x")), Decision::Allow, "everybody are those who are authenticated");
    }

    #[test]
    fn policies_without_a_version_allow_what_they_leave_out() {
        let all = policies(&[r#"{"user": "a"}"#, r#"{"readonly": true, "resource": "events"}"#, r#"{"user": "b", "namespace": "n"}"#]);
        assert!(may(&all, "a", &asked("delete", "x", "apps", "deployments")));
        assert!(may(&all, "a", &Attributes { verb: "get", path: Some("/metrics"), ..Attributes::default() }));
        assert!(may(&all, "c", &asked("list", "x", "events.k8s.io", "events")) && !may(&all, "c", &asked("create", "x", "", "events")));
        assert!(may(&all, "b", &asked("create", "n", "", "pods")) && !may(&all, "b", &asked("create", "m", "", "pods")));
    }

    #[test]
    fn a_line_that_is_no_policy_is_told_with_its_number() {
        let refused = |text: &str| AbacAuthorizer::parse(Path::new("/p"), text).expect_err("refused").to_string();
        let other = refused("# first\n{\"apiVersion\": \"v9\", \"kind\": \"Policy\"}");
        assert!(other.starts_with("error reading policy file /p, line 2: {\"apiVersion\"") && other.contains("no kind \"Policy\""), "{other}");
        assert!(refused("{\"user\": 7}").contains("line 1") && refused("nonsense").contains("line 1"));
        assert!(AbacAuthorizer::open(Path::new("/nowhere/policies")).expect_err("refused").to_string().starts_with("open /nowhere/policies: "));
    }

    #[test]
    fn reviews_of_rules_tell_them() {
        let all = policies(&[&line(r#""user": "a", "namespace": "n", "resource": "pods", "nonResourcePath": "/x", "readonly": true"#)]);
        let rules = all.rules_for(&user("a"), "n").rules;
        assert_eq!(rules.len(), 2);
        let first = rules[0].policy();
        assert_eq!(
            (first.verbs.as_slice(), first.resources.as_deref()),
            (READING.map(str::to_owned).as_slice(), Some(["pods".to_owned()].as_slice()))
        );
        assert!(all.rules_for(&user("a"), "m").rules.is_empty() && all.rules_for(&user("b"), "n").rules.is_empty());
    }
}
