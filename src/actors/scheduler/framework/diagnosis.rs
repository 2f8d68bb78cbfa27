//! Why a pod fits nowhere, by node, and upstream's sentence about it.

use std::{borrow::Cow, collections::BTreeMap};

use super::{
    filters::{NodeNames, PluginRejection},
    node_filter::Rejection,
};

/// What kept a pod from every node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Diagnosis {
    /// How many nodes there are.
    pub nodes: usize,
    /// Why no node was looked at.
    pre_filter: Option<String>,
    /// How many nodes for which reason.
    reasons: BTreeMap<Cow<'static, str>, usize>,
    /// How many nodes which plugin rejected.
    pub plugins: BTreeMap<&'static str, usize>,
    /// How many nodes were looked at.
    looked_at: usize,
    /// Why the others were not.
    absent: Option<String>,
    /// Places of the nodes from which removing pods could help, in the order in which they were looked at.
    pub resolvable: Vec<usize>,
}

impl Diagnosis {
    pub fn new(nodes: usize, only: &NodeNames) -> Self {
        let absent = only.names.is_some().then(|| format!("node(s) didn't satisfy plugin(s) [{}]", only.plugins.join(" ")));
        let plugins = only.plugins.iter().map(|plugin| (*plugin, 0)).collect();
        Diagnosis { nodes, absent, plugins, ..Diagnosis::default() }
    }

    /// A plugin said that no node will do.
    pub fn rejected(nodes: usize, (plugin, rejection): PluginRejection) -> Self {
        Diagnosis { nodes, pre_filter: Some(rejection.reasons.join(", ")), plugins: BTreeMap::from([(plugin, nodes)]), ..Diagnosis::default() }
    }

    /// A node was rejected.
    pub fn add(&mut self, at: usize, (plugin, Rejection { reasons, unresolvable, .. }): PluginRejection) {
        self.looked_at += 1;
        for reason in reasons {
            *self.reasons.entry(reason).or_default() += 1;
        }
        *self.plugins.entry(plugin).or_default() += 1;
        if !unresolvable {
            self.resolvable.push(at);
        }
    }

    /// Somebody has something against nodes, and does not say what.
    pub fn mark(&mut self, plugin: &'static str) {
        self.plugins.entry(plugin).or_default();
    }

    /// Another plugin said that no node will do, before this one could begin to filter.
    pub fn was_rejected_before(&self, plugin: &str) -> bool {
        self.pre_filter.is_some() && !self.plugins.contains_key(plugin)
    }

    /// This plugin said that no node will do, before any was looked at.
    pub fn was_rejected_by(&self, plugin: &str) -> bool {
        self.pre_filter.is_some() && self.plugins.contains_key(plugin)
    }

    /// Plugins that rejected some node.
    pub fn rejected_by(&self) -> Vec<&'static str> {
        self.plugins.keys().copied().collect()
    }

    /// `0/3 nodes are available: 1 Insufficient cpu, 2 node(s) were unschedulable. preemption: ...` (`FitError.Error`).
    pub fn message(&self, post_filter: &str) -> String {
        let mut message = format!("0/{} nodes are available:", self.nodes);
        match &self.pre_filter {
            Some(reason) => message += &format!(" {reason}."),
            None => message += &listed(&self.reasons, self.absent.as_deref(), self.nodes.saturating_sub(self.looked_at)),
        }
        if !post_filter.is_empty() {
            message += &format!(" {post_filter}");
        }
        message
    }
}

/// ` 1 this, 2 that.`; `others` nodes were not looked at, because of `absent`.
pub fn listed(reasons: &BTreeMap<Cow<'static, str>, usize>, absent: Option<&str>, others: usize) -> String {
    let mut all = reasons.clone();
    if let Some(reason) = absent.filter(|_| others > 0) {
        *all.entry(reason.to_owned().into()).or_default() += others;
    }
    let mut sentences: Vec<String> = all.iter().map(|(reason, count)| format!("{count} {reason}")).collect();
    sentences.sort();
    if sentences.is_empty() { String::new() } else { format!(" {}.", sentences.join(", ")) }
}
