//! The one writer of service rules to the packet filter: collects what units report for a few milliseconds and applies
//! the difference in one transaction. When a transaction fails, or somebody flushed our chains, it reads the kernel's
//! state and applies the difference to that.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use actix::Message;
use serde_json::{Value, json};
use troupe_api::meta::ObjectKey;
use troupe_net::{
    conntrack::{Conntrack, StaleFlows},
    iptables::{Iptables, IptablesError, Observed, Patch, Table},
};

use super::{
    base,
    ledger::Ledger,
    metrics, names,
    plan::{ServicePlan, UdpFlows, stale},
    queue::{MOST_STEPS, Plans, Queue},
};
use crate::runtime::{
    envelope::Reply,
    host::{On, Unit, UnitContext},
};

/// How long reports are collected.
const COALESCE: Duration = Duration::from_millis(3);
/// How long Services known at the start may take to report before the others' rules go in without them.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often it is checked that the chains still stand.
const CHECK: Duration = Duration::from_secs(30);
const MIN_RETRY: Duration = Duration::from_millis(200);
const MAX_RETRY: Duration = Duration::from_secs(30);
/// From how many services on the whole table is compared on a thread of its own.
const LARGE: usize = 200;
/// And from how many bytes of what the kernel has.
const LARGE_TEXT: usize = 1 << 20;

/// What a Service asks of the node now; `None` when it is gone.
#[derive(Message)]
#[rtype(result = "()")]
pub struct SetRules {
    pub key: ObjectKey,
    pub plan: Option<Arc<ServicePlan>>,
}

/// The Services that will report; nothing is applied, and above all nothing removed, before they have.
#[derive(Message)]
#[rtype(result = "()")]
pub struct AwaitServices(pub HashSet<ObjectKey>);

/// The unit.
pub struct RuleTable {
    iptables: Arc<dyn Iptables>,
    conntrack: Arc<dyn Conntrack>,
    /// Tells that it (re)started and knows nothing.
    tell_started: Arc<dyn Fn() + Send + Sync>,
    /// What should stand, and, unless `adrift`, does stand.
    ledger: Ledger,
    udp: HashMap<ObjectKey, UdpFlows>,
    queue: Queue,
    /// Services that have not reported yet; `None` before the router named them.
    awaited: Option<HashSet<ObjectKey>>,
    /// The kernel's state is not known.
    adrift: bool,
    /// A whole comparison succeeded since the start.
    begun: bool,
    busy: bool,
    armed: bool,
    retry: Duration,
    /// Flows to forget once the rules are in.
    owed: Vec<StaleFlows>,
    /// The same, of rules that go in in pieces.
    owed_later: Vec<StaleFlows>,
    counters: Counters,
}

#[derive(Debug, Default)]
struct Counters {
    transactions: u64,
    failures: u64,
    whole: u64,
    last_error: Option<String>,
    last_steps: usize,
    last_millis: f64,
}

/// What an application came to.
struct Applied {
    result: Result<usize, IptablesError>,
    took: Duration,
    whole: bool,
    /// What is still to be done of it.
    rest: VecDeque<Patch>,
}

impl RuleTable {
    /// `tell_started` is called when the table (re)started and knows nothing.
    pub fn new(
        iptables: Arc<dyn Iptables>,
        conntrack: Arc<dyn Conntrack>,
        localhost_node_ports: bool,
        tell_started: Arc<dyn Fn() + Send + Sync>,
    ) -> Self {
        RuleTable {
            iptables,
            conntrack,
            tell_started,
            ledger: Ledger::new(base::rules(localhost_node_ports)),
            udp: HashMap::new(),
            queue: Queue::default(),
            awaited: None,
            adrift: true,
            begun: false,
            busy: false,
            armed: false,
            retry: MIN_RETRY,
            owed: Vec::new(),
            owed_later: Vec::new(),
            counters: Counters::default(),
        }
    }

    fn may_apply(&self) -> bool {
        self.awaited.as_ref().is_some_and(HashSet::is_empty)
    }

    fn arm(&mut self, delay: Duration, cx: &mut UnitContext<'_, Self>) {
        if self.armed || self.busy || !self.may_apply() {
            return;
        }
        self.armed = true;
        cx.after(delay, |unit, cx| {
            unit.armed = false;
            unit.apply(cx);
        });
    }

    fn apply(&mut self, cx: &mut UnitContext<'_, Self>) {
        if self.busy {
            return;
        }
        if self.adrift {
            return self.apply_whole(cx);
        }
        while !self.queue.is_empty() {
            let taken = self.queue.next(&mut self.ledger);
            metrics::taken(self.queue.waiting());
            let (flows, later) = (self.note_flows(&taken.plans), self.note_flows(&taken.begun));
            self.owed.extend(flows);
            self.owed_later.extend(later);
            if taken.patch.is_empty() {
                continue;
            }
            self.busy = true;
            let iptables = self.iptables.clone();
            let work = async move {
                let begun = tokio::time::Instant::now();
                let result = iptables.restore(taken.patch.to_restore()).await.map(|()| taken.patch.size());
                Applied { result, took: begun.elapsed(), whole: false, rest: VecDeque::new() }
            };
            return cx.spawn_then(work, |unit, applied, cx| unit.applied(applied, cx));
        }
    }

    /// Compares everything that should stand with what the kernel has, and applies the difference.
    fn apply_whole(&mut self, cx: &mut UnitContext<'_, Self>) {
        let plans = self.queue.take_all(&mut self.ledger);
        metrics::taken(0);
        let flows = self.note_flows(&plans);
        self.owed.extend(flows);
        self.busy = true;
        let (iptables, ledger) = (self.iptables.clone(), self.ledger.clone());
        let work = async move {
            let begun = tokio::time::Instant::now();
            let (result, rest) = match reconcile(iptables.as_ref(), ledger).await {
                Ok((steps, rest)) => (Ok(steps), rest),
                Err(error) => (Err(error), VecDeque::new()),
            };
            Applied { result, took: begun.elapsed(), whole: true, rest }
        };
        cx.spawn_then(work, |unit, applied, cx| unit.applied(applied, cx));
    }

    /// Notes where flows may go now; gives those that went elsewhere. At the start nothing is known of before.
    fn note_flows(&mut self, plans: &Plans) -> Vec<StaleFlows> {
        let mut owed = Vec::new();
        for (key, plan) in plans {
            let new = plan.as_ref().map(|plan| plan.udp.clone()).unwrap_or_default();
            let old = self.udp.remove(key).unwrap_or_default();
            if self.begun {
                owed.extend(stale(&old, &new));
            }
            if !new.is_empty() {
                self.udp.insert(key.clone(), new);
            }
        }
        owed
    }

    fn applied(&mut self, applied: Applied, cx: &mut UnitContext<'_, Self>) {
        self.busy = false;
        metrics::synced(applied.result.is_ok(), applied.whole, applied.took);
        self.counters.last_millis = applied.took.as_secs_f64() * 1000.0;
        match applied.result {
            Ok(steps) => {
                self.counters.transactions += 1;
                self.counters.whole += u64::from(applied.whole);
                self.counters.last_steps = steps;
                self.counters.last_error = None;
                self.adrift = false;
                self.begun = true;
                self.retry = MIN_RETRY;
                tracing::debug!(steps, took = ?applied.took, whole = applied.whole, services = self.ledger.len(), "applied service rules");
                if applied.whole {
                    self.queue.go_on_with(applied.rest);
                }
                if self.queue.pieces() == 0 {
                    self.owed.append(&mut self.owed_later);
                }
                self.forget(cx);
                match self.queue.pieces() {
                    0 if self.queue.is_empty() => {}
                    0 => self.arm(COALESCE, cx),
                    _ => self.arm(Duration::ZERO, cx),
                }
            }
            Err(error) => {
                tracing::warn!(%error, retry = ?self.retry, "service rules not applied, comparing all of them");
                self.counters.failures += 1;
                self.counters.last_error = Some(error.to_string());
                self.adrift = true;
                self.queue.give_up();
                self.arm(self.retry, cx);
                self.retry = (self.retry * 2).min(MAX_RETRY);
            }
        }
    }

    fn forget(&mut self, cx: &mut UnitContext<'_, Self>) {
        let flows = std::mem::take(&mut self.owed);
        if flows.is_empty() {
            return;
        }
        let conntrack = self.conntrack.clone();
        cx.spawn(async move {
            for flow in &flows {
                if let Err(error) = conntrack.forget(flow).await {
                    tracing::warn!(%error, ?flow, "stale flows stay");
                }
            }
        });
    }

    /// Cheap: three probes. Whoever flushed the tables flushed these, too.
    fn check(&mut self, cx: &mut UnitContext<'_, Self>) {
        if self.busy || self.adrift {
            return;
        }
        let iptables = self.iptables.clone();
        cx.spawn_then(async move { stands(iptables.as_ref()).await }, |unit, stands, cx| {
            if let Ok(false) = stands {
                tracing::warn!("service rules were removed by somebody else, restoring them");
                unit.adrift = true;
                unit.arm(Duration::ZERO, cx);
            }
        });
    }
}

/// Compares everything that should stand with what the kernel has, and applies the difference, or the first and most urgent part of it.
/// Gives how many steps that took, and what is left to do.
async fn reconcile(iptables: &dyn Iptables, ledger: Ledger) -> Result<(usize, VecDeque<Patch>), IptablesError> {
    let large = ledger.len() > LARGE;
    let mut texts = Vec::new();
    for table in Table::ALL {
        texts.push(iptables.save(table).await?);
    }
    let large = large || texts.iter().map(String::len).sum::<usize>() > LARGE_TEXT;
    let compare = move || {
        let mut observed = Observed::default();
        texts.iter().for_each(|text| observed.read(text));
        let mut pieces = ledger.reconcile_in_pieces(&observed, MOST_STEPS);
        let first = pieces.pop_front().unwrap_or_default();
        (first.size(), first.to_restore(), pieces)
    };
    let (size, text, rest) = if large { tokio::task::spawn_blocking(compare).await.map_err(|_| IptablesError::Worker)? } else { compare() };
    if !text.is_empty() {
        iptables.restore(text).await?;
    }
    Ok((size, rest))
}

async fn stands(iptables: &dyn Iptables) -> Result<bool, IptablesError> {
    let jump = "-m comment --comment \"kubernetes service portals\" -j KUBE-SERVICES";
    Ok(iptables.rule_exists(Table::Nat, "PREROUTING", jump).await?
        && iptables.chain_exists(Table::Nat, names::MARK_MASQ).await?
        && iptables.chain_exists(Table::Filter, names::FORWARD).await?)
}

impl Unit for RuleTable {
    fn started(&mut self, cx: &mut UnitContext<'_, Self>) {
        (self.tell_started)();
        cx.every(CHECK, Self::check);
    }

    fn observe(&self) -> Value {
        json!({
            "services": self.ledger.len(),
            "pending": self.queue.waiting(),
            "pieces": self.queue.pieces(),
            "awaited": self.awaited.as_ref().map(HashSet::len),
            "adrift": self.adrift,
            "transactions": self.counters.transactions,
            "whole": self.counters.whole,
            "failures": self.counters.failures,
            "lastError": self.counters.last_error,
            "lastSteps": self.counters.last_steps,
            "lastMillis": self.counters.last_millis,
        })
    }
}

impl On<SetRules> for RuleTable {
    fn on(&mut self, SetRules { key, plan }: SetRules, cx: &mut UnitContext<'_, Self>) -> Reply<()> {
        if let Some(awaited) = &mut self.awaited {
            awaited.remove(&key);
        }
        self.queue.insert(key, plan);
        metrics::queued(self.queue.waiting());
        self.arm(COALESCE, cx);
        Reply::Now(())
    }
}

impl On<AwaitServices> for RuleTable {
    fn on(&mut self, AwaitServices(mut keys): AwaitServices, cx: &mut UnitContext<'_, Self>) -> Reply<()> {
        keys.retain(|key| !self.queue.has(key));
        self.awaited = Some(keys);
        cx.after(PATIENCE, |unit, cx| {
            if let Some(late) = unit.awaited.as_mut().filter(|awaited| !awaited.is_empty()) {
                tracing::error!(services = late.len(), "services did not report in time, applying the others");
                late.clear();
                unit.arm(Duration::ZERO, cx);
            }
        });
        self.arm(COALESCE, cx);
        Reply::Now(())
    }
}
