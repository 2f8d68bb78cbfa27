//! Whose key is made next. Pure.
//!
//! Keys that take a processor for seconds (RSA) wait in a line of their own, so that others never wait for them. In either line next is the namespace
//! whose last turn is longest ago, in it the pod whose last turn is, and of that what came first: whoever wants many keys waits for itself.

use std::{collections::HashMap, sync::Arc};

use troupe_api::meta::ObjectKey;

use super::Projection;

/// Of how many namespaces, and of how many pods, it is known when their last turn was.
const MOST_TURNS: usize = 10_000;

/// A key that is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    pub pod: ObjectKey,
    pub projection: Projection,
    /// As volumes name it, such as `ED25519`.
    pub key_type: String,
}

/// How long a key takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// Far less than a second.
    Quick,
    /// Up to seconds.
    Slow,
}

impl Pace {
    pub fn of(key_type: &str) -> Self {
        if key_type.starts_with("RSA") { Pace::Slow } else { Pace::Quick }
    }
}

/// Keys of a pace that are to be made.
#[derive(Debug, Default)]
pub struct Line {
    /// In the order in which they came.
    waiting: Vec<Order>,
    /// Turns so far.
    turns: u64,
    /// The numbers of last turns.
    namespaces: HashMap<Arc<str>, u64>,
    pods: HashMap<ObjectKey, u64>,
}

impl Line {
    /// Puts an order at the end, unless one for the same projection waits.
    pub fn join(&mut self, order: Order) {
        if !self.waiting.iter().any(|waiting| waiting.projection == order.projection) {
            self.waiting.push(order);
        }
    }

    /// Takes what is next.
    pub fn take_next(&mut self) -> Option<Order> {
        let last_turns = |order: &Order| {
            let of_namespace = self.namespaces.get(&order.pod.namespace).copied().unwrap_or(0);
            (of_namespace, self.pods.get(&order.pod).copied().unwrap_or(0))
        };
        let (next, _) = self.waiting.iter().enumerate().min_by_key(|(_, order)| last_turns(order))?;
        let order = self.waiting.remove(next);
        if self.namespaces.len().max(self.pods.len()) >= MOST_TURNS {
            self.namespaces.clear();
            self.pods.clear();
        }
        self.turns += 1;
        self.namespaces.insert(order.pod.namespace.clone(), self.turns);
        self.pods.insert(order.pod.clone(), self.turns);
        Some(order)
    }

    /// Drops the orders of those who have this name, but for the pod with this uid.
    pub fn forget(&mut self, pod: &ObjectKey, but: Option<&str>) {
        self.waiting.retain(|order| order.pod != *pod || Some(order.projection.uid.as_str()) == but);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(namespace: &str, pod: &str, source: usize, key_type: &str) -> Order {
        let projection = Projection { uid: format!("{namespace}-{pod}"), volume: "v".into(), source };
        Order { pod: ObjectKey::new(namespace, pod), projection, key_type: key_type.into() }
    }

    fn next(line: &mut Line) -> (String, usize) {
        let order = line.take_next().expect("something waits");
        (order.pod.to_string(), order.projection.source)
    }

    #[test]
    fn one_pod_with_many_keys_keeps_nobody_waiting_for_more_than_one() {
        let mut line = Line::default();
        (0..64).for_each(|source| line.join(order("tenant", "kk", source, "RSA4096")));
        assert_eq!(next(&mut line), ("tenant/kk".to_owned(), 0));
        line.join(order("victim", "vc", 0, "RSA3072"));
        line.join(order("victim", "vc", 1, "RSA3072"));
        line.join(order("tenant", "other", 0, "RSA3072"));
        let taken: Vec<_> = (0..5).map(|_| next(&mut line)).collect();
        let expected = [("victim/vc", 0), ("tenant/other", 0), ("victim/vc", 1), ("tenant/kk", 1), ("tenant/kk", 2)];
        assert_eq!(taken, expected.map(|(pod, source)| (pod.to_owned(), source)));
    }

    #[test]
    fn many_pods_of_a_namespace_have_no_more_than_one_pod() {
        let mut line = Line::default();
        (0..100).for_each(|pod| line.join(order("tenant", &format!("p{pod}"), 0, "RSA4096")));
        next(&mut line);
        line.join(order("victim", "vc", 0, "RSA4096"));
        assert_eq!(next(&mut line).0, "victim/vc");
    }

    #[test]
    fn what_is_wanted_twice_is_made_once_and_not_for_pods_that_are_gone() {
        let mut line = Line::default();
        (0..2).for_each(|_| line.join(order("n", "a", 0, "RSA4096")));
        line.join(order("n", "a", 1, "RSA4096"));
        line.join(order("n", "b", 0, "RSA4096"));
        line.forget(&ObjectKey::new("n", "a"), Some("n-a"));
        assert_eq!(next(&mut line), ("n/a".to_owned(), 0));
        line.forget(&ObjectKey::new("n", "a"), Some("another one of this name"));
        assert_eq!(next(&mut line), ("n/b".to_owned(), 0));
        assert_eq!(line.take_next(), None);
    }

    #[test]
    fn only_rsa_is_slow() {
        for (key_type, pace) in
            [("RSA3072", Pace::Slow), ("RSA4096", Pace::Slow), ("ECDSAP256", Pace::Quick), ("ECDSAP521", Pace::Quick), ("ED25519", Pace::Quick)]
        {
            assert_eq!(Pace::of(key_type), pace, "{key_type}");
        }
    }
}
