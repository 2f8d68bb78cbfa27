//! The status of a StatefulSet. Pure.

use std::collections::BTreeSet;

use k8s_openapi::api::apps::v1::StatefulSetStatus;

use super::{
    identity::replicas,
    member::MemberDigest,
    model::{Action, View},
};

/// Counts `pods` as they are when the actions have taken effect.
pub fn status(view: &View<'_>, pods: &[&MemberDigest], actions: &[Action]) -> StatefulSetStatus {
    let (current, update) = (&view.history.current.revision, &view.history.update.revision);
    let deleted = actions.iter().filter_map(|action| if let Action::DeletePod { uid, .. } = action { Some(uid.as_str()) } else { None });
    let deleted: BTreeSet<&str> = deleted.collect();
    let going = |pod: &MemberDigest| deleted.contains(&*pod.meta.uid);
    let made = || actions.iter().filter_map(|action| if let Action::CreatePod { template, .. } = action { Some(&template.revision) } else { None });
    let there = || pods.iter().copied();
    let count = |number: usize| i32::try_from(number).unwrap_or(i32::MAX);
    let all = count(there().filter(|pod| !pod.standing.phase.is_empty()).count() + made().count());
    let ready = count(there().filter(|pod| pod.is_running_and_ready()).count());
    let available = count(there().filter(|pod| pod.is_running_and_ready() && pod.is_available(view.min_ready, view.now)).count());
    let staying = || there().filter(|pod| !pod.standing.is_deleted && !going(pod)).map(MemberDigest::revision);
    let at = |wanted: &String| count(staying().chain(made().map(String::as_str)).filter(|revision| revision == wanted).count());
    let (at_current, at_update) = (at(current), at(update));
    // Zeros are left out, as the API writes them.
    let some = |number: i32| (number != 0).then_some(number);
    let before = view.set.status.clone().unwrap_or_default();
    let mut status = StatefulSetStatus {
        replicas: all,
        ready_replicas: some(ready),
        available_replicas: Some(available),
        current_replicas: some(at_current),
        updated_replicas: some(at_update),
        current_revision: Some(current.clone()),
        update_revision: Some(update.clone()),
        observed_generation: view.set.metadata.generation,
        collision_count: Some(before.collision_count.unwrap_or(0)),
        conditions: before.conditions,
    };
    let strategy = view.set.spec.as_ref().and_then(|spec| spec.update_strategy.as_ref());
    let rolling = strategy.is_none_or(|strategy| strategy.type_.as_deref() != Some("OnDelete"));
    let wanted = replicas(view.set);
    if rolling && [all, ready, at_update] == [wanted; 3] {
        status.current_replicas = status.updated_replicas;
        status.current_revision = status.update_revision.clone();
    }
    status
}
