//! Which volume a claim gets. Pure.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::{
        core::v1::{
            LocalVolumeSource, Node, NodeSelector, NodeSelectorRequirement, NodeSelectorTerm, PersistentVolume, PersistentVolumeClaim,
            PersistentVolumeClaimSpec, PersistentVolumeSpec, VolumeNodeAffinity,
        },
        storage::v1::StorageClass,
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use troupe_api::local_path::{DIRECTORY, NODE_LABEL, PROVISIONER};

use crate::storage::{BETA_STORAGE_PROVISIONER, PROVISIONED_BY, SELECTED_NODE, STORAGE_PROVISIONER, annotation, binding::reference, volume_name};

const HOSTNAME: &str = "kubernetes.io/hostname";
/// In what ways a directory of one node can be used.
const ACCESS: [&str; 2] = ["ReadWriteOnce", "ReadWriteOncePod"];

/// A claim with what decides about its volume.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    pub claim: &'a PersistentVolumeClaim,
    pub class: Option<&'a StorageClass>,
    /// The node that was selected, if it exists.
    pub node: Option<&'a Node>,
    /// The name that the volume has, or gets.
    pub name: &'a str,
    pub is_made: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    Create(Box<PersistentVolume>),
    /// The scheduler is to select another node: the claim without the one that it has.
    Reschedule(Box<PersistentVolumeClaim>),
    Tell {
        warning: bool,
        reason: &'static str,
        message: String,
    },
}

/// Whether a claim is to have a volume of this provisioner and has none.
pub fn is_ours(claim: &PersistentVolumeClaim) -> bool {
    let provisioner = [STORAGE_PROVISIONER, BETA_STORAGE_PROVISIONER].iter().find_map(|name| annotation(&claim.metadata, name));
    provisioner == Some(PROVISIONER) && volume_name(claim).is_empty() && claim.metadata.deletion_timestamp.is_none()
}

/// Whether this provisioner made the volume.
pub fn is_made_here(volume: &PersistentVolume) -> bool {
    annotation(&volume.metadata, PROVISIONED_BY) == Some(PROVISIONER)
}

/// The node that the scheduler selected for a claim.
pub fn selected_node(claim: &PersistentVolumeClaim) -> Option<&str> {
    annotation(&claim.metadata, SELECTED_NODE)
}

/// Plans the volume of a claim.
pub fn plan(view: &View<'_>) -> Vec<Action> {
    let Some(class) = view.class.filter(|class| class.provisioner == PROVISIONER) else { return Vec::new() };
    if !is_ours(view.claim) || view.is_made {
        return Vec::new();
    }
    let failed = |why: &str| {
        let class = class.metadata.name.as_deref().unwrap_or_default();
        Action::Tell {
            warning: true,
            reason: "ProvisioningFailed",
            message: format!("failed to provision volume with StorageClass {class:?}: {why}"),
        }
    };
    let spec = view.claim.spec.clone().unwrap_or_default();
    if let Some(why) = refused(&spec, class) {
        return vec![failed(&why)];
    }
    match selected_node(view.claim) {
        None if class.volume_binding_mode.as_deref() == Some("WaitForFirstConsumer") => Vec::new(),
        None => vec![failed("no node was selected: the class needs volumeBindingMode WaitForFirstConsumer")],
        Some(selected) => match located(view.node, selected) {
            Ok((hostname, directory)) => {
                let volume = made(view, &spec, class, (selected, &hostname, &directory));
                let message = format!("Successfully provisioned volume {}", view.name);
                vec![Action::Create(Box::new(volume)), Action::Tell { warning: false, reason: "ProvisioningSucceeded", message }]
            }
            Err(why) => vec![failed(&why), Action::Reschedule(Box::new(without_node(view.claim)))],
        },
    }
}

/// What the claim or its class asks for that a directory of a node cannot be.
fn refused(spec: &PersistentVolumeClaimSpec, class: &StorageClass) -> Option<String> {
    if let Some(mode) = spec.access_modes.iter().flatten().find(|mode| !ACCESS.contains(&mode.as_str())) {
        return Some(format!("access mode {mode} is not supported, only {}", ACCESS.join(" and ")));
    }
    if spec.volume_mode.as_deref().is_some_and(|mode| mode != "Filesystem") {
        return Some("only volumeMode Filesystem is supported".into());
    }
    if spec.data_source.is_some() || spec.data_source_ref.is_some() {
        return Some("volumes cannot be filled from a data source".into());
    }
    if spec.selector.is_some() {
        return Some("claim.Spec.Selector is not supported".into());
    }
    if let Some((name, _)) = class.parameters.iter().flatten().next() {
        return Some(format!("parameter {name:?} of the class is not known"));
    }
    class.mount_options.as_ref().is_some_and(|options| !options.is_empty()).then(|| "mount options are not supported".into())
}

/// The node's host name and its directory of volumes.
fn located(node: Option<&Node>, selected: &str) -> Result<(String, String), String> {
    let Some(node) = node else { return Err(format!("failed to get target node: node {selected:?} not found")) };
    let label = |name: &str| node.metadata.labels.as_ref().and_then(|labels| labels.get(name)).cloned();
    let hostname = label(HOSTNAME).ok_or_else(|| format!("node {selected:?} has no label {HOSTNAME}"))?;
    let directory = annotation(&node.metadata, DIRECTORY).filter(|directory| directory.starts_with('/'));
    let directory = directory.ok_or_else(|| format!("node {selected:?} does not say where its volumes lie (annotation {DIRECTORY})"))?;
    Ok((hostname, directory.trim_end_matches('/').to_owned()))
}

fn without_node(claim: &PersistentVolumeClaim) -> PersistentVolumeClaim {
    let mut claim = claim.clone();
    if let Some(annotations) = &mut claim.metadata.annotations {
        annotations.remove(SELECTED_NODE);
    }
    claim
}

fn made(
    view: &View<'_>,
    spec: &PersistentVolumeClaimSpec,
    class: &StorageClass,
    (node, hostname, directory): (&str, &str, &str),
) -> PersistentVolume {
    let size = spec.resources.as_ref().and_then(|resources| resources.requests.as_ref()?.get("storage")).cloned().unwrap_or_default();
    let requirement = NodeSelectorRequirement { key: HOSTNAME.into(), operator: "In".into(), values: Some(vec![hostname.to_owned()]) };
    let term = NodeSelectorTerm { match_expressions: Some(vec![requirement]), match_fields: None };
    PersistentVolume {
        metadata: ObjectMeta {
            name: Some(view.name.to_owned()),
            labels: Some(BTreeMap::from([(NODE_LABEL.to_owned(), node.to_owned())])),
            annotations: Some(BTreeMap::from([(PROVISIONED_BY.to_owned(), PROVISIONER.to_owned())])),
            ..ObjectMeta::default()
        },
        spec: Some(PersistentVolumeSpec {
            access_modes: spec.access_modes.clone(),
            capacity: Some(BTreeMap::from([("storage".to_owned(), size)])),
            claim_ref: Some(reference(view.claim)),
            local: Some(LocalVolumeSource { path: format!("{directory}/{}", view.name), fs_type: None }),
            node_affinity: Some(VolumeNodeAffinity { required: Some(NodeSelector { node_selector_terms: vec![term] }) }),
            persistent_volume_reclaim_policy: class.reclaim_policy.clone(),
            storage_class_name: class.metadata.name.clone(),
            volume_mode: Some("Filesystem".into()),
            ..PersistentVolumeSpec::default()
        }),
        status: None,
    }
}
