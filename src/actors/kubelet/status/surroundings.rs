//! What statuses of containers tell of their mounts and devices (KEP-3857, KEP-4680), and as whom they run (KEP-3619).

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, ContainerUser, LinuxContainerUser, ResourceStatus, VolumeMountStatus};
use troupe_cri::{mounts::recursive_read_only, proto};

/// What the node knows of a pod's containers that their runtime does not tell.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Surroundings {
    /// Whether the runtime can make mounts read-only with all that lies below.
    pub recursive_read_only: bool,
    /// Whether it is told what signals end them.
    pub stop_signals: bool,
    /// How the devices are that containers have, by container name.
    pub devices: BTreeMap<String, Vec<ResourceStatus>>,
}

impl Surroundings {
    /// A container's mounts as its spec has them. How read-only ones are made does not change while it runs.
    pub(super) fn mounts(&self, container: &Container) -> Option<Vec<VolumeMountStatus>> {
        let mounts = container.volume_mounts.as_ref().filter(|mounts| !mounts.is_empty())?;
        let status = mounts.iter().map(|mount| {
            let read_only = mount.read_only.filter(|read_only| *read_only);
            let mode = || if recursive_read_only(mount, self.recursive_read_only) == Ok(true) { "Enabled" } else { "Disabled" };
            VolumeMountStatus {
                name: mount.name.clone(),
                mount_path: mount.mount_path.clone(),
                read_only,
                recursive_read_only: read_only.map(|_| mode().to_owned()),
                volume_status: None,
            }
        });
        Some(status.collect())
    }
}

/// As whom a container's first process runs, if its runtime tells.
pub(super) fn user(told: &proto::ContainerUser) -> ContainerUser {
    let linux = told.linux.as_ref().map(|linux| LinuxContainerUser {
        uid: linux.uid,
        gid: linux.gid,
        supplemental_groups: Some(linux.supplemental_groups.clone()).filter(|groups| !groups.is_empty()),
    });
    ContainerUser { linux }
}
