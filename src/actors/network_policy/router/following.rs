//! What is followed: policies, and once there is one, what it may be about.

use std::sync::Arc;

use super::{Phase, PolicyRouter};
use crate::{
    network_policy::{
        cluster,
        messages::{ClusterPolicyTouched, NamespaceTouched, PeersTouched, PodTouched, PolicyTouched},
        model::{PodView, PolicyView},
        slices::PeersIndex,
    },
    runtime::host::UnitContext,
};

impl PolicyRouter {
    /// Hears of policies from now on; gives what resolves when all are known.
    pub(super) fn hear_of_policies(&mut self, cx: &UnitContext<'_, Self>) -> impl Future<Output = ()> + Send + use<> {
        let (router, view) = (cx.address(), self.view.clone());
        let policies = self.options.policies.subscribe(move |change| {
            let (before, after) = view.set_policy(&change.key, change.after().map(|policy| PolicyView::of(policy)));
            if before != after {
                router.wake(PolicyTouched { key: change.key.clone(), before, after }, change.cause.clone());
            }
        });
        let (router, view) = (cx.address(), self.view.clone());
        let cluster_policies = self.options.cluster_policies.subscribe(move |change| {
            let (before, after) = view.set_cluster_policy(&change.key, change.after().and_then(|policy| cluster::parse(policy).policy));
            if before != after {
                router.wake(ClusterPolicyTouched(change.key.clone()), change.cause.clone());
            }
        });
        let (first, second) = (policies.filled(), cluster_policies.filled());
        self.policies = Some(policies);
        self.cluster_policies = Some(cluster_policies);
        async move {
            first.await;
            second.await;
        }
    }

    /// The first policy is there: what it is about is followed from now on.
    pub(super) fn follow(&mut self, cx: &mut UnitContext<'_, Self>) {
        self.phase = Phase::Filling;
        let followed = (self.options.follow)();
        let (router, view) = (cx.address(), self.view.clone());
        let local = followed.pods.subscribe(move |change| {
            let (before, after) = view.set_pod(&change.key, change.after().map(|pod| PodView::of(pod)));
            if before != after {
                router.wake(PodTouched(change.key.clone()), change.cause.clone());
            }
        });
        let (router, view) = (cx.address(), self.view.clone());
        let namespaces = followed.namespaces.subscribe(move |change| {
            let labels = change.after().map(|namespace| namespace.metadata.labels.clone().unwrap_or_default());
            if view.set_namespace(&change.key.name, labels) {
                router.wake(NamespaceTouched(change.key.name.clone()), change.cause.clone());
            }
        });
        let router = cx.address();
        let index = PeersIndex::new(&followed.slices, move |set, change| router.wake(PeersTouched(set), change.cause.clone()));
        let (pods, slices, labels) = (local.filled(), index.filled(), namespaces.filled());
        self.local = Some(local);
        self.namespaces = Some(namespaces);
        self.index = Some(Arc::new(index));
        self.followed = Some(followed);
        let running = self.options.running.clone();
        let filled = async move {
            pods.await;
            labels.await;
            slices.await;
            running.all().await
        };
        cx.spawn_then(filled, |unit, running, cx| {
            unit.phase = Phase::Synced;
            for pod in running {
                unit.view.note_running(pod);
            }
            // Units of sets begin with the report.
            unit.weigh_all("");
            unit.weigh_cluster_policies();
            unit.report_all(cx);
            unit.answer();
        });
    }
}
