//! Pod address ranges of nodes, cut from the cluster's range. Pure; the Node IPAM controller applies it.

use std::{collections::BTreeSet, net::Ipv4Addr};

use ipnetwork::Ipv4Network;

/// Why ranges cannot be cut.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IpamError {
    #[error("node ranges of /{node_prefix} do not fit into {cluster}")]
    TooWide { cluster: Ipv4Network, node_prefix: u8 },
    #[error("node ranges of /{node_prefix} from {cluster} would be more than 65536")]
    TooMany { cluster: Ipv4Network, node_prefix: u8 },
}

/// The node ranges of one cluster range, and which of them are taken.
#[derive(Clone, Debug)]
pub struct NodeRanges {
    cluster: Ipv4Network,
    node_prefix: u8,
    taken: BTreeSet<u32>,
    next: u32,
}

impl NodeRanges {
    /// Ranges of `/node_prefix` (24 by default upstream) within `cluster`.
    pub fn new(cluster: Ipv4Network, node_prefix: u8) -> Result<Self, IpamError> {
        if node_prefix < cluster.prefix() || node_prefix > 30 {
            return Err(IpamError::TooWide { cluster, node_prefix });
        }
        if node_prefix - cluster.prefix() > 16 {
            return Err(IpamError::TooMany { cluster, node_prefix });
        }
        Ok(NodeRanges { cluster, node_prefix, taken: BTreeSet::new(), next: 0 })
    }

    /// How many ranges there are in all.
    pub fn capacity(&self) -> u32 {
        1 << (self.node_prefix - self.cluster.prefix())
    }

    /// How many are free.
    pub fn free(&self) -> u32 {
        self.capacity() - u32::try_from(self.taken.len()).expect("taken ranges are within the capacity")
    }

    /// Marks everything that `range` touches as taken. Ranges outside the cluster's are none of ours: `false`.
    pub fn occupy(&mut self, range: Ipv4Network) -> bool {
        let Some((first, last)) = self.indexes(range) else { return false };
        self.taken.extend(first..=last);
        true
    }

    /// Gives a range back.
    pub fn release(&mut self, range: Ipv4Network) {
        if let Some((first, last)) = self.indexes(range) {
            (first..=last).for_each(|index| {
                self.taken.remove(&index);
            });
        }
    }

    /// Takes a free range, going round so that a range just given back rests for as long as possible.
    pub fn allocate(&mut self) -> Option<Ipv4Network> {
        let capacity = self.capacity();
        let index = (0..capacity).map(|step| (self.next + step) % capacity).find(|index| !self.taken.contains(index))?;
        self.taken.insert(index);
        self.next = (index + 1) % capacity;
        Some(self.range(index))
    }

    fn range(&self, index: u32) -> Ipv4Network {
        let size = 32 - u32::from(self.node_prefix);
        let address = Ipv4Addr::from(u32::from(self.cluster.network()) + (index << size));
        Ipv4Network::new(address, self.node_prefix).expect("the prefix was checked")
    }

    fn indexes(&self, range: Ipv4Network) -> Option<(u32, u32)> {
        if !self.cluster.overlaps(range) {
            return None;
        }
        let size = 32 - u32::from(self.node_prefix);
        let base = u32::from(self.cluster.network());
        let first = u32::from(range.network()).saturating_sub(base) >> size;
        let last = (u32::from(range.broadcast()).saturating_sub(base) >> size).min(self.capacity() - 1);
        Some((first, last))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ranges(cluster: &str, prefix: u8) -> NodeRanges {
        NodeRanges::new(cluster.parse().expect("a network"), prefix).expect("fits")
    }

    #[test]
    fn occupied_ranges_are_never_handed_out() {
        let mut ranges = ranges("10.244.0.0/22", 24);
        assert!(ranges.occupy("10.244.1.0/24".parse().expect("a network")));
        assert!(!ranges.occupy("10.245.1.0/24".parse().expect("a network")));
        let given: Vec<_> = std::iter::from_fn(|| ranges.allocate()).map(|range| range.to_string()).collect();
        assert_eq!(given, ["10.244.0.0/24", "10.244.2.0/24", "10.244.3.0/24"]);
        assert_eq!(ranges.free(), 0);
    }

    #[test]
    fn a_range_given_back_rests_while_others_are_free() {
        let mut ranges = ranges("10.244.0.0/16", 24);
        let first = ranges.allocate().expect("free");
        ranges.release(first);
        assert_ne!(ranges.allocate(), Some(first));
    }

    #[test]
    fn sizes_that_make_no_sense_are_refused() {
        let cluster = "10.244.0.0/16".parse().expect("a network");
        assert!(matches!(NodeRanges::new(cluster, 12), Err(IpamError::TooWide { .. })));
        assert!(matches!(NodeRanges::new("10.0.0.0/8".parse().expect("a network"), 28), Err(IpamError::TooMany { .. })));
    }

    proptest! {
        #[test]
        fn ranges_never_overlap(steps in prop::collection::vec(any::<Option<u8>>(), 1..80)) {
            let mut ranges = ranges("10.244.0.0/18", 24);
            let mut held: Vec<Ipv4Network> = Vec::new();
            for step in steps {
                match step {
                    Some(at) if !held.is_empty() => ranges.release(held.swap_remove(usize::from(at) % held.len())),
                    _ => if let Some(range) = ranges.allocate() {
                        prop_assert!(held.iter().all(|other| !other.overlaps(range)));
                        held.push(range);
                    } else {
                        prop_assert_eq!(held.len(), 64);
                    },
                }
            }
        }
    }
}
