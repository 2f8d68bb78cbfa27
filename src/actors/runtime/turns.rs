//! Turns at work that takes long: so much at once, one piece of a namespace at a time, and next is the namespace whose last turn is longest
//! ago. Whoever asks for much waits for itself. All namespaces that had no turn yet count as one: whoever makes more and more of them has the
//! part of one for all.

use std::{
    collections::HashMap,
    sync::{Arc, Weak},
};

use parking_lot::Mutex;
use tokio::sync::oneshot;

/// Of how many namespaces it is known when their last turn was.
const MOST_NAMESPACES: usize = 10_000;

/// See the module.
pub struct Turns {
    at_once: usize,
    state: Mutex<State>,
    itself: Weak<Turns>,
}

#[derive(Default)]
struct State {
    /// Turns so far.
    number: u64,
    /// The numbers of namespaces' last turns.
    last: HashMap<Arc<str>, u64>,
    /// The number of the last turn of a namespace that had none before.
    last_of_new: u64,
    running: Vec<Arc<str>>,
    /// In the order in which they came.
    waiting: Vec<(Arc<str>, oneshot::Sender<Turn>)>,
}

/// A turn, for as long as it lives.
pub struct Turn {
    turns: Weak<Turns>,
    namespace: Arc<str>,
}

impl Turns {
    /// `at_once` namespaces have their turns at a time.
    pub fn new(at_once: usize) -> Arc<Self> {
        Arc::new_cyclic(|itself| Turns { at_once, state: Mutex::default(), itself: itself.clone() })
    }

    /// Waits for a turn. Dropping the future gives up waiting.
    pub async fn turn(&self, namespace: &Arc<str>) -> Turn {
        let told = self.wait(namespace.clone());
        // It is dropped without a word only with all that could wait.
        told.await.unwrap_or_else(|_| Turn { turns: Weak::new(), namespace: namespace.clone() })
    }

    /// How many wait.
    pub fn waiting(&self) -> usize {
        self.state.lock().waiting.iter().filter(|(_, tell)| !tell.is_closed()).count()
    }

    /// How many of a namespace wait.
    pub fn waiting_of(&self, namespace: &str) -> usize {
        self.state.lock().waiting.iter().filter(|(of, tell)| **of == *namespace && !tell.is_closed()).count()
    }

    fn wait(&self, namespace: Arc<str>) -> oneshot::Receiver<Turn> {
        let (tell, told) = oneshot::channel();
        let mut state = self.state.lock();
        state.waiting.push((namespace, tell));
        self.go_on(&mut state);
        told
    }

    /// Gives turns to whoever is next.
    fn go_on(&self, state: &mut State) {
        state.waiting.retain(|(_, tell)| !tell.is_closed());
        while state.running.len() < self.at_once {
            let may_go = |namespace: &Arc<str>| !state.running.contains(namespace);
            let candidates = state.waiting.iter().enumerate().filter(|(_, (namespace, _))| may_go(namespace));
            let next = candidates.min_by_key(|(_, (namespace, _))| state.last_turn(namespace)).map(|(at, _)| at);
            let Some(next) = next else { return };
            let (namespace, tell) = state.waiting.remove(next);
            match tell.send(Turn { turns: self.itself.clone(), namespace: namespace.clone() }) {
                Ok(()) => state.begin(namespace),
                // Nobody waits for it by now, and it has not begun.
                Err(mut turn) => turn.turns = Weak::new(),
            }
        }
    }
}

impl State {
    fn last_turn(&self, namespace: &Arc<str>) -> u64 {
        self.last.get(namespace).copied().unwrap_or(self.last_of_new)
    }

    fn begin(&mut self, namespace: Arc<str>) {
        if self.last.len() >= MOST_NAMESPACES {
            self.last.clear();
        }
        self.number += 1;
        if self.last.insert(namespace.clone(), self.number).is_none() {
            self.last_of_new = self.number;
        }
        self.running.push(namespace);
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let Some(turns) = self.turns.upgrade() else { return };
        let mut state = turns.state.lock();
        if let Some(at) = state.running.iter().position(|running| *running == self.namespace) {
            state.running.remove(at);
        }
        turns.go_on(&mut state);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn has_begun(told: &mut oneshot::Receiver<Turn>) -> Option<Turn> {
        told.try_recv().ok()
    }

    #[test]
    fn who_asks_for_much_waits_for_itself() {
        let turns = Turns::new(2);
        let mut many: Vec<_> = (0..10).map(|_| turns.wait("many".into())).collect();
        let first = has_begun(&mut many[0]).expect("nobody else is there");
        assert!(has_begun(&mut many[1]).is_none(), "one of a namespace at a time");
        let mut other = turns.wait("other".into());
        let others = has_begun(&mut other).expect("there is room for another namespace");
        let (mut late, mut later) = (turns.wait("late".into()), turns.wait("late".into()));
        assert_eq!((turns.waiting(), turns.waiting_of("many"), turns.waiting_of("late"), turns.waiting_of("nobody")), (11, 9, 2, 0));
        drop(first);
        let second = has_begun(&mut many[1]).expect("a namespace without a turn began after its last one");
        assert!(has_begun(&mut late).is_none());
        drop(others);
        let of_late = has_begun(&mut late).expect("its turn has come");
        assert!(has_begun(&mut many[2]).is_none() && has_begun(&mut later).is_none());
        drop(second);
        assert!(has_begun(&mut many[2]).is_some());
        drop(of_late);
        assert!(has_begun(&mut later).is_some());
    }

    #[test]
    fn whoever_makes_namespaces_has_the_part_of_one_for_all() {
        let turns = Turns::new(1);
        drop(has_begun(&mut turns.wait("a".into())).expect("nobody else is there"));
        let mut running = has_begun(&mut turns.wait("b".into()));
        let mut waiting: Vec<_> = ["n0", "n1", "n2", "a", "a", "b", "b"].map(|name| (name, turns.wait(name.into()))).into();
        let mut order = Vec::new();
        while running.take().is_some() {
            let begun = waiting.iter_mut().find_map(|(name, told)| Some((*name, has_begun(told)?)));
            order.extend(begun.as_ref().map(|(name, _)| *name));
            running = begun.map(|(_, turn)| turn);
        }
        assert_eq!(order, ["a", "n0", "b", "a", "n1", "b", "n2"]);
    }

    #[test]
    fn whoever_gives_up_keeps_nobody_waiting() {
        let turns = Turns::new(1);
        let mut first = turns.wait("a".into());
        let turn = has_begun(&mut first).expect("it begins");
        let (gone, mut next) = (turns.wait("b".into()), turns.wait("c".into()));
        drop(gone);
        assert_eq!(turns.waiting(), 1);
        drop(turn);
        drop(has_begun(&mut next).expect("it is next"));
        let unread = turns.wait("d".into());
        drop(unread);
        assert!(has_begun(&mut turns.wait("e".into())).is_some(), "a turn that nobody took is over");
    }
}
