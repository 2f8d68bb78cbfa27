//! The one writer of a layout's rules: applies the difference that a report makes at once, and while it is at work collects what else is reported
//! for a few milliseconds, for one transaction.
//! When a transaction fails, or somebody flushed our chains, it reads the kernel's state and applies the difference to that.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

use actix::Message;
use serde_json::{Value, json};
use tokio::sync::oneshot;
use troupe_net::{
    conntrack::{Conntrack, StaleFlows},
    iptables::{Family, IpSets, Iptables, IptablesError, Patch, RuleSet},
};

use super::{
    backend::{Backend, Look, Sight},
    collecting::{COALESCE, collecting},
    layout::{Layout, UdpFlows, stale},
    ledger::Ledger,
    packed::Packed,
    queue::{Plans, Queue},
};
use crate::runtime::{
    envelope::Reply,
    host::{On, Unit, UnitContext},
};

const MIN_RETRY: Duration = Duration::from_millis(200);
const MAX_RETRY: Duration = Duration::from_secs(30);
/// What an owner asks of the node now; `None` when it is gone.
pub struct SetRules<L: Layout> {
    pub owner: L::Owner,
    pub plan: Option<Arc<Packed>>,
}

impl<L: Layout> Message for SetRules<L> {
    type Result = ();
}

/// The owners that will report; nothing is applied, and above all nothing removed, before they have.
pub struct AwaitOwners<L: Layout>(pub HashSet<L::Owner>);

impl<L: Layout> Message for AwaitOwners<L> {
    type Result = ();
}

/// Answered when what an owner has set by now stands.
pub struct AwaitInstalled<L: Layout>(pub L::Owner);

impl<L: Layout> Message for AwaitInstalled<L> {
    type Result = Result<(), NotInstalled>;
}

/// The table restarted while somebody waited for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the rule table restarted")]
pub struct NotInstalled;

/// What a table works with.
#[derive(Clone)]
pub struct TableOptions {
    pub iptables: Arc<dyn Iptables>,
    pub sets: Option<Arc<dyn IpSets>>,
    pub conntrack: Option<Arc<dyn Conntrack>>,
    /// What stands whoever is there.
    pub base: RuleSet,
    pub family: Family,
    /// Tells that the table (re)started and knows nothing.
    pub tell_started: Arc<dyn Fn() + Send + Sync>,
}

/// The unit.
pub struct RuleTable<L: Layout> {
    backend: Backend,
    conntrack: Option<Arc<dyn Conntrack>>,
    tell_started: Arc<dyn Fn() + Send + Sync>,
    /// What should stand, and, unless `adrift`, does stand.
    ledger: Ledger<L>,
    udp: HashMap<L::Owner, UdpFlows>,
    queue: Queue<L>,
    /// Owners that have not reported yet; `None` before anybody named them.
    awaited: Option<HashSet<L::Owner>>,
    /// Who waits for rules to stand.
    waiting: Vec<(L::Owner, oneshot::Sender<()>)>,
    /// The kernel's state is not known.
    adrift: bool,
    /// What the packet filter told of itself when it was last found to be right.
    right: Option<Sight>,
    /// A whole comparison succeeded since the start.
    begun: bool,
    /// How long the pieces of a whole comparison took so far that is not all in.
    comparing: Option<Duration>,
    busy: bool,
    armed: bool,
    /// When the last transaction ended.
    applied_at: Option<Instant>,
    /// The transaction that is under way, or about to be, waited for no further reports: what it left behind has waited long enough.
    leads: bool,
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
    /// What the packet filter told of itself before.
    sight: Option<Sight>,
}

impl<L: Layout> RuleTable<L> {
    pub fn new(options: TableOptions) -> Self {
        RuleTable {
            backend: Backend { iptables: options.iptables, sets: options.sets, family: options.family },
            conntrack: options.conntrack,
            tell_started: options.tell_started,
            ledger: Ledger::new(options.base, options.family),
            udp: HashMap::new(),
            queue: Queue::default(),
            awaited: None,
            waiting: Vec::new(),
            adrift: true,
            right: None,
            begun: false,
            comparing: None,
            busy: false,
            armed: false,
            applied_at: None,
            leads: false,
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
        if delay.is_zero() {
            // Behind the messages that are there, without waiting for the clock.
            return cx.spawn_then(std::future::ready(()), |unit, (), cx| unit.fire(cx));
        }
        cx.after(delay, Self::fire);
    }

    fn fire(&mut self, cx: &mut UnitContext<'_, Self>) {
        self.armed = false;
        self.apply(cx);
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
            L::taken(self.backend.family, self.queue.waiting());
            let (flows, later) = (self.note_flows(&taken.plans), self.note_flows(&taken.begun));
            self.owed.extend(flows);
            self.owed_later.extend(later);
            if taken.patch.is_empty() {
                continue;
            }
            self.busy = true;
            let backend = self.backend.clone();
            let work = async move {
                let begun = tokio::time::Instant::now();
                let result = backend.apply(&taken.patch).await.map(|()| taken.patch.size());
                Applied { result, took: begun.elapsed(), whole: false, rest: VecDeque::new(), sight: None }
            };
            return cx.spawn_then(work, |unit, applied, cx| unit.applied(applied, cx));
        }
        self.answer();
    }

    /// Compares everything that should stand with what the kernel has, and applies the difference.
    fn apply_whole(&mut self, cx: &mut UnitContext<'_, Self>) {
        let plans = self.queue.take_all(&mut self.ledger);
        L::taken(self.backend.family, 0);
        let flows = self.note_flows(&plans);
        self.owed.extend(flows);
        self.busy = true;
        let (backend, ledger) = (self.backend.clone(), self.ledger.clone());
        let work = async move {
            let begun = tokio::time::Instant::now();
            let sight = backend.sight().await;
            let (result, rest) = match backend.reconcile(ledger).await {
                Ok((steps, rest)) => (Ok(steps), rest),
                Err(error) => (Err(error), VecDeque::new()),
            };
            Applied { result, took: begun.elapsed(), whole: true, rest, sight }
        };
        cx.spawn_then(work, |unit, applied, cx| unit.applied(applied, cx));
    }

    /// Notes where flows may go now; gives those that went elsewhere. At the start nothing is known of before.
    fn note_flows(&mut self, plans: &Plans<L::Owner>) -> Vec<StaleFlows> {
        let mut owed = Vec::new();
        for (owner, plan) in plans {
            let new = plan.as_ref().map(|plan| plan.udp.clone()).unwrap_or_default();
            let old = self.udp.remove(owner).unwrap_or_default();
            if self.begun {
                owed.extend(stale(&old, &new));
            }
            if !new.is_empty() {
                self.udp.insert(owner.clone(), new);
            }
        }
        owed
    }

    fn applied(&mut self, applied: Applied, cx: &mut UnitContext<'_, Self>) {
        self.busy = false;
        self.applied_at = Some(cx.system().instant());
        let pause = if std::mem::take(&mut self.leads) { Duration::ZERO } else { COALESCE };
        self.counters.last_millis = applied.took.as_secs_f64() * 1000.0;
        match applied.result {
            Ok(steps) => {
                self.note_success(steps, applied.took, applied.whole);
                if applied.whole {
                    self.right = applied.sight.filter(|_| steps == 0 && applied.rest.is_empty());
                    self.queue.go_on_with(applied.rest);
                }
                self.tell_synced(applied.whole, applied.took);
                if self.queue.pieces() == 0 {
                    self.owed.append(&mut self.owed_later);
                }
                self.forget(cx);
                self.answer();
                match self.queue.pieces() {
                    0 if self.queue.is_empty() => {}
                    0 => self.arm(pause, cx),
                    _ => self.arm(Duration::ZERO, cx),
                }
            }
            Err(error) => {
                tracing::warn!(%error, retry = ?self.retry, "{} not applied, comparing all of them", L::RULES);
                let compared = self.comparing.take().is_some();
                L::synced(self.backend.family, false, applied.whole || compared, applied.took);
                self.counters.failures += 1;
                self.counters.last_error = Some(error.to_string());
                self.adrift = true;
                self.queue.give_up();
                self.arm(self.retry, cx);
                self.retry = (self.retry * 2).min(MAX_RETRY);
            }
        }
    }

    /// Tells that rules are in, after the last piece where a whole comparison takes several: before, not all that was known is.
    fn tell_synced(&mut self, whole: bool, took: Duration) {
        let compared = if whole { Some(Duration::ZERO) } else { self.comparing.take() };
        let took = compared.unwrap_or_default() + took;
        if compared.is_some() && self.queue.pieces() > 0 {
            self.comparing = Some(took);
        } else {
            L::synced(self.backend.family, true, compared.is_some(), took);
        }
    }

    fn note_success(&mut self, steps: usize, took: Duration, whole: bool) {
        self.counters.transactions += 1;
        self.counters.whole += u64::from(whole);
        self.counters.last_steps = steps;
        self.counters.last_error = None;
        self.adrift = false;
        self.begun = true;
        self.retry = MIN_RETRY;
        tracing::debug!(steps, ?took, whole, owners = self.ledger.len(), "applied {}", L::RULES);
    }

    /// Answers those whose rules stand by now.
    fn answer(&mut self) {
        if self.busy || self.adrift || self.queue.pieces() > 0 {
            return;
        }
        let (waiting, queue) = (std::mem::take(&mut self.waiting), &self.queue);
        let (later, now): (Vec<_>, Vec<_>) = waiting.into_iter().partition(|(owner, _)| queue.has(owner));
        self.waiting = later;
        for (_, told) in now {
            // Who asked may have stopped waiting.
            let _ = told.send(());
        }
    }

    fn forget(&mut self, cx: &mut UnitContext<'_, Self>) {
        let flows = std::mem::take(&mut self.owed);
        let Some(conntrack) = self.conntrack.clone().filter(|_| !flows.is_empty()) else { return };
        cx.spawn(async move {
            if let Err(error) = conntrack.forget(&flows).await {
                tracing::warn!(%error, flows = flows.len(), first = ?flows.first(), "stale flows stay");
            }
        });
    }

    /// Looks whether what should stand still does.
    fn check(&mut self, cx: &mut UnitContext<'_, Self>) {
        if self.busy || self.adrift {
            return;
        }
        let (backend, right) = (self.backend.clone(), self.right);
        cx.spawn_then(async move { backend.look(&L::watch(), right).await }, Self::looked);
    }

    fn looked(&mut self, look: Result<Look, IptablesError>, cx: &mut UnitContext<'_, Self>) {
        match look {
            Ok(Look::Right(sight)) => self.right = sight,
            Ok(look) if !self.busy => {
                if look == Look::Missing {
                    tracing::warn!("{} were removed by somebody else, restoring them", L::RULES);
                }
                self.adrift = true;
                self.arm(Duration::ZERO, cx);
            }
            // It is written to, or cannot be asked: the next look tells.
            Ok(_) | Err(_) => {}
        }
    }
}

impl<L: Layout> Unit for RuleTable<L> {
    fn started(&mut self, cx: &mut UnitContext<'_, Self>) {
        (self.tell_started)();
        cx.every(L::CHECK, Self::check);
    }

    fn observe(&self) -> Value {
        json!({
            L::OWNERS: self.ledger.len(),
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

impl<L: Layout> On<SetRules<L>> for RuleTable<L> {
    fn on(&mut self, SetRules { owner, plan }: SetRules<L>, cx: &mut UnitContext<'_, Self>) -> Reply<()> {
        if let Some(awaited) = &mut self.awaited
            && awaited.remove(&owner)
            && awaited.is_empty()
        {
            // There may have been very many.
            awaited.shrink_to_fit();
        }
        // Rules that name sets come behind these, which can be filled meanwhile.
        let is_sets = plan.as_ref().is_some_and(|plan| plan.rules.size() == 0 && !plan.rules.is_empty());
        self.queue.insert(owner, plan);
        L::queued(self.backend.family, self.queue.waiting());
        if !self.armed && !self.busy {
            let delay = collecting(self.applied_at, cx.system().instant(), is_sets);
            self.leads = delay != COALESCE;
            self.arm(delay, cx);
        }
        Reply::Now(())
    }
}

impl<L: Layout> On<AwaitOwners<L>> for RuleTable<L> {
    fn on(&mut self, AwaitOwners(mut owners): AwaitOwners<L>, cx: &mut UnitContext<'_, Self>) -> Reply<()> {
        owners.retain(|owner| !self.queue.has(owner));
        self.awaited = Some(owners);
        let Some(patience) = L::PATIENCE else {
            self.arm(COALESCE, cx);
            return Reply::Now(());
        };
        cx.after(patience, |unit, cx| {
            if let Some(late) = unit.awaited.as_mut().filter(|awaited| !awaited.is_empty()) {
                tracing::error!(late = late.len(), "{} did not report in time, applying the others", L::OWNERS);
                *late = HashSet::new();
                unit.arm(Duration::ZERO, cx);
            }
        });
        self.arm(COALESCE, cx);
        Reply::Now(())
    }
}

impl<L: Layout> On<AwaitInstalled<L>> for RuleTable<L> {
    fn on(&mut self, AwaitInstalled(owner): AwaitInstalled<L>, _: &mut UnitContext<'_, Self>) -> Reply<Result<(), NotInstalled>> {
        let (tell, told) = oneshot::channel();
        self.waiting.push((owner, tell));
        self.answer();
        Reply::later(async move { told.await.map_err(|_| NotInstalled) })
    }
}
