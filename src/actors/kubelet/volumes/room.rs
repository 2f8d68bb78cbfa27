//! How much the kubelet writes for pods. A pod may name one secret any number of times: its size says nothing about what becomes of it.
//!
//! What is written into memory counts as this process', so all pods of the node together have a part of that.

use std::collections::BTreeMap;

use parking_lot::Mutex;

/// All that is written for one pod, in bytes.
const MOST_OF_POD: u64 = 64 << 20;
/// A file takes whole pages.
const PAGE: u64 = 4096;
/// A pod has no more volumes in the kubelet's directory, and no more parts of volumes: each may be a mount, of which the kernel has
/// a hundred thousand.
pub const MOST_VOLUMES: usize = 512;

/// What is written into memory for all pods of a node.
#[derive(Debug)]
pub struct NodeRoom {
    most: u64,
    held: Mutex<BTreeMap<String, u64>>,
}

impl NodeRoom {
    pub fn new(most: u64) -> Self {
        NodeRoom { most, held: Mutex::default() }
    }

    /// Lets a pod have so much in all, where that much is left.
    fn grant(&self, uid: &str, bytes: u64) -> bool {
        let mut held = self.held.lock();
        let own = held.get(uid).copied().unwrap_or(0);
        if bytes <= own {
            return true;
        }
        let others: u64 = held.values().sum::<u64>() - own;
        let granted = others.saturating_add(bytes) <= self.most;
        if granted {
            held.insert(uid.to_owned(), bytes);
        }
        granted
    }

    /// A pod has just so much by now.
    fn settle(&self, uid: &str, bytes: u64) {
        if let Some(own) = self.held.lock().get_mut(uid) {
            *own = bytes.min(*own);
        }
    }

    /// A pod has nothing any more.
    pub fn release(&self, uid: &str) {
        self.held.lock().remove(uid);
    }
}

/// What may still be written for one pod.
#[derive(Debug)]
pub struct Room<'a> {
    node: &'a NodeRoom,
    uid: &'a str,
    taken: u64,
    in_memory: u64,
    /// Where the volume is that is made just now.
    pub memory: bool,
}

impl<'a> Room<'a> {
    pub fn new(node: &'a NodeRoom, uid: &'a str) -> Self {
        Room { node, uid, taken: 0, in_memory: 0, memory: false }
    }

    /// Takes the room of a file before it is made.
    ///
    /// # Errors
    /// When there is none, for the pod's events.
    pub fn take(&mut self, bytes: usize) -> Result<(), String> {
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX).max(1).div_ceil(PAGE).saturating_mul(PAGE);
        self.taken = self.taken.saturating_add(bytes);
        if self.taken > MOST_OF_POD {
            return Err(format!("the files of the pod's volumes are larger than {MOST_OF_POD} bytes together"));
        }
        if self.memory {
            self.in_memory += bytes;
            if !self.node.grant(self.uid, self.in_memory) {
                return Err("the node has no memory left for the secrets and tokens of this pod".into());
            }
        }
        Ok(())
    }

    /// All volumes are made.
    pub fn settle(self) {
        self.node.settle(self.uid, self.in_memory);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_count_by_the_page_until_the_pod_has_its_share() {
        let node = NodeRoom::new(0);
        let mut room = Room::new(&node, "a");
        assert_eq!((room.take(0), room.take(1), room.take(4097)), (Ok(()), Ok(()), Ok(())));
        assert_eq!(room.taken, 4 * PAGE);
        assert_eq!(room.take(64 << 20).map_err(|why| why.contains("larger than")), Err(true));
        assert!(room.take(usize::MAX).is_err());
    }

    #[test]
    fn pods_share_the_memory_of_their_node() {
        let node = NodeRoom::new(10 * PAGE);
        let written = |uid: &str, pages: usize| {
            let mut room = Room { memory: true, ..Room::new(&node, uid) };
            let taken = (0..pages).try_for_each(|_| room.take(1));
            room.settle();
            taken
        };
        assert_eq!((written("a", 6), written("b", 4)), (Ok(()), Ok(())));
        assert!(written("c", 1).is_err());
        assert_eq!(written("a", 5), Ok(()), "written again, and less");
        assert_eq!(written("c", 1), Ok(()));
        node.release("b");
        assert_eq!(written("c", 5), Ok(()));
    }
}
