//! A container of a pod as the config the runtime takes.

use std::collections::HashMap;

use k8s_openapi::api::core::v1::{Container, Pod};

use crate::{
    expand::{self, TooLarge, expand},
    names::{self, PodIdentity},
    proto,
    resources::{self, CpuTime, MachineSize},
    security::{self, IdRange, ImageUser},
    stop_signal,
};

/// What beside the spec makes a container.
#[derive(Clone, Debug)]
pub struct ContainerInputs<'a> {
    /// How often the container was started before.
    pub attempt: u32,
    /// The container whose processes it sees, by the runtime's id: an ephemeral container may have one.
    pub target: Option<&'a str>,
    /// The image's reference as the runtime resolved it.
    pub image_ref: &'a str,
    pub image_user: &'a ImageUser,
    /// In order; later ones win.
    pub env: &'a [(String, String)],
    pub mounts: Vec<proto::Mount>,
    pub devices: Vec<proto::Device>,
    pub machine: MachineSize,
    /// How limits of CPU time bind.
    pub cpu_time: CpuTime,
    /// The sizes of the machine's huge pages, such as `2MB`.
    pub hugepages: &'a [String],
    /// What of the machine is hidden beside what always is.
    pub masked_paths: &'a [String],
    pub seccomp_root: &'a str,
    pub seccomp_default: bool,
    /// Whether it is ended by the signal that it asks for.
    pub stop_signals: bool,
    /// Ids of its pod's own, where that has some.
    pub users: Option<IdRange>,
}

/// The config of one container of a pod.
///
/// # Errors
/// For what the container asks for and this node cannot give.
pub fn container_config(pod: &Pod, container: &Container, inputs: ContainerInputs<'_>) -> Result<proto::ContainerConfig, String> {
    let (command, args) = started_with(container, inputs.env).map_err(|error| error.to_string())?;
    let image = container.image.clone().unwrap_or_default();
    let users = inputs.users.filter(|_| pod.spec.as_ref().is_some_and(|spec| spec.host_users == Some(false)));
    let node = security::NodePaths { seccomp_root: inputs.seccomp_root, seccomp_default: inputs.seccomp_default, masked: inputs.masked_paths };
    Ok(proto::ContainerConfig {
        metadata: Some(proto::ContainerMetadata { name: container.name.clone(), attempt: inputs.attempt }),
        image: Some(proto::ImageSpec { image: inputs.image_ref.to_owned(), user_specified_image: image, ..Default::default() }),
        command,
        args,
        working_dir: container.working_dir.clone().unwrap_or_default(),
        envs: inputs.env.iter().map(|(key, value)| proto::KeyValue { key: key.clone(), value: value.clone() }).collect(),
        labels: labels(pod, container),
        annotations: annotations(pod, container, inputs.attempt).into_iter().chain(mounted_images(&inputs.mounts)).collect(),
        log_path: names::container_log_path(&container.name, inputs.attempt),
        stdin: container.stdin == Some(true),
        stdin_once: container.stdin_once == Some(true),
        tty: container.tty == Some(true),
        mounts: mapped(inputs.mounts, users),
        devices: inputs.devices,
        linux: Some(proto::LinuxContainerConfig {
            resources: Some(resources::container_resources(pod, container, inputs.machine, inputs.cpu_time, inputs.hugepages)),
            security_context: Some(beside(inputs.target, security::container_security(pod, container, inputs.image_user, &node, users)?)),
        }),
        stop_signal: if inputs.stop_signals { signal(container) } else { 0 },
        ..Default::default()
    })
}

/// Files of volumes belong to the pod's own users as they would to the node's.
fn mapped(mut mounts: Vec<proto::Mount>, users: Option<IdRange>) -> Vec<proto::Mount> {
    if let Some(users) = users {
        for mount in &mut mounts {
            (mount.uid_mappings, mount.gid_mappings) = (users.mapping(), users.mapping());
        }
    }
    mounts
}

/// The number of the signal by which a container asks to be ended.
fn signal(container: &Container) -> i32 {
    let asked = container.lifecycle.as_ref().and_then(|lifecycle| lifecycle.stop_signal.as_deref());
    stop_signal::number(asked.unwrap_or_default())
}

/// Puts a container that would have processes of its own beside another one's.
fn beside(target: Option<&str>, mut security: proto::LinuxContainerSecurityContext) -> proto::LinuxContainerSecurityContext {
    if let Some((target, namespaces)) = target.zip(security.namespace_options.as_mut())
        && namespaces.pid() == proto::NamespaceMode::Container
    {
        namespaces.set_pid(proto::NamespaceMode::Target);
        namespaces.target_id = target.to_owned();
    }
    security
}

/// The container's command and arguments with their references replaced: what, with the environment, its program is started with.
fn started_with(container: &Container, env: &[(String, String)]) -> Result<(Vec<String>, Vec<String>), TooLarge> {
    let values: HashMap<&str, &str> = env.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let mut room = expand::MOST;
    env.iter().try_for_each(|(name, value)| expand::take(&mut room, name.len() + 1 + value.len()))?;
    let mut expanded = |words: &Option<Vec<String>>| -> Result<Vec<String>, TooLarge> {
        let word = |word: &String| {
            let word = expand(word, |name| values.get(name).copied(), room)?;
            expand::take(&mut room, word.len())?;
            Ok(word)
        };
        words.iter().flatten().map(word).collect()
    };
    Ok((expanded(&container.command)?, expanded(&container.args)?))
}

fn labels(pod: &Pod, container: &Container) -> HashMap<String, String> {
    let id = PodIdentity::of(pod);
    HashMap::from([
        (names::POD_NAME.to_owned(), id.name),
        (names::POD_NAMESPACE.to_owned(), id.namespace),
        (names::POD_UID.to_owned(), id.uid),
        (names::CONTAINER_NAME.to_owned(), container.name.clone()),
    ])
}

/// What a kubelet needs to know about a container when its pod's spec is gone. What is long is not noted: the runtime repeats all of it
/// in each listing.
fn annotations(pod: &Pod, container: &Container, attempt: u32) -> HashMap<String, String> {
    let json = |value: serde_json::Result<String>| value.expect("an API type always encodes");
    let mut all = HashMap::from([
        (names::CONTAINER_HASH.to_owned(), names::container_hash(container)),
        (names::RESTART_COUNT.to_owned(), attempt.to_string()),
        (names::TERMINATION_POLICY.to_owned(), container.termination_message_policy.clone().unwrap_or_default()),
    ]);
    let hook = container.lifecycle.as_ref().and_then(|lifecycle| lifecycle.pre_stop.as_ref());
    let optional = [
        (names::TERMINATION_PATH, Some(container.termination_message_path.clone().unwrap_or_default())),
        (names::PRE_STOP, hook.map(|hook| json(serde_json::to_string(hook)))),
        (names::CONTAINER_PORTS, container.ports.as_ref().map(|ports| json(serde_json::to_string(ports)))),
        (names::POD_DELETION_GRACE, pod.metadata.deletion_grace_period_seconds.map(|grace| grace.to_string())),
        (names::POD_TERMINATION_GRACE, pod.spec.as_ref().and_then(|spec| spec.termination_grace_period_seconds).map(|grace| grace.to_string())),
    ];
    let short = optional.into_iter().filter_map(|(name, text)| Some((name.to_owned(), text?)));
    all.extend(short.filter(|(_, text)| text.len() <= names::LONGEST_CONTAINER_NOTE));
    all
}

/// Which images stay for as long as the container does, beside its own.
fn mounted_images(mounts: &[proto::Mount]) -> Option<(String, String)> {
    let ids: Vec<&str> = mounts.iter().filter_map(|mount| Some(mount.image.as_ref()?.image.as_str())).collect();
    let noted = serde_json::json!(ids).to_string();
    (!ids.is_empty() && noted.len() <= names::LONGEST_CONTAINER_NOTE).then(|| (names::IMAGE_VOLUMES.to_owned(), noted))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_long_hook_is_not_noted_at_the_runtime() {
        let noted = |length: usize| {
            let hook = json!({"preStop": {"exec": {"command": ["x".repeat(length)]}}});
            let container: Container = serde_json::from_value(json!({"name": "c", "lifecycle": hook})).expect("a container");
            annotations(&Pod::default(), &container, 0).contains_key(names::PRE_STOP)
        };
        assert_eq!((noted(900), noted(1_200_000)), (true, false));
    }

    #[test]
    fn arguments_that_no_program_takes_are_not_made() {
        let env = [("A".to_owned(), "x".repeat(100_000))];
        let with = |args: usize| {
            let container = Container { args: Some(vec!["$(A)".to_owned(); args]), ..Container::default() };
            started_with(&container, &env).map(|(_, args)| args.len())
        };
        assert_eq!((with(19), with(20), with(1_000_000)), (Ok(19), Err(TooLarge), Err(TooLarge)));
    }

    #[test]
    fn arguments_see_the_environment() {
        let pod: Pod = serde_json::from_value(json!({"metadata": {"name": "p", "namespace": "n", "uid": "u"},
            "spec": {"terminationGracePeriodSeconds": 5, "containers": [{"name": "c", "image": "i", "command": ["echo"], "args": ["$(A)", "$(B)"]}]}}))
        .expect("a pod");
        let env = [("A".to_owned(), "1".to_owned())];
        let inputs = ContainerInputs {
            attempt: 3,
            target: Some("other"),
            image_ref: "sha256:1",
            image_user: &ImageUser::Uid(0),
            env: &env,
            mounts: Vec::new(),
            devices: Vec::new(),
            machine: MachineSize::default(),
            cpu_time: CpuTime::default(),
            hugepages: &[],
            masked_paths: &[],
            seccomp_root: "",
            seccomp_default: false,
            stop_signals: true,
            users: Some(IdRange { first: 65_536, length: 65_536 }),
        };
        let config = container_config(&pod, &pod.spec.as_ref().expect("a spec").containers[0], inputs).expect("is translated");
        assert_eq!(config.args, ["1", "$(B)"]);
        assert_eq!(config.annotations[names::RESTART_COUNT], "3");
        assert_eq!(config.annotations[names::POD_TERMINATION_GRACE], "5");
        assert_eq!(config.log_path, "c/3.log");
        assert_eq!(config.labels[names::CONTAINER_NAME], "c");
        let namespaces = config.linux.as_ref().and_then(|linux| linux.security_context.as_ref()?.namespace_options.as_ref()).expect("namespaces");
        assert_eq!((namespaces.pid(), namespaces.target_id.as_str()), (proto::NamespaceMode::Target, "other"));
        assert_eq!(config.stop_signal, 0);
        assert_eq!(namespaces.userns_options.as_ref().map(|users| users.mode()), Some(proto::NamespaceMode::Node), "it has not asked for its own");
    }

    #[test]
    fn images_that_are_mounted_are_noted() {
        let image = |id: &str| proto::ImageSpec { image: id.into(), ..proto::ImageSpec::default() };
        let mounts = [proto::Mount::default(), proto::Mount { image: Some(image("sha256:1")), ..proto::Mount::default() }];
        assert_eq!(mounted_images(&mounts), Some((names::IMAGE_VOLUMES.to_owned(), "[\"sha256:1\"]".to_owned())));
        assert_eq!(mounted_images(&mounts[..1]), None);
    }

    #[test]
    fn files_of_volumes_are_mapped_with_the_users() {
        let mounts = vec![proto::Mount::default()];
        assert_eq!(mapped(mounts.clone(), None), mounts);
        let own = IdRange { first: 65_536, length: 65_536 };
        let mount = &mapped(mounts, Some(own))[0];
        assert_eq!((&mount.uid_mappings, &mount.gid_mappings), (&own.mapping(), &own.mapping()));
    }

    #[test]
    fn a_container_is_ended_by_the_signal_that_it_asks_for() {
        let asked = |lifecycle: serde_json::Value| {
            let container: Container = serde_json::from_value(json!({"name": "c", "lifecycle": lifecycle})).expect("a container");
            signal(&container)
        };
        assert_eq!((asked(json!({"stopSignal": "SIGUSR1"})), asked(json!({})), asked(json!(null))), (29, 0, 0));
    }
}
