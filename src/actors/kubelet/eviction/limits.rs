//! Whether a pod takes more of the disk than it may: upstream's `localStorageEviction`, its order and its words. Pure.

use k8s_openapi::{
    api::core::v1::{Container, Pod, PodSpec},
    apimachinery::pkg::api::resource::Quantity,
};
use troupe_cri::quantity;

use super::usage::{Place, PodUse};
use crate::{
    files::DiskUse,
    kubelet::{volumes::volumes, worker::plan::is_sidecar},
};

const STORAGE: &str = "ephemeral-storage";

/// What the pod is told when it has to go; `None` when it keeps its limits. Of what is too deep to be measured, all that there may be
/// counts against a limit. `images_apart` says that layers lie on a disk of their own: those have no limit there, as upstream.
pub fn exceeded(pod: &Pod, used: &PodUse, images_apart: bool) -> Option<String> {
    empty_dir(pod, used).or_else(|| whole_pod(pod, used)).or_else(|| container(pod, used, images_apart))
}

/// Whether anything of a pod is limited: others need not be measured for this.
pub fn has_limits(pod: &Pod) -> bool {
    let of_container = |container: &Container| limit(container).is_some();
    let containers = pod.spec.iter().flat_map(|spec| spec.containers.iter().chain(spec.init_containers.iter().flatten()));
    volumes(pod).iter().any(|volume| volume.empty_dir.as_ref().is_some_and(|source| source.size_limit.is_some()))
        || containers.into_iter().any(of_container)
}

fn empty_dir(pod: &Pod, used: &PodUse) -> Option<String> {
    volumes(pod).iter().find_map(|volume| {
        let size = volume.empty_dir.as_ref()?.size_limit.as_ref()?;
        let used = used.volumes.get(&volume.name)?;
        is_above(*used, size).then(|| format!("Usage of EmptyDir volume \"{}\" exceeds the limit \"{}\". ", volume.name, size.0))
    })
}

fn whole_pod(pod: &Pod, used: &PodUse) -> Option<String> {
    let limit = pod_limit(pod.spec.as_ref()?)?;
    let total = used.at(Place::All);
    let shown = troupe_api::meta::Quantity::from_bytes(limit);
    is_above(total, &Quantity(limit.to_string()))
        .then(|| format!("Pod ephemeral local storage usage exceeds the total limit of containers {shown}. "))
}

/// The limits of main containers and sidecars together, or of an init container that may use more; `None` when nothing is limited.
fn pod_limit(spec: &PodSpec) -> Option<i64> {
    let init = || spec.init_containers.iter().flatten();
    let bytes = |container: &Container| limit(container).map(|limit| quantity::value(&limit.0));
    let beside = init().filter(|container| is_sidecar(container)).chain(&spec.containers).filter_map(bytes).reduce(i64::saturating_add);
    let before = init().filter(|container| !is_sidecar(container)).filter_map(bytes).max();
    beside.into_iter().chain(before).max()
}

fn container(pod: &Pod, used: &PodUse, images_apart: bool) -> Option<String> {
    pod.spec.as_ref()?.containers.iter().find_map(|container| {
        let limit = limit(container)?;
        let parts = used.containers.get(&container.name)?;
        let used = [Some(parts.logs), (!images_apart).then_some(parts.layer)].into_iter().flatten().sum::<DiskUse>();
        is_above(used, limit).then(|| format!("Container {} exceeded its local ephemeral storage limit \"{}\". ", container.name, limit.0))
    })
}

fn limit(container: &Container) -> Option<&Quantity> {
    let limit = container.resources.as_ref()?.limits.as_ref()?.get(STORAGE)?;
    (quantity::value(&limit.0) > 0).then_some(limit)
}

/// What a container asks for, in bytes.
pub fn request(container: &Container) -> u64 {
    let given = container.resources.as_ref().and_then(|resources| resources.requests.as_ref()?.get(STORAGE));
    given.map_or(0, |given| u64::try_from(quantity::value(&given.0)).unwrap_or(0))
}

fn is_above(used: DiskUse, limit: &Quantity) -> bool {
    let limit = quantity::value(&limit.0);
    limit > 0 && (used.beyond || used.bytes > limit.unsigned_abs())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::kubelet::eviction::usage::ContainerUse;

    fn pod(containers: Value, init: Value, volumes: Value) -> Pod {
        let spec = json!({"containers": containers, "initContainers": init, "volumes": volumes});
        serde_json::from_value(json!({"metadata": {"name": "p"}, "spec": spec})).expect("a pod")
    }

    fn limited(name: &str, limit: &str) -> Value {
        json!({"name": name, "resources": {"limits": {"ephemeral-storage": limit}}})
    }

    fn bytes(bytes: u64) -> DiskUse {
        DiskUse { bytes, inodes: 1, beyond: false }
    }

    fn container(layer: u64, logs: u64) -> ContainerUse {
        ContainerUse { layer: bytes(layer), logs: bytes(logs) }
    }

    #[test]
    fn a_volume_over_its_size_is_named_with_its_limit() {
        let volumes = json!([{"name": "free", "emptyDir": {}}, {"name": "e", "emptyDir": {"sizeLimit": "1Mi"}}]);
        let pod = pod(json!([{"name": "c"}]), json!([]), volumes);
        let mut used = PodUse::default();
        used.volumes.insert("free".into(), bytes(1 << 40));
        used.volumes.insert("e".into(), bytes(1 << 20));
        assert!(has_limits(&pod) && exceeded(&pod, &used, false).is_none(), "as much as it may");
        used.volumes.insert("e".into(), bytes((1 << 20) + 1));
        assert_eq!(exceeded(&pod, &used, false).as_deref(), Some("Usage of EmptyDir volume \"e\" exceeds the limit \"1Mi\". "));
        used.volumes.insert("e".into(), DiskUse { beyond: true, ..bytes(1) });
        assert!(exceeded(&pod, &used, false).is_some(), "what cannot be measured does not get past a limit");
    }

    #[test]
    fn layer_and_logs_of_a_container_count_together_unless_layers_lie_elsewhere() {
        let pod = pod(json!([limited("c", "2Mi"), limited("d", "100Mi")]), json!([]), json!([]));
        let mut used = PodUse::default();
        used.containers.insert("c".into(), container(3 << 19, 3 << 19));
        let message = "Container c exceeded its local ephemeral storage limit \"2Mi\". ";
        assert_eq!(exceeded(&pod, &used, false).as_deref(), Some(message));
        assert_eq!(exceeded(&pod, &used, true), None);
        used.containers.insert("c".into(), container(0, 3 << 20));
        assert_eq!(exceeded(&pod, &used, true).as_deref(), Some(message));
    }

    #[test]
    fn all_of_a_pod_counts_against_the_sum_of_its_limits() {
        let main = json!([limited("c", "1Mi"), limited("d", "1Mi"), {"name": "free"}]);
        let all = pod(main.clone(), json!([]), json!([{"name": "e", "emptyDir": {}}]));
        let mut used = PodUse { files: bytes(1), ..PodUse::default() };
        used.volumes.insert("e".into(), bytes(2 << 20));
        let message = "Pod ephemeral local storage usage exceeds the total limit of containers 2Mi. ";
        assert_eq!(exceeded(&all, &used, false).as_deref(), Some(message));
        let larger = pod(main.clone(), json!([limited("i", "4Mi")]), json!([]));
        assert_eq!(exceeded(&larger, &used, false), None, "an init container may use more");
        let mut sidecar = limited("s", "1Mi");
        sidecar["restartPolicy"] = json!("Always");
        assert_eq!(exceeded(&pod(main, json!([sidecar]), json!([])), &used, false), None, "a sidecar's limit adds to the others'");
    }

    #[test]
    fn a_pod_without_limits_may_use_the_disk() {
        let free = pod(json!([{"name": "c"}]), json!([]), json!([{"name": "e", "emptyDir": {}}]));
        let mut used = PodUse::default();
        used.volumes.insert("e".into(), DiskUse { beyond: true, ..bytes(1 << 50) });
        used.containers.insert("c".into(), container(1 << 50, 1 << 50));
        assert!(!has_limits(&free) && exceeded(&free, &used, false).is_none());
    }
}
