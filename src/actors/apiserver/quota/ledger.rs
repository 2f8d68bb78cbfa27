//! The ledger: one batch of charges a namespace at a time, each quota written once a batch.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use actix::Message;
use serde_json::{Value, json};
use tokio::sync::oneshot;
use troupe_api::{
    meta::{Cause, Object, Revision, amounts::Amounts},
    quota::{self, Demand},
    resources::Resource,
    status::Status,
    stored::StoredObject,
};

use super::plan::{Account, Chain, Refusal, judge};
use crate::{
    apiserver::{
        commit::{CommitError, Committer, stored},
        listers::CacheListers,
    },
    runtime::{
        envelope::Reply,
        host::{On, Unit, UnitContext},
    },
};

/// Rounds after which a batch gives up; each one means that another server's charge or a count succeeded.
const MAX_ROUNDS: usize = 32;

/// Charges `demands` to quotas of `namespace`, all or none.
#[derive(Debug, Message)]
#[rtype(result = "Result<Charged, Refusal>")]
pub struct Charge {
    pub namespace: Arc<str>,
    pub demands: Vec<Demand>,
    /// Whether it is refused where it exceeds a quota.
    pub enforce: bool,
}

/// Gives back what was charged for a write that did not happen.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Refund {
    pub namespace: Arc<str>,
    pub charged: Charged,
}

/// What a write was charged, and where that was written.
#[derive(Debug, Default, PartialEq)]
pub struct Charged(Vec<QuotaDelta>);

#[derive(Debug, PartialEq)]
struct QuotaDelta {
    demand: Demand,
    revision: Revision,
}

impl Charged {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// A charge on its way: which demands are still to be written.
struct Pending {
    open: Vec<Demand>,
    enforce: bool,
    paid: Vec<QuotaDelta>,
    answer: oneshot::Sender<Result<Charged, Refusal>>,
}

/// What one namespace waits for.
#[derive(Default)]
struct NamespaceQueue {
    charges: Vec<Pending>,
    refunds: Vec<QuotaDelta>,
    chains: HashMap<String, Chain>,
    busy: bool,
}

/// The unit at `apiserver/quota-ledger`.
pub struct Ledger {
    committer: Arc<Committer>,
    listers: Arc<CacheListers>,
    queues: HashMap<Arc<str>, NamespaceQueue>,
    batches: u64,
}

impl Ledger {
    pub fn new(committer: Arc<Committer>, listers: Arc<CacheListers>) -> Self {
        Ledger { committer, listers, queues: HashMap::new(), batches: 0 }
    }

    fn work(&mut self, namespace: Arc<str>, cx: &mut UnitContext<'_, Self>) {
        let Some(queue) = self.queues.get_mut(&namespace) else { return };
        if queue.busy {
            return;
        }
        if queue.charges.is_empty() && queue.refunds.is_empty() {
            // A chain is worth keeping only as long as charges may come back.
            if queue.chains.is_empty() {
                self.queues.remove(&namespace);
            }
            return;
        }
        queue.busy = true;
        self.batches += 1;
        let mut batch = Batch {
            committer: self.committer.clone(),
            listers: self.listers.clone(),
            namespace: namespace.clone(),
            cause: cx.cause().clone(),
            versions: BTreeMap::new(),
            chains: std::mem::take(&mut queue.chains),
            refunds: std::mem::take(&mut queue.refunds),
        };
        let charges = std::mem::take(&mut queue.charges);
        let running = async move {
            batch.run(charges).await;
            batch.chains
        };
        cx.spawn_then(running, move |unit, chains, cx| {
            if let Some(queue) = unit.queues.get_mut(&namespace) {
                queue.busy = false;
                queue.chains = chains;
            }
            unit.work(namespace, cx);
        });
    }
}

impl Unit for Ledger {
    fn observe(&self) -> Value {
        let waiting: usize = self.queues.values().map(|queue| queue.charges.len()).sum();
        json!({"namespaces": self.queues.len(), "waiting": waiting, "batches": self.batches})
    }
}

impl On<Charge> for Ledger {
    fn on(&mut self, charge: Charge, cx: &mut UnitContext<'_, Self>) -> Reply<Result<Charged, Refusal>> {
        let (answer, answered) = oneshot::channel();
        let Charge { namespace, demands, enforce } = charge;
        let queue = self.queues.entry(namespace.clone()).or_default();
        queue.charges.push(Pending { open: demands, enforce, paid: Vec::new(), answer });
        self.work(namespace, cx);
        let lost = || Err(Refusal::Failed(Status::internal("resource quota evaluation was interrupted")));
        Reply::later(async move { answered.await.unwrap_or_else(|_| lost()) })
    }
}

impl On<Refund> for Ledger {
    fn on(&mut self, refund: Refund, cx: &mut UnitContext<'_, Self>) -> Reply<()> {
        self.queues.entry(refund.namespace.clone()).or_default().refunds.extend(refund.charged.0);
        self.work(refund.namespace, cx);
        Reply::Now(())
    }
}

/// Charges that are judged and written together.
struct Batch {
    committer: Arc<Committer>,
    listers: Arc<CacheListers>,
    namespace: Arc<str>,
    cause: Cause,
    /// The newest known version of each quota.
    versions: BTreeMap<String, Arc<StoredObject>>,
    chains: HashMap<String, Chain>,
    refunds: Vec<QuotaDelta>,
}

impl Batch {
    async fn run(&mut self, mut charges: Vec<Pending>) {
        let Some(resource) = self.listers.row("", "resourcequotas") else { return };
        if let Ok(cache) = self.listers.cache(&resource) {
            self.versions = cache.load().scan(&self.namespace, None).map(|quota| (quota.key.name.to_string(), quota.clone())).collect();
        }
        for _ in 0..MAX_ROUNDS {
            charges = self.round(&resource, charges).await;
            if charges.is_empty() {
                break;
            }
        }
        for charge in charges {
            let quota = charge.open.first().map_or("", |demand| demand.quota.as_str());
            let status = Status::modified(&resource.group_resource(), quota);
            self.refuse(charge, Refusal::Failed(status));
        }
        self.give_back(&resource).await;
        let known = &self.versions;
        self.chains.retain(|quota, _| known.contains_key(quota));
    }

    /// Judges what is open and writes it; gives back the charges that lost a race.
    async fn round(&mut self, resource: &Resource, charges: Vec<Pending>) -> Vec<Pending> {
        let mut accounts = self.accounts();
        let before = accounts.clone();
        let asked: Vec<(&[Demand], bool)> = charges.iter().map(|charge| (charge.open.as_slice(), charge.enforce)).collect();
        let verdicts = judge(&mut accounts, &asked);
        let mut taken = Vec::new();
        for (charge, verdict) in charges.into_iter().zip(verdicts) {
            match verdict {
                Ok(()) => taken.push(charge),
                Err(refusal) => self.refuse(charge, refusal),
            }
        }
        let mut written = BTreeMap::new();
        for (quota, account) in accounts.iter().filter(|(quota, account)| before[*quota] != **account) {
            written.insert(quota.clone(), self.write(resource, quota, &account.used).await);
        }
        let mut again = Vec::new();
        for charge in taken {
            again.extend(self.settle(charge, &written));
        }
        again
    }

    fn accounts(&self) -> BTreeMap<String, Account> {
        let account = |version: &StoredObject| {
            let quota = version.to_object();
            Account { hard: quota::hard(&quota), used: quota::used(&quota) }
        };
        self.versions.iter().map(|(name, version)| (name.clone(), account(version))).collect()
    }

    /// Marks as paid what was written, and answers if nothing is left open.
    fn settle(&mut self, mut charge: Pending, written: &BTreeMap<String, Result<Revision, CommitError>>) -> Option<Pending> {
        let mut failure = None;
        for demand in std::mem::take(&mut charge.open) {
            match written.get(&demand.quota) {
                Some(Ok(revision)) => charge.paid.push(QuotaDelta { demand, revision: *revision }),
                Some(Err(CommitError::Lost(_))) => charge.open.push(demand),
                Some(Err(CommitError::Failed(status) | CommitError::Unclear(status))) => failure = Some(status.clone()),
                // The quota is gone, or limits nothing of this any more.
                None => {}
            }
        }
        if let Some(status) = failure {
            self.refuse(charge, Refusal::Failed(status));
            return None;
        }
        if !charge.open.is_empty() {
            return Some(charge);
        }
        if let Err(Ok(charged)) = charge.answer.send(Ok(Charged(charge.paid))) {
            // Nobody waits any more: the write will not happen.
            self.refunds.extend(charged.0);
        }
        None
    }

    fn refuse(&mut self, charge: Pending, refusal: Refusal) {
        self.refunds.extend(charge.paid);
        // Who does not wait any more does not need to know.
        let _ = charge.answer.send(Err(refusal));
    }

    /// Writes what is used; a version that lost the race is replaced by the newer one.
    async fn write(&mut self, resource: &Resource, quota: &str, used: &Amounts) -> Result<Revision, CommitError> {
        let Some(version) = self.versions.get(quota).cloned() else { return Err(CommitError::Lost(None)) };
        let new = with_used(&version, used);
        match self.committer.update(resource, &new, version.revision, &self.cause).await {
            Ok(written) => {
                let chain = Chain::extend(self.chains.get(quota).copied(), version.revision, written.revision);
                self.chains.insert(quota.to_owned(), chain);
                let revision = written.revision;
                self.versions.insert(quota.to_owned(), written);
                Ok(revision)
            }
            Err(CommitError::Lost(newer)) => {
                self.chains.remove(quota);
                match newer.clone().map(|kv| stored(resource, kv)).transpose() {
                    Ok(Some(newer)) => drop(self.versions.insert(quota.to_owned(), newer)),
                    _ => drop(self.versions.remove(quota)),
                }
                Err(CommitError::Lost(newer))
            }
            Err(failed) => Err(failed),
        }
    }

    async fn give_back(&mut self, resource: &Resource) {
        let mut sums = BTreeMap::<String, Amounts>::new();
        for line in std::mem::take(&mut self.refunds) {
            let quota = &line.demand.quota;
            let covered = self.chains.get(quota).zip(self.versions.get(quota));
            if covered.is_some_and(|(chain, version)| chain.covers(line.revision, version.revision)) {
                sums.entry(quota.clone()).or_default().add(&line.demand.amounts);
            }
        }
        for (quota, sum) in sums {
            let Some(version) = self.versions.get(&quota) else { continue };
            let used = quota::used(&version.to_object());
            let left = used.less(&sum).masked(&used);
            if self.write(resource, &quota, &left).await.is_err() {
                tracing::debug!(%quota, namespace = %self.namespace, "cannot refund a quota, the next count will");
            }
        }
    }
}

fn with_used(version: &StoredObject, used: &Amounts) -> Object {
    let mut quota = version.to_object();
    quota.remove(&["metadata", "resourceVersion"]);
    quota.set(&["status", "used"], used.to_value());
    quota
}
