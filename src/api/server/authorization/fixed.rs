//! Authorizers that always say the same (`AlwaysAllow`, `AlwaysDeny`).

use std::sync::Arc;

use troupe_api::{
    auth::{Attributes, Authorizer, Decision, UserRules, rbac::rules::Rule},
    service::UserInfo,
};

/// One of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Always {
    Allow,
    Deny,
}

impl Authorizer for Always {
    fn authorize(&self, _user: &UserInfo, _attributes: &Attributes<'_>) -> Decision {
        match self {
            Always::Allow => Decision::Allow,
            Always::Deny => Decision::NoOpinion("Everything is forbidden.".into()),
        }
    }

    fn rules_for(&self, _user: &UserInfo, _namespace: &str) -> UserRules {
        UserRules { rules: Vec::<Arc<Rule>>::new(), incomplete: *self == Always::Allow, errors: Vec::new() }
    }
}
