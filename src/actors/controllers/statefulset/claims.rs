//! The PersistentVolumeClaims of a StatefulSet's pods: which there must be, and who owns them by the retention policy. Pure.

use std::collections::HashSet;

use k8s_openapi::{
    Resource,
    api::{
        apps::v1::StatefulSet,
        core::v1::{PersistentVolumeClaim, Pod},
    },
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference},
};

use super::{
    identity::{Ordinal, claim_name, ordinals},
    model::{Action, Claims, is_full},
};
use crate::controllers::owners::controller_reference;

fn templates(set: &StatefulSet) -> &[PersistentVolumeClaim] {
    set.spec.as_ref().and_then(|spec| spec.volume_claim_templates.as_deref()).unwrap_or_default()
}

/// Tells a set's claims, of which there may be many, by their names.
pub struct Names<'a> {
    set: &'a str,
    templates: HashSet<&'a str>,
}

impl<'a> Names<'a> {
    pub fn of(set: &'a StatefulSet) -> Self {
        Names { set: name(&set.metadata), templates: templates(set).iter().map(|template| name(&template.metadata)).collect() }
    }

    /// Whether a claim is named as one of the set's.
    pub fn is_claim(&self, claim: &str) -> bool {
        template_in(claim, self.set).is_some_and(|template| self.templates.contains(template))
    }
}

/// The same of one claim.
pub fn is_claim_of(set: &StatefulSet, claim: &str) -> bool {
    template_in(claim, name(&set.metadata)).is_some_and(|of| templates(set).iter().any(|template| name(&template.metadata) == of))
}

/// The name of the template in that of a claim: it stands before the set's name and an ordinal.
fn template_in<'c>(claim: &'c str, set: &str) -> Option<&'c str> {
    let (before, ordinal) = claim.rsplit_once('-')?;
    let is_ordinal = !ordinal.is_empty() && ordinal.bytes().all(|byte| byte.is_ascii_digit());
    before.strip_suffix(set)?.strip_suffix('-').filter(|_| is_ordinal)
}

fn name(meta: &ObjectMeta) -> &str {
    meta.name.as_deref().unwrap_or_default()
}

/// Whether a pod has all its claims.
#[derive(Debug, PartialEq, Eq)]
pub enum Ensured {
    /// Those that it lacked are planned.
    All,
    /// Why the pod has to wait.
    Waits(String),
    /// There are more than are made in one go.
    More,
}

/// Plans the claims that a pod lacks, as long as there is room for them.
pub fn ensure(set: &StatefulSet, ordinal: Ordinal, claims: &Claims, actions: &mut Vec<Action>) -> Ensured {
    let mut ensured = Ensured::All;
    for (template, of) in templates(set).iter().enumerate() {
        let name = claim_name(set, of, ordinal);
        match claims.get(&name) {
            None if is_full(actions) => return Ensured::More,
            None => actions.push(Action::CreateClaim { template, ordinal }),
            Some(claim) if claim.metadata.deletion_timestamp.is_some() => ensured = Ensured::Waits(format!("pvc {name} is being deleted")),
            Some(_) => {}
        }
    }
    ensured
}

/// The claim of an ordinal by one of the set's templates.
pub fn new_claim(set: &StatefulSet, template: usize, ordinal: Ordinal) -> Option<PersistentVolumeClaim> {
    let template = templates(set).get(template)?;
    let mut claim = PersistentVolumeClaim { status: None, ..template.clone() };
    if wanted_owners(set, ordinal).0 {
        claim.metadata.owner_references.get_or_insert_default().push(controller_reference(set));
    }
    claim.metadata.name = Some(claim_name(set, template, ordinal));
    claim.metadata.namespace = set.metadata.namespace.clone();
    let selected = set.spec.iter().flat_map(|spec| spec.selector.match_labels.iter().flatten());
    claim.metadata.labels.get_or_insert_default().extend(selected.map(|(key, value)| (key.clone(), value.clone())));
    Some(claim)
}

/// A claim with these owners in place of its own.
pub fn with_owners(claim: &PersistentVolumeClaim, owners: Vec<OwnerReference>) -> PersistentVolumeClaim {
    let mut claim = claim.clone();
    claim.metadata.owner_references = (!owners.is_empty()).then_some(owners);
    claim
}

/// Who may own a claim: the set, or one of its pods, as far as references tell of them.
#[derive(Clone, Copy, Debug)]
pub struct Owner<'a> {
    api_version: &'static str,
    kind: &'static str,
    name: &'a str,
    /// None of a pod that is still to be made.
    uid: Option<&'a str>,
}

impl<'a> Owner<'a> {
    fn set(set: &'a StatefulSet) -> Self {
        Owner { api_version: StatefulSet::API_VERSION, kind: StatefulSet::KIND, name: name(&set.metadata), uid: set.metadata.uid.as_deref() }
    }

    pub fn pod(name: &'a str, uid: Option<&'a str>) -> Self {
        Owner { api_version: Pod::API_VERSION, kind: Pod::KIND, name, uid }
    }

    /// The reference names it; whether it means it, its UID says.
    fn is_named_by(self, reference: &OwnerReference) -> bool {
        reference.api_version == self.api_version && reference.kind == self.kind && reference.name == self.name
    }

    fn is_meant_by(self, reference: &OwnerReference) -> bool {
        self.uid == Some(reference.uid.as_str())
    }

    fn owns(self, claim: &PersistentVolumeClaim) -> bool {
        references(claim).iter().any(|reference| self.is_meant_by(reference))
    }

    /// See [`controller_reference`].
    fn controller_reference(self) -> OwnerReference {
        OwnerReference {
            api_version: self.api_version.to_owned(),
            kind: self.kind.to_owned(),
            name: self.name.to_owned(),
            uid: self.uid.unwrap_or_default().to_owned(),
            controller: Some(true),
            block_owner_deletion: Some(true),
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
struct Policy {
    delete_with_set: bool,
    delete_when_scaled: bool,
}

fn policy(set: &StatefulSet) -> Policy {
    let policy = set.spec.as_ref().and_then(|spec| spec.persistent_volume_claim_retention_policy.as_ref());
    let deletes = |value: Option<&String>| value.is_some_and(|value| value == "Delete");
    Policy {
        delete_with_set: deletes(policy.and_then(|policy| policy.when_deleted.as_ref())),
        delete_when_scaled: deletes(policy.and_then(|policy| policy.when_scaled.as_ref())),
    }
}

/// A claim that an earlier pod of the same name owns goes with that pod: a new one must wait for that.
pub fn is_stale(set: &StatefulSet, pod: Owner<'_>, ordinal: Ordinal, claims: &Claims) -> bool {
    let mut owned = templates(set).iter().filter_map(|template| claims.get(&claim_name(set, template, ordinal)));
    policy(set).delete_when_scaled && owned.any(|claim| has_stale_owner(claim, pod))
}

/// Plans the owners that the retention policy wants for the claims of a pod.
pub fn fix_owners(set: &StatefulSet, pod: Owner<'_>, ordinal: Ordinal, claims: &Claims, actions: &mut Vec<Action>) {
    for template in templates(set) {
        let Some(claim) = claims.get(&claim_name(set, template, ordinal)) else { continue };
        if is_up_to_date(claim, set, pod, ordinal) {
            continue;
        }
        if is_full(actions) {
            return;
        }
        let (claim, conflict) = (claim.clone(), has_foreign_controller(claim, set, pod));
        actions.push(Action::UpdateClaim { owners: owners(&claim, set, pod, ordinal), claim, conflict });
    }
}

fn references(claim: &PersistentVolumeClaim) -> &[OwnerReference] {
    claim.metadata.owner_references.as_deref().unwrap_or_default()
}

fn has_stale_owner(claim: &PersistentVolumeClaim, owner: Owner<'_>) -> bool {
    references(claim).iter().find(|reference| owner.is_named_by(reference)).is_some_and(|reference| !owner.is_meant_by(reference))
}

/// Somebody else controls the claim, though the policy wants the set or the pod to.
fn has_foreign_controller(claim: &PersistentVolumeClaim, set: &StatefulSet, pod: Owner<'_>) -> bool {
    if policy(set) == (Policy { delete_with_set: false, delete_when_scaled: false }) {
        return false;
    }
    let named = |reference: &OwnerReference| [Owner::set(set), pod].into_iter().find(|owner| owner.is_named_by(reference));
    references(claim).iter().any(|reference| match named(reference) {
        Some(owner) => !owner.is_meant_by(reference),
        None => reference.controller == Some(true),
    })
}

fn is_up_to_date(claim: &PersistentVolumeClaim, set: &StatefulSet, pod: Owner<'_>, ordinal: Ordinal) -> bool {
    let of_set = Owner::set(set);
    // What an earlier set or pod of that name left is not touched.
    if has_stale_owner(claim, of_set) || has_stale_owner(claim, pod) {
        return true;
    }
    if has_foreign_controller(claim, set, pod) {
        return !of_set.owns(claim) && !pod.owns(claim);
    }
    let is_ours = |reference: &&OwnerReference| of_set.is_meant_by(reference) || pod.is_meant_by(reference);
    if references(claim).iter().filter(is_ours).any(|reference| reference.controller != Some(true)) {
        return false;
    }
    let (by_set, by_pod) = wanted_owners(set, ordinal);
    of_set.owns(claim) == by_set && pod.owns(claim) == by_pod
}

/// Whether the set, and whether the pod, shall own the claim of an ordinal.
fn wanted_owners(set: &StatefulSet, ordinal: Ordinal) -> (bool, bool) {
    let Policy { delete_with_set, delete_when_scaled } = policy(set);
    let scaled_down = !ordinals(set).contains(&ordinal);
    (delete_with_set && !(delete_when_scaled && scaled_down), delete_when_scaled && scaled_down)
}

fn owners(claim: &PersistentVolumeClaim, set: &StatefulSet, pod: Owner<'_>, ordinal: Ordinal) -> Vec<OwnerReference> {
    let of_set = Owner::set(set);
    let foreign = references(claim).iter().filter(|reference| !of_set.is_named_by(reference) && !pod.is_named_by(reference));
    let mut owners: Vec<OwnerReference> = foreign.cloned().collect();
    if has_foreign_controller(claim, set, pod) {
        return owners;
    }
    let (by_set, by_pod) = wanted_owners(set, ordinal);
    if by_pod {
        owners.push(pod.controller_reference());
    }
    if by_set {
        owners.push(of_set.controller_reference());
    }
    owners
}
