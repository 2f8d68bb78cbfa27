//! Persistent volumes and claims.

use serde_json::{Value, json};

use super::{keep_status, restore, split_update, take_status};
use crate::{
    meta::{Clock, Object, time::format_time},
    resources::{
        Column, Gated, Strategy, Withheld, WriteContext,
        printing::{age, name, non_empty, string, wide},
        resource::age_of,
        tree::{Fields, at, child, each, fill, fill_null, text},
        validation::{volume, volume_claim, warnings},
    },
    status::FieldError,
};

const CLASS_ANNOTATION: &str = "volume.beta.kubernetes.io/storage-class";

/// The rules of persistent volumes.
#[derive(Default)]
pub struct PersistentVolume;

/// Another affinity of a volume that has one (KEP-5381).
static FIXED_AFFINITY: [Withheld; 1] = [Withheld { feature: "MutablePVNodeAffinity", is_used: |_| false, faults: affinity_faults, ahead_of: None }];

fn affinity_faults(new: &Fields, old: Option<&Fields>) -> Vec<FieldError> {
    let affinity = |volume: Option<&Fields>| volume.and_then(|volume| volume.get("spec")?.get("nodeAffinity")).cloned().unwrap_or_default();
    volume::fixed_affinity(&affinity(Some(new)), &affinity(old)).into_iter().collect()
}

impl Strategy for PersistentVolume {
    fn default_object(&self, object: &mut Object) {
        let spec = object.map_mut(&["spec"]);
        fill(spec, "persistentVolumeReclaimPolicy", "Retain");
        fill(spec, "volumeMode", "Filesystem");
        if let Some(path) = child(spec, "hostPath") {
            path.entry("type").or_insert_with(|| "".into());
        }
        fill(object.map_mut(&["status"]), "phase", "Pending");
    }

    fn withheld(&self) -> &'static [Withheld] {
        &FIXED_AFFINITY
    }

    fn prepare_create(&self, object: &mut Object, context: &WriteContext<'_>) {
        object.set(&["status"], json!({"phase": "Pending", "lastPhaseTransitionTime": format_time(context.clock.now())}));
    }

    fn prepare_update(&self, new: &mut Object, old: &Object, context: &WriteContext<'_>) {
        if context.subresource != "status" {
            keep_status(new, old);
            return;
        }
        take_status(new, old);
        let stamp = ["status", "lastPhaseTransitionTime"];
        let moved = new.str(&["status", "phase"]) != old.str(&["status", "phase"]);
        let is_unset = new.get(&stamp).is_none_or(Value::is_null);
        if moved && (is_unset || new.get(&stamp) == old.get(&stamp)) {
            new.set(&stamp, format_time(context.clock.now()));
        } else if is_unset {
            restore(new, old, &stamp);
        }
    }

    fn has_generation(&self) -> bool {
        false
    }

    fn validate_create(&self, object: &Object) -> Vec<FieldError> {
        volume::volume(object)
    }

    fn validate_update(&self, new: &Object, old: &Object, subresource: &str) -> Vec<FieldError> {
        if subresource == "status" { Vec::new() } else { volume::volume_update(new, old) }
    }

    fn warnings(&self, object: &Object) -> Vec<String> {
        warnings::volume(object)
    }

    fn columns(&self) -> Vec<Column> {
        vec![
            name(),
            string("Capacity", "The storage that this volume has."),
            string("Access Modes", "The ways in which the volume can be mounted."),
            string("Reclaim Policy", "What happens to the volume when its claim is gone."),
            string("Status", "The phase of the volume."),
            string("Claim", "The claim that the volume is bound to."),
            string("StorageClass", "StorageClass of the pv"),
            string("VolumeAttributesClass", "VolumeAttributesClass of the pv"),
            string("Reason", "Why the volume is in a failure state."),
            age(),
            wide("VolumeMode", "Whether the volume is a file system or a block device."),
        ]
    }

    fn cells(&self, object: &Object, clock: &dyn Clock) -> Vec<Value> {
        let claim = match object.get(&["spec", "claimRef"]) {
            Some(Value::Object(_)) => format!("{}/{}", object.str(&["spec", "claimRef", "namespace"]), object.str(&["spec", "claimRef", "name"])),
            _ => String::new(),
        };
        vec![
            object.name().into(),
            non_empty(object.str(&["spec", "capacity", "storage"]), "0").into(),
            access_modes(object.list(&["spec", "accessModes"])).into(),
            object.str(&["spec", "persistentVolumeReclaimPolicy"]).into(),
            phase(object).into(),
            claim.into(),
            class(object).into(),
            unset(object, "volumeAttributesClassName").into(),
            object.str(&["status", "reason"]).into(),
            age_of(object, clock).into(),
            unset(object, "volumeMode").into(),
        ]
    }
}

/// Sources in other namespaces (KEP-3294).
static FOREIGN_SOURCES: [Gated; 1] = [Gated { feature: "CrossNamespaceVolumeDataSource", is_used: has_reference, drop: drop_foreign }];

fn has_reference(claim: &Fields) -> bool {
    claim.get("spec").is_some_and(|spec| !at(spec, &["dataSourceRef"]).is_null())
}

fn drop_foreign(claim: &mut Fields) {
    let Some(spec) = child(claim, "spec") else { return };
    if spec.get("dataSourceRef").is_some_and(|source| !text(source, &["namespace"]).is_empty()) {
        spec.remove("dataSourceRef");
    }
}

/// The rules of persistent volume claims.
#[derive(Default)]
pub struct PersistentVolumeClaim;

impl Strategy for PersistentVolumeClaim {
    fn default_object(&self, object: &mut Object) {
        let spec = object.map_mut(&["spec"]);
        fill(spec, "volumeMode", "Filesystem");
        fill(spec, "resources", json!({}));
        let status = object.map_mut(&["status"]);
        fill(status, "phase", "Pending");
        each(status, "conditions", |condition| fill_null(condition, &["lastProbeTime", "lastTransitionTime"]));
    }

    fn gated(&self) -> &'static [Gated] {
        &FOREIGN_SOURCES
    }

    fn prepare_create(&self, object: &mut Object, _context: &WriteContext<'_>) {
        object.set(&["status"], json!({"phase": "Pending"}));
        settle_data_sources(object, None);
    }

    fn prepare_update(&self, new: &mut Object, old: &Object, context: &WriteContext<'_>) {
        split_update(new, old, context);
        if context.subresource != "status" {
            settle_data_sources(new, Some(old));
        }
    }

    fn has_generation(&self) -> bool {
        false
    }

    fn validate_create(&self, object: &Object) -> Vec<FieldError> {
        volume_claim::claim(object)
    }

    fn validate_update(&self, new: &Object, old: &Object, subresource: &str) -> Vec<FieldError> {
        if subresource == "status" { volume_claim::claim_status(new) } else { volume_claim::claim_update(new, old) }
    }

    fn warnings(&self, object: &Object) -> Vec<String> {
        warnings::claim(object)
    }

    fn columns(&self) -> Vec<Column> {
        vec![
            name(),
            string("Status", "The phase of the claim."),
            string("Volume", "The volume that backs the claim."),
            string("Capacity", "The storage of the volume."),
            string("Access Modes", "The ways in which the volume can be mounted."),
            string("StorageClass", "StorageClass of the pvc"),
            string("VolumeAttributesClass", "VolumeAttributesClass of the pvc"),
            age(),
            wide("VolumeMode", "Whether the volume is a file system or a block device."),
        ]
    }

    fn cells(&self, object: &Object, clock: &dyn Clock) -> Vec<Value> {
        let volume = object.str(&["spec", "volumeName"]);
        let (capacity, modes) = match volume {
            "" => (String::new(), String::new()),
            _ => (non_empty(object.str(&["status", "capacity", "storage"]), "0"), access_modes(object.list(&["status", "accessModes"]))),
        };
        vec![
            object.name().into(),
            phase(object).into(),
            volume.into(),
            capacity.into(),
            modes.into(),
            class(object).into(),
            unset(object, "volumeAttributesClassName").into(),
            age_of(object, clock).into(),
            unset(object, "volumeMode").into(),
        ]
    }
}

/// What nobody can fill a volume from is dropped, as it always was; then both fields say the same.
fn settle_data_sources(new: &mut Object, old: Option<&Object>) {
    let before = old.and_then(|old| old.get(&["spec"])).unwrap_or(&Value::Null);
    let had = |name: &str| !at(before, &[name]).is_null();
    let spec = new.map_mut(&["spec"]);
    let has_reference = spec.get("dataSourceRef").is_some_and(|source| !source.is_null());
    let is_known = spec.get("dataSource").is_some_and(|source| {
        matches!(
            (text(source, &["kind"]), text(source, &["apiGroup"])),
            ("PersistentVolumeClaim", "") | ("VolumeSnapshot", "snapshot.storage.k8s.io")
        )
    });
    if !had("dataSource") && !had("dataSourceRef") && !has_reference && !is_known {
        spec.remove("dataSource");
    }
    volume_claim::align_data_sources(spec);
}

fn phase(object: &Object) -> &str {
    if object.is_terminating() { "Terminating" } else { object.str(&["status", "phase"]) }
}

fn class(object: &Object) -> &str {
    object.annotation(CLASS_ANNOTATION).unwrap_or_else(|| object.str(&["spec", "storageClassName"]))
}

fn unset(object: &Object, field: &str) -> String {
    match object.get(&["spec", field]) {
        Some(Value::String(value)) => value.clone(),
        _ => "<unset>".to_owned(),
    }
}

/// `RWO,ROX,RWX,RWOP` in this order, without repetition.
fn access_modes(modes: &[Value]) -> String {
    let known = [("ReadWriteOnce", "RWO"), ("ReadOnlyMany", "ROX"), ("ReadWriteMany", "RWX"), ("ReadWriteOncePod", "RWOP")];
    let present = known.iter().filter(|(mode, _)| modes.iter().any(|other| other == mode));
    present.map(|(_, short)| *short).collect::<Vec<_>>().join(",")
}
