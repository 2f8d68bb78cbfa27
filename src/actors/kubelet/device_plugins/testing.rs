//! Devices for tests.

use std::{collections::BTreeSet, path::Path};

use super::{
    DevicePlugins,
    proto::{ContainerResponse, Device, HEALTHY, NumaNode, Topology},
    state::Held,
};

/// A device that is well, on these NUMA nodes if it says of any.
pub fn device(id: &str, nodes: &[i64]) -> Device {
    let topology = (!nodes.is_empty()).then(|| Topology { nodes: nodes.iter().map(|id| NumaNode { id: *id }).collect() });
    Device { id: id.into(), health: HEALTHY.into(), topology }
}

/// A plugin's devices, of which containers have some: each by pod, container and device.
pub fn with_devices(root: &Path, resource: &str, devices: &[Device], held: &[(&str, &str, &str)]) -> DevicePlugins {
    let plugins = DevicePlugins::new(root);
    let mut state = plugins.state.lock();
    state.set(resource, devices);
    for (pod, container, device) in held {
        let key = ((*pod).to_owned(), (*container).to_owned(), resource.to_owned());
        let nothing = || Held { devices: BTreeSet::new(), response: ContainerResponse::default() };
        state.held.entry(key).or_insert_with(nothing).devices.insert((*device).to_owned());
    }
    drop(state);
    plugins
}
