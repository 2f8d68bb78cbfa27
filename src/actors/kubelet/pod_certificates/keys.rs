//! Makes the keys of pods aside, on threads of low priority: one at a time of those that take long, and one of the others, in the order of
//! [`queue`](super::queue).
//!
//! In: orders of the unit `kubelet/pod-certificates`. Out: keys that it takes, when it is woken for the pod. Nobody waits inside of it.

use std::{collections::BTreeMap, sync::Arc};

use parking_lot::Mutex;
use troupe_api::{
    certificates::ProvenKey,
    meta::{Cause, ObjectKey},
};

use super::{
    Projection,
    queue::{Line, Order, Pace},
};
use crate::{files::in_background, runtime::controller::Waker};

/// See the module.
#[derive(Default)]
pub struct Keys {
    state: Mutex<State>,
    /// Wakes who ordered a key when it is there.
    waker: Mutex<Option<Waker>>,
}

#[derive(Default)]
struct State {
    quick: Lane,
    slow: Lane,
    made: BTreeMap<Projection, Made>,
}

/// Keys of a pace.
#[derive(Default)]
struct Lane {
    line: Line,
    /// Somebody makes them, and goes on until none waits.
    is_worked: bool,
    /// What is being made, unless nobody wants it any more.
    making: Option<Order>,
}

/// A key, or why there is none.
struct Made {
    pod: ObjectKey,
    key: Result<ProvenKey, String>,
}

impl State {
    fn lane(&mut self, pace: Pace) -> &mut Lane {
        match pace {
            Pace::Quick => &mut self.quick,
            Pace::Slow => &mut self.slow,
        }
    }

    /// Notes an order; whether somebody must begin to work on its lane.
    fn order(&mut self, order: Order) -> bool {
        let lane = self.lane(Pace::of(&order.key_type));
        if lane.making.as_ref() != Some(&order) {
            lane.line.join(order);
        }
        !std::mem::replace(&mut lane.is_worked, true)
    }

    /// What to make next; where there is nothing, nobody works on the lane any more.
    fn begin(&mut self, pace: Pace) -> Option<Order> {
        let lane = self.lane(pace);
        let next = lane.line.take_next();
        lane.is_worked = next.is_some();
        lane.making.clone_from(&next);
        next
    }

    /// Keeps what was made; whether anybody wants it still.
    fn end(&mut self, order: &Order, key: Result<ProvenKey, String>) -> bool {
        let lane = self.lane(Pace::of(&order.key_type));
        let is_wanted = lane.making.take().as_ref() == Some(order);
        if is_wanted {
            self.made.insert(order.projection.clone(), Made { pod: order.pod.clone(), key });
        }
        is_wanted
    }

    fn forget(&mut self, pod: &ObjectKey, but: Option<&str>) {
        let is_gone = |of: &ObjectKey, uid: &str| of == pod && Some(uid) != but;
        for lane in [&mut self.quick, &mut self.slow] {
            lane.line.forget(pod, but);
            lane.making.take_if(|order| is_gone(&order.pod, &order.projection.uid));
        }
        self.made.retain(|projection, made| !is_gone(&made.pod, &projection.uid));
    }
}

impl Keys {
    /// Who is woken when a key is there.
    pub fn wake_by(&self, waker: Waker) {
        *self.waker.lock() = Some(waker);
    }

    /// Takes the key that is ordered, or why it could not be made; `None` while it is still to be made.
    pub fn take(self: &Arc<Self>, order: &Order) -> Option<Result<ProvenKey, String>> {
        let mut state = self.state.lock();
        if let Some(made) = state.made.remove(&order.projection) {
            return Some(made.key);
        }
        let begins = state.order(order.clone());
        drop(state);
        if begins {
            let worker = Worker { keys: self.clone(), pace: Pace::of(&order.key_type), has_ended: false };
            tokio::spawn(worker.work());
        }
        None
    }

    /// Keeps a key that could not be used yet: another one would cost as much again.
    pub fn put_back(&self, order: &Order, key: ProvenKey) {
        self.state.lock().made.insert(order.projection.clone(), Made { pod: order.pod.clone(), key: Ok(key) });
    }

    /// Forgets the keys of those who have this name, but for the pod with this uid.
    pub fn forget(&self, pod: &ObjectKey, but: Option<&str>) {
        self.state.lock().forget(pod, but);
    }
}

/// Makes the keys of a lane.
struct Worker {
    keys: Arc<Keys>,
    pace: Pace,
    has_ended: bool,
}

impl Worker {
    async fn work(mut self) {
        while let Some(order) = self.begin() {
            let key_type = order.key_type.clone();
            let made = in_background("pod-key", move || ProvenKey::generate(&key_type)).await;
            let is_wanted = self.keys.state.lock().end(&order, made.map_err(|error| error.to_string()));
            let waker = self.keys.waker.lock().clone().filter(|_| is_wanted);
            if let Some(waker) = waker {
                waker.wake(order.pod, Cause::default());
            }
        }
    }

    fn begin(&mut self) -> Option<Order> {
        let next = self.keys.state.lock().begin(self.pace);
        self.has_ended = next.is_none();
        next
    }
}

impl Drop for Worker {
    /// One that ends early, by a panic or with its arbiter, leaves the lane to whoever orders next.
    fn drop(&mut self) {
        if !self.has_ended {
            let mut state = self.keys.state.lock();
            let lane = state.lane(self.pace);
            lane.is_worked = false;
            lane.making = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn order(pod: &str, source: usize, key_type: &str) -> Order {
        let projection = Projection { uid: pod.into(), volume: "v".into(), source };
        Order { pod: ObjectKey::new("n", pod), projection, key_type: key_type.into() }
    }

    fn nothing() -> Result<ProvenKey, String> {
        Err("not made in this test".into())
    }

    #[test]
    fn a_quick_key_waits_for_no_slow_one() {
        let mut state = State::default();
        let begun = (0..64).filter(|source| state.order(order("kk", *source, "RSA4096"))).count();
        assert_eq!(begun, 1, "one works on them all");
        let slow = state.begin(Pace::Slow).expect("64 wait");
        assert!(state.order(order("vc", 0, "ED25519")), "its lane is free");
        assert_eq!(state.begin(Pace::Quick), Some(order("vc", 0, "ED25519")));
        assert!(state.end(&order("vc", 0, "ED25519"), nothing()));
        assert!(state.made.contains_key(&order("vc", 0, "ED25519").projection));
        assert_eq!(state.begin(Pace::Quick), None);
        assert!(!state.order(slow.clone()), "it is being made");
        assert!(state.end(&slow, nothing()));
        let rest = std::iter::from_fn(|| state.begin(Pace::Slow)).count();
        assert_eq!(rest, 63);
        assert!(state.order(order("kk", 0, "RSA4096")), "nobody works there any more");
    }

    #[test]
    fn what_nobody_wants_any_more_is_not_kept() {
        let mut state = State::default();
        state.order(order("a", 0, "RSA4096"));
        state.order(order("a", 1, "RSA4096"));
        let first = state.begin(Pace::Slow).expect("two wait");
        state.end(&first, nothing());
        let second = state.begin(Pace::Slow).expect("one waits");
        state.order(order("a", 2, "RSA4096"));
        state.forget(&ObjectKey::new("n", "a"), None);
        assert!(state.made.is_empty());
        assert!(!state.end(&second, nothing()), "the pod went meanwhile");
        assert!(state.made.is_empty());
        assert_eq!(state.begin(Pace::Slow), None, "the third is not begun");
    }

    #[tokio::test]
    async fn a_key_is_made_aside_and_taken_once() {
        let (keys, wanted) = (Arc::new(Keys::default()), order("p", 0, "ED25519"));
        let made = tokio::time::timeout(Duration::from_secs(60), async {
            loop {
                if let Some(made) = keys.take(&wanted) {
                    return made;
                }
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        });
        let key = made.await.expect("is made in time").expect("there is such a type");
        let pem = key.key_pem.clone();
        keys.put_back(&wanted, key);
        assert_eq!(keys.take(&wanted).and_then(Result::ok).map(|key| key.key_pem), Some(pem), "the same one");
        assert!(keys.take(&wanted).is_none(), "another one is to be made");
        let odd = order("p", 1, "ROT13");
        let why = tokio::time::timeout(Duration::from_secs(60), async {
            loop {
                if let Some(made) = keys.take(&odd) {
                    return made.err();
                }
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        });
        assert_eq!(why.await.expect("is refused in time"), Some("unknown key type \"ROT13\"".to_owned()));
    }
}
