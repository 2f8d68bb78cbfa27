//! Security contexts of pods and containers as the runtime takes them. What cannot be translated is an error, so that
//! nothing runs with less isolation than its spec asks for.

pub mod capabilities;
pub mod profiles;
pub mod user;

use k8s_openapi::api::core::v1::{Container, Pod, PodSecurityContext, PodSpec, SecurityContext};

pub use self::user::{ImageUser, verify_non_root};
use crate::proto::{self, NamespaceMode};

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

fn int64(value: Option<i64>) -> Option<proto::Int64Value> {
    value.map(|value| proto::Int64Value { value })
}

fn owned(paths: &[&str]) -> Vec<String> {
    paths.iter().map(|path| (*path).to_owned()).collect()
}

/// Ids of the node that are a pod's own: users and groups from 0 on have them in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IdRange {
    pub first: u32,
    pub length: u32,
}

impl IdRange {
    /// As the runtime takes it, for users and for groups.
    pub fn mapping(self) -> Vec<proto::IdMapping> {
        vec![proto::IdMapping { host_id: self.first, container_id: 0, length: self.length }]
    }
}

/// Why a runtime gives a pod no users of its own; `handler` is that of its class, empty for the usual one.
pub fn no_user_namespaces(handler: &str) -> String {
    if handler.is_empty() {
        return "can't set `spec.hostUsers: false`, runtime does not support user namespaces".to_owned();
    }
    format!("can't set `spec.hostUsers: false`, RuntimeClass handler {handler:?} does not support user namespaces")
}

/// Whose users a pod's are. A pod that asks for its own has no others.
fn users(spec: &PodSpec, own: Option<IdRange>) -> Result<proto::UserNamespace, String> {
    if spec.host_users != Some(false) {
        return Ok(proto::UserNamespace { mode: NamespaceMode::Node.into(), ..Default::default() });
    }
    let own = own.ok_or_else(|| no_user_namespaces(""))?.mapping();
    Ok(proto::UserNamespace { mode: NamespaceMode::Pod.into(), uids: own.clone(), gids: own })
}

/// Which namespaces a pod's processes share with the node or with each other; `own` are its own ids where it has some.
///
/// # Errors
/// For a pod that asks for users of its own and has no ids for them.
pub fn namespaces(spec: &PodSpec, own: Option<IdRange>) -> Result<proto::NamespaceOption, String> {
    let host = |wanted: Option<bool>, otherwise| if wanted == Some(true) { NamespaceMode::Node } else { otherwise };
    let pid = if spec.share_process_namespace == Some(true) { NamespaceMode::Pod } else { NamespaceMode::Container };
    Ok(proto::NamespaceOption {
        network: host(spec.host_network, NamespaceMode::Pod).into(),
        pid: host(spec.host_pid, pid).into(),
        ipc: host(spec.host_ipc, NamespaceMode::Pod).into(),
        userns_options: Some(users(spec, own)?),
        ..Default::default()
    })
}

fn supplemental_groups(pod: Option<&PodSecurityContext>) -> Vec<i64> {
    let Some(pod) = pod else { return Vec::new() };
    pod.fs_group.iter().chain(pod.supplemental_groups.iter().flatten()).copied().collect()
}

fn supplemental_groups_policy(pod: Option<&PodSecurityContext>) -> Result<proto::SupplementalGroupsPolicy, String> {
    match pod.and_then(|pod| pod.supplemental_groups_policy.as_deref()) {
        None | Some("Merge") => Ok(proto::SupplementalGroupsPolicy::Merge),
        Some("Strict") => Ok(proto::SupplementalGroupsPolicy::Strict),
        Some(policy) => Err(format!("unsupported supplementalGroupsPolicy: {policy}")),
    }
}

fn any_privileged(spec: &PodSpec) -> bool {
    let all = spec.init_containers.iter().flatten().chain(&spec.containers);
    all.filter_map(|container| container.security_context.as_ref()).any(|context| context.privileged == Some(true))
}

/// The sandbox's context.
///
/// # Errors
/// For what the pod asks for and this node cannot give.
pub fn sandbox_security(pod: &Pod, own: Option<IdRange>) -> Result<proto::LinuxSandboxSecurityContext, String> {
    let Some(spec) = &pod.spec else { return Ok(Default::default()) };
    let context = spec.security_context.as_ref();
    Ok(proto::LinuxSandboxSecurityContext {
        namespace_options: Some(namespaces(spec, own)?),
        run_as_user: int64(context.and_then(|context| context.run_as_user)),
        // Runtimes refuse a group without a user.
        run_as_group: int64(context.and_then(|context| context.run_as_group).filter(|_| context.is_some_and(|c| c.run_as_user.is_some()))),
        supplemental_groups: supplemental_groups(context),
        supplemental_groups_policy: supplemental_groups_policy(context)?.into(),
        privileged: any_privileged(spec),
        // Its only process is the pause image's: the runtime's profile always fits it.
        seccomp: Some(profiles::runtime_default()),
        selinux_options: context.and_then(|context| context.se_linux_options.as_ref()).map(selinux),
        ..Default::default()
    })
}

fn selinux(options: &k8s_openapi::api::core::v1::SELinuxOptions) -> proto::SeLinuxOption {
    let text = |part: &Option<String>| part.clone().unwrap_or_default();
    proto::SeLinuxOption { user: text(&options.user), role: text(&options.role), r#type: text(&options.type_), level: text(&options.level) }
}

/// Whether a container sees `/proc` whole. Only one in a user namespace of its own may.
fn proc_is_unmasked(own: &SecurityContext, has_own_users: bool) -> Result<bool, String> {
    match own.proc_mount.as_deref() {
        None | Some("Default") => Ok(own.privileged == Some(true)),
        Some("Unmasked") if has_own_users => Ok(true),
        Some("Unmasked") => Err("procMount: `hostUsers` must be false to use `Unmasked`".to_owned()),
        Some(kind) => Err(format!("unknown procMount type: {kind:?}")),
    }
}

/// Paths of the node that matter to containers.
#[derive(Clone, Copy, Debug, Default)]
pub struct NodePaths<'a> {
    /// Holds the node's own seccomp profiles.
    pub seccomp_root: &'a str,
    /// Whether containers that ask for none get the runtime's own profile (the kubelet's `seccompDefault`).
    pub seccomp_default: bool,
    /// What is hidden beside what always is.
    pub masked: &'a [String],
}

/// A container's context: its own settings win over the pod's, those over the image's.
///
/// # Errors
/// For what the container asks for and this node cannot give.
pub fn container_security(
    pod: &Pod,
    container: &Container,
    image: &ImageUser,
    node: &NodePaths<'_>,
    ids: Option<IdRange>,
) -> Result<proto::LinuxContainerSecurityContext, String> {
    let Some(spec) = &pod.spec else { return Ok(Default::default()) };
    let of_pod = spec.security_context.as_ref();
    let empty = SecurityContext::default();
    let own = container.security_context.as_ref().unwrap_or(&empty);
    let privileged = own.privileged == Some(true);
    let (run_as_user, run_as_username) = match (user::asked_user(pod, container), image) {
        (Some(uid), _) => (Some(uid), String::new()),
        (None, ImageUser::Uid(uid)) => (Some(*uid), String::new()),
        (None, ImageUser::Name(name)) => (None, name.clone()),
    };
    let profile = own.seccomp_profile.as_ref().or_else(|| of_pod?.seccomp_profile.as_ref());
    let unmasked = proc_is_unmasked(own, spec.host_users == Some(false))?;
    Ok(proto::LinuxContainerSecurityContext {
        capabilities: own.capabilities.as_ref().map(capabilities::capabilities).transpose()?,
        privileged,
        namespace_options: Some(namespaces(spec, ids)?),
        selinux_options: own.se_linux_options.as_ref().or_else(|| of_pod?.se_linux_options.as_ref()).map(selinux),
        run_as_user: int64(run_as_user),
        run_as_username,
        run_as_group: int64(own.run_as_group.or_else(|| of_pod?.run_as_group)),
        readonly_rootfs: own.read_only_root_filesystem == Some(true),
        supplemental_groups: supplemental_groups(of_pod),
        supplemental_groups_policy: supplemental_groups_policy(of_pod)?.into(),
        no_new_privs: own.allow_privilege_escalation == Some(false),
        masked_paths: if unmasked { Vec::new() } else { [owned(MASKED_PATHS), node.masked.to_vec()].concat() },
        readonly_paths: if unmasked { Vec::new() } else { owned(READONLY_PATHS) },
        seccomp: Some(match profile {
            None if node.seccomp_default && !privileged => profiles::runtime_default(),
            profile => profiles::seccomp(profile.filter(|_| !privileged), node.seccomp_root)?,
        }),
        apparmor: profiles::apparmor(pod, container)?,
        ..Default::default()
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(spec: serde_json::Value) -> Pod {
        serde_json::from_value(json!({"metadata": {"name": "p", "namespace": "n", "uid": "u"}, "spec": spec})).expect("a pod")
    }

    const NOBODY: ImageUser = ImageUser::Uid(65534);

    fn translated(pod: &Pod, image: &ImageUser) -> Result<proto::LinuxContainerSecurityContext, String> {
        container_security(
            pod,
            &pod.spec.as_ref().expect("a spec").containers[0],
            image,
            &NodePaths { seccomp_root: "/seccomp", masked: &["/sys/hot".to_owned()], ..NodePaths::default() },
            None,
        )
    }

    fn context(pod: &Pod, image: &ImageUser) -> proto::LinuxContainerSecurityContext {
        translated(pod, image).expect("is translated")
    }

    fn refused(spec: serde_json::Value) -> String {
        translated(&pod(spec), &NOBODY).expect_err("is refused")
    }

    #[test]
    fn the_containers_settings_win_over_the_pods_and_the_images() {
        let image = ImageUser::Uid(7);
        let both = pod(json!({"securityContext": {"runAsUser": 1, "runAsGroup": 2, "fsGroup": 3, "supplementalGroups": [4]},
            "containers": [{"name": "c", "securityContext": {"runAsUser": 5}}]}));
        let got = context(&both, &image);
        assert_eq!((got.run_as_user.map(|v| v.value), got.run_as_group.map(|v| v.value)), (Some(5), Some(2)));
        assert_eq!(got.supplemental_groups, [3, 4]);
        assert_eq!(context(&pod(json!({"containers": [{"name": "c"}]})), &image).run_as_user.map(|v| v.value), Some(7));
    }

    #[test]
    fn a_privileged_container_sees_everything() {
        let got = context(&pod(json!({"containers": [{"name": "c", "securityContext": {"privileged": true}}]})), &NOBODY);
        assert!(got.privileged && got.masked_paths.is_empty());
        assert_eq!(got.seccomp.map(|profile| profile.profile_type), Some(proto::security_profile::ProfileType::Unconfined.into()));
    }

    #[test]
    fn a_node_may_give_its_runtimes_profile_to_who_asks_for_none() {
        let kind = |settings: serde_json::Value| {
            let pod = pod(json!({"containers": [{"name": "c", "securityContext": settings}]}));
            let node = NodePaths { seccomp_default: true, ..NodePaths::default() };
            let container = &pod.spec.as_ref().expect("a spec").containers[0];
            container_security(&pod, container, &NOBODY, &node, None).expect("is translated").seccomp.map(|profile| profile.profile_type)
        };
        let (usual, none) = (proto::security_profile::ProfileType::RuntimeDefault.into(), proto::security_profile::ProfileType::Unconfined.into());
        assert_eq!(kind(json!({})), Some(usual));
        assert_eq!(kind(json!({"seccompProfile": {"type": "Unconfined"}})), Some(none));
        assert_eq!(kind(json!({"privileged": true})), Some(none));
    }

    #[test]
    fn a_name_is_left_to_the_runtime_to_resolve() {
        let got = context(&pod(json!({"containers": [{"name": "c"}]})), &ImageUser::Name("www".into()));
        assert_eq!((got.run_as_user, got.run_as_username.as_str()), (None, "www"));
    }

    #[test]
    fn proc_is_never_unmasked_beside_the_hosts_users() {
        for host_users in [json!(null), json!(true)] {
            let spec = json!({"hostUsers": host_users, "containers": [{"name": "c", "securityContext": {"procMount": "Unmasked"}}]});
            assert_eq!(refused(spec), "procMount: `hostUsers` must be false to use `Unmasked`");
        }
        refused(json!({"containers": [{"name": "c", "securityContext": {"procMount": "unmasked"}}]}));
        let default = context(&pod(json!({"containers": [{"name": "c", "securityContext": {"procMount": "Default"}}]})), &NOBODY);
        assert!(
            default.masked_paths.iter().any(|path| path == "/proc/kcore")
                && default.masked_paths.iter().any(|path| path == "/sys/hot")
                && default.readonly_paths.iter().any(|path| path == "/proc/sys")
        );
    }

    #[test]
    fn users_of_their_own_are_refused_for_sandboxes_and_containers() {
        let spec = json!({"hostUsers": false, "containers": [{"name": "c"}]});
        let why = "can't set `spec.hostUsers: false`, runtime does not support user namespaces";
        assert_eq!(refused(spec.clone()), why);
        assert_eq!(sandbox_security(&pod(spec), None), Err(why.into()));
        let of_class = "can't set `spec.hostUsers: false`, RuntimeClass handler \"kata\" does not support user namespaces";
        assert_eq!((no_user_namespaces(""), no_user_namespaces("kata")), (why.into(), of_class.into()));
    }

    #[test]
    fn users_of_their_own_have_the_ids_that_are_given() {
        let ids = Some(IdRange { first: 65_536, length: 65_536 });
        let users = |namespaces: Option<proto::NamespaceOption>| namespaces.and_then(|namespaces| namespaces.userns_options).expect("users");
        let apart = pod(json!({"hostUsers": false, "containers": [{"name": "c", "securityContext": {"procMount": "Unmasked"}}]}));
        let own = users(sandbox_security(&apart, ids).expect("is translated").namespace_options);
        let mapping = vec![proto::IdMapping { host_id: 65_536, container_id: 0, length: 65_536 }];
        assert_eq!((own.mode(), &own.uids, &own.gids), (NamespaceMode::Pod, &mapping, &mapping));
        let container = &apart.spec.as_ref().expect("a spec").containers[0];
        let context = container_security(&apart, container, &NOBODY, &NodePaths::default(), ids).expect("is translated");
        assert!(context.masked_paths.is_empty() && context.readonly_paths.is_empty(), "it sees /proc whole");
        assert_eq!(users(context.namespace_options), own);
        let beside = sandbox_security(&pod(json!({"containers": [{"name": "c"}]})), ids).expect("is translated");
        assert_eq!(users(beside.namespace_options).mode(), NamespaceMode::Node, "who does not ask has the node's");
    }

    #[test]
    fn the_policy_for_groups_reaches_the_runtime() {
        let with = |policy: &str| pod(json!({"securityContext": {"supplementalGroupsPolicy": policy}, "containers": [{"name": "c"}]}));
        assert_eq!(context(&with("Strict"), &NOBODY).supplemental_groups_policy(), proto::SupplementalGroupsPolicy::Strict);
        assert_eq!(context(&with("Merge"), &NOBODY).supplemental_groups_policy(), proto::SupplementalGroupsPolicy::Merge);
        assert_eq!(translated(&with("strict"), &NOBODY), Err("unsupported supplementalGroupsPolicy: strict".into()));
    }

    #[test]
    fn the_apparmor_profile_reaches_the_runtime() {
        let own = json!({"appArmorProfile": {"type": "Localhost", "localhostProfile": "tight"}});
        let got = context(&pod(json!({"containers": [{"name": "c", "securityContext": own}]})), &NOBODY);
        assert_eq!(got.apparmor.map(|profile| profile.localhost_ref).as_deref(), Some("tight"));
    }

    #[test]
    fn host_namespaces_are_the_nodes() {
        let spec = pod(json!({"hostNetwork": true, "shareProcessNamespace": true, "containers": []})).spec.expect("a spec");
        let got = namespaces(&spec, None).expect("are translated");
        assert_eq!((got.network(), got.pid(), got.ipc()), (NamespaceMode::Node, NamespaceMode::Pod, NamespaceMode::Pod));
    }
}
