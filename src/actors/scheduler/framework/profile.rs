//! Which plugins a scheduler has.

use k8s_openapi::api::core::v1::Pod;

use super::{
    change::ClusterChange,
    filters::{Filters, NodeNames, PluginRejection},
    node_filter::PreFilter,
    plugin::Plugin,
};
use crate::scheduler::{pod_info::PodInfo, snapshot::Snapshot};

/// A plugin and the weight of its score, which is 0 where it scores nothing.
pub struct Enabled {
    pub plugin: Box<dyn Plugin>,
    pub weight: i64,
}

impl Enabled {
    pub fn new(plugin: impl Plugin, weight: i64) -> Self {
        Enabled { plugin: Box::new(plugin), weight }
    }
}

/// The plugins of a scheduler, in the order in which they are asked.
pub struct Profile {
    pub plugins: Vec<Enabled>,
    /// How many of the nodes, in percent, are enough to choose from; upstream's adaptive share if `None`.
    pub percentage_of_nodes_to_score: Option<usize>,
}

impl Profile {
    pub fn plugins(&self) -> impl Iterator<Item = &dyn Plugin> {
        self.plugins.iter().map(|enabled| &*enabled.plugin)
    }

    /// Whether the pod may be looked at.
    ///
    /// # Errors
    /// What it waits for.
    pub fn pre_enqueue(&self, pod: &Pod) -> Result<(), String> {
        self.plugins().try_for_each(|plugin| plugin.pre_enqueue(pod))
    }

    /// Asks all plugins about a pod, which makes their filters, and tells which nodes alone can do.
    ///
    /// # Errors
    /// The first plugin that says that no node will do.
    pub fn pre_filter<'a>(&'a self, pod: &'a PodInfo, cluster: &'a Snapshot) -> Result<(Filters<'a>, NodeNames), PluginRejection> {
        let (mut filters, mut only) = (Vec::new(), NodeNames::default());
        for plugin in self.plugins() {
            match plugin.pre_filter(pod, cluster) {
                PreFilter::Skip => {}
                PreFilter::Ask(filter) => filters.push((plugin.name(), filter)),
                PreFilter::Reject(rejection) => return Err((plugin.name(), rejection)),
            }
            if let Some(names) = plugin.node_names(pod) {
                only.plugins.push(plugin.name());
                only.names = Some(match only.names {
                    Some(known) => known.intersection(&names).cloned().collect(),
                    None => names,
                });
            }
        }
        Ok((Filters::new(pod, cluster, filters), only))
    }

    /// How many feasible nodes of so many are enough to choose from.
    pub fn enough_feasible(&self, nodes: usize) -> usize {
        const MINIMUM: usize = 100;
        if nodes < MINIMUM {
            return nodes;
        }
        let adaptive = || (50_usize.saturating_sub(nodes / 125)).max(5);
        let percent = self.percentage_of_nodes_to_score.filter(|percent| *percent > 0).unwrap_or_else(adaptive);
        (nodes * percent / 100).max(MINIMUM)
    }

    /// The plugins that `change` may make reconsider, of those that rejected a pod.
    pub fn interested<'a>(&'a self, rejected_by: &'a [&'static str], change: &'a ClusterChange) -> impl Iterator<Item = &'a dyn Plugin> {
        let event = change.event();
        self.plugins().filter(move |plugin| plugin.events().contains(&event) && rejected_by.contains(&plugin.name()))
    }

    /// Whether `change` may let a pod pass that these plugins rejected. The pod is asked for only when a plugin wants to see it; one that
    /// is not to be had is tried.
    pub fn may_help(&self, rejected_by: &[&'static str], change: &ClusterChange, pod: impl Fn() -> Option<PodInfo>) -> bool {
        let interested: Vec<&dyn Plugin> = self.interested(rejected_by, change).collect();
        if interested.is_empty() {
            return false;
        }
        if interested.iter().any(|plugin| plugin.helps_every_pod(change)) {
            return true;
        }
        let Some(pod) = pod() else { return true };
        interested.iter().any(|plugin| plugin.may_help(&pod, change))
    }
}
