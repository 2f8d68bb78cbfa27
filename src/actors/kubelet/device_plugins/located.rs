//! Devices with where they lie. Pure.

use super::state::State;
use crate::kubelet::container_manager::topology::mask::NumaMask;

/// A device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Located {
    pub resource: String,
    pub id: String,
    /// Its NUMA nodes, if its plugin tells them.
    pub nodes: Option<NumaMask>,
}

impl State {
    /// What a container has.
    pub fn of_container(&self, pod: &str, container: &str) -> Vec<Located> {
        let own = self.held.iter().filter(|((of_pod, of, _), _)| of_pod == pod && of == container);
        own.flat_map(|((_, _, resource), held)| held.devices.iter().map(move |id| self.located(resource, id))).collect()
    }

    /// The devices that are well.
    pub fn usable(&self) -> Vec<Located> {
        let all = self.resources.iter().flat_map(|(name, resource)| resource.devices.iter().map(move |(id, is_well)| (name, id, *is_well)));
        all.filter(|(_, _, is_well)| *is_well).map(|(name, id, _)| self.located(name, id)).collect()
    }

    fn located(&self, resource: &str, id: &str) -> Located {
        let nodes = self.resources.get(resource).and_then(|known| known.nodes.get(id)).copied();
        Located { resource: resource.to_owned(), id: id.to_owned(), nodes }
    }
}
