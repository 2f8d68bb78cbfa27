//! Which plugins keep pods from nodes, from an attempt that failed, or a gate, until the next attempt. Pure.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use troupe_api::meta::ObjectKey;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Rejections {
    of_pods: HashMap<ObjectKey, (Arc<str>, Vec<&'static str>)>,
    /// By profile and plugin. One that keeps nobody any more stays, so that it is told.
    counts: BTreeMap<(Arc<str>, &'static str), usize>,
}

impl Rejections {
    /// These plugins of its profile keep a pod from nodes.
    pub(super) fn set(&mut self, pod: ObjectKey, profile: Arc<str>, mut plugins: Vec<&'static str>) {
        self.remove(&pod);
        plugins.sort_unstable();
        plugins.dedup();
        if plugins.is_empty() {
            return;
        }
        for plugin in plugins.iter().copied() {
            *self.counts.entry((profile.clone(), plugin)).or_default() += 1;
        }
        self.of_pods.insert(pod, (profile, plugins));
    }

    /// Nobody does, as far as is known.
    pub(super) fn remove(&mut self, pod: &ObjectKey) {
        let Some((profile, plugins)) = self.of_pods.remove(pod) else { return };
        for plugin in plugins {
            if let Some(count) = self.counts.get_mut(&(profile.clone(), plugin)) {
                *count -= 1;
            }
        }
    }

    /// Plugin, profile, and how many pods it keeps.
    pub(super) fn counts(&self) -> impl Iterator<Item = (&'static str, &str, usize)> {
        self.counts.iter().map(|((profile, plugin), count)| (*plugin, &**profile, *count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_counts_for_each_plugin_that_keeps_it_until_it_is_tried_again() {
        let (mut rejections, profile): (_, Arc<str>) = (Rejections::default(), "p".into());
        let key = |name: &str| ObjectKey::new("n", name);
        rejections.set(key("a"), profile.clone(), vec!["Fit", "Ports", "Fit"]);
        rejections.set(key("b"), profile.clone(), vec!["Fit"]);
        assert_eq!(rejections.counts().collect::<Vec<_>>(), [("Fit", "p", 2), ("Ports", "p", 1)]);
        rejections.set(key("a"), profile, vec!["Ports"]);
        rejections.remove(&key("b"));
        rejections.remove(&key("b"));
        assert_eq!(rejections.counts().collect::<Vec<_>>(), [("Fit", "p", 0), ("Ports", "p", 1)]);
    }
}
