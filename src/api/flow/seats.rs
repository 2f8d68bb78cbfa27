//! Seats: how many requests of a priority level are in work, and who may come in.
//!
//! A level always has its nominal seats. Above them it borrows what other levels lend and do not use. What is lent comes
//! back as soon as a request ends; until then its owner is not kept waiting, so in all there may be a few more for a moment.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::{
    sync::Notify,
    time::{Instant, timeout_at},
};

use super::{
    bounds::Bounds,
    metrics::{self, SchemaSeries},
};
use crate::status::Status;

/// Requests wait no longer for a seat.
const PATIENCE: Duration = Duration::from_secs(2);

/// The requests of one level; outlives changes of its bounds.
#[derive(Debug, Default)]
pub struct Room {
    taken: AtomicUsize,
    waiting: AtomicUsize,
    freed: Notify,
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
    series: SchemaSeries,
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.room.taken.fetch_sub(1, Relaxed);
        self.series.executing.add(-1.0);
        self.series.seats.add(-1.0);
        self.room.freed.notify_one();
    }
}

/// A request on its way to a seat.
#[derive(Clone, Copy, Debug)]
pub struct Claim<'a> {
    pub level: &'a Level,
    /// All levels, this one included.
    pub levels: &'a [Level],
    pub schema: &'a str,
    pub series: SchemaSeries,
}

impl Claim<'_> {
    /// Takes a seat, after a short wait where the level lets requests wait.
    ///
    /// # Errors
    /// 429 with Retry-After.
    pub async fn seat(&self) -> Result<Seat, Status> {
        if self.enter() {
            return Ok(self.seated());
        }
        let room = &self.level.room;
        if self.level.bounds.waiting == 0 {
            return Err(self.rejected("concurrency-limit"));
        }
        let _waiting = Waiting::begin(room, self.series);
        if room.waiting.load(Relaxed) > self.level.bounds.waiting {
            return Err(self.rejected("queue-full"));
        }
        let until = Instant::now() + PATIENCE;
        loop {
            let freed = room.freed.notified();
            if self.enter() {
                return Ok(self.seated());
            }
            if timeout_at(until, freed).await.is_err() {
                return if self.enter() { Ok(self.seated()) } else { Err(self.rejected("time-out")) };
            }
        }
    }

    fn enter(&self) -> bool {
        let Bounds { nominal, most, exempt, .. } = self.level.bounds;
        let taken = &self.level.room.taken;
        if exempt {
            taken.fetch_add(1, Relaxed);
            return true;
        }
        let below = |limit: usize| taken.fetch_update(Relaxed, Relaxed, |taken| (taken < limit).then_some(taken + 1)).is_ok();
        below(nominal) || may_borrow(self.levels) && below(most)
    }

    fn seated(&self) -> Seat {
        self.series.executing.add(1.0);
        self.series.seats.add(1.0);
        self.series.dispatched.increment();
        Seat { room: self.level.room.clone(), series: self.series }
    }

    fn rejected(&self, reason: &str) -> Status {
        metrics::rejected(&self.level.name, self.schema, reason);
        Status::too_many_requests("Too many requests, please try again later.", 1)
    }
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

/// One request that waits.
struct Waiting<'a>(&'a Room, SchemaSeries);

impl<'a> Waiting<'a> {
    fn begin(room: &'a Room, series: SchemaSeries) -> Self {
        room.waiting.fetch_add(1, Relaxed);
        series.waiting.add(1.0);
        Waiting(room, series)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Relaxed);
        self.1.waiting.add(-1.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn level(name: &str, nominal: usize, lendable: usize, waiting: usize) -> Level {
        let bounds = Bounds { nominal, lendable, most: usize::MAX, waiting, exempt: false };
        Level { name: name.into(), uid: name.into(), bounds, room: Arc::default() }
    }

    fn claim<'a>(levels: &'a [Level], at: usize) -> Claim<'a> {
        Claim { level: &levels[at], levels, schema: "s", series: SchemaSeries::of(&levels[at].name, "s") }
    }

    #[tokio::test]
    async fn a_full_level_borrows_what_is_lent_and_takes_nobodys_own_seats() {
        let levels = [level("a", 2, 0, 0), level("b", 3, 2, 0), level("c", 1, 0, 0)];
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
        let levels = [level("a", 1, 0, 1)];
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
    }
}
