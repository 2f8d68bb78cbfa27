//! Decides what a quota's status should say. Pure.

use k8s_openapi::api::core::v1::ResourceQuota;
use troupe_api::{
    meta::{Object, amounts::Amounts},
    quota,
};

/// A status to be written.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    pub hard: Amounts,
    pub used: Amounts,
    /// Something that is enforced now would become available.
    pub lowers: bool,
    /// The quota enforces other limits from here on.
    pub limits_changed: bool,
}

/// The status that follows from the quota's limits and what was counted; `None` if it says that already.
pub fn plan(quota: &Object, counted: &Amounts) -> Option<Plan> {
    let limits = Amounts::read(quota.get(&["spec", "hard"]));
    let (known, enforced) = (quota::used(quota), quota::hard(quota));
    // What nobody can count keeps its last value.
    let mut used = known.masked(&limits);
    for (name, amount) in counted.masked(&limits).iter() {
        used.set(name, amount);
    }
    let counted_before = quota.get(&["status", "used"]).is_some() && quota.get(&["status", "hard"]).is_some();
    if counted_before && limits == enforced && used == known {
        return None;
    }
    let lowers = used.iter().any(|(name, amount)| known.get(name).is_some_and(|known| amount < known));
    Some(Plan { lowers, limits_changed: limits != enforced, hard: limits, used })
}

/// Whether the status does not cover the spec yet.
pub fn wants_counting(quota: &ResourceQuota) -> bool {
    let limits = quota.spec.as_ref().and_then(|spec| spec.hard.as_ref());
    let status = quota.status.as_ref();
    let (enforced, used) = (status.and_then(|status| status.hard.as_ref()), status.and_then(|status| status.used.as_ref()));
    limits != enforced || enforced.into_iter().flatten().any(|(name, _)| used.is_none_or(|used| !used.contains_key(name)))
}
