//! The queues of a priority level: requests of one flow wait in few of them, and the queue whose requests hold the fewest seats is
//! served next, of equals the one that has had the least work; so no flow keeps others waiting however much it asks (KEP-1040, `queueset`).

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use super::{bounds::Queuing, work::WorkEstimate};

/// What a request is taken to last until it has ended.
const EXPECTED: Duration = Duration::from_millis(3);

/// The queues in use; a number stands for a queue that is empty and has nothing in work until it is used.
#[derive(Debug)]
pub struct Queues<W> {
    used: HashMap<u64, Queue<W>>,
    waiting: usize,
    /// Who waits is told apart by numbers.
    next: u64,
    /// Seat-seconds after which the queue stood that was served last: one that comes back does not make up for what it did not use.
    now: f64,
}

/// One queue.
#[derive(Debug)]
pub struct Queue<W> {
    pub executing: usize,
    /// The seats of those in work, and of those that have ended and still have to do with their watchers.
    pub seats: usize,
    waiting: VecDeque<(u64, WorkEstimate, W)>,
    /// Seat-seconds that it has had.
    pub had: f64,
}

impl<W> Default for Queues<W> {
    fn default() -> Self {
        Queues { used: HashMap::new(), waiting: 0, next: 0, now: 0.0 }
    }
}

impl<W> Queue<W> {
    fn is_idle(&self) -> bool {
        self.executing == 0 && self.seats == 0 && self.waiting.is_empty()
    }

    /// Those that wait, in order.
    pub fn waiting(&self) -> impl ExactSizeIterator<Item = (&WorkEstimate, &W)> {
        self.waiting.iter().map(|(_, work, waiter)| (work, waiter))
    }

    /// Seat-seconds that those who wait are expected to take.
    pub fn expected(&self) -> f64 {
        self.waiting.iter().map(|(_, work, _)| work.of(EXPECTED)).sum()
    }
}

impl<W> Queues<W> {
    pub fn waiting(&self) -> usize {
        self.waiting
    }

    /// A queue that is in use.
    pub fn get(&self, queue: u64) -> Option<&Queue<W>> {
        self.used.get(&queue)
    }

    /// The queues in use, in order.
    pub fn all(&self) -> Vec<(u64, &Queue<W>)> {
        let mut all: Vec<_> = self.used.iter().map(|(number, queue)| (*number, queue)).collect();
        all.sort_unstable_by_key(|(number, _)| *number);
        all
    }

    /// The one with the least work of the queues that a flow has the choice of.
    pub fn choose(&self, flow: u64, queuing: &Queuing) -> u64 {
        let load = |queue: u64| self.used.get(&queue).map_or(0, |queue| queue.seats + queue.waiting().map(|(work, _)| work.seats()).sum::<usize>());
        hand(flow, queuing).into_iter().min_by_key(|queue| load(*queue)).unwrap_or(0)
    }

    fn queue(&mut self, queue: u64) -> &mut Queue<W> {
        let had = self.now;
        self.used.entry(queue).or_insert_with(|| Queue { executing: 0, seats: 0, waiting: VecDeque::new(), had })
    }

    /// One more request of a queue is in work.
    pub fn begin(&mut self, queue: u64, work: &WorkEstimate) {
        let found = self.queue(queue);
        let had = found.had;
        found.executing += 1;
        found.seats += work.seats();
        found.had += work.of(EXPECTED);
        self.now = self.now.max(had);
    }

    /// One less is, after so long. Its seats are not free yet.
    pub fn end(&mut self, queue: u64, work: &WorkEstimate, took: Duration) {
        if let Some(found) = self.used.get_mut(&queue) {
            found.executing = found.executing.saturating_sub(1);
            found.had += work.of(took) - work.of(EXPECTED);
        }
    }

    /// Its seats are free.
    pub fn free(&mut self, queue: u64, seats: usize) {
        if let Some(found) = self.used.get_mut(&queue) {
            found.seats = found.seats.saturating_sub(seats);
        }
        self.forget_if_idle(queue);
    }

    /// Puts a request at the end of a queue that holds less than `length`; gives its number.
    pub fn push(&mut self, queue: u64, length: usize, work: WorkEstimate, waiter: W) -> Option<u64> {
        let number = self.next + 1;
        let found = self.queue(queue);
        if found.waiting.len() >= length {
            return None;
        }
        found.waiting.push_back((number, work, waiter));
        self.next = number;
        self.waiting += 1;
        Some(number)
    }

    /// Takes a request out that waits no longer; `false` if it does not wait any more.
    pub fn remove(&mut self, queue: u64, number: u64) -> bool {
        let Some(found) = self.used.get_mut(&queue) else { return false };
        let Some(at) = found.waiting.iter().position(|(known, ..)| *known == number) else { return false };
        found.waiting.remove(at);
        self.waiting -= 1;
        self.forget_if_idle(queue);
        true
    }

    /// The queue that is served next, and the first that waits in it.
    pub fn first(&self) -> Option<(u64, &WorkEstimate, &W)> {
        let waiting = self.used.iter().filter_map(|(number, queue)| {
            let (_, work, waiter) = queue.waiting.front()?;
            Some((*number, queue, work, waiter))
        });
        let order = |(number, queue, work, _): &(u64, &Queue<W>, &WorkEstimate, &W)| (queue.seats, queue.had + work.of(EXPECTED), *number);
        let next = waiting.min_by(|one, other| {
            let (one, other) = (order(one), order(other));
            one.0.cmp(&other.0).then(one.1.total_cmp(&other.1)).then(one.2.cmp(&other.2))
        });
        next.map(|(number, _, work, waiter)| (number, work, waiter))
    }

    /// Takes the first out of a queue; it is in work from now on.
    pub fn serve(&mut self, queue: u64) -> Option<W> {
        let (_, work, waiter) = self.used.get_mut(&queue)?.waiting.pop_front()?;
        self.begin(queue, &work);
        self.waiting -= 1;
        Some(waiter)
    }

    fn forget_if_idle(&mut self, queue: u64) {
        if self.used.get(&queue).is_some_and(Queue::is_idle) {
            self.used.remove(&queue);
        }
    }
}

/// The queues that a flow has the choice of: drawn by its hash, each at most once (shuffle sharding).
fn hand(flow: u64, queuing: &Queuing) -> Vec<u64> {
    let (mut rest, mut drawn) = (flow, Vec::with_capacity(queuing.hand));
    for taken in 0..queuing.hand as u64 {
        let left = (queuing.queues - taken).max(1);
        let mut card = rest % left;
        rest /= left;
        // The hash may not have as much to say as the cards ask for.
        if rest == 0 {
            rest = flow.rotate_left(17) ^ card;
        }
        for known in &drawn {
            card += u64::from(card >= *known);
        }
        drawn.push(card);
        drawn.sort_unstable();
    }
    drawn
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUEUING: Queuing = Queuing { queues: 64, hand: 6, length: 50 };
    const WIDE: WorkEstimate = WorkEstimate { initial: 5, ..WorkEstimate::ONE };

    #[test]
    fn a_hand_has_each_queue_once_and_hands_differ() {
        let mut seen = HashMap::new();
        for flow in 0..1000_u64 {
            let drawn = hand(flow.wrapping_mul(0x9e37_79b9_7f4a_7c15), &QUEUING);
            assert!(drawn.windows(2).all(|pair| pair[0] < pair[1]) && drawn.len() == 6 && drawn[5] < 64, "{drawn:?}");
            *seen.entry(drawn).or_insert(0) += 1;
        }
        assert!(seen.len() > 990, "{}", seen.len());
        assert_eq!(hand(7, &Queuing { queues: 1, hand: 1, length: 1 }), [0]);
        assert_eq!(hand(u64::MAX, &Queuing { queues: 3, hand: 3, length: 1 }), [0, 1, 2]);
    }

    #[test]
    fn who_holds_the_fewest_seats_is_served_next() {
        let mut queues = Queues::default();
        for name in ["a1", "a2", "a3"] {
            queues.begin(1, &WorkEstimate::ONE);
            queues.push(1, 50, WorkEstimate::ONE, name).expect("room");
        }
        queues.push(2, 50, WorkEstimate::ONE, "b1").expect("room");
        queues.push(3, 1, WorkEstimate::ONE, "c1").expect("room");
        assert_eq!(queues.push(3, 1, WorkEstimate::ONE, "c2"), None, "it is full");
        let mut served = Vec::new();
        while let Some((queue, ..)) = queues.first() {
            served.push(queues.serve(queue).expect("waits"));
        }
        assert_eq!(served, ["b1", "c1", "a1", "a2", "a3"]);
        assert_eq!(queues.waiting(), 0);
    }

    #[test]
    fn wide_requests_count_as_many_and_long_ones_are_remembered() {
        let mut queues = Queues::default();
        // One wide request outweighs three narrow ones.
        queues.begin(1, &WIDE);
        (0..3).for_each(|_| queues.begin(2, &WorkEstimate::ONE));
        queues.push(1, 50, WorkEstimate::ONE, "wide").expect("room");
        queues.push(2, 50, WorkEstimate::ONE, "narrow").expect("room");
        assert_eq!(queues.first().map(|(queue, ..)| queue), Some(2));
        // With as few seats, whoever had less comes first.
        queues.end(1, &WIDE, Duration::from_secs(1));
        queues.free(1, 5);
        for _ in 0..3 {
            queues.end(2, &WorkEstimate::ONE, Duration::from_millis(1));
            queues.free(2, 1);
        }
        assert_eq!(queues.first().map(|(queue, ..)| queue), Some(2));
        assert!(queues.get(1).expect("waits").had > 4.9);
        // Who comes new begins with what the others have had.
        queues.serve(2);
        queues.push(3, 50, WorkEstimate::ONE, "new").expect("room");
        assert_eq!(queues.get(3).map(|queue| queue.had), Some(queues.now));
    }

    #[test]
    fn who_leaves_is_forgotten_and_so_are_idle_queues() {
        let mut queues = Queues::default();
        let number = queues.push(5, 2, WorkEstimate::ONE, ()).expect("room");
        assert!(queues.remove(5, number) && !queues.remove(5, number));
        queues.begin(6, &WorkEstimate::ONE);
        queues.end(6, &WorkEstimate::ONE, Duration::ZERO);
        assert_eq!(queues.all().len(), 1, "its seat is not free yet");
        queues.free(6, 1);
        assert!(queues.used.is_empty() && queues.first().is_none());
    }
}
