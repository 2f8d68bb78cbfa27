//! What a pod's volume is to a CSI driver: pure, from the pod's own source or a PersistentVolume.

use std::collections::BTreeMap;

use k8s_openapi::api::{
    core::v1::{CSIVolumeSource, PersistentVolume, PersistentVolumeClaim, Pod, SecretReference},
    storage::v1::CSIDriver,
};
use sha2::{Digest, Sha256};

use super::{
    client::Capabilities,
    proto::{AccessMode, AccessType, Empty, Mode, MountVolume, RpcType, VolumeCapability},
};
use crate::storage::{capacity, csi};

/// A secret that a driver gets the content of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretName {
    pub namespace: String,
    pub name: String,
}

impl SecretName {
    fn of(reference: &SecretReference) -> Self {
        SecretName { namespace: reference.namespace.clone().unwrap_or_default(), name: reference.name.clone().unwrap_or_default() }
    }
}

/// A claim's volume that has grown, and is to grow on this node too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Growth {
    pub claim: String,
    /// As the volume says it.
    pub size: String,
    pub bytes: i64,
}

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Volume {
    /// In the pod's spec.
    pub pod_volume: String,
    /// The PersistentVolume's name, or the one in the pod's spec.
    pub spec_name: String,
    pub driver: String,
    pub handle: String,
    pub fs_type: String,
    pub attributes: BTreeMap<String, String>,
    pub mount_options: Vec<String>,
    pub access_modes: Vec<String>,
    pub read_only: bool,
    /// Containers get the device, not what is on it.
    pub is_block: bool,
    /// It comes and goes with the pod, without a PersistentVolume.
    pub is_ephemeral: bool,
    pub stage_secret: Option<SecretName>,
    pub publish_secret: Option<SecretName>,
    pub expand_secret: Option<SecretName>,
    pub growth: Option<Growth>,
}

impl Volume {
    /// A volume of the pod itself. Its handle is new with each pod.
    pub fn of_pod(pod: &Pod, name: &str, source: &CSIVolumeSource) -> Self {
        let uid = pod.metadata.uid.as_deref().unwrap_or_default();
        let namespace = pod.metadata.namespace.clone().unwrap_or_default();
        let secret = source.node_publish_secret_ref.as_ref().map(|secret| SecretName { namespace, name: secret.name.clone() });
        Volume {
            pod_volume: name.to_owned(),
            spec_name: name.to_owned(),
            driver: source.driver.clone(),
            handle: format!("csi-{}", hex::encode(Sha256::digest(format!("{uid}{name}")))),
            fs_type: source.fs_type.clone().unwrap_or_default(),
            attributes: source.volume_attributes.clone().unwrap_or_default(),
            read_only: source.read_only == Some(true),
            is_ephemeral: true,
            publish_secret: secret,
            ..Volume::default()
        }
    }

    /// A PersistentVolume as a pod uses it; `None` where no driver has it.
    pub fn of_persistent(bound: &PersistentVolume, claim: &PersistentVolumeClaim, pod_volume: &str, read_only: bool, is_block: bool) -> Option<Self> {
        let (spec, source) = (bound.spec.as_ref()?, csi::source(bound)?);
        let secret = |reference: &Option<SecretReference>| reference.as_ref().map(SecretName::of);
        Some(Volume {
            pod_volume: pod_volume.to_owned(),
            spec_name: bound.metadata.name.clone().unwrap_or_default(),
            driver: source.driver.clone(),
            handle: source.volume_handle.clone(),
            fs_type: source.fs_type.clone().unwrap_or_default(),
            attributes: source.volume_attributes.clone().unwrap_or_default(),
            mount_options: spec.mount_options.clone().unwrap_or_default(),
            access_modes: spec.access_modes.clone().unwrap_or_default(),
            read_only,
            is_block,
            is_ephemeral: false,
            stage_secret: secret(&source.node_stage_secret_ref),
            publish_secret: secret(&source.node_publish_secret_ref),
            expand_secret: secret(&source.node_expand_secret_ref),
            growth: growth(bound, claim),
        })
    }

    /// In the status of nodes.
    pub fn unique_name(&self) -> String {
        csi::unique_name(&self.driver, &self.handle)
    }

    pub fn lifecycle(&self) -> &'static str {
        if self.is_ephemeral { "Ephemeral" } else { "Persistent" }
    }

    /// Whether a driver may be asked for a volume of this kind.
    ///
    /// # Errors
    /// Upstream's words for why not.
    pub fn check_lifecycle(&self, driver: Option<&CSIDriver>) -> Result<(), String> {
        let mode = self.lifecycle();
        let refused = |why: String| Err(format!("volume mode {mode:?} not supported by driver {} ({why})", self.driver));
        let Some(driver) = driver else {
            return if self.is_ephemeral { refused("no CSIDriver object".into()) } else { Ok(()) };
        };
        let modes = driver.spec.volume_lifecycle_modes.clone().unwrap_or_default();
        if modes.iter().any(|known| known == mode) {
            return Ok(());
        }
        let known = modes.iter().map(|mode| format!("{mode:?}")).collect::<Vec<_>>().join(" ");
        refused(format!("only supports [{known}]"))
    }

    /// Whether the files are given to the pod's group here, and not by the driver.
    pub fn is_given_to_group(&self, driver: Option<&CSIDriver>, able: &Capabilities) -> bool {
        let policy = driver.and_then(|driver| driver.spec.fs_group_policy.as_deref()).unwrap_or("ReadWriteOnceWithFSType");
        if self.read_only || self.is_block || policy == "None" || able.has(RpcType::VolumeMountGroup) {
            return false;
        }
        let for_one = || self.is_ephemeral || self.access_modes.iter().any(|mode| matches!(mode.as_str(), "ReadWriteOnce" | "ReadWriteOncePod"));
        policy == "File" || (!self.fs_type.is_empty() && for_one())
    }

    /// What the volume is to be: the first of its access modes, and files or a device.
    pub fn capability(&self, able: &Capabilities, group: Option<i64>) -> VolumeCapability {
        let mode = self.access_modes.first().map_or("ReadWriteOnce", String::as_str);
        let multi = able.has(RpcType::SingleNodeMultiWriter);
        let mode = match mode {
            "ReadWriteOnce" if multi => Mode::SingleNodeMultiWriter,
            "ReadWriteOncePod" if multi => Mode::SingleNodeSingleWriter,
            "ReadWriteOnce" | "ReadWriteOncePod" => Mode::SingleNodeWriter,
            "ReadOnlyMany" => Mode::MultiNodeReaderOnly,
            "ReadWriteMany" => Mode::MultiNodeMultiWriter,
            _ => Mode::Unknown,
        };
        let group = group.filter(|_| able.has(RpcType::VolumeMountGroup)).map(|group| group.to_string()).unwrap_or_default();
        let mount = || MountVolume { fs_type: self.fs_type.clone(), mount_flags: self.mount_options.clone(), volume_mount_group: group };
        let access_type = if self.is_block { AccessType::Block(Empty {}) } else { AccessType::Mount(mount()) };
        VolumeCapability { access_type: Some(access_type), access_mode: Some(AccessMode { mode: mode.into() }) }
    }

    /// What the driver is told of a volume when a pod gets it.
    pub fn context(&self, pod: &Pod, driver: Option<&CSIDriver>) -> BTreeMap<String, String> {
        let mut context = self.attributes.clone();
        if driver.and_then(|driver| driver.spec.pod_info_on_mount) == Some(true) {
            let meta = &pod.metadata;
            let account = pod.spec.as_ref().and_then(|spec| spec.service_account_name.clone());
            let told = [
                ("pod.name", meta.name.clone()),
                ("pod.namespace", meta.namespace.clone()),
                ("pod.uid", meta.uid.clone()),
                ("serviceAccount.name", account),
                ("ephemeral", Some(self.is_ephemeral.to_string())),
            ];
            context.extend(told.into_iter().map(|(key, value)| (format!("csi.storage.k8s.io/{key}"), value.unwrap_or_default())));
        }
        context
    }
}

/// What is left to do on the node for a volume that has grown: the resizer says that it waits for that.
fn growth(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> Option<Growth> {
    let status = claim.status.as_ref()?;
    let size = volume.spec.as_ref()?.capacity.as_ref()?.get("storage")?.0.clone();
    let known = status.capacity.as_ref().and_then(|capacity| capacity.get("storage"));
    let known = known.and_then(|known| troupe_api::meta::Quantity::parse(&known.0).ok()).unwrap_or_default();
    let waits = match status.allocated_resource_statuses.as_ref().and_then(|statuses| statuses.get("storage")).map(String::as_str) {
        Some(told) => matches!(told, "NodeResizePending" | "NodeResizeInProgress"),
        // An older resizer tells by a condition alone.
        None => {
            let pending = |condition: &k8s_openapi::api::core::v1::PersistentVolumeClaimCondition| {
                condition.type_ == "FileSystemResizePending" && condition.status == "True"
            };
            status.conditions.iter().flatten().any(pending)
        }
    };
    let grown = capacity(volume);
    if !waits || grown <= known {
        return None;
    }
    Some(Growth { claim: claim.metadata.name.clone()?, size, bytes: grown.value() })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, from_value, json};

    use super::*;
    use crate::kubelet::csi::client::testing::able;

    fn driver(spec: Value) -> CSIDriver {
        from_value(json!({"metadata": {"name": "d"}, "spec": spec})).expect("a driver")
    }

    fn persistent(change: impl FnOnce(&mut Value, &mut Value)) -> Volume {
        let mut volume = json!({"metadata": {"name": "pv"}, "spec": {"accessModes": ["ReadWriteOnce"], "capacity": {"storage": "2Gi"},
            "mountOptions": ["noatime"], "csi": {"driver": "d", "volumeHandle": "h", "fsType": "ext4",
            "nodeStageSecretRef": {"namespace": "s", "name": "stage"}}}});
        let mut claim =
            json!({"metadata": {"name": "c"}, "spec": {"resources": {"requests": {"storage": "2Gi"}}}, "status": {"capacity": {"storage": "1Gi"}}});
        change(&mut volume, &mut claim);
        let (volume, claim) = (from_value(volume).expect("a volume"), from_value(claim).expect("a claim"));
        Volume::of_persistent(&volume, &claim, "data", false, false).expect("a driver has it")
    }

    #[test]
    fn a_driver_is_asked_for_what_the_volume_is() {
        let volume = persistent(|_, _| {});
        let mount = MountVolume { fs_type: "ext4".into(), mount_flags: vec!["noatime".into()], volume_mount_group: String::new() };
        let capability = volume.capability(&able(&[]), Some(7));
        assert_eq!(capability.access_type, Some(AccessType::Mount(mount.clone())), "the driver does not know groups");
        assert_eq!(capability.access_mode, Some(AccessMode { mode: Mode::SingleNodeWriter.into() }));
        let capability = volume.capability(&able(&[RpcType::VolumeMountGroup, RpcType::SingleNodeMultiWriter]), Some(7));
        assert_eq!(capability.access_type, Some(AccessType::Mount(MountVolume { volume_mount_group: "7".into(), ..mount })));
        assert_eq!(capability.access_mode, Some(AccessMode { mode: Mode::SingleNodeMultiWriter.into() }));
        let block = Volume { is_block: true, ..persistent(|volume, _| volume["spec"]["accessModes"] = json!(["ReadWriteMany"])) };
        let capability = block.capability(&able(&[]), None);
        assert_eq!(capability.access_type, Some(AccessType::Block(Empty {})));
        assert_eq!(capability.access_mode, Some(AccessMode { mode: Mode::MultiNodeMultiWriter.into() }));
    }

    #[test]
    fn files_are_given_to_the_group_as_the_driver_wants_it() {
        let given = |volume: &Volume, policy: Option<&str>| {
            let driver = policy.map(|policy| driver(json!({"fsGroupPolicy": policy})));
            volume.is_given_to_group(driver.as_ref(), &able(&[]))
        };
        let volume = persistent(|_, _| {});
        assert_eq!(
            [None, Some("None"), Some("File"), Some("ReadWriteOnceWithFSType")].map(|policy| given(&volume, policy)),
            [true, false, true, true]
        );
        let plain = persistent(|volume, _| volume["spec"]["csi"]["fsType"] = Value::Null);
        assert_eq!([None, Some("File")].map(|policy| given(&plain, policy)), [false, true]);
        let many = persistent(|volume, _| volume["spec"]["accessModes"] = json!(["ReadWriteMany"]));
        assert!(!given(&many, None) && !given(&Volume { read_only: true, ..volume.clone() }, Some("File")));
        assert!(!volume.is_given_to_group(None, &able(&[RpcType::VolumeMountGroup])), "the driver does");
    }

    #[test]
    fn only_what_a_driver_says_it_can_is_asked_of_it() {
        let pod: Pod =
            from_value(json!({"metadata": {"name": "p", "namespace": "n", "uid": "u"}, "spec": {"containers": [], "serviceAccountName": "sa"}}))
                .expect("a pod");
        let source = from_value(json!({"driver": "d", "volumeAttributes": {"a": "b"}, "nodePublishSecretRef": {"name": "s"}})).expect("a source");
        let inline = Volume::of_pod(&pod, "v", &source);
        assert_eq!(inline.check_lifecycle(None), Err("volume mode \"Ephemeral\" not supported by driver d (no CSIDriver object)".into()));
        let persistent_only = driver(json!({"volumeLifecycleModes": ["Persistent"]}));
        let why = "volume mode \"Ephemeral\" not supported by driver d (only supports [\"Persistent\"])";
        assert_eq!(inline.check_lifecycle(Some(&persistent_only)), Err(why.into()));
        assert_eq!(inline.check_lifecycle(Some(&driver(json!({"volumeLifecycleModes": ["Ephemeral"]})))), Ok(()));
        assert_eq!(persistent(|_, _| {}).check_lifecycle(None), Ok(()));
        assert_eq!(inline.publish_secret, Some(SecretName { namespace: "n".into(), name: "s".into() }));
        assert_eq!(inline.context(&pod, None), BTreeMap::from([("a".into(), "b".into())]));
        let told = inline.context(&pod, Some(&driver(json!({"podInfoOnMount": true}))));
        let value = |key: &str| told.get(&format!("csi.storage.k8s.io/{key}")).map(String::as_str);
        assert_eq!((value("pod.uid"), value("serviceAccount.name"), value("ephemeral")), (Some("u"), Some("sa"), Some("true")));
    }

    #[test]
    fn a_volume_grows_on_the_node_when_the_resizer_waits_for_it() {
        assert_eq!(persistent(|_, _| {}).growth, None, "nobody has made it larger");
        let told = |claim: &mut Value| claim["status"]["allocatedResourceStatuses"] = json!({"storage": "NodeResizePending"});
        let growth = Growth { claim: "c".into(), size: "2Gi".into(), bytes: 2 << 30 };
        assert_eq!(persistent(|_, claim| told(claim)).growth, Some(growth.clone()));
        let older = persistent(|_, claim| claim["status"]["conditions"] = json!([{"type": "FileSystemResizePending", "status": "True"}]));
        assert_eq!(older.growth, Some(growth));
        let done = persistent(|_, claim| {
            told(claim);
            claim["status"]["capacity"]["storage"] = "2Gi".into();
        });
        assert_eq!(done.growth, None);
    }
}
