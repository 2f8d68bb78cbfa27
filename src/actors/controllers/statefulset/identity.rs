//! Who a pod of a StatefulSet is: its ordinal, name, labels, host name and the claims it mounts. Pure.

use std::{collections::HashSet, ops::Range};

use k8s_openapi::{
    api::{
        apps::v1::StatefulSet,
        core::v1::{PersistentVolumeClaim, PersistentVolumeClaimVolumeSource, Pod, PodTemplateSpec, Volume},
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};

use super::member::{MemberDigest, REVISION_LABEL, VolumeClaims};
use crate::controllers::pod_control::pod_from_template;

const POD_NAME_LABEL: &str = "statefulset.kubernetes.io/pod-name";
const POD_INDEX_LABEL: &str = "apps.kubernetes.io/pod-index";

/// A pod's number. The largest is the sum of two that a set may say, of 32 bits each.
pub type Ordinal = i64;

/// The number behind the set's name in that of a pod; `None` for pods that are named otherwise.
pub fn ordinal(set: &StatefulSet, pod: &str) -> Option<Ordinal> {
    ordinal_in(set.metadata.name.as_deref().unwrap_or_default(), pod)
}

/// The same by the set's name alone.
pub fn ordinal_in(set: &str, pod: &str) -> Option<Ordinal> {
    let digits = pod.strip_prefix(set)?.strip_prefix('-')?;
    if digits.bytes().all(|byte| byte.is_ascii_digit()) { digits.parse().ok() } else { None }
}

/// The ordinals that the set has pods for.
pub fn ordinals(set: &StatefulSet) -> Range<Ordinal> {
    let spec = set.spec.as_ref();
    let start = Ordinal::from(spec.and_then(|spec| spec.ordinals.as_ref()).and_then(|ordinals| ordinals.start).unwrap_or(0));
    start..start + Ordinal::from(replicas(set))
}

/// `spec.replicas`.
pub fn replicas(set: &StatefulSet) -> i32 {
    set.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1)
}

/// The name of the pod with this ordinal.
pub fn pod_name(set: &StatefulSet, ordinal: Ordinal) -> String {
    format!("{}-{ordinal}", set.metadata.name.as_deref().unwrap_or_default())
}

/// The name of the claim that a template makes for a pod.
pub fn claim_name(set: &StatefulSet, template: &PersistentVolumeClaim, ordinal: Ordinal) -> String {
    let name = |meta: &ObjectMeta| meta.name.clone().unwrap_or_default();
    format!("{}-{}-{ordinal}", name(&template.metadata), name(&set.metadata))
}

/// Makes the pod with this ordinal from a template.
pub fn new_pod(set: &StatefulSet, template: &PodTemplateSpec, revision: &str, ordinal: Ordinal) -> Pod {
    let mut pod = pod_from_template(template, set);
    let name = pod_name(set, ordinal);
    pod.metadata.name = Some(name.clone());
    set_identity(set, &mut pod, ordinal);
    pod.metadata.labels.get_or_insert_default().insert(REVISION_LABEL.into(), revision.to_owned());
    let spec = pod.spec.get_or_insert_default();
    spec.hostname = Some(name);
    spec.subdomain = set.spec.as_ref().and_then(|spec| spec.service_name.clone());
    set_storage(set, &mut pod, ordinal);
    pod
}

fn set_identity(set: &StatefulSet, pod: &mut Pod, ordinal: Ordinal) {
    let labels = pod.metadata.labels.get_or_insert_default();
    labels.insert(POD_NAME_LABEL.into(), pod_name(set, ordinal));
    labels.insert(POD_INDEX_LABEL.into(), ordinal.to_string());
}

/// Mounts the claims under the names of their templates, in place of other volumes so named.
fn set_storage(set: &StatefulSet, pod: &mut Pod, ordinal: Ordinal) {
    let Some(templates) = set.spec.as_ref().and_then(|spec| spec.volume_claim_templates.as_ref()).filter(|templates| !templates.is_empty()) else {
        return;
    };
    let of_claim = templates.iter().map(|template| Volume {
        name: template.metadata.name.clone().unwrap_or_default(),
        persistent_volume_claim: Some(PersistentVolumeClaimVolumeSource { claim_name: claim_name(set, template, ordinal), read_only: None }),
        ..Volume::default()
    });
    let mut volumes: Vec<Volume> = of_claim.collect();
    let spec = pod.spec.get_or_insert_default();
    let kept = spec.volumes.take().unwrap_or_default().into_iter();
    let names: HashSet<&str> = templates.iter().filter_map(|template| template.metadata.name.as_deref()).collect();
    let kept: Vec<Volume> = kept.filter(|volume| !names.contains(volume.name.as_str())).collect();
    volumes.extend(kept);
    spec.volumes = Some(volumes);
}

/// The pod is what its ordinal wants it to be.
pub fn is_correct(set: &StatefulSet, pod: &MemberDigest, ordinal: Ordinal) -> bool {
    identity_matches(set, pod.meta.labels.get(POD_NAME_LABEL), ordinal) && storage_matches(set, &pod.claims, ordinal)
}

/// The pod as its ordinal wants it.
pub fn corrected(set: &StatefulSet, pod: &Pod, ordinal: Ordinal) -> Pod {
    let mut corrected = pod.clone();
    let label = pod.metadata.labels.as_ref().and_then(|labels| labels.get(POD_NAME_LABEL));
    if !identity_matches(set, label.map(String::as_str), ordinal) {
        set_identity(set, &mut corrected, ordinal);
    }
    if !storage_matches(set, &VolumeClaims::of(pod), ordinal) {
        set_storage(set, &mut corrected, ordinal);
    }
    corrected
}

/// `label` is the pod's name as its label says it.
fn identity_matches(set: &StatefulSet, label: Option<&str>, ordinal: Ordinal) -> bool {
    label.is_some_and(|label| *label == pod_name(set, ordinal))
}

fn storage_matches(set: &StatefulSet, claims: &VolumeClaims, ordinal: Ordinal) -> bool {
    let mut templates = set.spec.iter().flat_map(|spec| spec.volume_claim_templates.iter().flatten());
    templates.all(|template| {
        let claim = template.metadata.name.as_deref().and_then(|volume| claims.get(volume));
        claim.is_some_and(|claim| *claim == claim_name(set, template, ordinal))
    })
}
