//! Pods learn how their devices are.

use std::collections::BTreeSet;

use super::Pods;
use crate::{kubelet::worker::shell::Wake, runtime::host::UnitContext};

impl Pods {
    /// Wakes the workers of pods with devices whenever a plugin says something of its own.
    pub(super) fn watch_devices(&self, cx: &mut UnitContext<'_, Self>) {
        let devices = self.context.device_plugins.clone();
        cx.spawn_then(async move { devices.changed().await }, |pods, holders, cx| {
            pods.wake_holders(&holders, cx);
            pods.watch_devices(cx);
        });
    }

    /// The same of pods with claims, and of drivers.
    pub(super) fn watch_claims(&self, cx: &mut UnitContext<'_, Self>) {
        let dra = self.context.dra.clone();
        cx.spawn_then(async move { dra.changed().await }, |pods, holders, cx| {
            pods.wake_holders(&holders, cx);
            pods.watch_claims(cx);
        });
    }

    fn wake_holders(&self, holders: &BTreeSet<String>, cx: &UnitContext<'_, Self>) {
        for (_, worker) in holders.iter().filter_map(|uid| self.workers.get(uid)) {
            cx.reach(worker).wake(Wake::default(), cx.cause().clone());
        }
    }
}
