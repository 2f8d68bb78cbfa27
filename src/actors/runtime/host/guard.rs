//! The guard future: polls a host's context inside `catch_unwind` and restarts it after panics.

use std::{
    collections::VecDeque,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::Arc,
    task::{Context as Task, Poll},
    time::{Duration, Instant},
};

use super::{Host, Seat};
use crate::runtime::{
    directory::Entry,
    host::Unit,
    panics::panic_text,
    unit::{Policy, Quarantine},
};
use actix::{Context, dev::ContextFut};
use futures::future::BoxFuture;

/// Runs one host to its end.
pub(crate) struct Guard<U: Unit> {
    context: Option<ContextFut<Host<U>, Context<Host<U>>>>,
    /// `None` as long as it has not failed, as nearly all never do.
    failures: Option<Box<Failures>>,
    policy: Arc<Policy>,
    seat: Seat,
}

/// What is known of a unit that failed.
#[derive(Default)]
struct Failures {
    backoff: Option<BoxFuture<'static, ()>>,
    times: VecDeque<Instant>,
    /// A unit back from quarantine: another failure before then leads straight back.
    probation: Option<Instant>,
}

impl Failures {
    /// Counts a failure; gives how many there were within the window, and whether the unit was on probation.
    fn count(&mut self, now: Instant, window: Duration) -> (usize, bool) {
        self.times.push_back(now);
        while self.times.front().is_some_and(|first| now.saturating_duration_since(*first) > window) {
            self.times.pop_front();
        }
        (self.times.len(), self.probation.take().is_some_and(|until| now < until))
    }
}

impl<U: Unit> Guard<U> {
    pub fn new(context: ContextFut<Host<U>, Context<Host<U>>>, policy: Arc<Policy>, seat: Seat) -> Self {
        Guard { context: Some(context), failures: None, policy, seat }
    }

    fn failures(&mut self) -> &mut Failures {
        self.failures.get_or_insert_default()
    }

    /// Counts a failure; `true` when the unit may start again.
    fn failed(&mut self, why: &str) -> bool {
        self.seat.flags.broken.set(true);
        let window = self.policy.window;
        let (failures, on_probation) = self.failures().count(tokio::time::Instant::now().into_std(), window);
        let path = self.seat.entry.path().clone();
        self.seat.entry.set_restarting(why);
        self.seat.system.stop_below(&path);
        if failures > self.policy.intensity || on_probation {
            if self.policy.quarantine.is_some() {
                self.set_aside(why, !on_probation);
                return true;
            }
            tracing::error!(unit = %path, panic = why, failures, "unit gave up, escalating");
            return false;
        }
        let pause = self.policy.pause(failures, self.seat.system.jitter());
        tracing::warn!(unit = %path, panic = why, ?pause, "unit panicked, restarting");
        self.rest(pause);
        true
    }

    fn rest(&mut self, pause: Duration) {
        let entry = self.seat.entry.clone();
        self.failures().backoff = Some(Box::pin(async move { entry.rest(pause).await }));
    }

    /// Puts the unit into quarantine.
    fn set_aside(&mut self, why: &str, first: bool) {
        let Some(Quarantine { pause, tell }) = self.policy.quarantine.clone() else { return };
        let entry: Arc<Entry> = self.seat.entry.clone();
        tracing::error!(unit = %entry.path(), panic = why, ?pause, "quarantined, retried slowly from now on");
        entry.set_quarantined();
        if first {
            let path: &str = entry.path();
            tell(path, why);
        }
        let (window, least) = (self.policy.window, self.policy.max_backoff);
        let failures = self.failures();
        failures.times.clear();
        failures.probation = Some(tokio::time::Instant::now().into_std() + pause + window);
        failures.backoff = Some(Box::pin(async move { entry.rest_in_quarantine(least, pause).await }));
    }

    /// Drops the context; its drop polls the actor a last time, so even that is guarded.
    fn discard(&mut self) {
        let context = self.context.take();
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| drop(context))) {
            tracing::warn!(unit = %self.seat.entry.path(), panic = panic_text(panic.as_ref()), "unit panicked while it ended");
        }
    }

    fn finish(&mut self) -> Poll<()> {
        self.discard();
        self.seat.system.stop_below(self.seat.entry.path());
        self.seat.system.directory().remove(&self.seat.entry);
        Poll::Ready(())
    }
}

impl<U: Unit> Drop for Guard<U> {
    fn drop(&mut self) {
        if self.context.is_some() {
            self.discard();
            self.seat.system.directory().remove(&self.seat.entry);
        }
    }
}

impl<U: Unit> Future for Guard<U> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, task: &mut Task<'_>) -> Poll<()> {
        let this = self.get_mut();
        loop {
            if let Some(backoff) = this.failures.as_mut().and_then(|failures| failures.backoff.as_mut()) {
                std::task::ready!(backoff.as_mut().poll(task));
                this.failures().backoff = None;
                if this.seat.entry.is_ending() {
                    return this.finish();
                }
                let Some(context) = &mut this.context else { return Poll::Ready(()) };
                let restarted = catch_unwind(AssertUnwindSafe(|| context.restart()));
                match restarted {
                    Ok(true) => this.seat.entry.count_restart(),
                    Ok(false) => return this.finish(),
                    // The broken unit's own drop panicked; it is gone all the same.
                    Err(_) => this.rest(this.policy.backoff),
                }
                continue;
            }
            let Some(context) = &mut this.context else { return Poll::Ready(()) };
            this.seat.flags.handled_in_poll.set(0);
            match catch_unwind(AssertUnwindSafe(|| Pin::new(context).poll(task))) {
                Ok(Poll::Pending) => return Poll::Pending,
                Ok(Poll::Ready(())) => return this.finish(),
                Err(panic) => {
                    if !this.failed(&panic_text(panic.as_ref())) {
                        let path = this.seat.entry.path().clone();
                        let done = this.finish();
                        this.seat.system.escalate(&path);
                        return done;
                    }
                }
            }
        }
    }
}
