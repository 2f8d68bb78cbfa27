//! What drivers publish, with the taints that rules give to devices beside their own (`resourceslice/tracker`).

use std::{collections::BTreeMap, sync::Arc};

use k8s_openapi::api::resource::{v1::ResourceSlice, v1beta2::DeviceTaintRule};

use super::Slices;
use crate::devices::{Rules, means_pool, tainted};

/// See the module.
#[derive(Debug, Default)]
pub struct Published {
    /// As drivers publish them.
    slices: BTreeMap<Arc<str>, Arc<ResourceSlice>>,
    rules: Rules,
    /// With the taints of rules.
    tainted: Slices,
}

impl Published {
    /// A slice is there, or is another one.
    pub fn set(&mut self, name: &Arc<str>, slice: Arc<ResourceSlice>) {
        self.tainted.set(tainted(&slice, &self.rules));
        self.slices.insert(name.clone(), slice);
    }

    /// A slice is gone.
    pub fn remove(&mut self, name: &str) {
        self.tainted.remove(name);
        self.slices.remove(name);
    }

    /// A rule is there, is another one, or is gone. Whether devices may have other taints since.
    pub fn set_rule(&mut self, name: &Arc<str>, rule: Option<Arc<DeviceTaintRule>>) -> bool {
        let now = rule.clone();
        let before = match rule {
            Some(rule) => self.rules.insert(name.clone(), rule),
            None => self.rules.remove(name),
        };
        // Most changes are of what is said of a rule.
        if before.as_ref().map(|rule| &rule.spec) == now.as_ref().map(|rule| &rule.spec) {
            return false;
        }
        let is_meant = |slice: &&Arc<ResourceSlice>| {
            let (driver, pool) = (&slice.spec.driver, &slice.spec.pool.name);
            before.iter().chain(&now).any(|rule| means_pool(rule, driver, pool))
        };
        let meant: Vec<Arc<ResourceSlice>> = self.slices.values().filter(is_meant).cloned().collect();
        for slice in &meant {
            self.tainted.set(tainted(slice, &self.rules));
        }
        !meant.is_empty()
    }

    /// What there is just now.
    pub fn slices(&self) -> Slices {
        self.tainted.clone()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, from_value, json};

    use super::*;

    fn slice(pool: &str) -> Arc<ResourceSlice> {
        let spec =
            json!({"driver": "d", "nodeName": pool, "pool": {"name": pool, "generation": 1, "resourceSliceCount": 1}, "devices": [{"name": "g"}]});
        Arc::new(from_value(json!({"metadata": {"name": pool}, "spec": spec})).expect("a slice"))
    }

    fn rule(selector: Value, told: &str) -> Option<Arc<DeviceTaintRule>> {
        let (spec, status) = (json!({"deviceSelector": selector, "taint": {"key": "k", "effect": "NoSchedule"}}), json!({"conditions": []}));
        Some(Arc::new(from_value(json!({"metadata": {"name": "r", "generation": told.len()}, "spec": spec, "status": status})).expect("a rule")))
    }

    fn taints(published: &Published, node: &str) -> usize {
        published
            .slices()
            .of_node(node)
            .iter()
            .flat_map(|slice| slice.spec.devices.iter().flatten())
            .filter_map(|device| device.taints.as_ref())
            .count()
    }

    #[test]
    fn rules_hold_for_slices_that_are_there_and_for_those_that_come() {
        let (mut published, name): (_, Arc<str>) = (Published::default(), "r".into());
        published.set(&"one".into(), slice("one"));
        assert!(!published.set_rule(&name, rule(json!({"pool": "two"}), "")), "there is no such pool yet");
        published.set(&"two".into(), slice("two"));
        assert_eq!((taints(&published, "one"), taints(&published, "two")), (0, 1));
        assert!(!published.set_rule(&name, rule(json!({"pool": "two"}), "more")), "it says the same");
        assert!(published.set_rule(&name, rule(json!({"pool": "one"}), "")));
        assert_eq!((taints(&published, "one"), taints(&published, "two")), (1, 0));
        assert!(published.set_rule(&name, None));
        assert_eq!(taints(&published, "one"), 0);
        published.remove("one");
        assert!(!published.set_rule(&name, rule(json!({"pool": "one"}), "")));
        assert_eq!(published.slices().len(), 1);
    }
}
