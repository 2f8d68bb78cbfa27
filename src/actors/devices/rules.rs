//! Rules that taint devices from outside of what drivers publish (`DeviceTaintRule`, KEP-5055).

use std::{collections::BTreeMap, sync::Arc};

use k8s_openapi::api::resource::{
    v1::{DeviceTaint, ResourceSlice},
    v1beta2::DeviceTaintRule,
};

/// Rules by their names.
pub type Rules = BTreeMap<Arc<str>, Arc<DeviceTaintRule>>;

/// Whether a rule may mean devices of a driver's pool. One without a selector means none.
pub fn means_pool(rule: &DeviceTaintRule, driver: &str, pool: &str) -> bool {
    let Some(selector) = &rule.spec.device_selector else { return false };
    let is = |wanted: &Option<String>, found: &str| wanted.as_ref().is_none_or(|wanted| wanted == found);
    is(&selector.driver, driver) && is(&selector.pool, pool)
}

/// Whether a rule taints a device.
pub fn taints_device(rule: &DeviceTaintRule, driver: &str, pool: &str, device: &str) -> bool {
    let named = rule.spec.device_selector.as_ref().and_then(|selector| selector.device.as_ref());
    means_pool(rule, driver, pool) && named.is_none_or(|named| named == device)
}

/// The taint that a rule gives to devices.
pub fn taint_of(rule: &DeviceTaintRule) -> DeviceTaint {
    let taint = &rule.spec.taint;
    DeviceTaint { effect: taint.effect.clone(), key: taint.key.clone(), time_added: taint.time_added.clone(), value: taint.value.clone() }
}

/// A slice whose devices have the taints of rules beside their own; the very same where no rule means them.
pub fn tainted(slice: &Arc<ResourceSlice>, rules: &Rules) -> Arc<ResourceSlice> {
    let (driver, pool) = (&slice.spec.driver, &slice.spec.pool.name);
    let mut tainted = slice.clone();
    for rule in rules.values().filter(|rule| means_pool(rule, driver, pool)) {
        for (at, device) in slice.spec.devices.iter().flatten().enumerate() {
            if !taints_device(rule, driver, pool, &device.name) {
                continue;
            }
            let devices = Arc::make_mut(&mut tainted).spec.devices.get_or_insert_default();
            devices[at].taints.get_or_insert_default().push(taint_of(rule));
        }
    }
    tainted
}
