//! Volumes that are images (KEP-4639): the kubelet pulls them as it does images of containers, and the runtime mounts them where a container wants
//! them, read-only. Nothing of them lies in a pod's directory. Pure.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, ImageVolumeSource, Pod, Volume};
use troupe_cri::proto;

use super::volumes;

/// What is in a runtime's words when it could not mount one: at their beginning, or after what containerd 2 was about.
const UNMOUNTED: &str = "ImageVolumeMountFailed: ";
/// The first containerd that mounts images.
const CONTAINERD: (u32, u32) = (2, 1);

/// Whether a runtime, such as `containerd 2.1.0`, mounts images. Older containerds take no notice and start containers without them, or fail in odd words.
pub fn is_mounted_by(runtime: &str) -> bool {
    let Some(version) = runtime.strip_prefix("containerd ") else { return true };
    let mut numbers = version.trim_start_matches('v').split('.').map(|part| part.parse::<u32>().ok());
    match (numbers.next().flatten(), numbers.next().flatten()) {
        (Some(major), Some(minor)) => (major, minor) >= CONTAINERD,
        _ => true,
    }
}

/// A container that wants the image of a volume as others want theirs.
pub fn as_container(name: &str, source: &ImageVolumeSource) -> Container {
    Container { name: name.to_owned(), image: source.reference.clone(), image_pull_policy: source.pull_policy.clone(), ..Container::default() }
}

/// The images that a container mounts, in its order, each volume once.
pub fn mounted<'a>(pod: &'a Pod, container: &'a Container) -> impl Iterator<Item = (&'a Volume, &'a ImageVolumeSource)> {
    let wanted = |volume: &&Volume| container.volume_mounts.iter().flatten().any(|mount| mount.name == volume.name);
    volumes(pod).iter().filter(wanted).filter_map(|volume| Some((volume, volume.image.as_ref()?)))
}

/// The image of a volume as it is mounted; by which the runtime knows it is found out later.
pub fn spec(source: &ImageVolumeSource) -> proto::ImageSpec {
    proto::ImageSpec { user_specified_image: source.reference.clone().unwrap_or_default(), ..proto::ImageSpec::default() }
}

/// Tells of each image that is mounted by which id the runtime knows it, by its name in the pod's spec.
pub fn resolve(mounts: &mut [proto::Mount], ids: &BTreeMap<String, String>) {
    for image in mounts.iter_mut().filter_map(|mount| mount.image.as_mut()) {
        if let Some(id) = ids.get(&image.user_specified_image) {
            image.image.clone_from(id);
        }
    }
}

/// Whether a runtime that made no container says that it could not mount an image.
pub fn is_unmounted(message: &str) -> bool {
    message.contains(UNMOUNTED)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn older_containerds_mount_no_images() {
        let known = ["containerd 2.1.0", "containerd v2.2.1-rc", "containerd 3.0.0", "cri-o 1.31.0", "containerd odd"];
        assert!(known.iter().all(|runtime| is_mounted_by(runtime)));
        assert!(["containerd 1.6.20~ds1", "containerd 2.0.9"].iter().all(|runtime| !is_mounted_by(runtime)));
    }

    #[test]
    fn images_are_mounted_by_the_ids_that_the_runtime_has_for_them() {
        let volumes = json!([{"name": "a", "image": {"reference": "quay.io/a:1", "pullPolicy": "Always"}}, {"name": "b", "emptyDir": {}},
            {"name": "c", "image": {"reference": "quay.io/c:1"}}]);
        let mounts = json!([{"name": "b", "mountPath": "/b"}, {"name": "a", "mountPath": "/a"}, {"name": "a", "mountPath": "/also"}]);
        let spec_of = json!({"volumes": volumes, "containers": [{"name": "m", "volumeMounts": mounts}]});
        let pod: Pod = serde_json::from_value(json!({"spec": spec_of})).expect("a pod");
        let container = &pod.spec.as_ref().expect("a spec").containers[0];
        let found: Vec<_> = mounted(&pod, container).map(|(volume, source)| (volume.name.as_str(), as_container("m", source))).collect();
        assert_eq!((found.len(), found[0].0, found[0].1.image_pull_policy.as_deref()), (1, "a", Some("Always")));
        let source = mounted(&pod, container).next().expect("one").1;
        let mut mounts = vec![proto::Mount::default(), proto::Mount { image: Some(spec(source)), ..proto::Mount::default() }];
        resolve(&mut mounts, &BTreeMap::from([("quay.io/a:1".to_owned(), "sha256:1".to_owned())]));
        assert_eq!((mounts[0].image.as_ref(), mounts[1].image.as_ref().map(|image| image.image.as_str())), (None, Some("sha256:1")));
        assert!(is_unmounted("ImageVolumeMountFailed: no such path") && !is_unmounted("failed to mount"));
        assert!(is_unmounted("failed to mount image volume: ImageVolumeMountFailed: failed to ensure image subpath \"a\""), "as containerd says it");
    }
}
