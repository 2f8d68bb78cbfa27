//! Which sets of peers this node needs: those of policies that select any of its pods. Pure.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use troupe_api::meta::ObjectKey;
use troupe_net::dns::domain_names;

use super::{cluster::HOME, model::PeerSet};

/// Sets by policy.
#[derive(Debug, Default)]
pub struct Uses {
    policies: HashMap<ObjectKey, BTreeMap<Arc<str>, PeerSet>>,
    sets: BTreeMap<Arc<str>, Used>,
}

/// A set in use.
#[derive(Debug)]
struct Used {
    /// Where the peers are told.
    namespace: Arc<str>,
    set: PeerSet,
    /// How many policies need it.
    policies: usize,
}

impl Uses {
    /// What a policy needs changed; `None` when it selects no pod here. Gives the sets that it needs now and did not before, or the other way round.
    /// The cost is that of this policy, however many others there are.
    pub fn set(&mut self, key: &ObjectKey, sets: Option<BTreeMap<Arc<str>, PeerSet>>) -> Vec<Arc<str>> {
        let new = sets.unwrap_or_default();
        let old = self.policies.remove(key).unwrap_or_default();
        let mut touched = Vec::new();
        for (id, set) in new.iter().filter(|(id, _)| !old.contains_key(*id)) {
            self.take(key, id, set);
            touched.push(id.clone());
        }
        for id in old.keys().filter(|id| !new.contains_key(*id)) {
            self.release(id);
            touched.push(id.clone());
        }
        if !new.is_empty() {
            self.policies.insert(key.clone(), new);
        }
        touched
    }

    fn take(&mut self, policy: &ObjectKey, id: &Arc<str>, set: &PeerSet) {
        let namespace = || -> Arc<str> {
            match set {
                PeerSet::Domain(_) => domain_names::NAMESPACE.into(),
                _ if policy.namespace.is_empty() => HOME.into(),
                _ => policy.namespace.clone(),
            }
        };
        let used = self.sets.entry(id.clone()).or_insert_with(|| Used { namespace: namespace(), set: set.clone(), policies: 0 });
        used.policies += 1;
    }

    fn release(&mut self, id: &Arc<str>) {
        let Some(used) = self.sets.get_mut(id) else { return };
        used.policies -= 1;
        if used.policies == 0 {
            self.sets.remove(id);
        }
    }

    /// A set in use, with the namespace where its peers are told.
    pub fn get(&self, id: &str) -> Option<(Arc<str>, PeerSet)> {
        self.sets.get(id).map(|used| (used.namespace.clone(), used.set.clone()))
    }

    /// Whether any policy needs a set.
    pub fn has(&self, id: &str) -> bool {
        self.sets.contains_key(id)
    }

    /// All sets in use, with the namespace where the peers of each are told.
    pub fn all(&self) -> BTreeMap<Arc<str>, (Arc<str>, PeerSet)> {
        self.sets.iter().map(|(id, used)| (id.clone(), (used.namespace.clone(), used.set.clone()))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sets(blocks: &[&str]) -> Option<BTreeMap<Arc<str>, PeerSet>> {
        let set = |block: &&str| PeerSet::Blocks(vec![block.parse().expect("a network")]);
        Some(blocks.iter().map(set).map(|set| (set.id(), set)).collect())
    }

    #[test]
    fn a_set_is_in_use_until_its_last_policy_lets_go_of_it() {
        let (one, other) = (ObjectKey::new("ns", "one"), ObjectKey::new("ns", "other"));
        let [a, b] = ["10.0.0.1/32", "10.0.0.2/32"].map(|block| sets(&[block]).expect("one").into_keys().next().expect("one"));
        let mut uses = Uses::default();
        assert_eq!(uses.set(&one, sets(&["10.0.0.1/32"])), std::slice::from_ref(&a));
        assert!(uses.set(&one, sets(&["10.0.0.1/32"])).is_empty(), "it needs what it needed");
        assert_eq!(uses.set(&other, sets(&["10.0.0.1/32"])), std::slice::from_ref(&a));
        assert_eq!(uses.set(&one, sets(&["10.0.0.2/32"])), [b.clone(), a.clone()]);
        assert!(uses.has(&a) && uses.has(&b), "another policy needs it still");
        assert_eq!(uses.get(&b).map(|(namespace, _)| namespace), Some("ns".into()));
        assert_eq!(uses.set(&other, None), std::slice::from_ref(&a));
        assert_eq!(uses.all().into_keys().collect::<Vec<_>>(), [b]);
        assert_eq!(uses.get(&a), None);
    }

    #[test]
    fn the_peers_of_cluster_policies_are_told_in_their_own_namespace() {
        let mut uses = Uses::default();
        uses.set(&ObjectKey::cluster("all"), sets(&["10.0.0.1/32"]));
        assert_eq!(uses.all().into_values().map(|(namespace, _)| namespace).collect::<Vec<_>>(), [Arc::<str>::from(HOME)]);
        let domain = PeerSet::Domain(domain_names::DomainName::parse("example.com").expect("a name"));
        let id = domain.id();
        uses.set(&ObjectKey::cluster("names"), Some([(id.clone(), domain)].into()));
        assert_eq!(uses.get(&id).map(|(namespace, _)| namespace), Some(domain_names::NAMESPACE.into()));
    }
}
