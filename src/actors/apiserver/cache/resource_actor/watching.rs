//! Begins watches, and tells those that go on of changes and of time.

use std::time::Instant;

use troupe_api::meta::Cause;

use super::{
    super::{
        history::Changes,
        messages::{Backlog, NoSubscription, Start, Subscribe, Subscription},
        queue::queue,
        ticks::{self, QUIET},
        watchers::{Moment, News, Told, Watcher, Watchers},
    },
    ResourceActor,
};
use crate::runtime::host::UnitContext;

impl ResourceActor {
    /// Tells the watchers, if there were ever any. They hear everything in order, or their watches end.
    pub(super) fn tell(&mut self, news: News) -> bool {
        let Some(watchers) = &self.watchers else { return false };
        let told = Told { anew: self.missed, news };
        self.missed = watchers.try_tell(told, Cause::default()).is_err();
        if self.missed {
            self.cache.ticks.want(1);
        }
        !self.missed
    }

    pub(super) fn subscribe(&mut self, request: Subscribe, cx: &UnitContext<'_, Self>) -> Result<Subscription, NoSubscription> {
        if self.waiting.is_some() {
            return Err(NoSubscription::Loading);
        }
        let snapshot = self.cache.load();
        let progress = self.cache.progress(&self.context.dispatched).max(self.loaded_at);
        let (backlog, from, revision, told) = match request.start {
            Start::Initial => {
                let recent = if request.progress { self.history.all() } else { Changes::default() };
                (Backlog::Objects(snapshot.clone(), recent), snapshot.revision, progress, progress)
            }
            Start::After(after) => {
                let oldest = self.history.complete_after();
                let changes = self.history.after(after).ok_or(NoSubscription::TooOld(oldest))?;
                (Backlog::Changes(changes), snapshot.revision.max(after), progress.max(after), after)
            }
        };
        let (sender, receiver) = queue();
        let now = self.context.clock.instant();
        let mut watcher = Watcher::new(sender, from, request.bookmarks.then_some(request.ends), now);
        if request.progress {
            watcher = watcher.with_progress(told);
            self.tells_progress = true;
        }
        let owes_progress = request.progress && told < snapshot.revision;
        self.start_watchers(cx);
        self.last_end = self.last_end.max(request.ends);
        self.cache.ticks.want(if owes_progress || self.ends_later_than(now) { 1 } else { ticks::first(&self.name) });
        if self.tell(News::Watcher(request.selection, watcher)) {
            Ok(Subscription { backlog, revision, queue: receiver })
        } else {
            Err(NoSubscription::Loading)
        }
    }

    fn start_watchers(&mut self, cx: &UnitContext<'_, Self>) {
        // The unit that had this path before takes those below it along when it ends, which may be late.
        if self.watchers.as_ref().is_none_or(|watchers| !watchers.connected()) {
            let counts = self.counts;
            let watchers = cx.system().spawn(format!("{}/watchers", cx.path()), Watchers::policy(), move |_| Watchers::new(counts));
            self.watchers = Some(cx.reach(&watchers));
        }
    }

    pub(super) fn tick(&mut self, cx: &mut UnitContext<'_, Self>) {
        self.load_if_stale(cx);
        let (revision, now) = (self.cache.progress(&self.context.dispatched), self.context.clock.instant());
        self.history.forget_old(now);
        let changed = self.cache.load().revision;
        if self.tell(News::Time(Moment { revision, changed, now })) {
            // Not the revision of the load: that is no change, and watches at other servers on the store are told of none.
            self.cache.announce(self.changed);
        }
        self.want_tick(now);
    }

    /// Says when time brings it something, if it does.
    pub(super) fn want_tick(&self, now: Instant) {
        let history = self.history.expires().map(|expires| ticks::beyond(expires.saturating_duration_since(now)));
        let watches = self.watchers.as_ref().map(|_| if self.missed || self.owes_progress() || self.ends_later_than(now) { 1 } else { QUIET });
        if let Some(after) = history.into_iter().chain(watches).min() {
            self.cache.ticks.want(after);
        }
    }

    /// Whether watches that want to know how far they are may not have been told of the newest change.
    fn owes_progress(&self) -> bool {
        self.tells_progress && self.cache.announced() < self.changed
    }

    /// Whether a watch goes on of which it is known when it ends: it gets a bookmark shortly before.
    fn ends_later_than(&self, now: Instant) -> bool {
        self.last_end.is_some_and(|end| end > now)
    }
}
