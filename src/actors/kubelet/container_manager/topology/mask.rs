//! NUMA nodes by their numbers, as a set that is copied. Pure.

use std::collections::BTreeSet;

/// A set of NUMA nodes with numbers below 64. Sets are ordered by the nodes that they have, the highest first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct NumaMask(u64);

impl NumaMask {
    /// More nodes than that are not told apart.
    pub const NODES: u32 = u64::BITS;

    pub fn has(self, node: u32) -> bool {
        node < Self::NODES && self.0 >> node & 1 == 1
    }

    pub fn count(self) -> usize {
        self.0.count_ones() as usize
    }

    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub fn and(self, other: NumaMask) -> NumaMask {
        NumaMask(self.0 & other.0)
    }

    /// In ascending order.
    pub fn nodes(self) -> impl Iterator<Item = u32> {
        (0..Self::NODES).filter(move |node| self.has(*node))
    }

    /// All sets of some of these nodes but the empty one; those of few nodes first.
    pub fn all_of(nodes: &BTreeSet<u32>) -> Vec<NumaMask> {
        let mut all = vec![NumaMask::default()];
        for node in nodes.iter().filter(|node| **node < Self::NODES) {
            let with: Vec<NumaMask> = all.iter().map(|mask| NumaMask(mask.0 | 1 << *node)).collect();
            all.extend(with);
        }
        all.remove(0);
        all.sort_by_key(|mask| (mask.count(), mask.0));
        all
    }
}

impl FromIterator<u32> for NumaMask {
    fn from_iter<T: IntoIterator<Item = u32>>(nodes: T) -> Self {
        NumaMask(nodes.into_iter().filter(|node| *node < Self::NODES).fold(0, |mask, node| mask | 1 << node))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_of_few_nodes_come_first() {
        let all = NumaMask::all_of(&[0, 2, 3].into());
        let nodes: Vec<Vec<u32>> = all.into_iter().map(|mask| mask.nodes().collect()).collect();
        assert_eq!(nodes, [vec![0], vec![2], vec![3], vec![0, 2], vec![0, 3], vec![2, 3], vec![0, 2, 3]]);
        assert!(NumaMask::all_of(&BTreeSet::new()).is_empty());
    }

    #[test]
    fn nodes_that_cannot_be_told_apart_are_none() {
        let mask: NumaMask = [1, 63, 64].into_iter().collect();
        assert_eq!(mask.nodes().collect::<Vec<_>>(), [1, 63]);
        assert!(mask.has(63) && !mask.has(64) && !mask.has(0));
        assert_eq!((mask.count(), mask.and(NumaMask::default()).is_empty()), (2, true));
    }
}
