//! Mutation once more: who changes an object may concern those who were asked before (upstream's `ReinvocationContext`).
//!
//! Built-in plugins see the object a second time when a webhook or a policy changed it. Webhooks and policies themselves are asked
//! again only if they want that, and if something changed after they were asked: each kind of them keeps its [`Asked`] here.

use std::collections::{BTreeMap, BTreeSet};

use troupe_api::meta::Object;

/// Which round of mutation this is, and whether there will be another one.
#[derive(Debug, Default)]
pub struct Reinvocation {
    second: bool,
    wanted: bool,
    /// By the name of the plugin that asks.
    asked: BTreeMap<&'static str, Asked>,
}

impl Reinvocation {
    /// Whether this is the second and last round.
    pub fn is_second(&self) -> bool {
        self.second
    }

    /// Asks for a second round: somebody changed the object.
    pub fn want(&mut self) {
        self.wanted = true;
    }

    /// Whether there is a second round; then it begins.
    pub(super) fn begin_second(&mut self) -> bool {
        self.second = self.wanted;
        self.second
    }

    pub(super) fn take(&mut self, plugin: &'static str) -> Asked {
        self.asked.remove(plugin).unwrap_or_default()
    }

    pub(super) fn keep(&mut self, plugin: &'static str, asked: Asked) {
        self.asked.insert(plugin, asked);
    }
}

/// Those that one plugin asked in the first round, by their identities, and that want to be asked again.
#[derive(Clone, Debug, Default)]
pub struct Asked {
    /// They saw all changes so far.
    current: BTreeSet<String>,
    /// Something changed after them.
    outdated: BTreeSet<String>,
    /// The object as they left it.
    pub(super) last: Option<Object>,
}

impl Asked {
    /// Whether nobody is to be asked again.
    pub(super) fn is_empty(&self) -> bool {
        self.current.is_empty() && self.outdated.is_empty()
    }

    /// Whether `id` is to be asked in a second round: it was before, wants that, and something changed after it.
    pub fn is_outdated(&self, id: &str) -> bool {
        self.outdated.contains(id)
    }

    /// The one that was asked now changed the object.
    pub fn object_changed(&mut self) {
        self.outdated.append(&mut self.current);
    }

    /// Notes one that was asked and wants to be asked again.
    pub fn add(&mut self, id: &str) {
        self.current.insert(id.to_owned());
    }
}
