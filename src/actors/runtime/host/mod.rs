//! What a supervised unit is, and its host: the actix actor around it.
//!
//! It owns `Option<Unit>`, rebuilt by the factory in `started()`. The guard (`guard`) polls the host's own context
//! future inside `catch_unwind`, naps for the backoff and restarts it: the mailbox stays, only the message in hand is
//! lost (its asker sees a closed mailbox). Futures a unit spawns run as tasks of their own, are guarded as well, and are
//! aborted when the unit restarts.

mod address;
mod guard;
#[cfg(test)]
mod tests;

use std::{
    cell::Cell,
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

use actix::{
    Actor, ActorContext, AsyncContext, Context, Handler, Message, Supervised, WeakAddr,
    dev::{MessageResponse, OneshotSender},
    fut::wrap_future,
};
use futures::FutureExt;
use serde_json::Value;
use tokio::task::JoinSet;
use troupe_api::meta::Cause;

pub use self::address::{TellError, UnitAddr, WeakUnitAddr};
pub(crate) use self::guard::Guard;
use super::{
    chaos::die_if,
    directory::{Control, Entry},
    doing,
    envelope::{Reply, Traced},
    panics::panic_text,
    recorder::{Hop, Outcome},
    system::System,
    turn::give_way,
};

/// Messages handled in one poll before the host yields to its neighbours.
const MESSAGES_PER_POLL: u32 = 64;

/// A supervised actor's state. A factory builds it anew at each restart, so it never starts from broken memory.
pub trait Unit: Sized + Unpin + 'static {
    /// Runs after each (re)start, before the first message.
    fn started(&mut self, _cx: &mut UnitContext<'_, Self>) {}

    /// Runs when the unit ends in good order; not after a panic.
    fn stopped(&mut self) {}

    /// A serialisable status for the directory: what it is doing, last result, counters.
    fn observe(&self) -> Value {
        Value::Null
    }

    /// What it has to say about one of the things that it works on, for people who ask (`troupe why`); `None` where it knows nothing of it.
    fn asked(&mut self, _about: &str) -> Option<Value> {
        None
    }
}

/// A unit's handler of one message type.
pub trait On<M: Message>: Unit {
    /// Handles a message. Keep it short: change own state, arm a timer, spawn a future.
    fn on(&mut self, message: M, cx: &mut UnitContext<'_, Self>) -> Reply<M::Result>;
}

/// Builds a unit at each start.
pub type Factory<U> = Box<dyn FnMut(&mut UnitContext<'_, U>) -> U + Send>;

/// The actor around a unit.
pub struct Host<U: Unit> {
    unit: Option<U>,
    factory: Factory<U>,
    /// `None` before the first one: of units of which there is one per object most never have any.
    tasks: Option<Box<JoinSet<()>>>,
    seat: Seat,
}

/// What host and guard share.
#[derive(Clone)]
pub(crate) struct Seat {
    pub system: System,
    pub entry: Arc<Entry>,
    pub flags: Rc<Flags>,
}

/// What they tell each other.
#[derive(Default)]
pub(crate) struct Flags {
    pub handled_in_poll: Cell<u32>,
    pub broken: Cell<bool>,
}

/// What a unit may do while it handles a message.
pub struct UnitContext<'a, U: Unit> {
    ctx: &'a mut Context<Host<U>>,
    tasks: &'a mut Option<Box<JoinSet<()>>>,
    seat: &'a Seat,
    cause: Cause,
}

/// What a future hands back to the unit that spawned it.
type Continuation<U> = Box<dyn FnOnce(&mut U, &mut UnitContext<'_, U>) + Send>;

/// Runs a closure on the unit: how futures come back.
struct Resume<U: Unit> {
    run: Continuation<U>,
    cause: Cause,
}

impl<U: Unit> Message for Resume<U> {
    type Result = ();
}

impl<U: Unit> Host<U> {
    pub(crate) fn new(factory: Factory<U>, seat: Seat) -> Self {
        Host { unit: None, factory, tasks: None, seat }
    }

    fn with_unit<R>(&mut self, ctx: &mut Context<Self>, cause: Cause, run: impl FnOnce(&mut U, &mut UnitContext<'_, U>) -> R) -> Option<R> {
        let unit = self.unit.as_mut()?;
        let mut cx = UnitContext { ctx, tasks: &mut self.tasks, seat: &self.seat, cause };
        Some(run(unit, &mut cx))
    }

    /// Keeps one flooded unit from starving its neighbours, and applies the chaos switch.
    fn yield_between_messages(&mut self, ctx: &mut Context<Self>) {
        let chaos = self.seat.entry.chaos();
        assert!(!chaos.take_poison(), "killed by the chaos switch");
        die_if(chaos.is_poisoned(""));
        let handled = self.seat.flags.handled_in_poll.get() + 1;
        self.seat.flags.handled_in_poll.set(handled);
        let delay = chaos.delay();
        // The mailbox must rest during these waits: that is their purpose.
        if !delay.is_zero() {
            ctx.wait(wrap_future(tokio::time::sleep(delay)));
        } else if handled >= MESSAGES_PER_POLL {
            self.seat.flags.handled_in_poll.set(0);
            ctx.wait(wrap_future(give_way()));
        }
    }
}

impl<U: Unit> Actor for Host<U> {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        die_if(self.seat.entry.chaos().is_poisoned(""));
        let mut cx = UnitContext { ctx, tasks: &mut self.tasks, seat: &self.seat, cause: Cause::default() };
        let mut unit = (self.factory)(&mut cx);
        unit.started(&mut cx);
        self.unit = Some(unit);
        self.seat.entry.set_running();
    }

    fn stopped(&mut self, _ctx: &mut Self::Context) {
        if let Some(tasks) = &mut self.tasks {
            tasks.abort_all();
        }
        if let Some(mut unit) = self.unit.take()
            && !self.seat.flags.broken.get()
        {
            unit.stopped();
        }
    }
}

impl<U: Unit> Supervised for Host<U> {
    fn restarting(&mut self, _ctx: &mut Self::Context) {
        // Which aborts them.
        self.tasks = None;
        self.unit = None;
        self.seat.flags.broken.set(false);
    }
}

/// A handler's reply on its way to the asker.
pub struct HostReply<R>(Option<Reply<R>>);

impl<U: Unit, M: Message + 'static> MessageResponse<Host<U>, M> for HostReply<M::Result> {
    fn handle(self, ctx: &mut Context<Host<U>>, tx: Option<OneshotSender<M::Result>>) {
        match self.0 {
            Some(Reply::Now(result)) => {
                if let Some(tx) = tx {
                    // The asker may have gone; nobody is left to tell.
                    let _ = tx.send(result);
                }
            }
            Some(Reply::Later(future)) => {
                let send = future.map(|result| tx.map(|tx| tx.send(result)));
                ctx.spawn(wrap_future(send.map(drop)));
            }
            None => {}
        }
    }
}

impl<U, M> Handler<Traced<M>> for Host<U>
where
    U: On<M>,
    M: Message + 'static,
{
    type Result = HostReply<M::Result>;

    fn handle(&mut self, traced: Traced<M>, ctx: &mut Self::Context) -> Self::Result {
        let Traced { message, cause, from, enqueued } = traced;
        let begun = tokio::time::Instant::now().into_std();
        self.seat.entry.message_taken(enqueued);
        self.yield_between_messages(ctx);
        let hop_cause = cause.clone();
        let entry = self.seat.entry.clone();
        let doing = doing::begin(entry.path(), std::any::type_name::<M>());
        let reply = self.with_unit(ctx, cause, |unit, cx| unit.on(message, cx));
        drop(doing);
        let ended = tokio::time::Instant::now().into_std();
        self.seat.entry.message_handled(ended.saturating_duration_since(begun));
        self.seat.system.recorder().hop(Hop {
            from,
            to: self.seat.entry.name(),
            message: self.seat.system.recorder().type_name::<M>(),
            waited: begun.saturating_duration_since(enqueued),
            handled: ended.saturating_duration_since(begun),
            outcome: Outcome::Done,
            cause: hop_cause,
            span: 0,
            produced: None,
            at: begun,
        });
        HostReply(reply)
    }
}

impl<U: Unit> Handler<Resume<U>> for Host<U> {
    type Result = ();

    fn handle(&mut self, resume: Resume<U>, ctx: &mut Self::Context) {
        self.yield_between_messages(ctx);
        self.with_unit(ctx, resume.cause, resume.run);
    }
}

impl<U: Unit> Handler<Control> for Host<U> {
    type Result = ();

    fn handle(&mut self, control: Control, ctx: &mut Self::Context) {
        match control {
            Control::Crash(why) => std::panic::panic_any(why),
            Control::Stop => ctx.stop(),
            Control::Observe(reply) => {
                let status = self.unit.as_ref().map(U::observe).unwrap_or_default();
                // The observer may have stopped waiting.
                let _ = reply.send(status);
            }
            Control::Ask(about, reply) => {
                let answer = self.unit.as_mut().and_then(|unit| unit.asked(&about));
                let _ = reply.send(answer);
            }
        }
    }
}

/// A step of a unit's work.
#[derive(Clone, Debug)]
pub struct Step {
    origin: Cause,
    /// What the step's calls carry.
    pub next: Cause,
    at: Instant,
}

impl<U: Unit> UnitContext<'_, U> {
    /// The unit's own address; what is sent to it counts as sent by the unit.
    pub fn address(&self) -> UnitAddr<U> {
        self.reach(&UnitAddr::new(self.ctx.address(), self.seat.entry.clone()))
    }

    /// Another unit's address for messages from this one.
    pub fn reach<T: Unit>(&self, other: &UnitAddr<T>) -> UnitAddr<T> {
        other.sent_by(self.seat.entry.name())
    }

    /// Begins a step because of `cause`, whose calls should carry the cause that it gives. Its end tells whether it changed anything.
    pub fn begin_step(&self, cause: &Cause) -> Step {
        let next = self.system().next_cause(cause);
        Step { origin: cause.clone(), next, at: self.system().instant() }
    }

    /// Records the step. One that changed something is remembered as long as the change.
    pub fn end_step(&self, name: &str, step: &Step, changed: bool) {
        let recorder = self.system().recorder();
        let hop = Hop {
            from: recorder.origin(&step.origin),
            to: self.seat.entry.name(),
            message: recorder.intern(name),
            waited: Duration::ZERO,
            handled: Duration::ZERO,
            outcome: Outcome::Done,
            cause: Cause { trace: step.next.trace, ..step.origin.clone() },
            span: step.next.span,
            produced: None,
            at: step.at,
        };
        if changed { recorder.keep(hop) } else { recorder.hop(hop) }
    }

    /// Whether the chaos switch wants work on a key to panic.
    pub fn is_poisoned(&self, key: impl ToString) -> bool {
        self.seat.entry.chaos().is_poisoned(key)
    }

    /// The unit's path in the supervision tree.
    pub fn path(&self) -> &Arc<str> {
        self.seat.entry.path()
    }

    pub fn system(&self) -> &System {
        &self.seat.system
    }

    /// What led to the message in hand.
    pub fn cause(&self) -> &Cause {
        &self.cause
    }

    /// Ends the unit in good order; it is not restarted.
    pub fn stop(&mut self) {
        self.ctx.stop();
    }

    /// Runs a future as a task of this unit: it is aborted when the unit ends or restarts, and its panic restarts the unit.
    pub fn spawn(&mut self, future: impl Future<Output = ()> + 'static) {
        let tasks = self.tasks.get_or_insert_default();
        while tasks.try_join_next().is_some() {}
        let host: WeakAddr<Host<U>> = self.ctx.address().downgrade();
        tasks.spawn_local(async move {
            if let Err(panic) = std::panic::AssertUnwindSafe(future).catch_unwind().await
                && let Some(host) = host.upgrade()
            {
                host.do_send(Control::Crash(format!("spawned future: {}", panic_text(panic.as_ref()))));
            }
        });
    }

    /// Runs a future as [`Self::spawn`] does and hands its output back to the unit.
    pub fn spawn_then<T: Send + 'static>(
        &mut self,
        future: impl Future<Output = T> + 'static,
        then: impl FnOnce(&mut U, T, &mut UnitContext<'_, U>) + Send + 'static,
    ) {
        let host = self.ctx.address().downgrade();
        let cause = self.cause.clone();
        self.spawn(async move {
            let output = future.await;
            if let Some(host) = host.upgrade() {
                host.do_send(Resume { run: Box::new(move |unit, cx| then(unit, output, cx)), cause });
            }
        });
    }

    /// Calls back after `delay`.
    pub fn after(&mut self, delay: Duration, then: impl FnOnce(&mut U, &mut UnitContext<'_, U>) + Send + 'static) {
        self.spawn_then(tokio::time::sleep(delay), move |unit, (), cx| then(unit, cx));
    }

    /// Calls back every `period`, beginning one period from now; a slow unit misses ticks instead of queueing them.
    pub fn every(&mut self, period: Duration, tick: impl Fn(&mut U, &mut UnitContext<'_, U>) + Clone + Send + 'static) {
        self.after(period, move |unit, cx| {
            tick(unit, cx);
            cx.every(period, tick);
        });
    }
}
