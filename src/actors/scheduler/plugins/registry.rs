//! All plugins that there are: names, weights, points, and how each is made of its arguments.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use k8s_openapi::api::resource::v1beta2::DeviceTaintRule;

use super::{
    DefaultBinder, DefaultPreemption, DeviceTimeouts, DynamicResources, GangScheduling, ImageLocality, InterPodAffinity, NodeAffinity,
    NodeDeclaredFeatures, NodeInterference, NodeName, NodePorts, NodeResourcesBalancedAllocation, NodeResourcesFit, NodeUnschedulable,
    NodeVolumeLimits, PodTopologySpread, PrioritySort, SchedulingGates, ShapePoint, TaintToleration, VolumeBinding, VolumeRestrictions, VolumeZone,
};
use crate::{
    runtime::cache::{Cache, Caches},
    scheduler::{
        devices::caches::DeviceCaches,
        features::Features,
        framework::{Plugin, Point, WaitingPods},
        gangs::GangCaches,
        preemption::Tries,
        usage::NodeUsage,
        volumes::StorageCaches,
    },
};

/// What plugins are made of beside their arguments.
#[derive(Clone, Default)]
pub struct Parts {
    /// Where plugins let pods go on that they made wait.
    pub waiting: Arc<WaitingPods>,
    /// What nodes use just now.
    pub usage: NodeUsage,
    /// Without it there are no plugins that look at claims.
    pub storage: Option<StorageCaches>,
    /// Without it there are no plugins that look at claims for devices.
    pub devices: Option<DeviceCaches>,
    /// Without it there is no plugin that looks at groups of pods.
    pub gangs: Option<GangCaches>,
    /// Without it no rule taints devices.
    pub taint_rules: Option<Cache<DeviceTaintRule>>,
    /// By which further kinds are watched.
    pub caches: Option<Caches>,
    pub features: Features,
}

impl Parts {
    /// The same with groups of pods (the feature `GangScheduling`), which are watched from now on.
    #[must_use]
    pub fn with_gangs(&self) -> Self {
        Parts { gangs: self.caches.as_ref().map(GangCaches::new), ..self.clone() }
    }

    /// The same with rules that taint devices (the feature `DRADeviceTaintRules`), which are watched from now on.
    #[must_use]
    pub fn with_taint_rules(&self) -> Self {
        Parts { taint_rules: self.caches.as_ref().map(Caches::cache), ..self.clone() }
    }
}

/// Arguments of plugins, with upstream's defaults.
pub struct Arguments {
    pub fit: NodeResourcesFit,
    pub balance: NodeResourcesBalancedAllocation,
    pub pods: InterPodAffinity,
    pub nodes: NodeAffinity,
    pub preemption: Tries,
    /// How long volumes may take.
    pub bind_timeout: Duration,
    /// How nodes score by the part of their storage that is used.
    pub capacity_shape: Vec<ShapePoint>,
    /// How long devices may take.
    pub device_timeouts: DeviceTimeouts,
}

impl Default for Arguments {
    fn default() -> Self {
        Arguments {
            fit: NodeResourcesFit::default(),
            balance: NodeResourcesBalancedAllocation::default(),
            pods: InterPodAffinity::default(),
            nodes: NodeAffinity::default(),
            preemption: Tries::default(),
            bind_timeout: Duration::from_secs(600),
            capacity_shape: vec![ShapePoint { utilization: 0, score: 10 }, ShapePoint { utilization: 100, score: 0 }],
            device_timeouts: DeviceTimeouts::default(),
        }
    }
}

/// The names of the plugins of the default profile, in the order in which they are asked, with the weights of their scores.
pub const DEFAULTS: [(&str, i64); 22] = [
    ("SchedulingGates", 0),
    ("PrioritySort", 0),
    ("NodeUnschedulable", 0),
    ("NodeName", 0),
    ("TaintToleration", 3),
    ("NodeAffinity", 2),
    ("NodePorts", 0),
    ("NodeResourcesFit", 1),
    ("VolumeRestrictions", 0),
    ("NodeVolumeLimits", 0),
    ("VolumeBinding", 1),
    ("VolumeZone", 0),
    ("PodTopologySpread", 2),
    ("InterPodAffinity", 2),
    ("DynamicResources", 2),
    ("DefaultPreemption", 0),
    ("NodeResourcesBalancedAllocation", 1),
    ("ImageLocality", 1),
    ("NodeInterference", 1),
    ("DefaultBinder", 0),
    ("NodeDeclaredFeatures", 0),
    ("GangScheduling", 0),
];

/// Plugins by name, as far as their parts are there.
pub fn make(arguments: Arguments, parts: &Parts) -> BTreeMap<&'static str, Arc<dyn Plugin>> {
    let Arguments { fit, balance, pods, nodes, preemption, bind_timeout, capacity_shape, device_timeouts } = arguments;
    let mut plugins: Vec<Arc<dyn Plugin>> = vec![
        Arc::new(SchedulingGates),
        Arc::new(PrioritySort),
        Arc::new(NodeUnschedulable),
        Arc::new(NodeName),
        Arc::new(TaintToleration),
        Arc::new(nodes),
        Arc::new(NodePorts),
        Arc::new(NodeResourcesFit { devices: parts.devices.clone(), ..fit }),
        Arc::new(PodTopologySpread),
        Arc::new(pods),
        Arc::new(DefaultPreemption { tries: preemption }),
        Arc::new(balance),
        Arc::new(ImageLocality),
        Arc::new(NodeInterference { usage: parts.usage.clone() }),
        Arc::new(DefaultBinder),
        Arc::new(NodeDeclaredFeatures),
    ];
    if let Some(storage) = &parts.storage {
        plugins.push(Arc::new(VolumeRestrictions { storage: storage.clone() }));
        plugins.push(Arc::new(NodeVolumeLimits { storage: storage.clone(), requires_drivers: parts.features.requires_drivers }));
        let shape = parts.features.scores_capacity.then_some(capacity_shape);
        plugins.push(Arc::new(VolumeBinding { storage: storage.clone(), patience: bind_timeout, shape }));
        plugins.push(Arc::new(VolumeZone { storage: storage.clone() }));
    }
    if let Some(devices) = &parts.devices {
        plugins.push(Arc::new(DynamicResources::new(devices.clone(), device_timeouts)));
    }
    if let Some(GangCaches { gangs, .. }) = &parts.gangs {
        plugins.push(Arc::new(GangScheduling { gangs: gangs.clone(), waiting: parts.waiting.clone() }));
    }
    plugins.into_iter().map(|plugin| (plugin.name(), plugin)).collect()
}

/// Where a plugin can be asked; `None` if there is no such plugin.
pub fn points_of(name: &str) -> Option<&'static [Point]> {
    match name {
        "VolumeRestrictions" => Some(VolumeRestrictions::POINTS),
        "NodeVolumeLimits" => Some(NodeVolumeLimits::POINTS),
        "VolumeBinding" => Some(VolumeBinding::POINTS),
        "VolumeZone" => Some(VolumeZone::POINTS),
        "DynamicResources" => Some(DynamicResources::POINTS),
        "GangScheduling" => Some(GangScheduling::POINTS),
        name => make(Arguments::default(), &Parts::default()).get(name).map(|plugin| plugin.points()),
    }
}
