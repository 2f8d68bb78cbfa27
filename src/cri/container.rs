//! A container of a pod as the config the runtime takes.

use std::collections::HashMap;

use k8s_openapi::api::core::v1::{Container, Pod};

use crate::{
    expand::expand,
    names::{self, PodIdentity},
    proto,
    resources::{self, MachineSize},
    security::{self, ImageUser},
};

/// What beside the spec makes a container.
#[derive(Clone, Debug)]
pub struct ContainerInputs<'a> {
    /// How often the container was started before.
    pub attempt: u32,
    /// The image's reference as the runtime resolved it.
    pub image_ref: &'a str,
    pub image_user: &'a ImageUser,
    /// In order; later ones win.
    pub env: &'a [(String, String)],
    pub mounts: Vec<proto::Mount>,
    pub devices: Vec<proto::Device>,
    pub machine: MachineSize,
    pub seccomp_root: &'a str,
}

/// The config of one container of a pod.
pub fn container_config(pod: &Pod, container: &Container, inputs: ContainerInputs<'_>) -> proto::ContainerConfig {
    let values: HashMap<String, String> = inputs.env.iter().cloned().collect();
    let expanded = |words: &Option<Vec<String>>| words.iter().flatten().map(|word| expand(word, &values)).collect();
    let image = container.image.clone().unwrap_or_default();
    proto::ContainerConfig {
        metadata: Some(proto::ContainerMetadata { name: container.name.clone(), attempt: inputs.attempt }),
        image: Some(proto::ImageSpec { image: inputs.image_ref.to_owned(), user_specified_image: image, ..Default::default() }),
        command: expanded(&container.command),
        args: expanded(&container.args),
        working_dir: container.working_dir.clone().unwrap_or_default(),
        envs: inputs.env.iter().map(|(key, value)| proto::KeyValue { key: key.clone(), value: value.clone() }).collect(),
        labels: labels(pod, container),
        annotations: annotations(pod, container, inputs.attempt),
        log_path: names::container_log_path(&container.name, inputs.attempt),
        stdin: container.stdin == Some(true),
        stdin_once: container.stdin_once == Some(true),
        tty: container.tty == Some(true),
        mounts: inputs.mounts,
        devices: inputs.devices,
        linux: Some(proto::LinuxContainerConfig {
            resources: Some(resources::container_resources(pod, container, inputs.machine)),
            security_context: Some(security::container_security(pod, container, inputs.image_user, inputs.seccomp_root)),
        }),
        ..Default::default()
    }
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

/// What a kubelet needs to know about a container when its pod's spec is gone.
fn annotations(pod: &Pod, container: &Container, attempt: u32) -> HashMap<String, String> {
    let json = |value: serde_json::Result<String>| value.expect("an API type always encodes");
    let mut all = HashMap::from([
        (names::CONTAINER_HASH.to_owned(), names::container_hash(container)),
        (names::RESTART_COUNT.to_owned(), attempt.to_string()),
        (names::TERMINATION_PATH.to_owned(), container.termination_message_path.clone().unwrap_or_default()),
        (names::TERMINATION_POLICY.to_owned(), container.termination_message_policy.clone().unwrap_or_default()),
    ]);
    if let Some(hook) = container.lifecycle.as_ref().and_then(|lifecycle| lifecycle.pre_stop.as_ref()) {
        all.insert(names::PRE_STOP.to_owned(), json(serde_json::to_string(hook)));
    }
    if let Some(ports) = &container.ports {
        all.insert(names::CONTAINER_PORTS.to_owned(), json(serde_json::to_string(ports)));
    }
    if let Some(grace) = pod.metadata.deletion_grace_period_seconds {
        all.insert(names::POD_DELETION_GRACE.to_owned(), grace.to_string());
    }
    if let Some(grace) = pod.spec.as_ref().and_then(|spec| spec.termination_grace_period_seconds) {
        all.insert(names::POD_TERMINATION_GRACE.to_owned(), grace.to_string());
    }
    all
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn arguments_see_the_environment() {
        let pod: Pod = serde_json::from_value(json!({"metadata": {"name": "p", "namespace": "n", "uid": "u"},
            "spec": {"terminationGracePeriodSeconds": 5, "containers": [{"name": "c", "image": "i", "command": ["echo"], "args": ["$(A)", "$(B)"]}]}}))
        .expect("a pod");
        let env = [("A".to_owned(), "1".to_owned())];
        let inputs = ContainerInputs {
            attempt: 3,
            image_ref: "sha256:1",
            image_user: &ImageUser::default(),
            env: &env,
            mounts: Vec::new(),
            devices: Vec::new(),
            machine: MachineSize::default(),
            seccomp_root: "",
        };
        let config = container_config(&pod, &pod.spec.as_ref().expect("a spec").containers[0], inputs);
        assert_eq!(config.args, ["1", "$(B)"]);
        assert_eq!(config.annotations[names::RESTART_COUNT], "3");
        assert_eq!(config.annotations[names::POD_TERMINATION_GRACE], "5");
        assert_eq!(config.log_path, "c/3.log");
        assert_eq!(config.labels[names::CONTAINER_NAME], "c");
    }
}
