//! Which attachable volumes this node uses: nobody detaches a volume that the node's status names as in use.

use std::collections::{BTreeMap, BTreeSet};

use parking_lot::Mutex;

/// See the module: the pods that use each volume.
#[derive(Debug, Default)]
pub struct InUse {
    pods: Mutex<BTreeMap<String, BTreeSet<String>>>,
    /// What was written last; held while it is written.
    pub(super) written: tokio::sync::Mutex<Option<Vec<String>>>,
}

impl InUse {
    pub fn hold(&self, volume: String, uid: &str) {
        self.pods.lock().entry(volume).or_default().insert(uid.to_owned());
    }

    pub fn release(&self, volume: &str, uid: &str) {
        let mut pods = self.pods.lock();
        if let Some(users) = pods.get_mut(volume) {
            users.remove(uid);
            if users.is_empty() {
                pods.remove(volume);
            }
        }
    }

    /// Nothing is in use by a pod any more.
    pub fn release_pod(&self, uid: &str) {
        self.pods.lock().retain(|_, users| {
            users.remove(uid);
            !users.is_empty()
        });
    }

    /// As the node's status lists them.
    pub fn names(&self) -> Vec<String> {
        self.pods.lock().keys().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_volume_is_in_use_until_its_last_pod_is_done() {
        let in_use = InUse::default();
        in_use.hold("a".into(), "1");
        in_use.hold("a".into(), "2");
        in_use.release("a", "1");
        assert_eq!(in_use.names(), ["a"]);
        in_use.release("a", "2");
        in_use.release("a", "2");
        assert!(in_use.names().is_empty());
        in_use.hold("b".into(), "1");
        in_use.hold("c".into(), "1");
        in_use.hold("c".into(), "2");
        in_use.release_pod("1");
        assert_eq!(in_use.names(), ["c"]);
    }
}
