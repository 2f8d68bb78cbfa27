//! Which plugins schedule the pods of one scheduler name, and where each is asked.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use k8s_openapi::api::core::v1::{Node, Pod};
use serde_json::{Value, json};
use troupe_api::meta::ObjectKey;
use troupe_api_client::Client;

use super::{
    change::ClusterChange,
    filters::{Filters, NodeNames, PluginRejection},
    node_filter::PreFilter,
    permit::{Permit, PluginRefusal, Refusal},
    plugin::{Plugin, Undecided, Writing},
    point::Point,
};
use crate::scheduler::{
    DEFAULT_SCHEDULER, object_lookup::ObjectLookup, pod_info::PodInfo, snapshot::Snapshot, spread::SpreadDefaults, tolerations::without_comparisons,
};

/// The plugins of a scheduler.
pub struct Profile {
    /// What pods call it (`schedulerName`).
    pub name: Arc<str>,
    plugins: Vec<Arc<dyn Plugin>>,
    /// Places in `plugins`, in the order in which they are asked.
    asked: BTreeMap<Point, Vec<usize>>,
    /// Weights of scores, by place.
    weights: BTreeMap<usize, i64>,
    /// How many of the nodes, in percent, are enough to choose from; upstream's adaptive share if `None`.
    pub percentage_of_nodes_to_score: Option<usize>,
    /// Spread constraints of pods that have none (`PodTopologySpreadArgs`).
    pub spread_defaults: SpreadDefaults,
    /// Whether tolerations compare numbers (the feature `TaintTolerationComparisonOperators`).
    pub compares_tolerations: bool,
}

impl Profile {
    /// Plugins that are asked at all of their points, in this order, with the weights of their scores.
    pub fn of(plugins: Vec<(Arc<dyn Plugin>, i64)>) -> Self {
        let weights: BTreeMap<usize, i64> = plugins.iter().map(|(_, weight)| *weight).enumerate().collect();
        let plugins: Vec<Arc<dyn Plugin>> = plugins.into_iter().map(|(plugin, _)| plugin).collect();
        let at = |point: Point| (0..plugins.len()).filter(|at| plugins[*at].points().contains(&point)).collect();
        let asked = Point::ALL.map(|point| (point, at(point))).into();
        let (percentage_of_nodes_to_score, spread_defaults) = (None, SpreadDefaults::default());
        let (name, compares_tolerations) = (DEFAULT_SCHEDULER.into(), false);
        Profile { name, plugins, asked, weights, percentage_of_nodes_to_score, spread_defaults, compares_tolerations }
    }

    /// Plugins that are asked where `asked` says, by their names.
    pub fn arranged(name: &str, plugins: Vec<Arc<dyn Plugin>>, asked: &BTreeMap<Point, Vec<String>>, weights: &BTreeMap<String, i64>) -> Self {
        let place = |name: &String| plugins.iter().position(|plugin| plugin.name() == name);
        let asked = asked.iter().map(|(point, names)| (*point, names.iter().filter_map(place).collect())).collect();
        let weights = weights.iter().filter_map(|(name, weight)| Some((place(name)?, *weight))).collect();
        Profile { name: name.into(), asked, weights, ..Profile::of(plugins.into_iter().map(|plugin| (plugin, 0)).collect()) }
    }

    /// For people: features that decide about its pods, and what its plugins are at, by their names.
    pub fn observe(&self) -> Value {
        let told = self.plugins().map(|plugin| (plugin.name().to_owned(), plugin.observe()));
        let told: serde_json::Map<_, _> = told.filter(|(_, told)| !told.is_null()).collect();
        json!({"comparesTolerations": self.compares_tolerations, "plugins": told})
    }

    /// A pod of this profile as its plugins see it.
    pub fn info(&self, pod: Arc<Pod>, around: &dyn ObjectLookup) -> PodInfo {
        let pod = if self.compares_tolerations { pod } else { without_comparisons(pod) };
        PodInfo::with_defaults(pod, around, &self.spread_defaults)
    }

    pub fn plugins(&self) -> impl Iterator<Item = &dyn Plugin> {
        self.plugins.iter().map(|plugin| &**plugin)
    }

    fn places(&self, point: Point) -> &[usize] {
        self.asked.get(&point).map(Vec::as_slice).unwrap_or_default()
    }

    /// The plugins that are asked at a point, in order.
    pub fn at(&self, point: Point) -> impl DoubleEndedIterator<Item = &Arc<dyn Plugin>> {
        self.places(point).iter().map(|at| &self.plugins[*at])
    }

    /// The plugins that score, with their weights.
    pub fn scoring(&self) -> impl Iterator<Item = (&dyn Plugin, i64)> {
        let weighted = self.places(Point::Score).iter().map(|at| (&*self.plugins[*at], self.weights.get(at).copied().unwrap_or(0)));
        weighted.filter(|(_, weight)| *weight != 0)
    }

    /// The plugins that score, with their weights, but for one.
    #[cfg(test)]
    pub fn scoring_without(&self, name: &str) -> Vec<(Arc<dyn Plugin>, i64)> {
        let weight = |at: &usize| self.weights.get(at).copied().unwrap_or(0);
        let all = self.places(Point::Score).iter().map(|at| (self.plugins[*at].clone(), weight(at)));
        all.filter(|(plugin, _)| plugin.name() != name).collect()
    }

    /// Whether the pod may be looked at.
    ///
    /// # Errors
    /// What it waits for.
    pub fn pre_enqueue(&self, pod: &Pod) -> Result<(), String> {
        self.at(Point::PreEnqueue).try_for_each(|plugin| plugin.pre_enqueue(pod))
    }

    /// The first plugin that does not let the pod be looked at.
    pub fn gate_of(&self, pod: &Pod) -> Option<&'static str> {
        self.at(Point::PreEnqueue).find(|plugin| plugin.pre_enqueue(pod).is_err()).map(|plugin| plugin.name())
    }

    /// Asks all plugins about a pod, which makes their filters, and tells which nodes alone can do.
    ///
    /// # Errors
    /// The first plugin that says that no node will do.
    pub fn pre_filter<'a>(&'a self, pod: &'a PodInfo, cluster: &'a Snapshot) -> Result<(Filters<'a>, NodeNames), PluginRejection> {
        let mut begun: Vec<Option<PreFilter<'a>>> = self.plugins.iter().map(|_| None).collect();
        let mut only = NodeNames::default();
        for at in self.places(Point::PreFilter) {
            let plugin = &*self.plugins[*at];
            match plugin.pre_filter(pod, cluster) {
                PreFilter::Reject(rejection) => return Err((plugin.name(), rejection)),
                answer => begun[*at] = Some(answer),
            }
            if let Some(names) = plugin.node_names(pod) {
                only.plugins.push(plugin.name());
                only.names = Some(match only.names {
                    Some(known) => known.intersection(&names).cloned().collect(),
                    None => names,
                });
            }
        }
        let mut filters = Vec::new();
        for at in self.places(Point::Filter) {
            let plugin = &*self.plugins[*at];
            // One that only filters has nothing to reject beforehand.
            if let PreFilter::Ask(filter) = begun[*at].take().unwrap_or_else(|| plugin.pre_filter(pod, cluster)) {
                filters.push((plugin.name(), filter));
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

    /// What is done about a pod that fits nowhere because a plugin could not decide in time.
    pub fn undecided(&self, pod: &ObjectKey) -> Option<Undecided> {
        self.at(Point::Filter).find_map(|plugin| plugin.undecided(pod))
    }

    /// The attempt on a pod failed.
    pub fn abandon(&self, pod: &ObjectKey) {
        self.at(Point::Filter).for_each(|plugin| plugin.abandon(pod));
    }

    /// What is to be written for a pod that fits nowhere, with the names of who wants it.
    pub fn after_failure(&self, pod: &ObjectKey, client: &Client) -> Vec<(&'static str, Writing)> {
        self.at(Point::PostFilter).filter_map(|plugin| Some((plugin.name(), plugin.after_failure(pod, client)?))).collect()
    }

    /// Keeps for a pod what it takes on its node. Whoever calls takes all back when one plugin refuses.
    ///
    /// # Errors
    /// The first plugin that refuses.
    pub fn reserve(&self, pod: &PodInfo, node: &Arc<Node>) -> Result<(), PluginRefusal> {
        self.at(Point::Reserve).try_for_each(|plugin| plugin.reserve(pod, node).map_err(|refusal| (plugin.name(), refusal)))
    }

    /// Takes back what is kept for a pod.
    pub fn unreserve(&self, pod: &ObjectKey) {
        self.at(Point::Reserve).rev().for_each(|plugin| plugin.unreserve(pod));
    }

    /// The plugins that want the pod to wait, each for how long.
    ///
    /// # Errors
    /// The first plugin that rejects it.
    pub fn permit(&self, pod: &PodInfo, node: &str) -> Result<Vec<(&'static str, Duration)>, PluginRefusal> {
        let mut waits = Vec::new();
        for plugin in self.at(Point::Permit) {
            match plugin.permit(pod, node) {
                Permit::Allow => {}
                Permit::Reject(why) => return Err((plugin.name(), Refusal::Rejected(why))),
                Permit::Wait(time) => waits.push((plugin.name(), time)),
            }
        }
        Ok(waits)
    }

    /// What is to be done before the pod is bound, in order, with the names of who wants it.
    pub fn pre_bind(&self, pod: &Arc<Pod>, node: &Arc<Node>, client: &Client) -> Vec<(&'static str, Writing)> {
        self.at(Point::PreBind).filter_map(|plugin| Some((plugin.name(), plugin.pre_bind(pod, node, client)?))).collect()
    }

    /// Binds the pod; `None` if no plugin does.
    pub fn bind(&self, pod: &Arc<Pod>, node: &str, client: &Client) -> Option<Writing> {
        self.at(Point::Bind).find_map(|plugin| plugin.bind(pod, node, client))
    }

    /// The pod is bound.
    pub fn post_bind(&self, pod: &ObjectKey) {
        self.at(Point::PostBind).for_each(|plugin| plugin.post_bind(pod));
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
