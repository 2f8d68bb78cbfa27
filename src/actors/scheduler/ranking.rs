//! How the nodes that would do compared when a pod got one of them, kept of the newest placements for people who ask (`troupe why`).

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use serde::Serialize;
use troupe_api::meta::{ObjectKey, Uid};

use super::node_info::NodeInfo;

/// So many placements are remembered.
const MOST: usize = 1024;

/// What a plugin gave the chosen node and the next best, times its weight.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct PluginScore {
    pub plugin: &'static str,
    pub chosen: i64,
    pub next: i64,
}

/// How a node was chosen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Ranking {
    pub node: Arc<str>,
    /// It was kept free for the pod, so no other was looked at.
    pub nominated: bool,
    /// How many nodes were looked at, and how many of them would do.
    pub looked_at: usize,
    pub feasible: usize,
    /// The best of the others; none where only one would do.
    pub next: Option<Arc<str>>,
    /// In the order of the plugins; nothing where only one would do.
    pub scores: Vec<PluginScore>,
}

impl Ranking {
    /// Of a node that was kept free.
    pub fn nominated(node: &NodeInfo) -> Self {
        Ranking { nominated: true, ..Ranking::only(node, 1) }
    }

    /// Of the only one of `looked_at` nodes that would do.
    pub fn only(node: &NodeInfo, looked_at: usize) -> Self {
        Ranking { node: node.name.clone(), nominated: false, looked_at, feasible: 1, next: None, scores: Vec::new() }
    }
}

/// The scores of nodes that would do, plugin by plugin.
#[derive(Debug)]
pub struct Scores {
    /// The weighted sums.
    pub totals: Vec<i64>,
    pub by_plugin: Vec<(&'static str, Vec<i64>)>,
}

impl Scores {
    /// Of so many nodes, none of which has any yet.
    pub fn of(nodes: usize) -> Self {
        Scores { totals: vec![0; nodes], by_plugin: Vec::new() }
    }

    /// Adds what a plugin gives each node.
    pub fn add(&mut self, plugin: &'static str, scores: Vec<i64>) {
        for (total, score) in self.totals.iter_mut().zip(&scores) {
            *total = total.saturating_add(*score);
        }
        self.by_plugin.push((plugin, scores));
    }

    /// The place of the node with the highest total; among equals the one that chance picks.
    pub fn highest(&self, chance: u64) -> usize {
        let highest = self.totals.iter().copied().max().unwrap_or(0);
        let winners: Vec<usize> = (0..self.totals.len()).filter(|at| self.totals[*at] == highest).collect();
        winners[usize::try_from(chance).unwrap_or(usize::MAX) % winners.len()]
    }

    /// How the one at a place compared with the others.
    pub fn ranking(&self, chosen: usize, nodes: &[&NodeInfo], looked_at: usize) -> Ranking {
        let next = (0..nodes.len()).filter(|at| *at != chosen).max_by_key(|at| self.totals[*at]);
        let part =
            |(plugin, scores): &(&'static str, Vec<i64>)| PluginScore { plugin, chosen: scores[chosen], next: next.map_or(0, |at| scores[at]) };
        Ranking {
            node: nodes[chosen].name.clone(),
            nominated: false,
            looked_at,
            feasible: nodes.len(),
            next: next.map(|at| nodes[at].name.clone()),
            scores: self.by_plugin.iter().map(part).collect(),
        }
    }
}

/// How pods got their nodes, as far back as there is room.
#[derive(Debug, Default)]
pub struct Rankings {
    by_pod: HashMap<ObjectKey, (Uid, Ranking)>,
    order: VecDeque<ObjectKey>,
}

impl Rankings {
    pub fn note(&mut self, key: &ObjectKey, uid: Uid, ranking: Ranking) {
        if self.by_pod.insert(key.clone(), (uid, ranking)).is_some() {
            return;
        }
        self.order.push_back(key.clone());
        if self.order.len() > MOST
            && let Some(oldest) = self.order.pop_front()
        {
            self.by_pod.remove(&oldest);
        }
    }

    /// How this very pod got its node.
    pub fn of(&self, key: &ObjectKey, uid: &str) -> Option<&Ranking> {
        self.by_pod.get(key).filter(|(of, _)| *of.0 == *uid).map(|(_, ranking)| ranking)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn node(name: &str) -> NodeInfo {
        NodeInfo::new(Arc::new(serde_json::from_value(json!({"metadata": {"name": name}})).expect("a node")), 0)
    }

    #[test]
    fn the_chosen_node_is_compared_with_the_best_of_the_others() {
        let (a, b, c) = (node("a"), node("b"), node("c"));
        let mut scores = Scores::of(3);
        scores.add("Fit", vec![10, 50, 40]);
        scores.add("Spread", vec![0, 20, 25]);
        assert_eq!(scores.highest(0), 1);
        let ranking = scores.ranking(1, &[&a, &b, &c], 5);
        assert_eq!((&*ranking.node, ranking.next.as_deref(), ranking.feasible, ranking.looked_at), ("b", Some("c"), 3, 5));
        let parts: Vec<_> = ranking.scores.iter().map(|score| (score.plugin, score.chosen, score.next)).collect();
        assert_eq!(parts, [("Fit", 50, 40), ("Spread", 20, 25)]);
    }

    #[test]
    fn placements_are_remembered_of_the_pod_that_they_were_of_and_not_for_ever() {
        let mut rankings = Rankings::default();
        let (key, one) = (ObjectKey::new("n", "a"), node("one"));
        rankings.note(&key, Uid("1".into()), Ranking::only(&one, 3));
        rankings.note(&key, Uid("2".into()), Ranking::nominated(&one));
        assert!(rankings.of(&key, "1").is_none(), "another pod has its name now");
        assert!(rankings.of(&key, "2").is_some_and(|ranking| ranking.nominated));
        for at in 0..MOST {
            rankings.note(&ObjectKey::new("n", format!("p{at}")), Uid("1".into()), Ranking::only(&one, 1));
        }
        assert_eq!((rankings.of(&key, "2"), rankings.by_pod.len(), rankings.order.len()), (None, MOST, MOST));
    }
}
