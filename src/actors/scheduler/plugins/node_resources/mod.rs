//! NodeResourcesFit and NodeResourcesBalancedAllocation.

mod balanced;
mod scoring;

use std::borrow::Cow;

use k8s_openapi::api::{core::v1::Node, resource::v1::DeviceClass};

pub use self::{
    balanced::NodeResourcesBalancedAllocation,
    scoring::{ScoringStrategy, ShapePoint, Strategy, Weighted, broken_line, percent},
};
use crate::scheduler::{
    demand::Demand,
    devices::{caches::DeviceCaches, extended::OF_CLASS},
    framework::{ClusterChange, DependsOn, Event, NodeFilter, NodeScorer, Plugin, Point, PreFilter, Reasons, Rejection},
    node_info::{NodeInfo, Taken},
    pod_info::PodInfo,
    resources::Resources,
    snapshot::Snapshot,
};

/// What a pod asks for must be free on the node; nodes score by how full they would be.
#[derive(Default)]
pub struct NodeResourcesFit {
    pub scoring: ScoringStrategy,
    /// Extended resources that are not counted (`ignoredResources`), and groups of such (`ignoredResourceGroups`).
    pub ignored: Vec<String>,
    pub ignored_groups: Vec<String>,
    /// What nodes have none of may stand for devices, which DynamicResources looks for.
    pub devices: Option<DeviceCaches>,
}

impl NodeResourcesFit {
    fn ignores(&self, name: &str) -> bool {
        if self.ignored.is_empty() && self.ignored_groups.is_empty() {
            return false;
        }
        let group = || name.split('/').next().unwrap_or_default();
        let extended = || troupe_api::resources::validation::resource_names::is_extended(name);
        let listed = |name: &str, list: &[String]| list.iter().any(|known| known == name);
        (listed(name, &self.ignored) || listed(group(), &self.ignored_groups)) && extended()
    }

    fn is_of_devices(&self, lack: &Insufficient) -> bool {
        let class = || self.devices.as_ref().and_then(|devices| devices.class_for(&lack.name));
        lack.capacity == 0 && lack.name.contains('/') && class().is_some()
    }

    /// What counts of what a node has too little of.
    fn lacking<'a>(&'a self, demand: &'a Demand, node: &'a NodeInfo, taken: Taken<'a>) -> impl Iterator<Item = Insufficient> + 'a {
        insufficient_beside(demand, node, taken).filter(move |lack| !self.ignores(&lack.name) && !self.is_of_devices(lack))
    }

    /// Whether an empty node has enough.
    fn fits_alone(&self, demand: &Demand, node: &Node) -> bool {
        let empty = NodeInfo::new(node.clone().into(), 0);
        self.lacking(demand, &empty, empty.taken()).next().is_none()
    }
}

impl Plugin for NodeResourcesFit {
    fn name(&self) -> &'static str {
        "NodeResourcesFit"
    }

    fn points(&self) -> &'static [Point] {
        &[Point::PreFilter, Point::Filter, Point::PreScore, Point::Score]
    }

    fn pre_filter<'a>(&'a self, pod: &'a PodInfo, _cluster: &'a Snapshot) -> PreFilter<'a> {
        PreFilter::Ask(Box::new(FitFilter { plugin: self, demand: pod.demand() }))
    }

    fn pre_score<'a>(&'a self, pod: &'a PodInfo, _cluster: &'a Snapshot, _feasible: &[&'a NodeInfo]) -> Option<Box<dyn NodeScorer + 'a>> {
        Some(Box::new(scoring::Scorer::new(&self.scoring, pod.demand())))
    }

    fn events(&self) -> &'static [Event] {
        &[Event::NodeAdded, Event::NodeUpdated, Event::PodRemoved, Event::PodUpdated, Event::ClassChanged, Event::WaitingPodUpdated]
    }

    fn helps_every_pod(&self, change: &ClusterChange) -> bool {
        matches!(change, ClusterChange::PodRemoved(_))
    }

    fn may_help(&self, pod: &PodInfo, change: &ClusterChange) -> bool {
        let wanted = &pod.demand().requests;
        match change {
            ClusterChange::NodeAdded(node) => self.fits_alone(pod.demand(), node),
            ClusterChange::NodeUpdated { old, new } => self.fits_alone(pod.demand(), new) && has_more(wanted, old, new),
            ClusterChange::PodUpdated { old, new } => asks_for_less(wanted, &old.demand.requests, &new.demand.requests),
            ClusterChange::WaitingPodUpdated { old, .. } => {
                let before = Demand::of(old).requests;
                asks_for_less(&before, &before, wanted)
            }
            ClusterChange::ClassChanged { old, new } => stands_for(wanted, old.as_deref(), new),
            _ => true,
        }
    }
}

/// Whether what a pod asks for is free.
struct FitFilter<'a> {
    plugin: &'a NodeResourcesFit,
    demand: &'a Demand,
}

impl NodeFilter for FitFilter<'_> {
    fn filter(&self, node: &NodeInfo) -> Result<(), Rejection> {
        self.filter_taken(node, node.taken())
    }

    fn depends_on(&self) -> DependsOn {
        DependsOn::Taken
    }

    fn filter_taken(&self, node: &NodeInfo, taken: Taken<'_>) -> Result<(), Rejection> {
        if is_enough_beside(self.demand, node, taken) {
            return Ok(());
        }
        let (mut reasons, mut unresolvable) = (Reasons::new(), false);
        for lack in self.plugin.lacking(self.demand, node, taken) {
            unresolvable |= lack.is_unresolvable();
            reasons.push(lack.reason());
        }
        if reasons.is_empty() { Ok(()) } else { Err(Rejection { reasons, unresolvable, is_error: false }) }
    }

    fn fits_taken(&self, node: &NodeInfo, taken: Taken<'_>) -> bool {
        is_enough_beside(self.demand, node, taken) || self.plugin.lacking(self.demand, node, taken).next().is_none()
    }
}

/// Whether the node has more than before of something that is wanted.
fn has_more(wanted: &Resources, old: &Node, new: &Node) -> bool {
    let (old, new) = (NodeInfo::new(old.clone().into(), 0), NodeInfo::new(new.clone().into(), 0));
    new.allowed_pods > old.allowed_pods || asks_for_less(wanted, &new.allocatable, &old.allocatable)
}

/// Whether an amount that is wanted is smaller in `new` than in `old`.
fn asks_for_less(wanted: &Resources, old: &Resources, new: &Resources) -> bool {
    let less = |wanted: i64, old: i64, new: i64| wanted > 0 && new < old;
    less(wanted.cpu, old.cpu, new.cpu)
        || less(wanted.memory, old.memory, new.memory)
        || less(wanted.ephemeral, old.ephemeral, new.ephemeral)
        || wanted.scalars.iter().any(|(name, wanted)| less(*wanted, old.scalar(name), new.scalar(name)))
}

/// Whether a class of devices begins to stand for a resource that is wanted.
fn stands_for(wanted: &Resources, old: Option<&DeviceClass>, new: &DeviceClass) -> bool {
    let is_wanted = |name: &str| wanted.scalars.iter().any(|(known, _)| known == name);
    let named = |class: &DeviceClass| class.spec.extended_resource_name.clone().unwrap_or_default();
    let by_itself = || format!("{OF_CLASS}{}", new.metadata.name.as_deref().unwrap_or_default());
    match old {
        Some(old) if named(old) == named(new) => false,
        None if is_wanted(&by_itself()) => true,
        _ => is_wanted(&named(new)),
    }
}

/// A resource of which a node has less left than a pod asks for: CPU in thousandths of a core, memory and ephemeral storage in
/// bytes, others in units.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Insufficient {
    pub name: Cow<'static, str>,
    pub requested: i64,
    /// By the pods that are there.
    pub used: i64,
    /// What pods may use together.
    pub capacity: i64,
}

impl Insufficient {
    /// Not even an empty node would have enough.
    fn is_unresolvable(&self) -> bool {
        self.name != "pods" && self.requested > self.capacity
    }

    fn reason(&self) -> Cow<'static, str> {
        match &*self.name {
            "pods" => "Too many pods".into(),
            // What most nodes lack is said of thousands of them.
            "cpu" => "Insufficient cpu".into(),
            "memory" => "Insufficient memory".into(),
            "ephemeral-storage" => "Insufficient ephemeral-storage".into(),
            name => format!("Insufficient {name}").into(),
        }
    }
}

/// What a node has too little of for a pod, in upstream's order (`noderesources.Fits`).
pub fn insufficient(demand: &Demand, node: &NodeInfo) -> Vec<Insufficient> {
    insufficient_beside(demand, node, node.taken()).collect()
}

/// The same if the node's pods took this.
fn insufficient_beside<'a>(demand: &'a Demand, node: &'a NodeInfo, taken: Taken<'a>) -> impl Iterator<Item = Insufficient> + 'a {
    let lacks = |name: Cow<'static, str>, requested: i64, used: i64, capacity: i64| {
        (!is_free(requested, used, capacity)).then_some(Insufficient { name, requested, used, capacity })
    };
    let (wants, used, has) = (&demand.requests, taken.requested, &node.allocatable);
    let basic = [
        lacks("pods".into(), 1, number(taken), node.allowed_pods),
        lacks("cpu".into(), wants.cpu, used.cpu, has.cpu),
        lacks("memory".into(), wants.memory, used.memory, has.memory),
        lacks("ephemeral-storage".into(), wants.ephemeral, used.ephemeral, has.ephemeral),
    ];
    let scalars = wants.scalars.iter().map(move |(name, wanted)| lacks(name.clone().into(), *wanted, used.scalar(name), has.scalar(name)));
    basic.into_iter().chain(scalars).flatten()
}

/// Whether a node has enough of everything if its pods took this.
fn is_enough_beside(demand: &Demand, node: &NodeInfo, taken: Taken<'_>) -> bool {
    let (wants, used, has) = (&demand.requests, taken.requested, &node.allocatable);
    is_free(1, number(taken), node.allowed_pods)
        && is_free(wants.cpu, used.cpu, has.cpu)
        && is_free(wants.memory, used.memory, has.memory)
        && is_free(wants.ephemeral, used.ephemeral, has.ephemeral)
        && wants.scalars.iter().all(|(name, wanted)| is_free(*wanted, used.scalar(name), has.scalar(name)))
}

fn number(taken: Taken<'_>) -> i64 {
    i64::try_from(taken.pods).unwrap_or(i64::MAX)
}

fn is_free(requested: i64, used: i64, capacity: i64) -> bool {
    requested <= 0 || requested <= capacity.saturating_sub(used)
}
