//! Seats: how many requests of a priority level are in work, and who may come in.
//!
//! A request takes as many seats as its work is wide (see [`WorkEstimate`]). A level always has its nominal seats. Above them it borrows what other
//! levels lend and do not use. What is lent comes back as soon as a request ends; until then its owner is not kept waiting, so in all there
//! may be a few more for a moment. Where a level lets requests wait, flows take turns (see [`Queues`](super::queues::Queues)).

use std::{
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use tokio::{
    runtime::Handle,
    sync::oneshot,
    time::{Instant, timeout},
};
use troupe_api::status::Status;

use super::{
    bounds::{Bounds, Queuing},
    metrics::{self, SchemaSeries},
    room::{self, Asked, Executing},
    work::WorkEstimate,
};

/// The requests of one level.
pub type Room = room::Room<Waiter>;
/// What a lock of it guards.
pub type State = room::State<Waiter>;

/// Requests wait no longer for a seat.
const PATIENCE: Duration = Duration::from_secs(2);

/// A priority level as of now.
#[derive(Clone, Debug)]
pub struct Level {
    pub name: Arc<str>,
    pub uid: Arc<str>,
    pub bounds: Bounds,
    pub room: Arc<Room>,
}

/// A request's seats; free again when dropped, or a little later where its watchers keep them busy.
#[derive(Debug)]
pub struct Seat {
    room: Arc<Room>,
    /// Its number among those in work.
    number: u64,
    /// Where the level has queues.
    queue: Option<u64>,
    work: WorkEstimate,
    began: Instant,
    series: Arc<SchemaSeries>,
    is_watch: bool,
}

impl Seat {
    fn take(room: &Arc<Room>, state: &mut State, claim: &Claimed, queue: Option<u64>) -> Self {
        let Claimed { work, series, asked, is_watch } = claim;
        let began = Instant::now();
        let number = room.begin(state, Executing { queue, asked: asked.clone(), work: *work, began });
        series.executing.add(1.0);
        series.seats.add(work.seats() as f64);
        series.dispatched.increment();
        Seat { room: room.clone(), number, queue, work: *work, began, series: series.clone(), is_watch: *is_watch }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.room.end(self.number);
        self.series.executing.add(-1.0);
        let took = if self.is_watch { &self.series.watches_took } else { &self.series.took };
        took.observe_time(self.began.elapsed());
        let taken = Taken { room: self.room.clone(), queue: self.queue, seats: self.work.seats(), series: self.series.clone() };
        match Handle::try_current() {
            Ok(runtime) if !self.work.additional.is_zero() => {
                let additional = self.work.additional;
                drop(runtime.spawn(async move {
                    tokio::time::sleep(additional).await;
                    drop(taken);
                }));
            }
            _ => drop(taken),
        }
    }
}

/// Seats that are taken; given back, and to those who wait, when dropped.
struct Taken {
    room: Arc<Room>,
    queue: Option<u64>,
    seats: usize,
    series: Arc<SchemaSeries>,
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.series.seats.add(-(self.seats as f64));
        self.room.free(self.queue, self.seats);
        if self.queue.is_some() {
            self.room.serve();
        }
    }
}

/// What a request wants.
#[derive(Clone, Debug)]
pub struct Claimed {
    pub work: WorkEstimate,
    pub series: Arc<SchemaSeries>,
    pub asked: Arc<Asked>,
    /// It has its seats only until its stream begins.
    pub is_watch: bool,
}

/// A request that waits for its seats.
#[derive(Debug)]
pub struct Waiter {
    levels: Arc<[Level]>,
    at: usize,
    pub claimed: Claimed,
    seat: oneshot::Sender<Seat>,
}

impl Room {
    /// Gives seats to those who wait, as long as there are any. Who needs more than are free has the next ones; nobody overtakes.
    fn serve(self: &Arc<Self>) {
        loop {
            let mut state = self.state.lock();
            let Some((queue, work, waiter)) = state.queues.first() else { return };
            if !enter(&waiter.levels, waiter.at, work.seats()) {
                waiter.claimed.series.no_accommodation.increment();
                return;
            }
            let Some(Waiter { claimed, seat, .. }) = state.queues.serve(queue) else { return };
            let given = Seat::take(self, &mut state, &claimed, Some(queue));
            drop(state);
            // Whoever wanted it may just have gone: dropped, it is the next one's. That one is served here and not by the drop within.
            if let Err(unwanted) = seat.send(given) {
                unwanted.give_back();
            }
        }
    }
}

impl Seat {
    /// Gives it back without serving anybody.
    fn give_back(mut self) {
        self.room.end(self.number);
        if let Some(queue) = self.queue.take() {
            self.room.state.lock().queues.free(queue, self.work.seats());
        }
        self.work.additional = Duration::ZERO;
    }
}

/// What a request has at once: its seats, or a place in a queue.
enum Got {
    Seat(Seat),
    Place(oneshot::Receiver<Seat>, Waiting),
}

/// A request on its way to its seats.
#[derive(Clone, Debug)]
pub struct Claim {
    /// All levels.
    pub levels: Arc<[Level]>,
    /// Which of them it belongs to.
    pub at: usize,
    pub flow: u64,
    pub claimed: Claimed,
}

impl Claim {
    /// Takes its seats, after a short wait where the level lets requests wait.
    ///
    /// # Errors
    /// 429 with Retry-After.
    pub async fn seat(self) -> Result<Seat, Status> {
        let Level { room, bounds, .. } = &self.levels[self.at];
        self.claimed.series.estimated.observe(self.claimed.work.seats() as f64);
        let Some(queuing) = bounds.queuing.filter(|_| !bounds.exempt) else {
            if !enter(&self.levels, self.at, self.claimed.work.seats()) {
                return Err(self.rejected("concurrency-limit"));
            }
            return Ok(Seat::take(room, &mut room.state.lock(), &self.claimed, None));
        };
        let (mut found, waiting) = match self.take_or_queue(room, &queuing)? {
            Got::Seat(seat) => {
                self.claimed.series.waited.observe(0.0);
                return Ok(seat);
            }
            Got::Place(found, waiting) => (found, waiting),
        };
        // What other levels lend may be free although somebody waits.
        room.serve();
        let seat = timeout(PATIENCE, &mut found).await;
        let waited = waiting.over();
        // It may have come at the last moment.
        let seat = seat.ok().and_then(Result::ok).or_else(|| found.try_recv().ok());
        match seat {
            Some(seat) => {
                self.claimed.series.waited.observe_time(waited);
                Ok(seat)
            }
            None => {
                self.claimed.series.waited_in_vain.observe_time(waited);
                Err(self.rejected("time-out"))
            }
        }
    }

    fn take_or_queue(&self, room: &Arc<Room>, queuing: &Queuing) -> Result<Got, Status> {
        let mut state = room.state.lock();
        let queue = state.queues.choose(self.flow, queuing);
        let work = self.claimed.work;
        if state.queues.waiting() == 0 && enter(&self.levels, self.at, work.seats()) {
            state.queues.begin(queue, &work);
            return Ok(Got::Seat(Seat::take(room, &mut state, &self.claimed, Some(queue))));
        }
        let (seat, found) = oneshot::channel();
        let waiter = Waiter { levels: self.levels.clone(), at: self.at, claimed: self.claimed.clone(), seat };
        let number = state.queues.push(queue, queuing.length, work, waiter).ok_or_else(|| self.rejected("queue-full"))?;
        let length = state.queues.get(queue).map_or(0, |queue| queue.waiting().len());
        self.claimed.series.queue_length.observe(length as f64);
        Ok(Got::Place(found, Waiting::begin(room, queue, number, &self.claimed)))
    }

    fn rejected(&self, reason: &str) -> Status {
        let Level { name, room, .. } = &self.levels[self.at];
        let count = if reason == "time-out" { &room.counts.timed_out } else { &room.counts.rejected };
        count.fetch_add(1, Relaxed);
        metrics::rejected(name, &self.claimed.asked.schema, reason);
        Status::too_many_requests("Too many requests, please try again later.", 1)
    }
}

/// Takes seats if there are as many. A request that is wider than its level comes in alone.
fn enter(levels: &[Level], at: usize, seats: usize) -> bool {
    let Level { bounds: Bounds { nominal, most, exempt, .. }, room, .. } = &levels[at];
    if *exempt {
        room.taken.fetch_add(seats, Relaxed);
        return true;
    }
    let below = |limit: usize| {
        let fits = |taken: usize| limit > 0 && (taken == 0 || taken + seats <= limit);
        room.taken.fetch_update(Relaxed, Relaxed, |taken| fits(taken).then_some(taken + seats)).is_ok()
    };
    below(*nominal) || may_borrow(levels, at, seats) && below(*most)
}

/// Whether seats that some level lends are still free, as many as a level needs above its own.
fn may_borrow(levels: &[Level], at: usize, seats: usize) -> bool {
    let (mut borrowed, mut free, mut needed) = (0_usize, 0_usize, 0_usize);
    for (index, Level { bounds, room, .. }) in levels.iter().enumerate().filter(|(_, level)| !level.bounds.exempt) {
        let taken = room.taken.load(Relaxed);
        borrowed += taken.saturating_sub(bounds.nominal);
        if index == at {
            needed = (taken + seats).saturating_sub(taken.max(bounds.nominal));
        } else {
            free += bounds.lendable.min(bounds.nominal.saturating_sub(taken));
        }
    }
    borrowed + needed <= free
}

/// One request that waits; it leaves its queue when dropped.
struct Waiting {
    room: Arc<Room>,
    queue: u64,
    number: u64,
    since: Instant,
    claimed: Claimed,
    /// Its client did not wait for the outcome.
    is_left: bool,
}

impl Waiting {
    fn begin(room: &Arc<Room>, queue: u64, number: u64, claimed: &Claimed) -> Self {
        claimed.series.waiting.add(1.0);
        claimed.series.waiting_seats.add(claimed.work.seats() as f64);
        Waiting { room: room.clone(), queue, number, since: Instant::now(), claimed: claimed.clone(), is_left: true }
    }

    /// It waits no longer; for how long it did.
    fn over(mut self) -> Duration {
        self.is_left = false;
        self.since.elapsed()
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let waited = self.room.state.lock().queues.remove(self.queue, self.number);
        self.claimed.series.waiting.add(-1.0);
        self.claimed.series.waiting_seats.add(-(self.claimed.work.seats() as f64));
        if waited && self.is_left {
            self.room.counts.cancelled.fetch_add(1, Relaxed);
            metrics::rejected(&self.claimed.series.level, &self.claimed.asked.schema, "cancelled");
        }
    }
}

#[cfg(test)]
mod tests;
