//! The rules of users who asked before, valid as long as no role and no binding has changed.

use std::{collections::HashMap, sync::Arc};

use parking_lot::Mutex;

use super::resolve::Resolver;
use crate::{auth::UserRules, meta::Revision, service::UserInfo};

/// Users and namespaces remembered; then everything is forgotten and begins anew.
const REMEMBERED: usize = 2048;

/// What decides which rules apply to a user.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Identity {
    name: String,
    groups: Vec<String>,
    namespace: String,
}

/// Rules by identity, as of one state of the policy.
#[derive(Debug, Default)]
pub struct Memo {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    policy: [Revision; 4],
    rules: HashMap<Identity, Arc<UserRules>>,
}

impl Memo {
    /// The rules that apply to a user in a namespace; `None` where the caches cannot tell whether policy has changed.
    pub fn rules(&self, resolver: &Resolver, user: &UserInfo, namespace: &str) -> Option<Arc<UserRules>> {
        // Read before the rules are: what is remembered may be newer than it says, never older.
        let policy = resolver.version()?;
        let identity = Identity { name: user.name.clone(), groups: user.groups.clone(), namespace: namespace.to_owned() };
        if let Some(rules) = self.state.lock().at(policy).get(&identity) {
            return Some(rules.clone());
        }
        let rules = Arc::new(resolver.rules_for(user, namespace));
        let mut state = self.state.lock();
        let remembered = state.at(policy);
        if remembered.len() >= REMEMBERED {
            remembered.clear();
        }
        remembered.insert(identity, rules.clone());
        Some(rules)
    }
}

impl State {
    /// What is remembered of this state of the policy.
    fn at(&mut self, policy: [Revision; 4]) -> &mut HashMap<Identity, Arc<UserRules>> {
        if self.policy != policy {
            self.policy = policy;
            self.rules.clear();
        }
        &mut self.rules
    }
}
