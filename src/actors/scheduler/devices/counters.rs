//! Parts of devices that share counters (KEP-4815, partitionable devices).

use std::collections::BTreeMap;

use k8s_openapi::api::resource::v1::Device;

use super::{
    InUse,
    capacity::amount,
    pools::{Pool, PoolState, devices},
};
use crate::devices::DeviceId;

/// What is left of the counters of a pool, in billionths, by set and name. May be less than nothing.
pub struct Counters(BTreeMap<(String, String), i128>);

impl Counters {
    /// What allocated devices leave.
    pub fn of(pool: &Pool, in_use: &dyn InUse) -> Self {
        let PoolState::Usable { slices, others, counters } = &pool.state else { return Counters(BTreeMap::new()) };
        let all = counters.iter().flat_map(|(set, counters)| {
            let of_set = counters.counters.iter();
            of_set.map(move |(name, counter)| ((set.clone(), name.clone()), amount(&counter.value)))
        });
        let mut left = Counters(all.collect());
        for device in slices.iter().chain(others).flat_map(|slice| devices(slice)).filter(|device| device.consumes_counters.is_some()) {
            let id = DeviceId { driver: pool.driver.to_string(), pool: pool.name.to_string(), device: device.name.clone() };
            if in_use.is_taken(&id) || in_use.shares(&id).is_some() {
                left.change(device, -1);
            }
        }
        left
    }

    /// Takes what a device needs, if it is there.
    pub fn take(&mut self, device: &Device) -> bool {
        self.change(device, -1);
        let needed = device.consumes_counters.iter().flatten().flat_map(|of| of.counters.keys().map(|name| (of.counter_set.clone(), name.clone())));
        let enough = needed.into_iter().all(|key| self.0.get(&key).is_none_or(|left| *left >= 0));
        if !enough {
            self.give_back(device);
        }
        enough
    }

    pub fn give_back(&mut self, device: &Device) {
        self.change(device, 1);
    }

    fn change(&mut self, device: &Device, sign: i128) {
        for consumption in device.consumes_counters.iter().flatten() {
            for (name, counter) in &consumption.counters {
                if let Some(left) = self.0.get_mut(&(consumption.counter_set.clone(), name.clone())) {
                    *left = left.saturating_add(sign.saturating_mul(amount(&counter.value)));
                }
            }
        }
    }
}
