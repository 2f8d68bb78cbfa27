//! How the devices are that pods have (KEP-4680). Pure.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{ResourceHealth, ResourceStatus};

use super::state::State;

impl State {
    /// The devices of a pod by container, as statuses tell them. One that its plugin has not told of since this process began is taken for well.
    pub fn health(&self, pod: &str) -> BTreeMap<String, Vec<ResourceStatus>> {
        let mut all: BTreeMap<String, Vec<ResourceStatus>> = BTreeMap::new();
        let first = (pod.to_owned(), String::new(), String::new());
        for ((_, container, resource), held) in self.held.range(first..).take_while(|((of, _, _), _)| of == pod) {
            let known = self.resources.get(resource);
            let health = held.devices.iter().map(|id| {
                let is_well = known.and_then(|known| known.devices.get(id)).copied().unwrap_or(true);
                let health = if is_well { "Healthy" } else { "Unhealthy" };
                ResourceHealth { resource_id: id.clone(), health: Some(health.to_owned()), message: None }
            });
            let status = ResourceStatus { name: resource.clone(), resources: Some(health.collect()) };
            all.entry(container.clone()).or_default().push(status);
        }
        all
    }

    /// The uids of pods that have devices.
    pub fn holders(&self) -> BTreeSet<String> {
        self.held.keys().map(|(pod, _, _)| pod.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kubelet::device_plugins::{proto, proto::ContainerResponse, state::Held};

    #[test]
    fn devices_are_as_their_plugin_says() {
        let device = |id: &str, health: &str| proto::Device { id: id.into(), health: health.into(), ..proto::Device::default() };
        let mut state = State::default();
        state.set("example.com/gpu", &[device("d0", "Healthy"), device("d1", "Unhealthy")]);
        for (pod, devices) in [("u", ["d0", "d1"]), ("v", ["d2", "d3"])] {
            let held = Held { devices: devices.map(str::to_owned).into(), response: ContainerResponse::default() };
            state.held.insert((pod.into(), "c".into(), "example.com/gpu".into()), held);
        }
        let told = |pod: &str| {
            let health = state.health(pod);
            let resources = health["c"][0].resources.clone().unwrap_or_default();
            resources.into_iter().map(|device| (device.resource_id, device.health.unwrap_or_default())).collect::<Vec<_>>()
        };
        let of = |id: &str, health: &str| (id.to_owned(), health.to_owned());
        assert_eq!(told("u"), [of("d0", "Healthy"), of("d1", "Unhealthy")]);
        assert_eq!(told("v"), [of("d2", "Healthy"), of("d3", "Healthy")], "nobody said otherwise");
        assert_eq!(state.health("w"), BTreeMap::new());
        assert_eq!(state.holders(), ["u", "v"].map(str::to_owned).into());
    }
}
