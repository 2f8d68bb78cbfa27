//! Which rules apply to a user: bindings to roles, read from the watch caches.

use std::{fmt, sync::Arc};

use k8s_openapi::api::rbac::v1::{RoleRef, Subject};

use super::{
    policy::{Binding, Policy},
    rules::Rule,
};
use crate::{
    auth::UserRules,
    service::{Listers, UserInfo},
};

/// Reads roles and bindings.
#[derive(Clone)]
pub struct Resolver {
    policy: Arc<Policy>,
}

/// Where a rule came from.
pub struct Source<'a> {
    binding: &'a Binding,
    subject: &'a Subject,
}

/// Is shown each rule with its source, or the error of a role that cannot be read; false ends the visit.
pub type Visitor<'v> = dyn FnMut(Result<(&Source<'_>, &Arc<Rule>), ResolveError>) -> bool + 'v;

/// A role that could not be read, in upstream's words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ResolveError {
    #[error("{kind}.rbac.authorization.k8s.io \"{name}\" not found")]
    NotFound { kind: &'static str, name: String },
    #[error("unsupported role reference kind: \"{0}\"")]
    Kind(String),
    #[error("{kind} \"{name}\" does not decode: {error}")]
    Damaged { kind: &'static str, name: String, error: String },
}

impl Resolver {
    pub fn new(listers: Arc<dyn Listers>) -> Self {
        Resolver { policy: Arc::new(Policy::new(listers)) }
    }

    /// The rules of a role that a binding in `namespace` (empty for cluster role bindings) refers to.
    ///
    /// # Errors
    /// When there is no such role.
    pub fn role_rules(&self, role: &RoleRef, namespace: &str) -> Result<Arc<[Arc<Rule>]>, ResolveError> {
        let (kind, namespace) = match role.kind.as_str() {
            "ClusterRole" => ("clusterrole", ""),
            "Role" => ("role", namespace),
            other => return Err(ResolveError::Kind(other.to_owned())),
        };
        match self.policy.rules(namespace, &role.name) {
            None => Err(ResolveError::NotFound { kind, name: role.name.clone() }),
            Some(rules) => rules.map_err(|error| ResolveError::Damaged { kind, name: role.name.clone(), error }),
        }
    }

    /// All rules that apply to a user in a namespace.
    pub fn rules_for(&self, user: &UserInfo, namespace: &str) -> UserRules {
        let mut found = UserRules::default();
        self.visit(user, namespace, &mut |visited| {
            match visited {
                Ok((_, rule)) => found.rules.push(rule.clone()),
                Err(error) => found.errors.push(error.to_string()),
            }
            true
        });
        found
    }

    /// Shows the visitor every rule that applies to a user, cluster-wide ones first, until it returns false.
    pub fn visit(&self, user: &UserInfo, namespace: &str, visitor: &mut Visitor<'_>) {
        for (binding, at) in self.policy.applying(user, namespace) {
            let goes_on = match self.role_rules(&binding.role, &binding.namespace) {
                Ok(rules) => {
                    let source = Source { binding: &binding, subject: &binding.subjects[at] };
                    rules.iter().all(|rule| visitor(Ok((&source, rule))))
                }
                Err(error) => visitor(Err(error)),
            };
            if !goes_on {
                return;
            }
        }
    }
}

impl fmt::Display for Source<'_> {
    /// `ClusterRoleBinding "a" of ClusterRole "b" to Group "c"`, with upstream's order of name and namespace.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let qualified = |name: &str, namespace: &str| if namespace.is_empty() { name.to_owned() } else { format!("{name}/{namespace}") };
        let Source { binding, subject } = self;
        let subject_name = match subject.kind.as_str() {
            "ServiceAccount" => format!("{}/{}", subject.name, subject.namespace.as_deref().unwrap_or(&binding.namespace)),
            _ => subject.name.clone(),
        };
        let kind = if binding.namespace.is_empty() { "ClusterRoleBinding" } else { "RoleBinding" };
        let name = qualified(&binding.name, &binding.namespace);
        write!(f, "{kind} {name:?} of {} {:?} to {} {subject_name:?}", binding.role.kind, binding.role.name, subject.kind)
    }
}
