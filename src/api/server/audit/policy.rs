//! `audit.k8s.io/v1 Policy`: which requests are recorded, and how much of them.

use std::path::Path;

use serde::{Deserialize, Serialize};
use thiserror::Error;
use troupe_api::{
    auth::Attributes,
    meta::names,
    schema::{DocumentError, from_yaml},
    service::UserInfo,
    status::{FieldError, Status},
};

/// How much of a request is recorded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Level {
    #[default]
    None,
    Metadata,
    Request,
    RequestResponse,
}

/// When an event is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Stage {
    RequestReceived,
    /// Of long-running requests only.
    ResponseStarted,
    ResponseComplete,
    Panic,
}

/// A policy as its file has it.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Policy {
    api_version: String,
    kind: String,
    rules: Vec<Rule>,
    omit_stages: Vec<String>,
    omit_managed_fields: bool,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Rule {
    level: String,
    users: Vec<String>,
    user_groups: Vec<String>,
    verbs: Vec<String>,
    resources: Vec<GroupResources>,
    namespaces: Vec<String>,
    #[serde(rename = "nonResourceURLs")]
    non_resource_urls: Vec<String>,
    omit_stages: Vec<String>,
    omit_managed_fields: Option<bool>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct GroupResources {
    group: String,
    resources: Vec<String>,
    resource_names: Vec<String>,
}

/// Why a policy is not usable.
#[derive(Debug, Error)]
pub enum PolicyError {
    #[error("cannot read {0}")]
    Read(String, #[source] std::io::Error),
    #[error("failed decoding: {0}")]
    Decode(#[from] DocumentError),
    #[error("unknown group version field \"{0}\" in policy")]
    Version(String),
    #[error("loaded illegal policy with 0 rules")]
    Empty,
    #[error("{0}")]
    Invalid(Status),
}

/// What a request is, as rules see it.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    pub user: &'a UserInfo,
    /// `path` is set for requests that are not about resources.
    pub attributes: &'a Attributes<'a>,
}

/// What a policy says about one request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    pub level: Level,
    omitted: Vec<Stage>,
    pub omit_managed_fields: bool,
}

impl Verdict {
    pub fn records(&self, stage: Stage) -> bool {
        self.level > Level::None && !self.omitted.contains(&stage)
    }
}

impl Policy {
    /// Reads and checks a policy file.
    pub fn from_file(path: &Path) -> Result<Self, PolicyError> {
        let text = std::fs::read_to_string(path).map_err(|error| PolicyError::Read(path.display().to_string(), error))?;
        Policy::parse(&text)
    }

    /// Reads and checks a policy in YAML or JSON.
    pub fn parse(text: &str) -> Result<Self, PolicyError> {
        let policy: Policy = from_yaml(text)?;
        if policy.api_version != "audit.k8s.io/v1" || policy.kind != "Policy" {
            return Err(PolicyError::Version(policy.api_version));
        }
        if policy.rules.is_empty() {
            return Err(PolicyError::Empty);
        }
        let errors = policy.errors();
        if errors.is_empty() { Ok(policy) } else { Err(PolicyError::Invalid(Status::invalid("audit.k8s.io", "Policy", "", errors))) }
    }

    fn errors(&self) -> Vec<FieldError> {
        let mut errors = stage_errors(&self.omit_stages, "omitStages");
        for (index, rule) in self.rules.iter().enumerate() {
            rule.check(&format!("rules[{index}]"), &mut errors);
        }
        errors
    }

    /// The verdict of the first rule that matches; without one, nothing is recorded.
    pub fn judge(&self, subject: Subject<'_>) -> Verdict {
        let rule = self.rules.iter().find(|rule| rule.matches(subject));
        let own = rule.map_or(&[][..], |rule| &rule.omit_stages);
        Verdict {
            level: rule.and_then(|rule| level(&rule.level)).unwrap_or_default(),
            omitted: self.omit_stages.iter().chain(own).filter_map(|text| stage(text)).collect(),
            omit_managed_fields: rule.and_then(|rule| rule.omit_managed_fields).unwrap_or(self.omit_managed_fields),
        }
    }
}

const LEVELS: [&str; 4] = ["None", "Metadata", "Request", "RequestResponse"];

fn level(text: &str) -> Option<Level> {
    let levels = [Level::None, Level::Metadata, Level::Request, Level::RequestResponse];
    LEVELS.iter().position(|known| *known == text).map(|at| levels[at])
}

const STAGES: [&str; 4] = ["RequestReceived", "ResponseStarted", "ResponseComplete", "Panic"];

fn stage(text: &str) -> Option<Stage> {
    let stages = [Stage::RequestReceived, Stage::ResponseStarted, Stage::ResponseComplete, Stage::Panic];
    STAGES.iter().position(|known| *known == text).map(|at| stages[at])
}

fn stage_errors(listed: &[String], field: &str) -> Vec<FieldError> {
    let unknown = listed.iter().enumerate().filter(|(_, text)| stage(text).is_none());
    let detail = || format!("allowed stages are {}", STAGES.join(","));
    unknown.map(|(index, text)| FieldError::invalid(format!("{field}[{index}]"), text.as_str(), detail())).collect()
}

impl Rule {
    fn check(&self, field: &str, errors: &mut Vec<FieldError>) {
        match self.level.as_str() {
            "" => errors.push(FieldError::required(format!("{field}.level"), "")),
            text if level(text).is_none() => errors.push(FieldError::not_supported(format!("{field}.level"), text, &LEVELS)),
            _ => {}
        }
        for (index, url) in self.non_resource_urls.iter().enumerate().filter(|(_, url)| *url != "*") {
            let path = format!("{field}.nonResourceURLs[{index}]");
            if !url.starts_with('/') {
                errors.push(FieldError::invalid(&path, url.as_str(), "non-resource URL rules must begin with a '/' character"));
            }
            if url.find('*').is_some_and(|at| at + 1 < url.len()) {
                errors.push(FieldError::invalid(&path, url.as_str(), "non-resource URL wildcards '*' must be the final character of the rule"));
            }
        }
        for resources in &self.resources {
            let group = resources.group.as_str();
            if !group.is_empty() && group != "*" {
                let messages = names::subdomain(group, false);
                if !messages.is_empty() {
                    errors.push(FieldError::invalid(format!("{field}.resources.group"), group, messages.join(",")));
                }
            }
            if !resources.resource_names.is_empty() && resources.resources.is_empty() {
                let names = resources.resource_names.clone();
                let detail = "using resourceNames requires at least one resource";
                errors.push(FieldError::invalid(format!("{field}.resources.resourceNames"), names, detail));
            }
        }
        errors.extend(stage_errors(&self.omit_stages, &format!("{field}.omitStages")));
        let about_resources = !self.resources.is_empty() || !self.namespaces.is_empty();
        if about_resources && !self.non_resource_urls.is_empty() {
            let detail = "rules cannot apply to both regular resources and non-resource URLs";
            errors.push(FieldError::invalid(format!("{field}.nonResourceURLs"), self.non_resource_urls.clone(), detail));
        }
    }

    fn matches(&self, subject: Subject<'_>) -> bool {
        let Subject { user, attributes } = subject;
        let listed = |list: &[String], text: &str| list.is_empty() || list.iter().any(|listed| listed == text);
        let in_groups = self.user_groups.is_empty() || user.groups.iter().any(|group| self.user_groups.contains(group));
        if !listed(&self.users, &user.name) || !in_groups || !listed(&self.verbs, attributes.verb) {
            return false;
        }
        if !self.namespaces.is_empty() || !self.resources.is_empty() {
            let covers = self.resources.is_empty() || self.resources.iter().any(|resources| resources.cover(attributes));
            return attributes.path.is_none() && listed(&self.namespaces, attributes.namespace) && covers;
        }
        self.non_resource_urls.is_empty() || attributes.path.is_some_and(|path| self.non_resource_urls.iter().any(|url| covers_path(url, path)))
    }
}

impl GroupResources {
    fn cover(&self, attributes: &Attributes<'_>) -> bool {
        if self.group != attributes.group && self.group != "*" {
            return false;
        }
        let named = self.resource_names.is_empty() || self.resource_names.iter().any(|name| name == attributes.name);
        self.resources.is_empty() || named && self.resources.iter().any(|spec| covers_resource(spec, attributes.resource, attributes.subresource))
    }
}

/// `pods`, `pods/log`, `pods/*`, `*/scale` or `*`.
fn covers_resource(spec: &str, resource: &str, subresource: &str) -> bool {
    let exact = match spec.split_once('/') {
        None => spec == resource && subresource.is_empty(),
        Some((left, right)) => left == resource && right == subresource && !subresource.is_empty(),
    };
    let any_resource = !subresource.is_empty() && spec.strip_prefix("*/") == Some(subresource);
    exact || spec == "*" || any_resource || spec.strip_suffix("/*") == Some(resource)
}

fn covers_path(spec: &str, path: &str) -> bool {
    spec == "*" || spec == path || spec.ends_with('*') && path.starts_with(spec.trim_end_matches('*'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(rules: &str) -> Policy {
        Policy::parse(&format!("apiVersion: audit.k8s.io/v1\nkind: Policy\nomitStages: [RequestReceived]\nrules:\n{rules}")).expect("a policy")
    }

    fn judged(policy: &Policy, user: &str, attributes: &Attributes<'_>) -> Level {
        let user = UserInfo { name: user.into(), groups: vec!["system:authenticated".into()], ..UserInfo::default() };
        policy.judge(Subject { user: &user, attributes }).level
    }

    #[test]
    fn the_first_matching_rule_decides() {
        let policy = policy(
            "- {level: None, users: [kube-proxy], verbs: [watch]}\n\
             - {level: Request, resources: [{group: '', resources: [pods, pods/*]}], namespaces: [default]}\n\
             - {level: RequestResponse, resources: [{group: apps, resources: ['*/scale']}]}\n\
             - {level: None, nonResourceURLs: ['/healthz*']}\n\
             - {level: Metadata, userGroups: ['system:authenticated']}\n",
        );
        let pods = Attributes { verb: "watch", resource: "pods", namespace: "default", ..Attributes::default() };
        assert_eq!(judged(&policy, "kube-proxy", &pods), Level::None);
        assert_eq!(judged(&policy, "x", &pods), Level::Request);
        assert_eq!(judged(&policy, "x", &Attributes { subresource: "log", ..pods.clone() }), Level::Request);
        assert_eq!(judged(&policy, "x", &Attributes { namespace: "other", ..pods.clone() }), Level::Metadata);
        let scale = Attributes { verb: "get", group: "apps", resource: "deployments", subresource: "scale", ..Attributes::default() };
        assert_eq!(judged(&policy, "x", &scale), Level::RequestResponse);
        let health = Attributes { verb: "get", path: Some("/healthz/ping"), ..Attributes::default() };
        assert_eq!(judged(&policy, "x", &health), Level::None);
    }

    #[test]
    fn stages_are_omitted_by_the_policy_and_by_the_rule() {
        let policy = policy("- {level: Metadata, omitStages: [Panic], omitManagedFields: true}\n");
        let verdict = policy.judge(Subject { user: &UserInfo::default(), attributes: &Attributes::default() });
        let stages = [Stage::RequestReceived, Stage::ResponseStarted, Stage::ResponseComplete, Stage::Panic];
        assert_eq!(stages.map(|stage| verdict.records(stage)), [false, true, true, false]);
        assert!(verdict.omit_managed_fields);
    }

    #[test]
    fn unusable_policies_say_why() {
        let error = |text: &str| Policy::parse(text).expect_err("is refused").to_string();
        assert_eq!(error("apiVersion: audit.k8s.io/v1\nkind: Policy\n"), "loaded illegal policy with 0 rules");
        assert_eq!(error("apiVersion: v1\nkind: Policy\n"), "unknown group version field \"v1\" in policy");
        let bad = error("apiVersion: audit.k8s.io/v1\nkind: Policy\nrules: [{level: All, nonResourceURLs: ['/a*b']}]\n");
        assert!(bad.contains("rules[0].level: Unsupported value: \"All\": supported values: \"None\", \"Metadata\""), "{bad}");
        assert!(bad.contains("wildcards '*' must be the final character"), "{bad}");
    }
}
