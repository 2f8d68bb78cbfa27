//! Asking extenders: aside, so that other pods get their turn meanwhile.

use std::{collections::BTreeMap, sync::Arc};

use futures::future::{BoxFuture, select};
use k8s_openapi::api::core::v1::{Node, Pod};
use tokio::sync::oneshot;
use troupe_api::meta::ObjectKey;

use super::{SchedulerUnit, attempt::Attempted};
use crate::{
    runtime::{cache::Cache, host::UnitContext},
    scheduler::{
        decide::Unschedulable,
        extender::{
            self, Extender, LeftVictims, Opinion,
            decide::{Begun, begin, finish, finish_nominated},
        },
        framework::{Candidate, DryRun, Nomination},
        metrics::{Operation, Working},
        placed_pod::PlacedPod,
        pod_info::PodInfo,
        preemption,
    },
};

impl SchedulerUnit {
    /// The first step of a decision with extenders is done.
    pub(super) fn has_begun(
        &mut self,
        of: Attempted,
        (info, begun): (&PodInfo, Begun),
        extenders: Vec<Arc<Extender>>,
        cx: &mut UnitContext<'_, Self>,
    ) {
        match begun {
            Begun::Decided(decision, looked_at) => {
                self.looked_at(looked_at);
                self.settle(of, info, decision, cx);
            }
            Begun::Ask { nodes, looked_at, is_nominated } => {
                // Those that ask meanwhile look at the same nodes first, as this one does again at the end.
                self.ask(of, (nodes, looked_at, is_nominated), extenders, cx);
            }
        }
    }

    fn ask(
        &mut self,
        of: Attempted,
        (nodes, looked_at, is_nominated): (Vec<Arc<Node>>, usize, bool),
        extenders: Vec<Arc<Extender>>,
        cx: &mut UnitContext<'_, Self>,
    ) {
        self.asking += 1;
        let (pod, asked) = (of.pod.clone(), extenders.clone());
        let working = Working::on(Operation::PrioritizingExtender);
        let asking = async move {
            let _working = working;
            extender::ask(&asked, &pod, nodes).await
        };
        cx.spawn_then(asking, move |unit, answered, cx| {
            unit.asking -= 1;
            if unit.is_attempted(&of) {
                match answered {
                    Ok(opinion) if is_nominated => unit.nominated_answered(of, &opinion, extenders, cx),
                    Ok(opinion) => unit.answered(of, &opinion, looked_at, cx),
                    Err(why) => {
                        unit.decided(&of, true, cx);
                        unit.erred(&of, &why, true, cx);
                    }
                }
            }
            unit.pump(cx);
        });
    }

    /// Waits aside for what a plugin has to find out about a pod, and tries the pod anew. If it is gone meanwhile that ends.
    pub(super) fn look_aside(&mut self, of: Attempted, search: BoxFuture<'static, ()>, cx: &mut UnitContext<'_, Self>) {
        let searching = self.while_wanted(of.key.clone(), search);
        cx.spawn_then(searching, move |unit, (), cx| {
            if unit.is_attempted(&of) {
                unit.searching.remove(&of.key);
                unit.attempt_alone(of, cx);
            }
            unit.pump(cx);
        });
    }

    /// The same search, which is dropped when its pod is gone.
    pub(super) fn while_wanted(&mut self, key: ObjectKey, search: BoxFuture<'static, ()>) -> BoxFuture<'static, ()> {
        let (wanted, unwanted) = oneshot::channel();
        self.searching.insert(key, wanted);
        Box::pin(until_unwanted(search, unwanted))
    }

    /// Whether the attempt still is one: the pod is not gone, and not another one by now.
    pub(super) fn is_attempted(&self, of: &Attempted) -> bool {
        let is_same = |pod: &Pod| pod.metadata.uid == of.pod.metadata.uid;
        self.queue.is_in_flight(&of.key) && self.pods.get(&of.key).is_some_and(|cached| is_same(&cached.object))
    }

    fn answered(&mut self, of: Attempted, opinion: &Opinion, looked_at: usize, cx: &mut UnitContext<'_, Self>) {
        let Some((info, decision)) = self.guarded(&of, cx, |info, context| finish(info, context, opinion)) else { return };
        self.looked_at(looked_at);
        self.settle(of, &info, decision, cx);
    }

    /// The node that was kept free will do, or else all are looked at.
    fn nominated_answered(&mut self, of: Attempted, opinion: &Opinion, extenders: Vec<Arc<Extender>>, cx: &mut UnitContext<'_, Self>) {
        let Some((info, decision)) = self.guarded(&of, cx, |info, context| finish_nominated(info, context, opinion)) else { return };
        if let Some(decision) = decision {
            return self.settle(of, &info, decision, cx);
        }
        let Some((info, begun)) = self.guarded(&of, cx, |info, context| begin(info, context, true)) else { return };
        self.has_begun(of, (&info, begun), extenders, cx);
    }

    /// Lets extenders choose among the nodes where pods could be removed.
    pub(super) fn ask_whom_to_remove(
        &mut self,
        of: Attempted,
        mut unschedulable: Unschedulable,
        extenders: Vec<Arc<Extender>>,
        cx: &mut UnitContext<'_, Self>,
    ) {
        self.asking += 1;
        let candidates: Vec<Candidate> = std::mem::take(&mut unschedulable.candidates).iter().map(DryRun::candidate).collect();
        let there = |candidate: &Candidate| {
            let pods = self.snapshot.node(&candidate.node).map(|node| node.pods.values().cloned().collect()).unwrap_or_default();
            (candidate.node.to_string(), pods)
        };
        let there: BTreeMap<String, Vec<Arc<PlacedPod>>> = candidates.iter().map(there).collect();
        let (pod, pods) = (of.pod.clone(), self.pods.clone());
        let asking = async move {
            let find = |url: &str, victims: &LeftVictims| found(url, victims, &there);
            extender::ask_preemption(&extenders, &pod, candidates, find, |candidate| objects(&pods, candidate)).await
        };
        cx.spawn_then(asking, move |unit, left, cx| {
            unit.asking -= 1;
            if unit.is_attempted(&of) {
                unit.unschedulable(of, chosen(unschedulable, left), cx);
            }
            unit.pump(cx);
        });
    }
}

/// Ends with the search, or drops it when the other end of the channel is gone.
async fn until_unwanted(search: BoxFuture<'static, ()>, unwanted: oneshot::Receiver<()>) {
    drop(select(search, unwanted).await);
}

/// What is done by what extenders left.
fn chosen(unschedulable: Unschedulable, left: Result<Vec<Candidate>, String>) -> Unschedulable {
    let preemption = left.map(|left| preemption::choose(&left));
    let (preemption, why) = match preemption {
        Ok(Some(preemption)) => (Some(preemption), None),
        Ok(None) => (None, Some("no candidate node for preemption".to_owned())),
        Err(why) => (None, Some(why)),
    };
    let nomination = preemption.as_ref().map_or(Nomination::Keep, |preemption| Nomination::Set(preemption.node.clone()));
    let message = why.map_or_else(|| unschedulable.message.clone(), |why| format!("{} preemption: {why}", unschedulable.message));
    Unschedulable { message, nomination, preemption, ..unschedulable }
}

/// The candidates that an extender left, with the pods that their nodes had when it was asked.
fn found(url: &str, victims: &LeftVictims, there: &BTreeMap<String, Vec<Arc<PlacedPod>>>) -> Result<Vec<Candidate>, String> {
    let candidate = |(node, (uids, broken_budgets)): (&String, &(Vec<String>, usize))| {
        let pods = there.get(node).ok_or_else(|| format!("nodeinfo not found for node name {node:?}"))?;
        let of_uid = |uid: &String| {
            let known = pods.iter().find(|pod| *pod.uid == **uid).cloned();
            known.ok_or_else(|| format!("extender: {url} claims to preempt pod (UID: {uid}) on node: {node}, but the pod is not found on that node"))
        };
        let victims = uids.iter().map(of_uid).collect::<Result<Vec<_>, String>>()?;
        Ok(Candidate { node: node.as_str().into(), victims, broken_budgets: *broken_budgets })
    };
    victims.iter().map(candidate).collect()
}

fn objects(pods: &Cache<Pod>, candidate: &Candidate) -> Vec<Arc<Pod>> {
    candidate.victims.iter().filter_map(|victim| Some(pods.get(victim.key())?.object)).collect()
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[tokio::test]
    async fn a_search_is_dropped_when_nobody_wants_it_any_more() {
        let held = Arc::new(());
        let (wanted, unwanted) = oneshot::channel();
        let holds = held.clone();
        let search = async move {
            std::future::pending::<()>().await;
            drop(holds);
        };
        let mut searching = Box::pin(until_unwanted(search.boxed(), unwanted));
        assert!((&mut searching).now_or_never().is_none() && Arc::strong_count(&held) == 2);
        drop(wanted);
        searching.await;
        assert_eq!(Arc::strong_count(&held), 1);
    }
}
