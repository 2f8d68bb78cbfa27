//! RBAC: roles say what may be done, bindings to whom that applies.
//!
//! In: requests' attributes, and roles and bindings from the watch caches. Out: a decision, or the rules themselves.
//! Nothing here denies; what no rule allows is somebody else's opinion, and in the end nobody's.

pub mod aggregate;
pub mod escalation;
mod policy;
pub mod resolve;
pub mod rules;

#[cfg(test)]
pub(crate) mod tests;

use std::sync::Arc;

use self::resolve::Source;
use super::{Attributes, Authorizer, Decision, UserRules};
use crate::{
    service::{Listers, UserInfo},
    status::aggregate,
};

pub use resolve::Resolver;

/// The API group of roles and bindings.
pub const GROUP: &str = "rbac.authorization.k8s.io";

/// The authorizer over the roles and bindings in the watch caches.
pub struct Rbac {
    resolver: Resolver,
}

impl Rbac {
    pub fn new(listers: Arc<dyn Listers>) -> Self {
        Rbac { resolver: Resolver::new(listers) }
    }

    pub fn resolver(&self) -> &Resolver {
        &self.resolver
    }

    /// What is told of the source of the first rule that allows the request, or the errors met on the way.
    fn find<T>(&self, user: &UserInfo, attributes: &Attributes<'_>, told: impl Fn(&Source<'_>) -> T) -> Result<T, String> {
        let mut allowed = None;
        let mut errors = Vec::new();
        self.resolver.visit(user, attributes.namespace, &mut |visited| {
            match visited {
                Ok((source, rule)) if rule.allows(attributes) => allowed = Some(told(source)),
                Ok(_) => {}
                Err(error) => errors.push(error.to_string()),
            }
            allowed.is_none()
        });
        allowed.ok_or_else(|| problems(&errors))
    }
}

/// What an undecided request is told about roles that could not be read.
fn problems(errors: &[String]) -> String {
    if errors.is_empty() { String::new() } else { format!("RBAC: {}", aggregate(errors)) }
}

impl Authorizer for Rbac {
    fn authorize(&self, user: &UserInfo, attributes: &Attributes<'_>) -> Decision {
        match self.find(user, attributes, |_| ()) {
            Ok(()) => Decision::Allow,
            Err(reason) => Decision::NoOpinion(reason),
        }
    }

    fn explain(&self, user: &UserInfo, attributes: &Attributes<'_>) -> (Decision, String) {
        match self.find(user, attributes, |source| format!("RBAC: allowed by {source}")) {
            Ok(reason) => (Decision::Allow, reason),
            Err(reason) => (Decision::NoOpinion(reason.clone()), reason),
        }
    }

    fn rbac(&self) -> Option<&Resolver> {
        Some(&self.resolver)
    }

    fn rules_for(&self, user: &UserInfo, namespace: &str) -> UserRules {
        self.resolver.rules_for(user, namespace)
    }
}
