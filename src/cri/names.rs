//! The names under which a pod's things are known to the runtime and on disk: labels, annotations, log paths, cgroups.
//!
//! They are upstream's, so that tools (crictl, log collectors) and a swapped kubelet find everything.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use k8s_openapi::api::core::v1::{Container, Pod};

pub const POD_NAME: &str = "io.kubernetes.pod.name";
pub const POD_NAMESPACE: &str = "io.kubernetes.pod.namespace";
pub const POD_UID: &str = "io.kubernetes.pod.uid";
pub const CONTAINER_NAME: &str = "io.kubernetes.container.name";
pub const CONTAINER_HASH: &str = "io.kubernetes.container.hash";
pub const RESTART_COUNT: &str = "io.kubernetes.container.restartCount";
pub const TERMINATION_PATH: &str = "io.kubernetes.container.terminationMessagePath";
pub const TERMINATION_POLICY: &str = "io.kubernetes.container.terminationMessagePolicy";
pub const PRE_STOP: &str = "io.kubernetes.container.preStopHandler";
pub const CONTAINER_PORTS: &str = "io.kubernetes.container.ports";
/// The images that are mounted into a container, as a JSON list of their ids; ours.
pub const IMAGE_VOLUMES: &str = "io.kubernetes.container.imageVolumes";
pub const POD_DELETION_GRACE: &str = "io.kubernetes.pod.deletionGracePeriod";
pub const POD_TERMINATION_GRACE: &str = "io.kubernetes.pod.terminationGracePeriod";

/// What the name of a cgroup ends with that systemd makes.
const SLICE: &str = ".slice";

/// The annotations of a pod by which the network plugins limit what it receives and sends, in bits a second (quantities).
pub const LIMITS_OF_TRAFFIC: [&str; 2] = ["kubernetes.io/ingress-bandwidth", "kubernetes.io/egress-bandwidth"];

/// A label or an annotation of a pod that is longer is not told to the runtime, and no more than these of all, in bytes: the runtime
/// repeats them in each listing of all pods, and answers with no more than so much (containerd with 16 MiB).
const LONGEST_NOTE: usize = 4 << 10;
const ALL_NOTES: usize = 12 << 10;
/// The same for what is noted of one container: a pod may have many.
pub const LONGEST_CONTAINER_NOTE: usize = 1 << 10;

/// Of a pod's labels or annotations those that the runtime is told, in their order.
pub fn told(all: &BTreeMap<String, String>) -> impl Iterator<Item = (String, String)> {
    let mut room = ALL_NOTES;
    all.iter().filter_map(move |(name, value)| {
        let size = name.len() + value.len();
        (size <= room.min(LONGEST_NOTE)).then(|| {
            room -= size;
            (name.clone(), value.clone())
        })
    })
}

/// Who a pod is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PodIdentity {
    pub namespace: String,
    pub name: String,
    pub uid: String,
}

impl PodIdentity {
    pub fn of(pod: &Pod) -> Self {
        let meta = &pod.metadata;
        PodIdentity {
            namespace: meta.namespace.clone().unwrap_or_default(),
            name: meta.name.clone().unwrap_or_default(),
            uid: meta.uid.clone().unwrap_or_default(),
        }
    }

    /// From the labels that every sandbox and container carries; `None` for things that are not a kubelet's.
    pub fn from_labels<'a>(label: impl Fn(&str) -> Option<&'a String>) -> Option<Self> {
        Some(PodIdentity { namespace: label(POD_NAMESPACE)?.clone(), name: label(POD_NAME)?.clone(), uid: label(POD_UID)?.clone() })
    }

    /// `<log root>/<namespace>_<name>_<uid>`.
    pub fn log_directory(&self, log_root: &Path) -> PathBuf {
        log_root.join(format!("{}_{}_{}", self.namespace, self.name, self.uid))
    }

    /// The file of one container's `attempt`th start.
    pub fn log_file(&self, log_root: &Path, container: &str, attempt: u32) -> PathBuf {
        self.log_directory(log_root).join(container_log_path(container, attempt))
    }
}

/// The path of a container's log relative to its pod's log directory.
pub fn container_log_path(container: &str, attempt: u32) -> String {
    format!("{container}/{attempt}.log")
}

/// The name of the symlink in `/var/log/containers`.
pub fn legacy_log_name(pod: &PodIdentity, container: &str, container_id: &str) -> String {
    format!("{}_{}_{container}-{container_id}.log", pod.name, pod.namespace)
}

/// A cgroup as systemd names it: of `a/kubepods` that is `a.slice/a-kubepods.slice`. Dashes part names there, so that those in names become
/// underscores.
pub fn slice(group: &str) -> String {
    let (mut name, mut path) = (String::new(), Vec::new());
    for part in group.trim_matches('/').split('/') {
        if !name.is_empty() {
            name.push('-');
        }
        name.push_str(&part.replace('-', "_"));
        path.push(format!("{name}{SLICE}"));
    }
    path.join("/")
}

/// The unit of systemd that a cgroup is, if it is one.
pub fn slice_unit(group: &str) -> Option<&str> {
    group.trim_end_matches('/').rsplit('/').next().filter(|name| name.len() > SLICE.len() && name.ends_with(SLICE))
}

/// The uid of the pod whose cgroup has this name; `None` for others.
pub fn uid_of_cgroup(name: &str) -> Option<String> {
    let of_slice = name.strip_suffix(SLICE).map(|name| name.rsplit('-').next().unwrap_or(name).replace('_', "-"));
    let uid = of_slice.as_deref().unwrap_or(name).strip_prefix("pod").filter(|uid| !uid.is_empty())?;
    uid.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-').then(|| uid.to_owned())
}

/// The cgroup of a pod below the hierarchy's root: `/<parent>[/<qos>]/pod<uid>`, where the parent is the cgroup that holds the pods of this node
/// and nothing else (`kubepods` by default). Where that is a slice of systemd's it is one, too:
/// `/<parent>[/<name>-<qos>.slice]/<name>[-<qos>]-pod<uid>.slice`.
pub fn pod_cgroup(parent: &str, qos_class: &str, uid: &str) -> String {
    let parent = parent.trim_matches('/');
    if let Some(name) = slice_unit(parent).and_then(|unit| unit.strip_suffix(SLICE)) {
        let uid = uid.replace('-', "_");
        return match qos_class {
            "Guaranteed" => format!("/{parent}/{name}-pod{uid}{SLICE}"),
            class => {
                let class = class.to_lowercase();
                format!("/{parent}/{name}-{class}{SLICE}/{name}-{class}-pod{uid}{SLICE}")
            }
        };
    }
    match qos_class {
        "Guaranteed" => format!("/{parent}/pod{uid}"),
        class => format!("/{parent}/{}/pod{uid}", class.to_lowercase()),
    }
}

/// Tells whether a running container still is what the spec asks for. As upstream, only the name and image count:
/// every other field of a running pod is immutable, or changed in place.
pub fn container_hash(container: &Container) -> String {
    let text = serde_json::json!({ "image": container.image, "name": container.name }).to_string();
    let hash = text.bytes().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    format!("{hash:x}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guaranteed_pod_sits_right_below_the_parent() {
        assert_eq!(pod_cgroup("kubepods", "Guaranteed", "u"), "/kubepods/podu");
        assert_eq!(pod_cgroup("/a/b/", "BestEffort", "u"), "/a/b/besteffort/podu");
    }

    #[test]
    fn cgroups_of_systemd_are_slices_in_slices() {
        assert_eq!((slice("kubepods"), slice("/a-b/kubepods/")), ("kubepods.slice".into(), "a_b.slice/a_b-kubepods.slice".into()));
        assert_eq!(pod_cgroup("kubepods.slice", "Guaranteed", "1-2"), "/kubepods.slice/kubepods-pod1_2.slice");
        let burstable = pod_cgroup(&slice("a/kubepods"), "Burstable", "1-2");
        assert_eq!(burstable, "/a.slice/a-kubepods.slice/a-kubepods-burstable.slice/a-kubepods-burstable-pod1_2.slice");
        assert_eq!(slice_unit(&burstable), Some("a-kubepods-burstable-pod1_2.slice"));
        assert_eq!((slice_unit("kubepods"), slice_unit("kubepods.slice/"), slice_unit(".slice")), (None, Some("kubepods.slice"), None));
    }

    #[test]
    fn only_the_names_of_pods_cgroups_are_taken_for_pods() {
        for name in ["pod6f0e-1", "kubepods-burstable-pod6f0e_1.slice", "kubepods-pod6f0e_1.slice"] {
            assert_eq!(uid_of_cgroup(name).as_deref(), Some("6f0e-1"), "{name}");
        }
        for other in ["pod", "besteffort", "pod_x", "pod1/2", "t2pods", "kubepods-burstable.slice", "kubepods-pod.slice"] {
            assert_eq!(uid_of_cgroup(other), None, "{other}");
        }
    }

    #[test]
    fn logs_lie_where_upstream_puts_them() {
        let pod = PodIdentity { namespace: "ns".into(), name: "web".into(), uid: "1".into() };
        assert_eq!(pod.log_file(Path::new("/var/log/pods"), "c", 2), Path::new("/var/log/pods/ns_web_1/c/2.log"));
    }

    #[test]
    fn what_a_pod_says_of_itself_does_not_fill_the_runtimes_listings() {
        let all: BTreeMap<String, String> = (0..5000).map(|index| (format!("label{index:04}"), "x".repeat(100))).collect();
        let kept: Vec<_> = told(&all).collect();
        assert_eq!((kept.len(), kept[0].0.as_str()), (ALL_NOTES / 109, "label0000"));
        let mixed = BTreeMap::from([("a".to_owned(), "x".repeat(200_000)), ("b".to_owned(), "1".to_owned())]);
        assert_eq!(told(&mixed).map(|(name, _)| name).collect::<Vec<_>>(), ["b"]);
    }

    #[test]
    fn the_hash_follows_the_image_only() {
        let mut one = Container { name: "c".into(), image: Some("a".into()), ..Default::default() };
        let before = container_hash(&one);
        one.tty = Some(true);
        assert_eq!(container_hash(&one), before);
        one.image = Some("b".into());
        assert_ne!(container_hash(&one), before);
    }
}
