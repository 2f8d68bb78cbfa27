//! Coordinated leader election (KEP-4355): of the processes that stand for a lease an API server chooses the one of the oldest emulated version,
//! so that while a control plane is brought to another version the old one leads until all are new.
//!
//! In: leases, and the LeaseCandidates that name them. Out: who holds a lease, or should (`preferredHolder`), the time at which candidates are asked
//! whether they are still there (`pingTime`), and the removal of those that have not told for half an hour. One API server of all does this: the one
//! that holds the lease `leader-election-controller`.

mod plan;
#[cfg(test)]
mod tests;

use std::{sync::Arc, time::Duration};

use k8s_openapi::{
    api::coordination::{
        v1::{Lease, LeaseSpec},
        v1beta1::{LeaseCandidate, LeaseCandidateSpec},
    },
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta},
};
use troupe_api::{meta::ObjectKey, service::DeleteOptions, status::Status};

use self::plan::{Plan, Step, is_asked};
use crate::runtime::{
    cache::{Cache, Caches},
    controller::{Controller, Outcome, ReconcileContext, ReconcileError, Watches},
};

/// The lease of the API server that chooses, and its part in events.
pub const LEASE: &str = "leader-election-controller";

/// While there are candidates their lease is looked at this often: it may run out.
const AGAIN: Duration = Duration::from_secs(5);

/// See the module. Keys are leases.
pub struct LeaderElectionController {
    leases: Cache<Lease>,
    candidates: Cache<LeaseCandidate>,
}

impl LeaderElectionController {
    pub fn new(caches: &Caches) -> Self {
        LeaderElectionController { leases: caches.cache(), candidates: caches.cache() }
    }

    async fn ask(&self, candidates: &[Arc<LeaseCandidate>], cx: &ReconcileContext) -> Result<(), Status> {
        for candidate in candidates {
            let spec = LeaseCandidateSpec { ping_time: Some(MicroTime(cx.now())), ..candidate.spec.clone() };
            let asked = LeaseCandidate { spec, ..(**candidate).clone() };
            let api = cx.client().namespaced::<LeaseCandidate>(namespace_of(&candidate.metadata));
            cx.wrote(&self.candidates, &*api.update(&asked).await?);
        }
        Ok(())
    }

    async fn remove(&self, candidates: &[Arc<LeaseCandidate>], cx: &ReconcileContext) -> Result<(), Status> {
        for candidate in candidates {
            let name = candidate.metadata.name.as_deref().unwrap_or_default();
            let api = cx.client().namespaced::<LeaseCandidate>(namespace_of(&candidate.metadata));
            match api.delete(name, as_seen(&candidate.metadata)).await {
                // One that has told meanwhile is there after all.
                Err(status) if !status.is_not_found() && !status.is_conflict() => return Err(status),
                _ => {}
            }
        }
        Ok(())
    }

    async fn write(&self, key: &ObjectKey, known: Option<&Lease>, spec: LeaseSpec, cx: &ReconcileContext) -> Result<(), Status> {
        let api = cx.client().namespaced::<Lease>(key.namespace.clone());
        let written = match known {
            Some(known) => api.update(&Lease { spec: Some(spec), ..known.clone() }).await?,
            None => {
                let metadata = ObjectMeta { name: Some(key.name.to_string()), namespace: Some(key.namespace.to_string()), ..ObjectMeta::default() };
                api.create(&Lease { metadata, spec: Some(spec) }).await?
            }
        };
        cx.wrote(&self.leases, &*written);
        Ok(())
    }

    async fn apply(&self, key: &ObjectKey, known: Option<&Lease>, plan: Plan, cx: &ReconcileContext) -> Result<(), Status> {
        self.remove(&plan.expired, cx).await?;
        match plan.step {
            Step::Rest => Ok(()),
            Step::Ask(candidates) => self.ask(&candidates, cx).await,
            Step::Write(spec) => self.write(key, known, *spec, cx).await,
            Step::Refuse(why) => {
                tracing::warn!(lease = %key, why, "nobody is chosen");
                Ok(())
            }
        }
    }
}

/// Deletes an object only as it was when it was judged.
fn as_seen(meta: &ObjectMeta) -> DeleteOptions {
    let revision = meta.resource_version.as_deref().and_then(|text| text.parse().ok());
    DeleteOptions { precondition_uid: meta.uid.clone(), precondition_revision: revision, ..DeleteOptions::default() }
}

fn namespace_of(meta: &ObjectMeta) -> &str {
    meta.namespace.as_deref().unwrap_or_default()
}

/// The lease that a candidate is for.
fn lease_of(candidate: &LeaseCandidate) -> ObjectKey {
    ObjectKey::new(namespace_of(&candidate.metadata), candidate.spec.lease_name.as_str())
}

/// Candidates for a lease, by name.
fn candidates_for(candidates: &Cache<LeaseCandidate>, lease: &ObjectKey) -> Vec<Arc<LeaseCandidate>> {
    let mut found = candidates.list(&lease.namespace);
    found.retain(|candidate| *candidate.spec.lease_name == *lease.name);
    found.sort_by(|one, other| one.metadata.name.cmp(&other.metadata.name));
    found
}

impl Controller for LeaderElectionController {
    const NAME: &'static str = LEASE;

    fn watches(&self, watches: &mut Watches<'_>) {
        watches.map::<LeaseCandidate>(|change| {
            // One that is asked has yet to answer.
            let is_waited_for = change.after().is_some_and(|candidate| is_asked(&candidate.spec));
            let both = change.before().into_iter().chain(change.after()).filter(|_| !is_waited_for);
            both.map(|candidate| lease_of(candidate)).collect()
        });
        // Most leases are nodes', and nobody stands for them.
        let candidates = self.candidates.clone();
        watches.map::<Lease>(move |change| {
            let has_some = candidates.list(&change.key.namespace).iter().any(|candidate| *candidate.spec.lease_name == *change.key.name);
            has_some.then(|| change.key.clone()).into_iter().collect()
        });
        watches.reads::<Lease>();
        watches.reads::<LeaseCandidate>();
    }

    async fn reconcile(&self, key: &ObjectKey, cx: &ReconcileContext) -> Result<Outcome, ReconcileError> {
        let all = candidates_for(&self.candidates, key);
        if all.is_empty() {
            return Ok(Outcome::Done);
        }
        let lease = self.leases.get(key).map(|cached| cached.object);
        let plan = plan::plan(lease.as_ref().map(|lease| lease.spec.clone().unwrap_or_default()).as_ref(), &all, cx.now());
        match self.apply(key, lease.as_deref(), plan, cx).await {
            Err(status) if !status.is_conflict() && !status.is_already_exists() => Err(status.into()),
            // Somebody wrote in between: what it came to is looked at.
            _ => Ok(Outcome::RequeueAfter(AGAIN)),
        }
    }
}
