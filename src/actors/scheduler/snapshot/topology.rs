//! Nodes by the values of a label.

use std::{collections::HashMap, sync::Arc};

use crate::scheduler::node_info::NodeInfo;

/// Of nodes without the label.
const NONE: u32 = u32::MAX;

/// The domains that a label divides the nodes into. Domains are numbered in the order in which they became known.
#[derive(Clone, Debug, Default)]
pub struct Topology {
    numbers: HashMap<Arc<str>, u32>,
    of_node: Vec<u32>,
}

impl Topology {
    pub fn of(key: &str, nodes: &[Arc<NodeInfo>]) -> Self {
        let mut topology = Topology::default();
        for (at, node) in nodes.iter().enumerate() {
            topology.set(at, node.label(key));
        }
        topology
    }

    /// How many domains there are or were.
    pub fn domains(&self) -> usize {
        self.numbers.len()
    }

    /// The domain of the node at this place.
    pub fn domain(&self, at: usize) -> Option<usize> {
        self.of_node.get(at).filter(|number| **number != NONE).map(|number| *number as usize)
    }

    /// Notes the label of the node at this place; a new node comes last.
    pub fn set(&mut self, at: usize, value: Option<&str>) {
        let number = value.map_or(NONE, |value| self.number(value));
        match self.of_node.get_mut(at) {
            Some(known) => *known = number,
            None => self.of_node.push(number),
        }
    }

    /// Forgets the node at this place; the last one takes it.
    pub fn swap_remove(&mut self, at: usize) {
        self.of_node.swap_remove(at);
    }

    fn number(&mut self, value: &str) -> u32 {
        if let Some(known) = self.numbers.get(value) {
            return *known;
        }
        let number = u32::try_from(self.numbers.len()).expect("fewer domains than nodes that ever were");
        self.numbers.insert(value.into(), number);
        number
    }
}
