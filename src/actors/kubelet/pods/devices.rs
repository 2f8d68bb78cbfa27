//! Pods learn how their devices are.

use super::Pods;
use crate::{kubelet::worker::shell::Wake, runtime::host::UnitContext};

impl Pods {
    /// Wakes the workers of pods with devices whenever a plugin says something of its own.
    pub(super) fn watch_devices(&self, cx: &mut UnitContext<'_, Self>) {
        let devices = self.context.device_plugins.clone();
        cx.spawn_then(async move { devices.changed().await }, |pods, holders, cx| {
            for (_, worker) in holders.iter().filter_map(|uid| pods.workers.get(uid)) {
                cx.reach(worker).wake(Wake::default(), cx.cause().clone());
            }
            pods.watch_devices(cx);
        });
    }
}
