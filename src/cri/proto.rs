//! The messages of `runtime.v1`: those of the crate `k8s-cri`, and in the place of some of them newer ones that have fields which it does not know
//! yet, and calls that it lacks.
//! <https://github.com/kubernetes/cri-api/blob/master/pkg/apis/runtime/v1/api.proto>

use std::collections::HashMap;

use prost::Message;

pub use k8s_cri::v1::*;

/// What is mounted into a container: a place of the host, or an image.
#[derive(Clone, PartialEq, Message)]
pub struct Mount {
    #[prost(string, tag = "1")]
    pub container_path: String,
    /// Empty where an image is mounted.
    #[prost(string, tag = "2")]
    pub host_path: String,
    #[prost(bool, tag = "3")]
    pub readonly: bool,
    #[prost(bool, tag = "4")]
    pub selinux_relabel: bool,
    #[prost(enumeration = "MountPropagation", tag = "5")]
    pub propagation: i32,
    #[prost(message, repeated, tag = "6")]
    pub uid_mappings: Vec<IdMapping>,
    #[prost(message, repeated, tag = "7")]
    pub gid_mappings: Vec<IdMapping>,
    /// With all that is mounted below it.
    #[prost(bool, tag = "8")]
    pub recursive_read_only: bool,
    #[prost(message, optional, tag = "9")]
    pub image: Option<ImageSpec>,
    /// The part of the image that is mounted; empty for all of it.
    #[prost(string, tag = "10")]
    pub image_sub_path: String,
}

/// A container as it is to be made.
#[derive(Clone, PartialEq, Message)]
pub struct ContainerConfig {
    #[prost(message, optional, tag = "1")]
    pub metadata: Option<ContainerMetadata>,
    #[prost(message, optional, tag = "2")]
    pub image: Option<ImageSpec>,
    #[prost(string, repeated, tag = "3")]
    pub command: Vec<String>,
    #[prost(string, repeated, tag = "4")]
    pub args: Vec<String>,
    #[prost(string, tag = "5")]
    pub working_dir: String,
    #[prost(message, repeated, tag = "6")]
    pub envs: Vec<KeyValue>,
    #[prost(message, repeated, tag = "7")]
    pub mounts: Vec<Mount>,
    #[prost(message, repeated, tag = "8")]
    pub devices: Vec<Device>,
    #[prost(map = "string, string", tag = "9")]
    pub labels: HashMap<String, String>,
    #[prost(map = "string, string", tag = "10")]
    pub annotations: HashMap<String, String>,
    #[prost(string, tag = "11")]
    pub log_path: String,
    #[prost(bool, tag = "12")]
    pub stdin: bool,
    #[prost(bool, tag = "13")]
    pub stdin_once: bool,
    #[prost(bool, tag = "14")]
    pub tty: bool,
    #[prost(message, optional, tag = "15")]
    pub linux: Option<LinuxContainerConfig>,
    #[prost(message, optional, tag = "16")]
    pub windows: Option<WindowsContainerConfig>,
    #[prost(message, repeated, tag = "17")]
    pub cdi_devices: Vec<CdiDevice>,
    /// What ends it, as [`crate::stop_signal`] numbers signals; 0 for what its image says, or SIGTERM.
    #[prost(int32, tag = "18")]
    pub stop_signal: i32,
}

#[derive(Clone, PartialEq, Message)]
pub struct CreateContainerRequest {
    #[prost(string, tag = "1")]
    pub pod_sandbox_id: String,
    #[prost(message, optional, tag = "2")]
    pub config: Option<ContainerConfig>,
    #[prost(message, optional, tag = "3")]
    pub sandbox_config: Option<PodSandboxConfig>,
}

/// A container as the runtime has it. Times are nanoseconds since 1970.
#[derive(Clone, PartialEq, Message)]
pub struct ContainerStatus {
    #[prost(string, tag = "1")]
    pub id: String,
    #[prost(message, optional, tag = "2")]
    pub metadata: Option<ContainerMetadata>,
    #[prost(enumeration = "ContainerState", tag = "3")]
    pub state: i32,
    #[prost(int64, tag = "4")]
    pub created_at: i64,
    #[prost(int64, tag = "5")]
    pub started_at: i64,
    #[prost(int64, tag = "6")]
    pub finished_at: i64,
    #[prost(int32, tag = "7")]
    pub exit_code: i32,
    #[prost(message, optional, tag = "8")]
    pub image: Option<ImageSpec>,
    #[prost(string, tag = "9")]
    pub image_ref: String,
    #[prost(string, tag = "10")]
    pub reason: String,
    #[prost(string, tag = "11")]
    pub message: String,
    #[prost(map = "string, string", tag = "12")]
    pub labels: HashMap<String, String>,
    #[prost(map = "string, string", tag = "13")]
    pub annotations: HashMap<String, String>,
    #[prost(message, repeated, tag = "14")]
    pub mounts: Vec<Mount>,
    #[prost(string, tag = "15")]
    pub log_path: String,
    #[prost(message, optional, tag = "16")]
    pub resources: Option<ContainerResources>,
    #[prost(string, tag = "17")]
    pub image_id: String,
    #[prost(message, optional, tag = "18")]
    pub user: Option<ContainerUser>,
    /// What ends it, whoever said so, as [`crate::stop_signal`] numbers signals; 0 where the runtime does not tell.
    #[prost(int32, tag = "19")]
    pub stop_signal: i32,
}

#[derive(Clone, PartialEq, Message)]
pub struct ContainerStatusResponse {
    #[prost(message, optional, tag = "1")]
    pub status: Option<ContainerStatus>,
    #[prost(map = "string, string", tag = "2")]
    pub info: HashMap<String, String>,
}

/// A sandbox whose own cgroup gets another size.
#[derive(Clone, PartialEq, Message)]
pub struct UpdatePodSandboxResourcesRequest {
    #[prost(string, tag = "1")]
    pub pod_sandbox_id: String,
    /// The part that its runtime class takes.
    #[prost(message, optional, tag = "2")]
    pub overhead: Option<LinuxContainerResources>,
    /// The rest, of its containers together.
    #[prost(message, optional, tag = "3")]
    pub resources: Option<LinuxContainerResources>,
}

#[derive(Clone, PartialEq, Message)]
pub struct UpdatePodSandboxResourcesResponse {}

#[cfg(test)]
mod tests {
    use super::*;

    /// Encodes one message and decodes it as another.
    fn again<Q: Message, A: Message + Default>(message: &Q) -> A {
        A::decode(message.encode_to_vec().as_slice()).expect("decodes")
    }

    #[test]
    fn a_container_is_told_to_runtimes_that_know_no_signals_all_the_same() {
        let pairs = |name: &str| HashMap::from([(name.to_owned(), "1".to_owned())]);
        let config = ContainerConfig {
            metadata: Some(ContainerMetadata { name: "c".into(), attempt: 2 }),
            image: Some(ImageSpec { image: "i".into(), ..ImageSpec::default() }),
            command: vec!["a".into()],
            args: vec!["b".into()],
            working_dir: "/w".into(),
            envs: vec![KeyValue { key: "K".into(), value: "v".into() }],
            mounts: vec![Mount { container_path: "/m".into(), ..Mount::default() }],
            devices: vec![Device { container_path: "/d".into(), ..Device::default() }],
            labels: pairs("l"),
            annotations: pairs("a"),
            log_path: "c/2.log".into(),
            stdin: true,
            stdin_once: true,
            tty: true,
            linux: Some(LinuxContainerConfig::default()),
            windows: Some(WindowsContainerConfig::default()),
            cdi_devices: vec![CdiDevice { name: "x.y/z=0".into() }],
            stop_signal: 29,
        };
        let request = CreateContainerRequest { pod_sandbox_id: "s".into(), config: Some(config.clone()), sandbox_config: None };
        let old: k8s_cri::v1::CreateContainerRequest = again(&request);
        assert_eq!(again::<_, CreateContainerRequest>(&old).config, Some(ContainerConfig { stop_signal: 0, ..config }), "the rest is as it was");
        assert_eq!(again::<_, CreateContainerRequest>(&request), request);
    }

    #[test]
    fn a_status_has_what_older_runtimes_tell() {
        let old = k8s_cri::v1::ContainerStatus {
            id: "1".into(),
            state: ContainerState::ContainerExited.into(),
            created_at: 1,
            started_at: 2,
            finished_at: 3,
            exit_code: 4,
            image_ref: "r".into(),
            reason: "Error".into(),
            message: "m".into(),
            log_path: "l".into(),
            image_id: "d".into(),
            user: Some(ContainerUser::default()),
            ..k8s_cri::v1::ContainerStatus::default()
        };
        let new: ContainerStatus = again(&old);
        assert_eq!((new.state(), new.exit_code, new.stop_signal), (ContainerState::ContainerExited, 4, 0));
        assert_eq!(again::<_, k8s_cri::v1::ContainerStatus>(&new), old);
    }
}
