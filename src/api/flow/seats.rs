//! Seats: how many requests of a priority level are in work, and who may come in.
//!
//! A level always has its nominal seats. Above them it borrows what other levels lend and do not use. What is lent comes
//! back as soon as a request ends; until then its owner is not kept waiting, so in all there may be a few more for a moment.
//! Where a level lets requests wait, flows take turns (see [`Queues`]).

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{sync::oneshot, time::timeout};

use super::{
    bounds::{Bounds, Queuing},
    metrics::{self, SchemaSeries},
    queues::Queues,
};
use crate::status::Status;

/// Requests wait no longer for a seat.
const PATIENCE: Duration = Duration::from_secs(2);

/// The requests of one level; outlives changes of its bounds.
#[derive(Debug, Default)]
pub struct Room {
    taken: AtomicUsize,
    queues: Mutex<Queues<Waiter>>,
}

/// A priority level as of now.
#[derive(Clone, Debug)]
pub struct Level {
    pub name: Arc<str>,
    pub uid: Arc<str>,
    pub bounds: Bounds,
    pub room: Arc<Room>,
}

/// A request's seat; free again when dropped.
#[derive(Debug)]
pub struct Seat {
    room: Arc<Room>,
    /// Where the level has queues.
    queue: Option<u64>,
    series: SchemaSeries,
}

impl Seat {
    fn new(room: &Arc<Room>, queue: Option<u64>, series: SchemaSeries) -> Self {
        series.executing.add(1.0);
        series.seats.add(1.0);
        series.dispatched.increment();
        Seat { room: room.clone(), queue, series }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.room.taken.fetch_sub(1, Relaxed);
        self.series.executing.add(-1.0);
        self.series.seats.add(-1.0);
        if let Some(queue) = self.queue {
            self.room.queues.lock().end(queue);
            self.room.serve();
        }
    }
}

/// A request that waits for a seat.
#[derive(Debug)]
struct Waiter {
    levels: Arc<[Level]>,
    at: usize,
    series: SchemaSeries,
    seat: oneshot::Sender<Seat>,
}

impl Room {
    /// Gives seats to those who wait, as long as there are any.
    fn serve(self: &Arc<Self>) {
        loop {
            let mut queues = self.queues.lock();
            let Some((queue, waiter)) = queues.first() else { return };
            if !enter(&waiter.levels, waiter.at) {
                return;
            }
            let Some(Waiter { series, seat, .. }) = queues.serve(queue) else { return };
            drop(queues);
            if let Err(mut unwanted) = seat.send(Seat::new(self, Some(queue), series)) {
                // Whoever wanted it has just gone: it is the next one's, here and not below.
                self.queues.lock().end(queue);
                unwanted.queue = None;
            }
        }
    }
}

/// What a request has at once: a seat, or a place in a queue.
enum Taken<'a> {
    Seat(Seat),
    Place(oneshot::Receiver<Seat>, Waiting<'a>),
}

/// A request on its way to a seat.
#[derive(Clone, Copy, Debug)]
pub struct Claim<'a> {
    /// All levels.
    pub levels: &'a Arc<[Level]>,
    /// Which of them it belongs to.
    pub at: usize,
    pub flow: u64,
    pub schema: &'a str,
    pub series: SchemaSeries,
}

impl Claim<'_> {
    /// Takes a seat, after a short wait where the level lets requests wait.
    ///
    /// # Errors
    /// 429 with Retry-After.
    pub async fn seat(&self) -> Result<Seat, Status> {
        let Level { room, bounds, .. } = &self.levels[self.at];
        let Some(queuing) = bounds.queuing.filter(|_| !bounds.exempt) else {
            let free = enter(self.levels, self.at);
            return if free { Ok(Seat::new(room, None, self.series)) } else { Err(self.rejected("concurrency-limit")) };
        };
        let (mut found, waiting) = match self.take_or_queue(room, &queuing)? {
            Taken::Seat(seat) => return Ok(seat),
            Taken::Place(found, waiting) => (found, waiting),
        };
        // What other levels lend may be free although somebody waits.
        room.serve();
        let seat = timeout(PATIENCE, &mut found).await;
        drop(waiting);
        // It may have come at the last moment.
        let seat = seat.ok().and_then(Result::ok).or_else(|| found.try_recv().ok());
        seat.ok_or_else(|| self.rejected("time-out"))
    }

    fn take_or_queue<'a>(&self, room: &'a Arc<Room>, queuing: &Queuing) -> Result<Taken<'a>, Status> {
        let mut queues = room.queues.lock();
        let queue = queues.choose(self.flow, queuing);
        if queues.waiting() == 0 && enter(self.levels, self.at) {
            queues.begin(queue);
            return Ok(Taken::Seat(Seat::new(room, Some(queue), self.series)));
        }
        let (seat, found) = oneshot::channel();
        let waiter = Waiter { levels: self.levels.clone(), at: self.at, series: self.series, seat };
        let number = queues.push(queue, queuing.length, waiter).ok_or_else(|| self.rejected("queue-full"))?;
        Ok(Taken::Place(found, Waiting::begin(room, queue, number, self.series)))
    }

    fn rejected(&self, reason: &str) -> Status {
        metrics::rejected(&self.levels[self.at].name, self.schema, reason);
        Status::too_many_requests("Too many requests, please try again later.", 1)
    }
}

/// Takes a seat if there is one.
fn enter(levels: &[Level], at: usize) -> bool {
    let Level { bounds: Bounds { nominal, most, exempt, .. }, room, .. } = &levels[at];
    if *exempt {
        room.taken.fetch_add(1, Relaxed);
        return true;
    }
    let below = |limit: usize| room.taken.fetch_update(Relaxed, Relaxed, |taken| (taken < limit).then_some(taken + 1)).is_ok();
    below(*nominal) || may_borrow(levels) && below(*most)
}

/// Whether a seat that some level lends is still free.
fn may_borrow(levels: &[Level]) -> bool {
    let (mut borrowed, mut free) = (0_usize, 0_usize);
    for Level { bounds, room, .. } in levels.iter().filter(|level| !level.bounds.exempt) {
        let taken = room.taken.load(Relaxed);
        borrowed += taken.saturating_sub(bounds.nominal);
        free += bounds.lendable.min(bounds.nominal.saturating_sub(taken));
    }
    borrowed < free
}

/// One request that waits; it leaves its queue when dropped.
struct Waiting<'a> {
    room: &'a Room,
    queue: u64,
    number: u64,
    series: SchemaSeries,
}

impl<'a> Waiting<'a> {
    fn begin(room: &'a Room, queue: u64, number: u64, series: SchemaSeries) -> Self {
        series.waiting.add(1.0);
        Waiting { room, queue, number, series }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.room.queues.lock().remove(self.queue, self.number);
        self.series.waiting.add(-1.0);
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;

    fn level(name: &str, nominal: usize, lendable: usize, queuing: Option<Queuing>) -> Level {
        let bounds = Bounds { nominal, lendable, most: usize::MAX, queuing, exempt: false };
        Level { name: name.into(), uid: name.into(), bounds, room: Arc::default() }
    }

    fn claim(levels: &Arc<[Level]>, at: usize) -> Claim<'_> {
        Claim { levels, at, flow: 1, schema: "s", series: SchemaSeries::of(&levels[at].name, "s") }
    }

    #[tokio::test]
    async fn a_full_level_borrows_what_is_lent_and_takes_nobodys_own_seats() {
        let levels: Arc<[Level]> = [level("a", 2, 0, None), level("b", 3, 2, None), level("c", 1, 0, None)].into();
        let mut seats = Vec::new();
        for _ in 0..4 {
            seats.push(claim(&levels, 0).seat().await.expect("two of its own, two that b lends"));
        }
        assert_eq!(claim(&levels, 0).seat().await.expect_err("all is lent").code, 429);
        let own = [claim(&levels, 1).seat().await, claim(&levels, 1).seat().await, claim(&levels, 1).seat().await];
        assert!(own.iter().all(Result::is_ok), "what b lent it still has");
        assert!(claim(&levels, 2).seat().await.is_ok());
        seats.clear();
        assert!(claim(&levels, 0).seat().await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn who_may_wait_gets_the_next_free_seat_or_is_told_to_come_back() {
        let levels: Arc<[Level]> = [level("a", 1, 0, Some(Queuing { queues: 1, hand: 1, length: 1 }))].into();
        let first = claim(&levels, 0).seat().await.expect("is free");
        let claimed = claim(&levels, 0);
        let (second, third) = tokio::join!(claimed.seat(), async {
            tokio::task::yield_now().await;
            let third = claimed.seat().await;
            drop(first);
            third
        });
        let second = second.expect("the first one's");
        assert_eq!(third.expect_err("one waits already").message, "Too many requests, please try again later.");
        let began = Instant::now();
        assert_eq!(claim(&levels, 0).seat().await.expect_err("nobody leaves").code, 429);
        assert_eq!(began.elapsed(), PATIENCE);
        drop(second);
        assert!(claim(&levels, 0).seat().await.is_ok());
        assert_eq!(levels[0].room.taken.load(Relaxed), 0, "no seat is lost");
    }

    #[tokio::test(start_paused = true)]
    async fn a_flow_that_asks_for_everything_keeps_no_other_one_waiting() {
        let levels: Arc<[Level]> = [level("a", 4, 0, Some(Queuing { queues: 64, hand: 6, length: 50 }))].into();
        // Nine hundred clients of one flow hold each seat for a second, again and again.
        let greedy: Vec<_> = (0..900)
            .map(|_| {
                let levels = levels.clone();
                tokio::spawn(async move {
                    loop {
                        let seat = claim(&levels, 0).seat().await;
                        tokio::time::sleep(Duration::from_secs(1)).await;
                        drop(seat);
                    }
                })
            })
            .collect();
        tokio::time::sleep(Duration::from_secs(10)).await;
        for _ in 0..20 {
            let began = Instant::now();
            let seat = Claim { flow: 0xdead_beef_1234_5678, ..claim(&levels, 0) }.seat().await.expect("its turn comes");
            assert!(began.elapsed() <= Duration::from_secs(1), "{:?}", began.elapsed());
            drop(seat);
            tokio::time::sleep(Duration::from_millis(700)).await;
        }
        greedy.iter().for_each(tokio::task::JoinHandle::abort);
        for task in greedy {
            let _ = task.await;
        }
        assert_eq!(levels[0].room.taken.load(Relaxed), 0, "no seat is lost");
        assert_eq!(levels[0].room.queues.lock().waiting(), 0);
    }
}
