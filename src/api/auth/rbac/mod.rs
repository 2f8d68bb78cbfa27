//! RBAC: roles say what may be done, bindings to whom that applies.
//!
//! In: requests' attributes, and roles and bindings from the watch caches. Out: a decision, or the rules themselves.
//! Nothing here denies; what no rule allows is somebody else's opinion, and in the end nobody's.

pub mod aggregate;
pub mod escalation;
mod memo;
pub mod resolve;
pub mod rules;

#[cfg(test)]
pub(crate) mod tests;

use std::sync::Arc;

use self::memo::Memo;
use super::{Attributes, Authorizer, Decision, UserRules, chain};
use crate::service::{Listers, UserInfo};

pub use resolve::Resolver;

/// The authorizer over the roles and bindings in the watch caches.
pub struct Rbac {
    resolver: Resolver,
    memo: Memo,
}

impl Rbac {
    pub fn new(listers: Arc<dyn Listers>) -> Self {
        Rbac { resolver: Resolver::new(listers), memo: Memo::default() }
    }

    pub fn resolver(&self) -> &Resolver {
        &self.resolver
    }

    /// Whether a rule allows the request, or the errors met on the way.
    fn decide(&self, user: &UserInfo, attributes: &Attributes<'_>) -> Decision {
        let known = self.memo.rules(&self.resolver, user, attributes.namespace);
        let found = known.unwrap_or_else(|| Arc::new(self.resolver.rules_for(user, attributes.namespace)));
        if found.rules.iter().any(|rule| rules::allows(rule, attributes)) {
            return Decision::Allow;
        }
        Decision::NoOpinion(problems(&found.errors))
    }

    /// The source of the first rule that allows the request, or the errors met on the way.
    fn find(&self, user: &UserInfo, attributes: &Attributes<'_>) -> Result<String, String> {
        let mut allowed = None;
        let mut errors = Vec::new();
        self.resolver.visit(user, attributes.namespace, &mut |visited| {
            match visited {
                Ok((source, rule)) if rules::allows(rule, attributes) => {
                    allowed = Some(format!("RBAC: allowed by {source}"));
                }
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
    if errors.is_empty() { String::new() } else { format!("RBAC: {}", chain::aggregate(errors)) }
}

impl Authorizer for Rbac {
    fn authorize(&self, user: &UserInfo, attributes: &Attributes<'_>) -> Decision {
        self.decide(user, attributes)
    }

    fn explain(&self, user: &UserInfo, attributes: &Attributes<'_>) -> (Decision, String) {
        match self.find(user, attributes) {
            Ok(reason) => (Decision::Allow, reason),
            Err(reason) => (Decision::NoOpinion(reason.clone()), reason),
        }
    }

    fn rules_for(&self, user: &UserInfo, namespace: &str) -> UserRules {
        self.resolver.rules_for(user, namespace)
    }
}
