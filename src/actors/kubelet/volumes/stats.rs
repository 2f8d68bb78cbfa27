//! How full volumes are that this node makes itself; those of drivers tell their drivers.

use std::{path::Path, sync::Arc};

use k8s_openapi::api::core::v1::{Pod, Volume};
use nix::sys::statvfs::statvfs;

use super::{Plugin, PodPaths, host_path, record, volumes};
use crate::{
    files::{Tally, blocking, count_tree},
    kubelet::csi::stats::VolumeUsage,
};

/// How what a volume takes is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Measure {
    /// It shares a file system with others: what lies in it is counted.
    Count,
    /// Its file system tells.
    Ask,
}

/// As upstream's plugins measure their volumes; of directories of the host nothing is told.
fn measure(paths: &PodPaths, volume: &Volume) -> Option<Measure> {
    let plugin = Plugin::of(volume)?;
    match plugin {
        Plugin::HostPath | Plugin::Csi | Plugin::Image => None,
        Plugin::Claim => record::files_of(paths.root(), &volume.name).is_none().then_some(Measure::Ask),
        Plugin::Nfs => Some(Measure::Ask),
        Plugin::EmptyDir | Plugin::ConfigMap | Plugin::Secret | Plugin::DownwardApi | Plugin::Projected => Some(Measure::Count),
    }
}

/// The figures of a pod's volumes; those that are not set up are left out.
pub async fn of_pod(paths: &PodPaths, pod: &Pod) -> Vec<VolumeUsage> {
    let (paths, pod) = (paths.clone(), pod.clone());
    let place = move |volume: &Volume| Some((volume.name.clone(), measure(&paths, volume)?, host_path(&paths, volume)?));
    let places = blocking(move || volumes(&pod).iter().filter_map(place).collect::<Vec<_>>()).await;
    let mut all = Vec::new();
    for (volume, measure, place) in places {
        all.extend(of_place(&volume, measure, &place).await);
    }
    all
}

async fn of_place(volume: &str, measure: Measure, place: &Path) -> Option<VolumeUsage> {
    let path = place.to_owned();
    let found = blocking(move || statvfs(&path)).await.ok()?;
    let signed = |number: u64| i64::try_from(number).ok();
    let (capacity, free) = (found.blocks() * found.fragment_size(), found.blocks_free() * found.fragment_size());
    let (used, inodes_used) = match measure {
        Measure::Ask => (capacity.saturating_sub(free), found.files().saturating_sub(found.files_free())),
        Measure::Count => {
            let tally: Arc<Tally> = Arc::default();
            count_tree(place, None, &tally).await.ok()?;
            let sum = tally.sum();
            (sum.bytes, sum.inodes)
        }
    };
    Some(VolumeUsage {
        volume: volume.to_owned(),
        available_bytes: signed(found.blocks_available() * found.fragment_size()),
        capacity_bytes: signed(capacity),
        used_bytes: signed(used),
        inodes_free: signed(found.files_free()),
        inodes: signed(found.files()),
        inodes_used: signed(inodes_used),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[tokio::test]
    async fn volumes_of_this_node_tell_what_lies_in_them() {
        let root = tempfile::tempdir().expect("a directory");
        let paths = PodPaths::new(root.path(), "u");
        let spec = json!({"containers": [], "volumes": [{"name": "data", "emptyDir": {}}, {"name": "host", "hostPath": {"path": "/"}},
            {"name": "late", "emptyDir": {}}]});
        let pod: Pod = serde_json::from_value(json!({"metadata": {"uid": "u"}, "spec": spec})).expect("a pod");
        let place = paths.volume("empty-dir", "data");
        std::fs::create_dir_all(&place).and_then(|()| std::fs::write(place.join("file"), vec![1; 100_000])).expect("writes");
        let all = of_pod(&paths, &pod).await;
        assert_eq!(all.iter().map(|usage| usage.volume.as_str()).collect::<Vec<_>>(), ["data"], "nothing else is there, or told of");
        let used = all[0].used_bytes.expect("it was counted");
        assert!((100_000..1_000_000).contains(&used) && all[0].inodes_used >= Some(1), "{all:?}");
        assert!(all[0].capacity_bytes >= all[0].available_bytes && all[0].capacity_bytes > Some(0));
    }
}
