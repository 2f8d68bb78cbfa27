//! The queues of a priority level: requests of one flow wait in few of them, and the queue whose requests hold the fewest seats is
//! served next, so that no flow keeps others waiting however much it asks (KEP-1040, `queueset`).

use std::collections::{HashMap, VecDeque};

use super::bounds::Queuing;

/// The queues in use; a number stands for a queue that is empty and has nothing in work until it is used.
#[derive(Debug)]
pub struct Queues<W> {
    used: HashMap<u64, Queue<W>>,
    waiting: usize,
    /// Who waits is told apart by numbers.
    next: u64,
}

#[derive(Debug)]
struct Queue<W> {
    executing: usize,
    waiting: VecDeque<(u64, W)>,
    /// When it was served last: of two the one that waited longer comes first.
    served: u64,
}

impl<W> Default for Queues<W> {
    fn default() -> Self {
        Queues { used: HashMap::new(), waiting: 0, next: 0 }
    }
}

impl<W> Queue<W> {
    const EMPTY: Queue<W> = Queue { executing: 0, waiting: VecDeque::new(), served: 0 };
}

impl<W> Queues<W> {
    pub fn waiting(&self) -> usize {
        self.waiting
    }

    /// The shortest of the queues that a flow has the choice of.
    pub fn choose(&self, flow: u64, queuing: &Queuing) -> u64 {
        let load = |queue: u64| self.used.get(&queue).map_or(0, |queue| queue.waiting.len() + queue.executing);
        hand(flow, queuing).into_iter().min_by_key(|queue| load(*queue)).unwrap_or(0)
    }

    /// One more request of a queue is in work.
    pub fn begin(&mut self, queue: u64) {
        self.used.entry(queue).or_insert(Queue::EMPTY).executing += 1;
    }

    /// One less is.
    pub fn end(&mut self, queue: u64) {
        if let Some(found) = self.used.get_mut(&queue) {
            found.executing = found.executing.saturating_sub(1);
        }
        self.forget_if_idle(queue);
    }

    /// Puts a request at the end of a queue that holds less than `length`; gives its number.
    pub fn push(&mut self, queue: u64, length: usize, waiter: W) -> Option<u64> {
        let found = self.used.entry(queue).or_insert(Queue::EMPTY);
        if found.waiting.len() >= length {
            return None;
        }
        self.next += 1;
        found.waiting.push_back((self.next, waiter));
        self.waiting += 1;
        Some(self.next)
    }

    /// Takes a request out that waits no longer; `false` if it does not wait any more.
    pub fn remove(&mut self, queue: u64, number: u64) -> bool {
        let Some(found) = self.used.get_mut(&queue) else { return false };
        let Some(at) = found.waiting.iter().position(|(known, _)| *known == number) else { return false };
        found.waiting.remove(at);
        self.waiting -= 1;
        self.forget_if_idle(queue);
        true
    }

    /// The queue that is served next, and the first that waits in it.
    pub fn first(&self) -> Option<(u64, &W)> {
        let waiting = self.used.iter().filter_map(|(number, queue)| Some((*number, queue, &queue.waiting.front()?.1)));
        let next = waiting.min_by_key(|(number, queue, _)| (queue.executing, queue.served, *number));
        next.map(|(number, _, waiter)| (number, waiter))
    }

    /// Takes the first out of a queue; it is in work from now on.
    pub fn serve(&mut self, queue: u64) -> Option<W> {
        let found = self.used.get_mut(&queue)?;
        let (_, waiter) = found.waiting.pop_front()?;
        self.next += 1;
        (found.executing, found.served) = (found.executing + 1, self.next);
        self.waiting -= 1;
        Some(waiter)
    }

    fn forget_if_idle(&mut self, queue: u64) {
        if self.used.get(&queue).is_some_and(|found| found.executing == 0 && found.waiting.is_empty()) {
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
            queues.begin(1);
            queues.push(1, 50, name).expect("room");
        }
        queues.push(2, 50, "b1").expect("room");
        queues.push(3, 1, "c1").expect("room");
        assert_eq!(queues.push(3, 1, "c2"), None, "it is full");
        let mut served = Vec::new();
        while let Some((queue, _)) = queues.first() {
            served.push(queues.serve(queue).expect("waits"));
        }
        assert_eq!(served, ["b1", "c1", "a1", "a2", "a3"]);
        assert_eq!(queues.waiting(), 0);
    }

    #[test]
    fn who_leaves_is_forgotten_and_so_are_idle_queues() {
        let mut queues = Queues::default();
        let number = queues.push(5, 2, ()).expect("room");
        assert!(queues.remove(5, number) && !queues.remove(5, number));
        queues.begin(6);
        queues.end(6);
        assert!(queues.used.is_empty() && queues.first().is_none());
    }
}
