//! Volumes that claims stand for: what a claim leads to on this node (pure), and binding that into the pod's directory.
//!
//! What is bound stays when the daemon goes, so that a pod that runs needs no API server for its volumes.

use std::{
    collections::BTreeMap,
    fs, io,
    os::{
        fd::OwnedFd,
        unix::fs::{FileTypeExt, OpenOptionsExt},
    },
    path::{Path, PathBuf},
};

use k8s_openapi::api::core::v1::{HostPathVolumeSource, Node, PersistentVolume, PersistentVolumeClaim, Pod, Volume};
use troupe_api::local_path;

use super::{
    block::{self, FileSystem},
    fs_group, hostpath,
    nfs::{self, Export},
    ownership::shared_mode,
    subpath,
};
use crate::{
    files::{
        Directory,
        grant::{Grant, grant_tree},
    },
    kubelet::csi,
    scheduler::volumes::reaches,
    storage::{self, PROVISIONED_BY, annotation, claim_phase, is_for_pod, volume_name},
};

/// Keeps a claim that is deleted while pods use it.
const PROTECTION: &str = "kubernetes.io/pvc-protection";

/// What the pods' claims lead to, by the names of their volumes.
pub type Sources = BTreeMap<String, Source>;

/// What a claim leads to.
#[derive(Clone, Debug, PartialEq)]
pub enum Source {
    HostPath(HostPathVolumeSource),
    /// A directory that is there, or a block device with a file system.
    Local {
        path: PathBuf,
        file_system: FileSystem,
    },
    /// A block device, without a file system.
    Device(PathBuf),
    /// A directory of this node's own volumes, made when it is first used.
    Made {
        directory: PathBuf,
        name: String,
    },
    /// A directory of an NFS server.
    Nfs(Export),
    /// What a CSI driver is asked for, before the others are set up.
    Csi(Box<csi::Volume>),
}

/// The objects that a claim leads to, as far as they exist.
#[derive(Clone, Copy, Debug)]
pub struct Found<'a> {
    pub claim: Option<&'a PersistentVolumeClaim>,
    pub volume: Option<&'a PersistentVolume>,
    pub node: Option<&'a Node>,
    /// Where this node keeps its own volumes.
    pub directory: &'a Path,
}

/// What a pod's volume is on this node.
///
/// # Errors
/// Upstream's words for why the pod has to wait.
pub fn source(pod: &Pod, volume: &Volume, found: Found<'_>) -> Result<Source, String> {
    let Some(wanted) = storage::claim_of(pod, volume) else { return Err("it is not of a claim".into()) };
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let in_claim = |why: String| format!("error processing PVC {namespace}/{}: {why}", wanted.name);
    let missing = || format!("failed to fetch PVC from API server: persistentvolumeclaims {:?} not found", wanted.name);
    let claim = found.claim.ok_or_else(|| in_claim(missing()))?;
    if wanted.ephemeral {
        is_for_pod(claim, pod)?;
    }
    may_be_used(claim).map_err(|why| in_claim(why.into()))?;
    let name = volume_name(claim);
    let bound = found.volume.ok_or_else(|| in_claim(format!("failed to fetch PV {name} from API server: persistentvolumes {name:?} not found")))?;
    belongs_to(bound, claim).map_err(in_claim)?;
    let mode = mode(pod, volume, bound)?;
    if !found.node.is_some_and(|node| reaches(bound, node)) {
        return Err(format!("MountVolume.NodeAffinity check failed for volume {name:?} : no matching NodeSelectorTerms"));
    }
    let read_only = super::is_read_only(volume);
    if let Some(asked) = csi::Volume::of_persistent(bound, claim, &volume.name, read_only, matches!(mode, Mode::Block)) {
        return Ok(Source::Csi(Box::new(asked)));
    }
    match mode {
        Mode::Filesystem => place(bound, found.directory, read_only).map_err(|why| format!("MountVolume.SetUp failed for volume {name:?} : {why}")),
        Mode::Block => device(bound).map_err(|why| format!("MapVolume.MapPodDevice failed for volume {name:?} : {why}")),
    }
}

fn may_be_used(claim: &PersistentVolumeClaim) -> Result<(), &'static str> {
    let is_protected = claim.metadata.finalizers.iter().flatten().any(|finalizer| finalizer == PROTECTION);
    if claim.metadata.deletion_timestamp.is_some() && !is_protected {
        return Err("PVC is being deleted");
    }
    if claim_phase(claim) != "Bound" {
        return Err("PVC is not bound");
    }
    if volume_name(claim).is_empty() { Err("PVC has empty pvc.Spec.VolumeName") } else { Ok(()) }
}

fn belongs_to(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> Result<(), String> {
    let name = volume.metadata.name.as_deref().unwrap_or_default();
    let Some(reference) = volume.spec.as_ref().and_then(|spec| spec.claim_ref.as_ref()) else {
        return Err(format!("found PV object {name} but it has a nil pv.Spec.ClaimRef indicating it is not yet bound to the claim"));
    };
    if reference.uid == claim.metadata.uid {
        return Ok(());
    }
    let (has, wanted) = (reference.uid.as_deref().unwrap_or_default(), claim.metadata.uid.as_deref().unwrap_or_default());
    Err(format!("found PV object {name} but its pv.Spec.ClaimRef.UID {has} does not point to claim.UID {wanted}"))
}

/// What containers get: a file system or a device.
enum Mode {
    Filesystem,
    Block,
}

/// A volume is used as what it is.
fn mode(pod: &Pod, volume: &Volume, bound: &PersistentVolume) -> Result<Mode, String> {
    let name = &volume.name;
    let mode = bound.spec.as_ref().and_then(|spec| spec.volume_mode.as_deref()).unwrap_or("Filesystem");
    let containers = || pod.spec.iter().flat_map(|spec| spec.init_containers.iter().flatten().chain(&spec.containers));
    let is_mounted = containers().any(|container| container.volume_mounts.iter().flatten().any(|mount| mount.name == *name));
    let is_device = block::is_device(pod, name);
    match mode {
        "Filesystem" if is_device => Err(format!("volume {name} has volumeMode {mode}, but is specified in volumeDevices")),
        "Filesystem" => Ok(Mode::Filesystem),
        _ if is_mounted => Err(format!("volume {name} has volumeMode {mode}, but is specified in volumeMounts")),
        _ => Ok(Mode::Block),
    }
}

fn place(volume: &PersistentVolume, directory: &Path, read_only: bool) -> Result<Source, String> {
    let Some(spec) = &volume.spec else { return Err("it has no spec".into()) };
    if let Some(source) = &spec.host_path {
        return Ok(Source::HostPath(source.clone()));
    }
    if let Some(export) = Export::of_persistent(spec, read_only) {
        return Ok(Source::Nfs(export));
    }
    let Some(local) = &spec.local else { return Err("this kind of volume is not supported".into()) };
    let path = Path::new(&local.path);
    match made_name(volume, directory) {
        Some(name) => Ok(Source::Made { directory: directory.to_owned(), name: name.to_owned() }),
        None if path.is_absolute() => {
            let options = spec.mount_options.clone().unwrap_or_default();
            Ok(Source::Local { path: path.to_owned(), file_system: FileSystem { kind: local.fs_type.clone(), options, read_only: false } })
        }
        None => Err(format!("invalid path: {}", local.path)),
    }
}

fn device(volume: &PersistentVolume) -> Result<Source, String> {
    let local = volume.spec.as_ref().and_then(|spec| spec.local.as_ref());
    let path = local.map(|local| Path::new(&local.path)).ok_or("this kind of volume is not supported as a block device")?;
    if path.is_absolute() { Ok(Source::Device(path.to_owned())) } else { Err(format!("invalid path: {}", path.display())) }
}

/// The name of a directory of this node's own volumes; `None` where the volume is another one. It is the volume's own name, of
/// letters, digits, dashes and dots, and never leads elsewhere.
pub fn made_name<'a>(volume: &'a PersistentVolume, directory: &Path) -> Option<&'a str> {
    let name = volume.metadata.name.as_deref()?;
    let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'.');
    let is_name = name.bytes().all(is_plain) && name.starts_with(|first: char| first.is_ascii_alphanumeric());
    let path = &volume.spec.as_ref()?.local.as_ref()?.path;
    let is_ours = annotation(&volume.metadata, PROVISIONED_BY) == Some(local_path::PROVISIONER);
    (is_name && is_ours && Path::new(path) == directory.join(name)).then_some(name)
}

/// Binds a volume to its place in the pod's directory, unless it is there already; says whether it was not.
///
/// # Errors
/// The reason as an event shows it.
pub fn set_up(target: &Path, source: &Source, pod: &Pod, read_only: bool) -> Result<bool, String> {
    let failed = |error: io::Error| error.to_string();
    let (found, owned) = match source {
        Source::HostPath(source) => {
            hostpath::check(source)?;
            (find(Path::new(&source.path)).map_err(failed)?, None)
        }
        Source::Device(path) => return block::bind(&find(path).map_err(failed)?, target).map_err(|error| format!("{}: {error}", path.display())),
        Source::Local { path, file_system } if is_block_device(path) => {
            let made = block::mount_device(path, target, &FileSystem { read_only, ..file_system.clone() })?;
            give(&Directory::open(target).map_err(failed)?, pod, read_only).map_err(failed)?;
            return Ok(made);
        }
        Source::Local { path, .. } => {
            let directory =
                Directory::open(path).map_err(|error| format!("only directories and block devices are supported: {}: {error}", path.display()))?;
            (directory.find(Path::new(".")).map_err(failed)?, Some(directory))
        }
        Source::Csi(_) => return Ok(false),
        // As upstream's plugin, it gives nothing to a group: who may do what is the server's to say.
        Source::Nfs(export) => return nfs::set_up(target, export),
        Source::Made { directory, name } => {
            let made = make(directory, name, fs_group(pod)).map_err(failed)?;
            (made.find(Path::new(".")).map_err(failed)?, Some(made))
        }
    };
    if subpath::is_bound(&found, target).map_err(failed)? {
        return Ok(false);
    }
    if let Some(directory) = owned {
        give(&directory, pod, read_only).map_err(failed)?;
    }
    subpath::mount_at(&found, target).map_err(failed)?;
    Ok(true)
}

/// Gives a volume to the pod's `fsGroup`.
///
/// # Errors
/// When a file cannot be given away.
pub fn give(volume: &Directory, pod: &Pod, read_only: bool) -> io::Result<()> {
    let Some(group) = fs_group(pod) else { return Ok(()) };
    let grant = Grant { group, read_only };
    if only_on_mismatch(pod) && grant.is_given(&volume.status()?) {
        return Ok(());
    }
    grant_tree(volume, grant).map_err(|error| io::Error::new(error.kind(), format!("failed to set fsGroup {group}: {error}")))
}

fn is_block_device(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|found| found.file_type().is_block_device())
}

/// Finds a path that nobody but the administrator can change.
fn find(path: &Path) -> io::Result<OwnedFd> {
    Ok(fs::OpenOptions::new().read(true).custom_flags(libc::O_PATH).open(path)?.into())
}

fn only_on_mismatch(pod: &Pod) -> bool {
    let context = pod.spec.as_ref().and_then(|spec| spec.security_context.as_ref());
    context.and_then(|context| context.fs_group_change_policy.as_deref()) == Some("OnRootMismatch")
}

/// Makes the directory of a volume where it is missing; it appears with its mode.
fn make(directory: &Path, name: &str, group: Option<u32>) -> io::Result<Directory> {
    let place = Directory::make(directory, 0o700)?;
    match place.open_dir(Path::new(name)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        opened => return opened,
    }
    let unfinished = format!(".unfinished-{name}");
    place.make_dir(&unfinished, 0o700)?.set_mode(shared_mode(group) & 0o777)?;
    place.rename(&unfinished, name)?;
    place.open_dir(Path::new(name))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, from_value, json};

    use super::*;

    const PLACE: &str = "/data/volumes";

    fn merge(into: &mut Value, more: Value) {
        match (into, more) {
            (Value::Object(into), Value::Object(more)) => {
                for (key, value) in more {
                    merge(into.entry(key).or_insert(Value::Null), value);
                }
            }
            (into, more) => *into = more,
        }
    }

    struct World {
        pod: Value,
        claim: Value,
        volume: Value,
        node: Value,
    }

    impl World {
        fn new() -> Self {
            let mounts = json!([{"name": "v", "mountPath": "/v"}]);
            let volumes = json!([{"name": "v", "persistentVolumeClaim": {"claimName": "data"}}]);
            let term = json!({"matchExpressions": [{"key": "kubernetes.io/hostname", "operator": "In", "values": ["one"]}]});
            World {
                pod: json!({
                    "metadata": {"name": "p", "namespace": "n", "uid": "p"},
                    "spec": {"containers": [{"name": "c", "volumeMounts": mounts}], "volumes": volumes},
                }),
                claim: json!({
                    "metadata": {"name": "data", "namespace": "n", "uid": "u"}, "spec": {"volumeName": "pvc-u"}, "status": {"phase": "Bound"},
                }),
                volume: json!({
                    "metadata": {"name": "pvc-u", "annotations": {"pv.kubernetes.io/provisioned-by": local_path::PROVISIONER}},
                    "spec": {
                        "claimRef": {"namespace": "n", "name": "data", "uid": "u"}, "local": {"path": "/data/volumes/pvc-u"},
                        "nodeAffinity": {"required": {"nodeSelectorTerms": [term]}},
                    },
                }),
                node: json!({"metadata": {"name": "one", "labels": {"kubernetes.io/hostname": "one"}}}),
            }
        }

        fn source(&self) -> Result<Source, String> {
            let pod: Pod = from_value(self.pod.clone()).expect("a pod");
            let volume = super::super::volumes(&pod)[0].clone();
            let claim = (!self.claim.is_null()).then(|| from_value(self.claim.clone()).expect("a claim"));
            let bound = (!self.volume.is_null()).then(|| from_value(self.volume.clone()).expect("a volume"));
            let node: Node = from_value(self.node.clone()).expect("a node");
            let found = Found { claim: claim.as_ref(), volume: bound.as_ref(), node: Some(&node), directory: Path::new(PLACE) };
            source(&pod, &volume, found)
        }

        fn refused(change: impl FnOnce(&mut World)) -> String {
            let mut world = World::new();
            change(&mut world);
            world.source().expect_err("it is refused")
        }
    }

    fn local(path: &str) -> Source {
        Source::Local { path: path.into(), file_system: FileSystem::default() }
    }

    #[test]
    fn a_device_is_given_to_who_asks_for_one() {
        let block = |change: &dyn Fn(&mut World)| {
            let mut world = World::new();
            merge(&mut world.volume, json!({"spec": {"volumeMode": "Block", "local": {"path": "/dev/sdb"}}}));
            world.pod["spec"]["containers"] = json!([{"name": "c", "volumeDevices": [{"name": "v", "devicePath": "/dev/x"}]}]);
            change(&mut world);
            world.source()
        };
        assert_eq!(block(&|_| {}), Ok(Source::Device("/dev/sdb".into())));
        let files = block(&|world| world.volume["spec"]["volumeMode"] = "Filesystem".into());
        assert_eq!(files, Err("volume v has volumeMode Filesystem, but is specified in volumeDevices".into()));
        let other = block(&|world| {
            world.volume["spec"]["local"] = Value::Null;
            world.volume["spec"]["hostPath"] = json!({"path": "/srv"});
        });
        let why = "MapVolume.MapPodDevice failed for volume \"pvc-u\" : this kind of volume is not supported as a block device";
        assert_eq!(other, Err(why.into()));
        let mut formatted = World::new();
        merge(&mut formatted.volume, json!({"spec": {"mountOptions": ["noatime"], "local": {"path": "/dev/sdb", "fsType": "xfs"}}}));
        let file_system = FileSystem { kind: Some("xfs".into()), options: vec!["noatime".into()], read_only: false };
        assert_eq!(formatted.source(), Ok(Source::Local { path: "/dev/sdb".into(), file_system }));
    }

    #[test]
    fn a_bound_claim_leads_to_a_directory_of_this_node() {
        let made = Source::Made { directory: PLACE.into(), name: "pvc-u".into() };
        assert_eq!(World::new().source(), Ok(made));
        let mut by_hand = World::new();
        by_hand.volume["metadata"]["annotations"] = Value::Null;
        assert_eq!(by_hand.source(), Ok(local("/data/volumes/pvc-u")), "it must be there");
        by_hand.volume["spec"]["local"] = Value::Null;
        by_hand.volume["spec"]["hostPath"] = json!({"path": "/srv"});
        assert_eq!(by_hand.source(), Ok(Source::HostPath(HostPathVolumeSource { path: "/srv".into(), type_: None })));
    }

    #[test]
    fn an_export_is_mounted_with_what_volume_and_pod_say() {
        let mut world = World::new();
        world.volume["spec"]["local"] = Value::Null;
        merge(&mut world.volume, json!({"spec": {"nfs": {"server": "s", "path": "/d"}, "mountOptions": ["nfsvers=4.2"]}}));
        world.pod["spec"]["volumes"][0]["persistentVolumeClaim"]["readOnly"] = true.into();
        let spec: k8s_openapi::api::core::v1::PersistentVolumeSpec = from_value(world.volume["spec"].clone()).expect("a spec");
        assert_eq!(world.source(), Ok(Source::Nfs(Export::of_persistent(&spec, true).expect("it is one"))));
    }

    #[test]
    fn nothing_but_a_name_of_its_own_is_made() {
        for (name, path) in [("pvc-u", "/etc"), ("pvc-u", "/data/volumes/../pvc-u"), ("..", "/data/volumes/.."), (".hidden", "/data/volumes/.hidden")]
        {
            let mut world = World::new();
            merge(&mut world.volume, json!({"metadata": {"name": name}, "spec": {"local": {"path": path}}}));
            assert_eq!(world.source(), Ok(local(path)), "{name}");
        }
    }

    #[test]
    fn a_pod_waits_in_upstreams_words() {
        let missing = World::refused(|world| world.claim = Value::Null);
        assert_eq!(missing, "error processing PVC n/data: failed to fetch PVC from API server: persistentvolumeclaims \"data\" not found");
        assert_eq!(World::refused(|world| world.claim["status"]["phase"] = "Pending".into()), "error processing PVC n/data: PVC is not bound");
        let going = World::refused(|world| world.claim["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into());
        assert_eq!(going, "error processing PVC n/data: PVC is being deleted");
        let other = World::refused(|world| world.volume["spec"]["claimRef"]["uid"] = "x".into());
        assert!(other.ends_with("found PV object pvc-u but its pv.Spec.ClaimRef.UID x does not point to claim.UID u"), "{other}");
        let elsewhere = World::refused(|world| world.node["metadata"]["labels"]["kubernetes.io/hostname"] = "two".into());
        assert_eq!(elsewhere, "MountVolume.NodeAffinity check failed for volume \"pvc-u\" : no matching NodeSelectorTerms");
        let block = World::refused(|world| world.volume["spec"]["volumeMode"] = "Block".into());
        assert_eq!(block, "volume v has volumeMode Block, but is specified in volumeMounts");
        let kind = World::refused(|world| {
            world.volume["spec"]["local"] = Value::Null;
            world.volume["spec"]["iscsi"] = json!({"targetPortal": "s", "iqn": "iqn.2026-01.example:d", "lun": 0});
        });
        assert_eq!(kind, "MountVolume.SetUp failed for volume \"pvc-u\" : this kind of volume is not supported");
        let foreign = World::refused(|world| {
            world.pod["spec"]["volumes"] = json!([{"name": "v", "ephemeral": {}}]);
            world.claim["metadata"]["name"] = "p-v".into();
        });
        assert_eq!(foreign, "PVC n/p-v was not created for pod n/p (pod is not owner)");
    }

    #[test]
    fn a_directory_is_made_once_for_its_users() {
        use std::os::unix::fs::PermissionsExt;
        let place = tempfile::tempdir().expect("a directory");
        let directory = place.path().join("volumes");
        make(&directory, "pvc-u", None).expect("makes");
        let mode = |path: &Path| fs::metadata(path).expect("is there").permissions().mode() & 0o777;
        assert_eq!((mode(&directory), mode(&directory.join("pvc-u"))), (0o700, 0o777));
        fs::write(directory.join("pvc-u/file"), "x").expect("writes");
        make(&directory, "pvc-u", None).expect("is there");
        assert!(directory.join("pvc-u/file").exists());
        std::os::unix::fs::symlink("/etc", directory.join("pvc-link")).expect("links");
        assert!(make(&directory, "pvc-link", None).is_err(), "a link is no directory");
    }
}
