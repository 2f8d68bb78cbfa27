//! NodeInterference: nodes whose cpu or memory is in use just now, or whose tasks wait for them or for disks, are liked less, whatever their
//! pods asked for. A plugin of our own: where there are no figures it has no influence, and a node without figures is as good as the others
//! are on average.
//!
//! A node's score is what is free of cpu or memory, whichever is used more, times the part of the last minute in which no task waited: where
//! tasks wait half of the time, what is free is worth half. Of the three things to wait for the one that is waited for longest counts.
//!
//! A task waits for cpu or memory also where its own limit holds it back, on a node that has plenty. The kernel does not tell that apart, and
//! weighs processors by how long they had something to do: one pod at its limit on a node that is idle otherwise looks like a node without a
//! free processor. So such waits count in proportion to how much of the resource is in use on the node.

use std::sync::Arc;

use troupe_api::node_pressure::{NodePressure, WHOLE};

use crate::scheduler::{
    framework::{MAX_SCORE, NodeScorer, Plugin, Point},
    node_info::NodeInfo,
    pod_info::PodInfo,
    snapshot::Snapshot,
    usage::{Figures, NodeUsage},
};

/// See the module.
pub struct NodeInterference {
    pub usage: NodeUsage,
}

impl Plugin for NodeInterference {
    fn name(&self) -> &'static str {
        "NodeInterference"
    }

    fn points(&self) -> &'static [Point] {
        &[Point::PreScore, Point::Score]
    }

    fn pre_score<'a>(&'a self, _pod: &'a PodInfo, _cluster: &'a Snapshot, feasible: &[&'a NodeInfo]) -> Option<Box<dyn NodeScorer + 'a>> {
        let figures = self.usage.figures();
        if figures.is_empty() {
            return None;
        }
        let loads: Vec<Load> = feasible.iter().filter_map(|node| Load::of(&figures, node)).collect();
        let waited = average(loads.iter().filter_map(|load| load.waited)).unwrap_or(0);
        let calm = average(loads.iter().map(|load| load.calm(waited)))?;
        Some(Box::new(Calm { figures, waited, calm }))
    }
}

/// The figures, and what is thought of nodes that have none: as much as of the others on average.
struct Calm {
    figures: Arc<Figures>,
    waited: i64,
    calm: i64,
}

impl NodeScorer for Calm {
    fn score(&self, node: &NodeInfo) -> i64 {
        Load::of(&self.figures, node).map_or(self.calm, |load| load.calm(self.waited))
    }
}

/// What goes on on a node.
struct Load {
    /// What is free of what is used most, in hundredths.
    free: i64,
    /// How much of the time tasks waited, in hundredths of a percent, where that is known.
    waited: Option<i64>,
}

impl Load {
    fn of(figures: &Figures, node: &NodeInfo) -> Option<Self> {
        let usage = figures.get(&*node.name)?;
        let (cpu, memory) = (busy(usage.cpu, node.allocatable.cpu), busy(usage.memory, node.allocatable.memory));
        let NodePressure { cpu: for_cpu, memory: for_memory, io: for_disks } = usage.pressure;
        let in_proportion = |waited: Option<u32>, busy: i64| waited.map(|waited| i64::from(waited) * busy / 100);
        let waits = [in_proportion(for_cpu, cpu), in_proportion(for_memory, memory), for_disks.map(i64::from)];
        Some(Load { free: MAX_SCORE - cpu.max(memory), waited: waits.into_iter().flatten().max() })
    }

    /// The score, by what is `likely` where nobody told how much tasks waited.
    fn calm(&self, likely: i64) -> i64 {
        let whole = i64::from(WHOLE);
        self.free * (whole - self.waited.unwrap_or(likely)).max(0) / whole
    }
}

/// The share of all that is used, in hundredths.
fn busy(used: i64, all: i64) -> i64 {
    if all <= 0 {
        return 0;
    }
    let share = i128::from(used.max(0)) * 100 / i128::from(all);
    i64::try_from(share).map_or(100, |share| share.min(100))
}

fn average(values: impl Iterator<Item = i64>) -> Option<i64> {
    let (sum, number) = values.fold((0_i64, 0_i64), |(sum, number), value| (sum + value, number + 1));
    (number > 0).then(|| sum / number)
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::{Node, Pod};
    use serde_json::json;

    use super::*;
    use crate::scheduler::{decide::scores, framework::Profile, object_lookup::NoObjects, plugins::default_profile, usage::Usage};

    fn cluster() -> Snapshot {
        let mut cluster = Snapshot::default();
        for name in ["a", "b", "c"] {
            let node = json!({"metadata": {"name": name}, "status": {"allocatable": {"cpu": "4", "memory": "1000", "pods": "10"}}});
            cluster.set_node(Arc::new(serde_json::from_value::<Node>(node).expect("a node")));
        }
        cluster
    }

    const NO_PRESSURE: NodePressure = NodePressure { cpu: None, memory: None, io: None };

    fn used(node: &str, cpu: i64, memory: i64, pressure: NodePressure) -> (String, Usage) {
        (node.to_owned(), Usage { cpu, memory, pressure })
    }

    fn scored(profile: &Profile, cluster: &Snapshot) -> Vec<i64> {
        let pod = PodInfo::new(Arc::new(Pod::default()), &NoObjects);
        let feasible: Vec<&NodeInfo> = cluster.nodes().iter().map(|node| &**node).collect();
        scores(&pod, profile, cluster, &feasible).totals
    }

    #[test]
    fn nodes_in_use_score_less_and_those_without_figures_as_others_on_average() {
        let (usage, cluster) = (NodeUsage::default(), cluster());
        let profile = Profile::of(vec![(Arc::new(NodeInterference { usage: usage.clone() }), 1)]);
        assert_eq!(scored(&profile, &cluster), [0, 0, 0], "no figures, no influence");
        usage.set([used("a", 3000, 100, NO_PRESSURE), used("b", 1000, 650, NO_PRESSURE)].into());
        assert_eq!(scored(&profile, &cluster), [25, 35, 30], "by what is used most");
        usage.set([used("a", 9000, 0, NO_PRESSURE)].into());
        assert_eq!(scored(&profile, &cluster)[0], 0);
        usage.set([("gone".to_owned(), Usage::default())].into());
        assert_eq!(scored(&profile, &cluster), [0, 0, 0]);
    }

    #[test]
    fn what_is_free_is_worth_less_where_tasks_wait() {
        let (usage, cluster) = (NodeUsage::default(), cluster());
        let profile = Profile::of(vec![(Arc::new(NodeInterference { usage: usage.clone() }), 1)]);
        let told = |figures: [(String, Usage); 3]| {
            usage.set(figures.into());
            scored(&profile, &cluster)
        };
        let (waits, calm) = (NodePressure { io: Some(5000), ..NO_PRESSURE }, NodePressure { io: Some(0), ..NO_PRESSURE });
        let half = |pressure: [NodePressure; 3]| [used("a", 2000, 0, pressure[0]), used("b", 2000, 0, pressure[1]), used("c", 0, 500, pressure[2])];
        assert_eq!(told(half([waits, calm, calm])), [25, 50, 50]);
        assert_eq!(told(half([waits, calm, NO_PRESSURE])), [25, 50, 37], "who does not tell is as the others on average");
        assert_eq!(told(half([NO_PRESSURE; 3])), [50, 50, 50]);
        let all = NodePressure { io: Some(WHOLE), ..NO_PRESSURE };
        assert_eq!(told(half([all, all, waits])), [0, 0, 25]);
    }

    #[test]
    fn waits_for_cpu_and_memory_count_by_how_much_of_them_is_in_use() {
        let (usage, cluster) = (NodeUsage::default(), cluster());
        let profile = Profile::of(vec![(Arc::new(NodeInterference { usage: usage.clone() }), 1)]);
        let (for_cpu, for_memory) = (NodePressure { cpu: Some(9000), ..NO_PRESSURE }, NodePressure { memory: Some(4000), ..NO_PRESSURE });
        usage.set([used("a", 400, 0, for_cpu), used("b", 3000, 0, for_cpu), used("c", 0, 500, for_memory)].into());
        assert_eq!(scored(&profile, &cluster), [81, 8, 40], "held back by its own limit, short of processors, short of memory");
        let longest = NodePressure { cpu: Some(9000), memory: Some(9000), io: Some(1000) };
        usage.set([used("a", 0, 0, longest)].into());
        assert_eq!(scored(&profile, &cluster)[0], 90, "nobody waits for what nobody uses");
    }

    #[test]
    fn without_figures_the_default_profile_decides_as_without_the_plugin() {
        let without = Profile::of(default_profile().scoring_without("NodeInterference"));
        assert_eq!(scored(&default_profile(), &cluster()), scored(&without, &cluster()));
        assert!(default_profile().scoring().any(|(plugin, _)| plugin.name() == "NodeInterference"));
    }
}
