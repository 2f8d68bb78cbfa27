//! Security contexts of pods and containers as the runtime takes them.

use k8s_openapi::api::core::v1::{Container, Pod, PodSecurityContext, PodSpec, SeccompProfile, SecurityContext};

use crate::proto::{self, NamespaceMode, security_profile::ProfileType};

/// What upstream hides from unprivileged containers.
const MASKED_PATHS: &[&str] = &[
    "/proc/asound",
    "/proc/acpi",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
];
const READONLY_PATHS: &[&str] = &["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// The user an image is made to run as.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImageUser {
    pub uid: Option<i64>,
    pub name: String,
}

impl ImageUser {
    pub fn of(image: &proto::Image) -> Self {
        ImageUser { uid: image.uid.map(|uid| uid.value), name: image.username.clone() }
    }
}

fn int64(value: Option<i64>) -> Option<proto::Int64Value> {
    value.map(|value| proto::Int64Value { value })
}

fn owned(paths: &[&str]) -> Vec<String> {
    paths.iter().map(|path| (*path).to_owned()).collect()
}

/// Which namespaces a pod's processes share with the node or with each other.
pub fn namespaces(spec: &PodSpec) -> proto::NamespaceOption {
    let host = |wanted: Option<bool>, otherwise| if wanted == Some(true) { NamespaceMode::Node } else { otherwise };
    let pid = if spec.share_process_namespace == Some(true) { NamespaceMode::Pod } else { NamespaceMode::Container };
    proto::NamespaceOption {
        network: host(spec.host_network, NamespaceMode::Pod).into(),
        pid: host(spec.host_pid, pid).into(),
        ipc: host(spec.host_ipc, NamespaceMode::Pod).into(),
        ..Default::default()
    }
}

fn seccomp(profile: Option<&SeccompProfile>, seccomp_root: &str) -> proto::SecurityProfile {
    let (profile_type, localhost_ref) = match profile.map(|profile| profile.type_.as_str()) {
        Some("RuntimeDefault") => (ProfileType::RuntimeDefault, String::new()),
        Some("Localhost") => {
            let file = profile.and_then(|profile| profile.localhost_profile.as_deref()).unwrap_or_default();
            (ProfileType::Localhost, format!("{seccomp_root}/{file}"))
        }
        _ => (ProfileType::Unconfined, String::new()),
    };
    proto::SecurityProfile { profile_type: profile_type.into(), localhost_ref }
}

fn supplemental_groups(pod: Option<&PodSecurityContext>) -> Vec<i64> {
    let Some(pod) = pod else { return Vec::new() };
    pod.fs_group.iter().chain(pod.supplemental_groups.iter().flatten()).copied().collect()
}

fn any_privileged(spec: &PodSpec) -> bool {
    let all = spec.init_containers.iter().flatten().chain(&spec.containers);
    all.filter_map(|container| container.security_context.as_ref()).any(|context| context.privileged == Some(true))
}

/// The sandbox's context. `seccomp_root` holds the node's own seccomp profiles.
pub fn sandbox_security(pod: &Pod, seccomp_root: &str) -> proto::LinuxSandboxSecurityContext {
    let Some(spec) = &pod.spec else { return Default::default() };
    let context = spec.security_context.as_ref();
    // The sandbox's own process is the pause image's: it always gets the runtime's profile, as upstream's does.
    let profile = context.and_then(|context| context.seccomp_profile.as_ref());
    let privileged = any_privileged(spec);
    let seccomp = match profile {
        None if !privileged => proto::SecurityProfile { profile_type: ProfileType::RuntimeDefault.into(), ..Default::default() },
        _ if privileged => seccomp(None, seccomp_root),
        profile => seccomp(profile, seccomp_root),
    };
    proto::LinuxSandboxSecurityContext {
        namespace_options: Some(namespaces(spec)),
        run_as_user: int64(context.and_then(|context| context.run_as_user)),
        run_as_group: int64(context.and_then(|context| context.run_as_group).filter(|_| context.is_some_and(|c| c.run_as_user.is_some()))),
        supplemental_groups: supplemental_groups(context),
        privileged,
        seccomp: Some(seccomp),
        selinux_options: context.and_then(|context| context.se_linux_options.as_ref()).map(selinux),
        ..Default::default()
    }
}

fn selinux(options: &k8s_openapi::api::core::v1::SELinuxOptions) -> proto::SeLinuxOption {
    let text = |part: &Option<String>| part.clone().unwrap_or_default();
    proto::SeLinuxOption { user: text(&options.user), role: text(&options.role), r#type: text(&options.type_), level: text(&options.level) }
}

/// A container's context: its own settings win over the pod's, those over the image's.
pub fn container_security(pod: &Pod, container: &Container, image: &ImageUser, seccomp_root: &str) -> proto::LinuxContainerSecurityContext {
    let Some(spec) = &pod.spec else { return Default::default() };
    let of_pod = spec.security_context.as_ref();
    let empty = SecurityContext::default();
    let own = container.security_context.as_ref().unwrap_or(&empty);
    let privileged = own.privileged == Some(true);
    let user = own.run_as_user.or_else(|| of_pod?.run_as_user);
    let profile = own.seccomp_profile.as_ref().or_else(|| of_pod?.seccomp_profile.as_ref());
    let unmasked = privileged || own.proc_mount.as_deref() == Some("Unmasked");
    proto::LinuxContainerSecurityContext {
        capabilities: own.capabilities.as_ref().map(|capabilities| proto::Capability {
            add_capabilities: capabilities.add.clone().unwrap_or_default(),
            drop_capabilities: capabilities.drop.clone().unwrap_or_default(),
            ..Default::default()
        }),
        privileged,
        namespace_options: Some(namespaces(spec)),
        selinux_options: own.se_linux_options.as_ref().or_else(|| of_pod?.se_linux_options.as_ref()).map(selinux),
        run_as_user: int64(user.or(image.uid)),
        run_as_username: if user.is_none() && image.uid.is_none() { image.name.clone() } else { String::new() },
        run_as_group: int64(own.run_as_group.or_else(|| of_pod?.run_as_group)),
        readonly_rootfs: own.read_only_root_filesystem == Some(true),
        supplemental_groups: supplemental_groups(of_pod),
        no_new_privs: own.allow_privilege_escalation == Some(false),
        masked_paths: if unmasked { Vec::new() } else { owned(MASKED_PATHS) },
        readonly_paths: if unmasked { Vec::new() } else { owned(READONLY_PATHS) },
        seccomp: Some(seccomp(profile.filter(|_| !privileged), seccomp_root)),
        ..Default::default()
    }
}

/// Why the container must not start although its spec asks for a user other than root.
pub fn verify_non_root(pod: &Pod, container: &Container, image: &ImageUser) -> Result<(), String> {
    let of_pod = pod.spec.as_ref().and_then(|spec| spec.security_context.as_ref());
    let own = container.security_context.as_ref();
    if own.and_then(|own| own.run_as_non_root).or_else(|| of_pod?.run_as_non_root) != Some(true) {
        return Ok(());
    }
    let who = || {
        let meta = &pod.metadata;
        let (name, namespace, uid) = (meta.name.as_deref(), meta.namespace.as_deref(), meta.uid.as_deref());
        format!("(pod: \"{}_{}({})\", container: {})", name.unwrap_or(""), namespace.unwrap_or(""), uid.unwrap_or(""), container.name)
    };
    match own.and_then(|own| own.run_as_user).or_else(|| of_pod?.run_as_user) {
        Some(0) => Err(format!("container's runAsUser breaks non-root policy {}", who())),
        Some(_) => Ok(()),
        None if image.uid == Some(0) => Err(format!("container has runAsNonRoot and image will run as root {}", who())),
        None if image.uid.is_none() && !image.name.is_empty() => {
            Err(format!("container has runAsNonRoot and image has non-numeric user ({}), cannot verify user is non-root {}", image.name, who()))
        }
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(spec: serde_json::Value) -> Pod {
        serde_json::from_value(json!({"metadata": {"name": "p", "namespace": "n", "uid": "u"}, "spec": spec})).expect("a pod")
    }

    fn context(pod: &Pod, image: &ImageUser) -> proto::LinuxContainerSecurityContext {
        container_security(pod, &pod.spec.as_ref().expect("a spec").containers[0], image, "/seccomp")
    }

    #[test]
    fn the_containers_settings_win_over_the_pods_and_the_images() {
        let image = ImageUser { uid: Some(7), name: String::new() };
        let both = pod(json!({"securityContext": {"runAsUser": 1, "runAsGroup": 2, "fsGroup": 3, "supplementalGroups": [4]},
            "containers": [{"name": "c", "securityContext": {"runAsUser": 5}}]}));
        let got = context(&both, &image);
        assert_eq!((got.run_as_user.map(|v| v.value), got.run_as_group.map(|v| v.value)), (Some(5), Some(2)));
        assert_eq!(got.supplemental_groups, [3, 4]);
        assert_eq!(context(&pod(json!({"containers": [{"name": "c"}]})), &image).run_as_user.map(|v| v.value), Some(7));
    }

    #[test]
    fn a_privileged_container_sees_everything() {
        let got = context(&pod(json!({"containers": [{"name": "c", "securityContext": {"privileged": true}}]})), &ImageUser::default());
        assert!(got.privileged && got.masked_paths.is_empty());
        assert_eq!(got.seccomp.map(|profile| profile.profile_type), Some(ProfileType::Unconfined.into()));
    }

    #[test]
    fn non_root_is_verified_against_the_image() {
        let asks = pod(json!({"containers": [{"name": "c", "securityContext": {"runAsNonRoot": true}}]}));
        let container = &asks.spec.as_ref().expect("a spec").containers[0];
        let root = ImageUser { uid: Some(0), name: String::new() };
        let error = verify_non_root(&asks, container, &root).expect_err("root is refused");
        assert_eq!(error, "container has runAsNonRoot and image will run as root (pod: \"p_n(u)\", container: c)");
        assert!(verify_non_root(&asks, container, &ImageUser { uid: Some(9), name: String::new() }).is_ok());
    }

    #[test]
    fn host_namespaces_are_the_nodes() {
        let spec = pod(json!({"hostNetwork": true, "shareProcessNamespace": true, "containers": []})).spec.expect("a spec");
        let got = namespaces(&spec);
        assert_eq!((got.network(), got.pid(), got.ipc()), (NamespaceMode::Node, NamespaceMode::Pod, NamespaceMode::Pod));
    }
}
