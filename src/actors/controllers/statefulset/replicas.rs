//! Brings a StatefulSet to the pods it should have, whatever their template. Pure.

use std::sync::Arc;

use k8s_openapi::api::apps::v1::StatefulSet;

use super::{
    claims::{self, Ensured, Owner},
    identity::{Ordinal, is_correct, ordinals, pod_name},
    member::MemberDigest,
    model::{Action, History, Template, View, delete, is_full},
};
use crate::controllers::owners::Named;

/// Plans the steps towards the set's size. `true` when nothing more stands against updating pods.
pub fn settle(view: &View<'_>, actions: &mut Vec<Action>) -> bool {
    for (ordinal, pod) in view.due() {
        if is_full(actions) {
            return false;
        }
        let settled = match pod {
            Some(pod) => keep(view, ordinal, pod, actions),
            None => make(view, ordinal, actions),
        };
        if !settled && view.in_order {
            return false;
        }
    }
    for (ordinal, pod) in &view.condemned {
        if is_full(actions) {
            return false;
        }
        claims::fix_owners(view.set, owner(pod), *ordinal, view.claims, actions);
    }
    let first = first_unavailable(view);
    for (_, pod) in &view.condemned {
        if is_full(actions) {
            return false;
        }
        if !delete_outdated(view, pod, first, actions) && view.in_order {
            return false;
        }
    }
    true
}

/// Looks after one ordinal; `false` when the next ones must wait for it.
fn keep(view: &View<'_>, ordinal: Ordinal, pod: &MemberDigest, actions: &mut Vec<Action>) -> bool {
    let leaving = pod.standing.is_deleted;
    if pod.standing.is_finished() {
        // A new one follows when it is gone.
        if !leaving {
            actions.push(delete(pod));
        }
        return false;
    }
    let is_pending = pod.standing.phase == "Pending";
    if is_pending {
        match claims::ensure(view.set, ordinal, view.claims, actions) {
            Ensured::All => {}
            Ensured::More => return false,
            Ensured::Waits(why) => {
                actions.push(Action::Wait { pod: pod.meta.name.to_string(), why, announce: false });
                return false;
            }
        }
        claims::fix_owners(view.set, owner(pod), ordinal, view.claims, actions);
    }
    if view.in_order && (leaving || !is_healthy(view, pod)) {
        return false;
    }
    if !is_pending {
        claims::fix_owners(view.set, owner(pod), ordinal, view.claims, actions);
    }
    if !is_correct(view.set, pod, ordinal) {
        let Named { name, uid } = Named::by_meta(&pod.meta);
        actions.push(Action::UpdatePod { pod: name, uid, ordinal });
    }
    true
}

/// Makes a pod, its claims first.
fn make(view: &View<'_>, ordinal: Ordinal, actions: &mut Vec<Action>) -> bool {
    // Its name is all that its claims need of it.
    let name = pod_name(view.set, ordinal);
    if claims::is_stale(view.set, Owner::pod(&name, None), ordinal, view.claims) {
        return false;
    }
    match claims::ensure(view.set, ordinal, view.claims, actions) {
        Ensured::All => {}
        Ensured::More => return false,
        Ensured::Waits(why) => {
            actions.push(Action::Wait { pod: name, why, announce: true });
            return false;
        }
    }
    claims::fix_owners(view.set, Owner::pod(&name, None), ordinal, view.claims, actions);
    actions.push(Action::CreatePod { template: template_of(view.set, view.history, ordinal).clone(), ordinal });
    false
}

/// The pod as an owner of claims.
fn owner(pod: &MemberDigest) -> Owner<'_> {
    Owner::pod(&pod.meta.name, Some(&pod.meta.uid))
}

fn is_healthy(view: &View<'_>, pod: &MemberDigest) -> bool {
    pod.is_running_and_ready() && pod.is_available(view.min_ready, view.now)
}

/// The condemned pod that is the lowest of all that are not available: none where one that stays is not.
fn first_unavailable<'a>(view: &View<'a>) -> Option<&'a MemberDigest> {
    let staying = view.missing_count() > 0 || view.there.values().any(|pod| view.is_unavailable(pod));
    let mut condemned = view.condemned.iter().rev().map(|(_, pod)| *pod);
    condemned.find(|pod| view.is_unavailable(pod)).filter(|_| !staying)
}

/// Takes away a pod that is one too many; `false` when the next ones must wait for it.
fn delete_outdated(view: &View<'_>, pod: &MemberDigest, first_unavailable: Option<&MemberDigest>, actions: &mut Vec<Action>) -> bool {
    if pod.standing.is_deleted {
        return false;
    }
    let is_first = first_unavailable.is_some_and(|first| first.meta.name == pod.meta.name);
    if view.in_order && !is_healthy(view, pod) && !is_first {
        return false;
    }
    actions.push(delete(pod));
    false
}

/// What the pod that an ordinal lacks is made from: below the partition it comes back as it was.
fn template_of<'a>(set: &StatefulSet, history: &'a History, ordinal: Ordinal) -> &'a Arc<Template> {
    let strategy = set.spec.as_ref().and_then(|spec| spec.update_strategy.as_ref());
    let rolling = strategy.and_then(|strategy| strategy.rolling_update.as_ref());
    let is_rolling = strategy.is_none_or(|strategy| strategy.type_.as_deref() != Some("OnDelete"));
    let kept = match rolling {
        Some(rolling) => rolling.partition.unwrap_or(0),
        None if is_rolling => set.status.as_ref().and_then(|status| status.current_replicas).unwrap_or(0),
        None => 0,
    };
    if ordinal < ordinals(set).start + Ordinal::from(kept) { &history.current } else { &history.update }
}
