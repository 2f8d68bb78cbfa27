//! An attempt on all pods of a group at once (KEP-4671): they get nodes together or not at all.
//!
//! The pods are tried one after the other, each with the places that those before it would have. If too few fit, all give their places
//! back before anybody else is looked at, so that no group holds what another one needs. If enough fit once others are removed for them,
//! that is done, and they are tried again when those are gone.

use std::sync::Arc;

use futures::future::{BoxFuture, join_all};
use troupe_api::meta::{ObjectKey, time::format_time};

use super::{SchedulerUnit, attempt::Attempted, placing::Placement};
use crate::{
    runtime::host::UnitContext,
    scheduler::{
        decide::{Decision, Unschedulable, decide},
        framework::{Nomination, Preemption, Undecided},
        gangs::{
            GangCaches,
            condition::{self, Verdict},
        },
        placed_pod::PlacedPod,
        plugins::{GangScheduling, TOO_FEW},
        pod_info::PodInfo,
    },
};

/// What is said of the group itself.
const UNSCHEDULABLE: &str = "pod group is unschedulable";
const WAITS_FOR_PREEMPTION: &str = "pod group is waiting for preemption to complete";

/// Pods with a place and pods without one.
#[derive(Default)]
struct Tried {
    seated: Vec<(Placement, PodInfo)>,
    rejected: Vec<(Attempted, Unschedulable)>,
    /// The pod on which the attempt failed, if it did, with what went wrong ...
    failed: Option<(Attempted, String)>,
    /// ... and those after it, which were not tried.
    rest: Vec<Attempted>,
}

/// What is undone after trying how it were without other pods.
#[derive(Default)]
struct Pretended {
    /// Pods that only seemed to be placed.
    placed: Vec<ObjectKey>,
    /// Pods that only seemed to be gone, with their nodes.
    removed: Vec<(Arc<str>, Arc<PlacedPod>)>,
}

impl SchedulerUnit {
    /// Tries the pods of a group of which one was taken out of the queue.
    pub(super) fn attempt_group(&mut self, group: &ObjectKey, first: ObjectKey, cx: &mut UnitContext<'_, Self>) {
        let Some(known) = self.gangs.clone() else { return };
        let mut keys = known.gangs.members(group, false);
        keys.retain(|key| *key != first && self.queue.pop_early(key));
        keys.push(first);
        keys.sort_by_key(|key| self.queue.rank(key));
        if known.gangs.admit(group).is_err() {
            return self.gate_all(&keys, cx);
        }
        let mut members = Vec::with_capacity(keys.len());
        for key in keys {
            members.extend(self.attempted(key, cx));
        }
        if let Some(why) = different_schedulers(&members) {
            return self.group_erred(&known, group, members, why, cx);
        }
        if members.iter().any(|of| !self.extenders.of_nodes(&of.pod).is_empty()) {
            // What they say comes later: those with a node wait at Permit for the others.
            members.into_iter().for_each(|of| self.attempt_alone(of, cx));
            return;
        }
        self.attempt_members(&known, group, members, cx);
    }

    /// Tries them, and does what comes of it.
    fn attempt_members(&mut self, known: &GangCaches, group: &ObjectKey, mut members: Vec<Attempted>, cx: &mut UnitContext<'_, Self>) {
        members.sort_by_key(|of| self.queue.rank(&of.key));
        let mut tried = self.try_members(members, cx);
        if let Some((of, why)) = tried.failed.take() {
            return self.member_erred(known, group, tried, (of, why), cx);
        }
        let searches: Vec<_> = tried.rejected.iter().filter_map(|(of, _)| Some((of.key.clone(), search_for(of)?))).collect();
        if !searches.is_empty() {
            return self.look_aside_for_group(known, group, tried, searches, cx);
        }
        let verdict = if !tried.seated.is_empty() && known.gangs.is_enough(group) == Some(true) {
            self.place_group(tried, cx);
            Verdict::Scheduled
        } else {
            let waits = self.make_room(known, group, &mut tried, cx);
            self.send_back(tried, waits, cx);
            Verdict::Unschedulable(if waits { format!("{UNSCHEDULABLE}, {WAITS_FOR_PREEMPTION}") } else { UNSCHEDULABLE.to_owned() })
        };
        self.tell_group(known, group, &verdict, cx);
    }

    /// Waits aside for what plugins have to find out about pods of a group, which give their places back meanwhile, and tries them anew. The
    /// search for a pod that is gone meanwhile ends.
    fn look_aside_for_group(
        &mut self,
        known: &GangCaches,
        group: &ObjectKey,
        tried: Tried,
        searches: Vec<(ObjectKey, BoxFuture<'static, ()>)>,
        cx: &mut UnitContext<'_, Self>,
    ) {
        for (placement, _) in &tried.seated {
            self.unseat(&placement.of.key);
        }
        let seated = tried.seated.into_iter().map(|(placement, _)| placement.of);
        let members: Vec<Attempted> = seated.chain(tried.rejected.into_iter().map(|(of, _)| of)).collect();
        let (known, group) = (known.clone(), group.clone());
        let searches: Vec<_> = searches.into_iter().map(|(key, search)| self.while_wanted(key, search)).collect();
        cx.spawn_then(join_all(searches), move |unit, _, cx| {
            let members: Vec<Attempted> = members.into_iter().filter(|of| unit.is_attempted(of)).collect();
            members.iter().for_each(|of| drop(unit.searching.remove(&of.key)));
            if !members.is_empty() {
                unit.attempt_members(&known, &group, members, cx);
            }
            unit.pump(cx);
        });
    }

    /// There are too few pods by now: all wait until there are enough.
    fn gate_all(&mut self, keys: &[ObjectKey], cx: &UnitContext<'_, Self>) {
        let now = cx.system().instant();
        for key in keys {
            if let Some((priority, _)) = self.queue.rank(key) {
                self.queue.gate(key.clone(), priority.0, None, now);
            }
        }
    }

    /// Gives each pod its place before the next one is looked at.
    fn try_members(&mut self, members: Vec<Attempted>, cx: &mut UnitContext<'_, Self>) -> Tried {
        let mut tried = Tried::default();
        let mut members = members.into_iter();
        while let Some(of) = members.next() {
            // One on which that panics is no part of the group for now.
            let Some((info, (decision, looked_at))) = self.guarded(&of, cx, decide) else { continue };
            self.looked_at(looked_at);
            match decision {
                Decision::Unschedulable(unschedulable) => tried.rejected.push((of, unschedulable)),
                Decision::Bind { node } => self.seat_member(&mut tried, (of, info), node, cx),
                Decision::Failed(why) => {
                    tried.failed = Some((of, why));
                    tried.rest = members.by_ref().collect();
                }
            }
        }
        tried
    }

    fn seat_member(&mut self, tried: &mut Tried, (of, info): (Attempted, PodInfo), name: Arc<str>, cx: &mut UnitContext<'_, Self>) {
        let Some(node) = self.snapshot.node(&name).map(|known| known.node.clone()) else {
            return self.queue.failed(&of.key, cx.system().instant());
        };
        match self.seat(of, &info, (name, node), cx) {
            (placement, Ok(())) => tried.seated.push((placement, info)),
            (placement, Err(refusal)) => self.refused(placement, refusal, cx),
        }
    }

    /// Enough pods fit: they are bound, and the others wait as any pod does.
    fn place_group(&mut self, tried: Tried, cx: &mut UnitContext<'_, Self>) {
        for (placement, info) in tried.seated {
            self.decided(&placement.of, true, cx);
            self.permit(placement, &info, cx);
        }
        for (of, unschedulable) in tried.rejected {
            self.unschedulable(of, unschedulable, cx);
        }
    }

    /// Tries whether enough pods fit once others are removed for them. If so, what was `tried` says for whom which ones are.
    fn make_room(&mut self, known: &GangCaches, group: &ObjectKey, tried: &mut Tried, cx: &mut UnitContext<'_, Self>) -> bool {
        if tried.rejected.iter().all(|(_, unschedulable)| unschedulable.preemption.is_none()) {
            return false;
        }
        let (mut pretended, mut outcomes) = (Pretended::default(), Vec::with_capacity(tried.rejected.len()));
        for (of, unschedulable) in &tried.rejected {
            // What is gone for one may do for the next.
            let Some((info, (decision, _))) = self.guarded(of, cx, decide) else {
                outcomes.push(unschedulable.clone());
                continue;
            };
            let (outcome, node) = match decision {
                Decision::Bind { node } => (sent_back(WAITS_FOR_PREEMPTION, Nomination::Set(node.clone())), Some(node)),
                Decision::Unschedulable(found) => {
                    let node = found.preemption.as_ref().map(|preemption| self.pretend_removal(preemption, &mut pretended));
                    (found, node)
                }
                Decision::Failed(_) => (unschedulable.clone(), None),
            };
            outcomes.push(outcome);
            if let Some(node) = node {
                self.snapshot.nominations_mut().remove(&of.key);
                self.snapshot.set_placed(&node, PlacedPod::clone(&info.placed));
                known.gangs.place(&of.key, true);
                pretended.placed.push(of.key.clone());
            }
        }
        let is_enough = known.gangs.is_enough(group) == Some(true);
        self.undo(known, pretended);
        if is_enough {
            tried.rejected.iter_mut().zip(outcomes).for_each(|((_, unschedulable), outcome)| *unschedulable = outcome);
        }
        is_enough
    }

    /// Takes pods away as if they were removed, and tells from which node.
    fn pretend_removal(&mut self, preemption: &Preemption, pretended: &mut Pretended) -> Arc<str> {
        for victim in &preemption.victims {
            if let Some(pod) = self.snapshot.remove_pod(&victim.key) {
                pretended.removed.push((preemption.node.clone(), pod));
            }
        }
        preemption.node.clone()
    }

    fn undo(&mut self, known: &GangCaches, pretended: Pretended) {
        for key in pretended.placed {
            self.snapshot.remove_pod(&key);
            known.gangs.place(&key, false);
        }
        for (node, pod) in pretended.removed {
            self.snapshot.set_placed(&node, PlacedPod::clone(&pod));
        }
    }

    /// All pods give their places back and wait; if others are removed for them, each for its node.
    fn send_back(&mut self, tried: Tried, waits: bool, cx: &mut UnitContext<'_, Self>) {
        for (placement, _) in &tried.seated {
            self.unseat(&placement.of.key);
        }
        for (Placement { of, name, .. }, _) in tried.seated {
            let back = if waits { sent_back(WAITS_FOR_PREEMPTION, Nomination::Set(name)) } else { sent_back(TOO_FEW, Nomination::Clear) };
            self.unschedulable(of, back, cx);
        }
        for (of, unschedulable) in tried.rejected {
            let back = match unschedulable.preemption {
                // Nobody is removed for a group that does not fit all the same.
                Some(_) if !waits => sent_back(TOO_FEW, Nomination::Clear),
                _ => unschedulable,
            };
            self.unschedulable(of, back, cx);
        }
    }

    /// The attempt failed on one pod, and so on its whole group.
    fn member_erred(&mut self, known: &GangCaches, group: &ObjectKey, tried: Tried, (of, why): (Attempted, String), cx: &mut UnitContext<'_, Self>) {
        for (placement, _) in &tried.seated {
            self.unseat(&placement.of.key);
        }
        of.profile.abandon(&of.key);
        self.decided(&of, true, cx);
        self.erred(&of, &why, true, cx);
        let seated = tried.seated.into_iter().map(|(placement, _)| placement.of);
        let others = seated.chain(tried.rejected.into_iter().map(|(of, _)| of)).chain(tried.rest);
        self.group_erred(known, group, others.collect(), format!("failed to schedule other pod from a pod group: {why}"), cx);
    }

    fn group_erred(&mut self, known: &GangCaches, group: &ObjectKey, members: Vec<Attempted>, why: String, cx: &mut UnitContext<'_, Self>) {
        for of in members {
            self.decided(&of, true, cx);
            self.erred(&of, &why, true, cx);
        }
        self.tell_group(known, group, &Verdict::Failed(why), cx);
    }

    /// Says in the group's status what became of it.
    fn tell_group(&self, known: &GangCaches, key: &ObjectKey, verdict: &Verdict, cx: &mut UnitContext<'_, Self>) {
        let Some(group) = known.groups.get(key).map(|cached| cached.object) else { return };
        let now = format_time(cx.system().clock().now());
        let Some(condition) = condition::plan(&group, verdict, &now) else { return };
        let (client, key) = (self.client.clone(), key.clone());
        cx.spawn(async move {
            if let Err(error) = condition::write(&client, &group, condition).await {
                tracing::debug!(%error, %key, "the group's condition was not written");
            }
        });
    }
}

/// What a plugin has to find out aside about a pod.
fn search_for(of: &Attempted) -> Option<BoxFuture<'static, ()>> {
    match of.profile.undecided(&of.key)? {
        Undecided::Search(search) => Some(search),
        // The pod waits as any that fits nowhere, and its group is tried again with it.
        Undecided::Failed(_) => None,
    }
}

/// Of a pod that had a node.
fn sent_back(why: &str, nomination: Nomination) -> Unschedulable {
    let message = format!("{UNSCHEDULABLE}, {why}");
    Unschedulable { message, rejected_by: vec![GangScheduling::NAME], nomination, preemption: None, candidates: Vec::new() }
}

/// All pods of a group are of one scheduler.
fn different_schedulers(members: &[Attempted]) -> Option<String> {
    let first = &members.first()?.profile.name;
    let other = members.iter().map(|of| &of.profile.name).find(|name| *name != first)?;
    Some(format!("all pods in a single pod group should have the same .spec.schedulerName set, got: {other:?} and {first:?}"))
}
