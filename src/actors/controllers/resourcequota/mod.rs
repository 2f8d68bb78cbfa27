//! ResourceQuota: counts what a namespace uses, so that what was given up can be spent again.
//!
//! Writes are charged by the API server before they commit; this controller puts right what charges cannot know:
//! deletions, finished pods, writes that failed after their charge. It never lowers a quota that was charged a moment
//! ago: the object that was paid for may not be in the store yet.

mod monitor;
pub mod plan;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
    time::{Duration, Instant},
};

use k8s_openapi::{
    api::core::v1::{ResourceQuota, ResourceQuotaStatus},
    apimachinery::pkg::api::resource::Quantity,
};
use parking_lot::Mutex;
use troupe_api::{
    meta::{Object, ObjectKey, Revision, amounts::Amounts},
    quota::{self, Evaluator},
    resources::Resource,
    service::{ListOptions, ListReply, Operation, ReplyBody, Target, Verb},
    status::Status,
};

use self::{monitor::Monitors, plan::Plan};
use super::writes::is_gone;
use crate::runtime::{
    cache::{Cache, Caches},
    controller::{Controller, Outcome, ReconcileContext, ReconcileError, Watches},
    turn::Turn,
};

/// How long a quota must stand unchanged before it is lowered.
const QUIET: Duration = Duration::from_millis(500);
/// How long an extension server is waited for.
const PATIENCE: Duration = Duration::from_secs(5);
/// New limits are counted again after this time: writes that saw the old ones have ended by then.
const AFTERWARDS: Duration = Duration::from_secs(5);
/// Everything is counted again after this time, as upstream, unless told otherwise.
const RESYNC: Duration = Duration::from_secs(300);

/// See the module. Keys are quotas.
pub struct ResourceQuotaController {
    quotas: Cache<ResourceQuota>,
    monitors: Monitors,
    /// Since when a version of a quota that wants lowering stands.
    standing: Mutex<HashMap<ObjectKey, (Revision, Instant)>>,
    resync: Duration,
}

impl ResourceQuotaController {
    pub fn new(caches: &Caches) -> Self {
        let quotas = caches.cache();
        ResourceQuotaController { monitors: Monitors::new(caches, quotas.clone()), quotas, standing: Mutex::default(), resync: RESYNC }
    }

    /// The same where everything is counted again after another time (`--resource-quota-sync-period`).
    #[must_use]
    pub fn counting_every(self, resync: Duration) -> Self {
        ResourceQuotaController { resync, ..self }
    }

    /// How much longer to wait before this version may be lowered.
    fn wait(&self, key: &ObjectKey, revision: Revision, now: Instant) -> Option<Duration> {
        let mut standing = self.standing.lock();
        let (known, since) = standing.entry(key.clone()).or_insert((revision, now));
        if *known != revision {
            (*known, *since) = (revision, now);
        }
        let left = QUIET.saturating_sub(now.saturating_duration_since(*since));
        (!left.is_zero()).then_some(left)
    }
}

impl Controller for ResourceQuotaController {
    const NAME: &'static str = "resourcequota";

    fn watches(&self, watches: &mut Watches<'_>) {
        watches.primary_when::<ResourceQuota>(|change| {
            let Some(new) = change.after() else { return true };
            plan::wants_counting(new) || change.before().is_none_or(|old| old.spec != new.spec)
        });
        self.monitors.start(watches.waker());
    }

    async fn reconcile(&self, key: &ObjectKey, cx: &ReconcileContext) -> Result<Outcome, ReconcileError> {
        let Some(cached) = self.quotas.get(key) else {
            self.standing.lock().remove(key);
            return Ok(Outcome::Done);
        };
        let quota = cached.stored.to_object();
        let counted = count(&quota, cx).await?;
        let Some(Plan { hard, used, lowers, limits_changed }) = plan::plan(&quota, &counted) else { return Ok(Outcome::RequeueAfter(self.resync)) };
        if lowers && let Some(left) = self.wait(key, cached.stored.revision, cx.system().instant()) {
            return Ok(Outcome::RequeueAfter(left));
        }
        let mut updated = (*cached.object).clone();
        updated.status = Some(ResourceQuotaStatus { hard: Some(typed(&hard)), used: Some(typed(&used)) });
        match cx.client().namespaced::<ResourceQuota>(key.namespace.clone()).update_status(&updated).await {
            Ok(written) => cx.wrote(&self.quotas, &*written),
            Err(status) if is_gone(&status) => return Ok(Outcome::Done),
            Err(status) => return Err(status.into()),
        }
        Ok(Outcome::RequeueAfter(if limits_changed { AFTERWARDS } else { self.resync }))
    }
}

fn typed(amounts: &Amounts) -> BTreeMap<String, Quantity> {
    amounts.iter().map(|(name, amount)| (name.to_owned(), Quantity(amount.to_string()))).collect()
}

/// What the quota's namespace uses of what it limits, as of now.
async fn count(quota: &Object, cx: &ReconcileContext) -> Result<Amounts, Status> {
    let registry = cx.client().service().registry();
    let (mut counted, mut turn) = (Amounts::default(), Turn::default());
    // Groups whose extension servers do not tell: they are asked once, and what they have keeps its last value.
    let mut silent: BTreeSet<Arc<str>> = BTreeSet::new();
    for row in registry.reachable().filter(|row| is_countable(row)) {
        let evaluator = Evaluator::of(&row.group_resource());
        if quota::is_tracked(quota, &evaluator) {
            if row.is_elsewhere && silent.contains(&row.group) {
                continue;
            }
            let Some(list) = answered(row.is_elsewhere, list(row, quota.namespace(), cx)).await? else {
                silent.insert(row.group.clone());
                continue;
            };
            counted.add(&quota::usage(quota, &evaluator, std::iter::empty::<Object>(), cx.now()));
            for item in &list.items {
                counted.add(&quota::usage(quota, &evaluator, [item.to_object()], cx.now()));
                turn.step_bytes(item.encoded_length()).await;
            }
        }
    }
    Ok(counted)
}

/// An answer; `None` where an extension server fails or does not give it in time, which is no reason to leave the others uncounted.
///
/// # Errors
/// What our own server says.
async fn answered<T>(is_elsewhere: bool, asking: impl Future<Output = Result<T, Status>>) -> Result<Option<T>, Status> {
    if !is_elsewhere {
        return asking.await.map(Some);
    }
    Ok(tokio::time::timeout(PATIENCE, asking).await.ok().and_then(Result::ok))
}

/// Namespaced resources that can be created and listed, once per stored object.
fn is_countable(row: &Resource) -> bool {
    let can = |verb: Verb| row.verbs.contains(&verb);
    row.namespaced
        && row.group == row.storage_group
        && can(Verb::Create)
        && can(Verb::List)
        && can(Verb::Watch)
        && !quota::is_ignored(&row.group_resource())
}

async fn list(row: &Arc<Resource>, namespace: &str, cx: &ReconcileContext) -> Result<ListReply, Status> {
    let version = row.metadata_version();
    let target = Target { resource: row.clone(), version, namespace: namespace.into(), name: "".into(), subresource: "".into() };
    let reply = cx.client().call(target, Operation::List(ListOptions::default())).await?;
    let ReplyBody::List(list) = reply.body else { return Err(Status::internal("a list was expected")) };
    Ok(list)
}
