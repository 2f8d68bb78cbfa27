//! Which rules apply to a user: bindings to roles, read from the watch caches.

use std::{fmt, sync::Arc};

use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, PolicyRule, Role, RoleBinding, RoleRef, Subject};

use crate::{
    auth::UserRules,
    meta::{GroupResource, ObjectKey, Revision},
    service::{Listers, UserInfo},
};

/// The API group of roles and bindings.
pub const GROUP: &str = "rbac.authorization.k8s.io";

/// Reads roles and bindings.
#[derive(Clone)]
pub struct Resolver {
    listers: Arc<dyn Listers>,
    roles: GroupResource,
    cluster_roles: GroupResource,
    role_bindings: GroupResource,
    cluster_role_bindings: GroupResource,
}

/// Where a rule came from.
pub struct Source<'a> {
    kind: &'static str,
    name: &'a str,
    /// The binding's own; empty for cluster role bindings.
    namespace: &'a str,
    role: &'a RoleRef,
    subject: &'a Subject,
}

/// Is shown each rule with its source, or the error of a role that cannot be read; false ends the visit.
pub type Visitor<'v> = dyn FnMut(Result<(&Source<'_>, &PolicyRule), ResolveError>) -> bool + 'v;

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
        let resource = |name: &str| GroupResource::new(GROUP, name);
        Resolver {
            listers,
            roles: resource("roles"),
            cluster_roles: resource("clusterroles"),
            role_bindings: resource("rolebindings"),
            cluster_role_bindings: resource("clusterrolebindings"),
        }
    }

    /// The state of the policy; `None` where the caches do not count changes.
    pub fn version(&self) -> Option<[Revision; 4]> {
        let version = |resource| self.listers.version(resource);
        Some([version(&self.roles)?, version(&self.cluster_roles)?, version(&self.role_bindings)?, version(&self.cluster_role_bindings)?])
    }

    /// The rules of a role that a binding in `namespace` (empty for cluster role bindings) refers to.
    ///
    /// # Errors
    /// When there is no such role.
    pub fn role_rules(&self, role: &RoleRef, namespace: &str) -> Result<Vec<PolicyRule>, ResolveError> {
        let mut rules = Vec::new();
        self.visit_role(role, namespace, &mut |rule| {
            rules.push(rule.clone());
            true
        })?;
        Ok(rules)
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
        for stored in self.listers.list(&self.cluster_role_bindings, "") {
            let Ok(binding) = stored.typed::<ClusterRoleBinding>() else { continue };
            let Some(subject) = applying(binding.subjects.as_deref(), user, "") else { continue };
            let source = Source { kind: "ClusterRoleBinding", name: &stored.key.name, namespace: "", role: &binding.role_ref, subject };
            if !self.visit_source(&source, visitor) {
                return;
            }
        }
        if namespace.is_empty() {
            return;
        }
        for stored in self.listers.list(&self.role_bindings, namespace) {
            let Ok(binding) = stored.typed::<RoleBinding>() else { continue };
            let Some(subject) = applying(binding.subjects.as_deref(), user, namespace) else { continue };
            let source = Source { kind: "RoleBinding", name: &stored.key.name, namespace, role: &binding.role_ref, subject };
            if !self.visit_source(&source, visitor) {
                return;
            }
        }
    }

    fn visit_source(&self, source: &Source<'_>, visitor: &mut Visitor<'_>) -> bool {
        let visited = self.visit_role(source.role, source.namespace, &mut |rule| visitor(Ok((source, rule))));
        visited.unwrap_or_else(|error| visitor(Err(error)))
    }

    fn visit_role(&self, role: &RoleRef, namespace: &str, visitor: &mut dyn FnMut(&PolicyRule) -> bool) -> Result<bool, ResolveError> {
        let (kind, resource, key) = match role.kind.as_str() {
            "ClusterRole" => ("clusterrole", &self.cluster_roles, ObjectKey::cluster(role.name.as_str())),
            "Role" => ("role", &self.roles, ObjectKey::new(namespace, role.name.as_str())),
            other => return Err(ResolveError::Kind(other.to_owned())),
        };
        let name = || role.name.clone();
        let stored = self.listers.get(resource, &key).ok_or_else(|| ResolveError::NotFound { kind, name: name() })?;
        let damaged = |error: serde_json::Error| ResolveError::Damaged { kind, name: name(), error: error.to_string() };
        let each = |rules: &Option<Vec<PolicyRule>>, visitor: &mut dyn FnMut(&PolicyRule) -> bool| rules.iter().flatten().all(visitor);
        match kind {
            "role" => Ok(each(&stored.typed::<Role>().map_err(damaged)?.rules, visitor)),
            _ => Ok(each(&stored.typed::<ClusterRole>().map_err(damaged)?.rules, visitor)),
        }
    }
}

/// The first subject that is the user, one of the user's groups, or the user's service account.
fn applying<'a>(subjects: Option<&'a [Subject]>, user: &UserInfo, namespace: &str) -> Option<&'a Subject> {
    subjects?.iter().find(|subject| match subject.kind.as_str() {
        "User" => subject.name == user.name,
        "Group" => user.groups.contains(&subject.name),
        "ServiceAccount" => {
            let namespace = subject.namespace.as_deref().filter(|own| !own.is_empty()).unwrap_or(namespace);
            !namespace.is_empty() && is_service_account(&user.name, namespace, &subject.name)
        }
        _ => false,
    })
}

/// Whether a user name is that of a service account.
fn is_service_account(user: &str, namespace: &str, name: &str) -> bool {
    let rest = user.strip_prefix("system:serviceaccount:").and_then(|rest| rest.strip_prefix(namespace));
    rest.and_then(|rest| rest.strip_prefix(':')) == Some(name)
}

impl fmt::Display for Source<'_> {
    /// `ClusterRoleBinding "a" of ClusterRole "b" to Group "c"`, with upstream's order of name and namespace.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let qualified = |name: &str, namespace: &str| if namespace.is_empty() { name.to_owned() } else { format!("{name}/{namespace}") };
        let subject = match self.subject.kind.as_str() {
            "ServiceAccount" => format!("{}/{}", self.subject.name, self.subject.namespace.as_deref().unwrap_or(self.namespace)),
            _ => self.subject.name.clone(),
        };
        let binding = qualified(self.name, self.namespace);
        write!(f, "{} {binding:?} of {} {:?} to {} {subject:?}", self.kind, self.role.kind, self.role.name, self.subject.kind)
    }
}
