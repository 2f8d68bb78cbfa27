//! NodeInterference: nodes whose cpu or memory is in use just now are liked less, whatever their pods asked for. A plugin of our own: where
//! there are no figures it has no influence, and a node without figures is as good as the others are on average.

use std::sync::Arc;

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
        let known: Vec<i64> = feasible.iter().filter_map(|node| calm(&figures, node)).collect();
        let number = i64::try_from(known.len()).ok().filter(|number| *number > 0)?;
        Some(Box::new(Calm { figures, average: known.iter().sum::<i64>() / number }))
    }
}

struct Calm {
    figures: Arc<Figures>,
    average: i64,
}

impl NodeScorer for Calm {
    fn score(&self, node: &NodeInfo) -> i64 {
        calm(&self.figures, node).unwrap_or(self.average)
    }
}

/// The share that is free of what is used most, in hundredths.
fn calm(figures: &Figures, node: &NodeInfo) -> Option<i64> {
    let usage = figures.get(&*node.name)?;
    let busy = |used: i64, all: i64| if all > 0 { (i128::from(used.max(0)) * 100 / i128::from(all)).min(100) } else { 0 };
    let busiest = busy(usage.cpu, node.allocatable.cpu).max(busy(usage.memory, node.allocatable.memory));
    Some(MAX_SCORE - i64::try_from(busiest).unwrap_or(MAX_SCORE))
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
        usage.set([("a".to_owned(), Usage { cpu: 3000, memory: 100 }), ("b".to_owned(), Usage { cpu: 1000, memory: 650 })].into());
        assert_eq!(scored(&profile, &cluster), [25, 35, 30], "by what is used most");
        usage.set([("a".to_owned(), Usage { cpu: 9000, memory: 0 })].into());
        assert_eq!(scored(&profile, &cluster)[0], 0);
        usage.set([("gone".to_owned(), Usage::default())].into());
        assert_eq!(scored(&profile, &cluster), [0, 0, 0]);
    }

    #[test]
    fn without_figures_the_default_profile_decides_as_without_the_plugin() {
        let without = Profile::of(default_profile().scoring_without("NodeInterference"));
        assert_eq!(scored(&default_profile(), &cluster()), scored(&without, &cluster()));
        assert!(default_profile().scoring().any(|(plugin, _)| plugin.name() == "NodeInterference"));
    }
}
