use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use actix::Message;
use serde_json::{Value, json};
use troupe_api::meta::{Cause, SystemClock};

use super::{Guard, TellError, UnitAddr, UnitContext};
use crate::{
    runtime::{
        directory::ActorState,
        envelope::Reply,
        host::{On, Unit},
        system::{System, SystemOptions},
        unit::Policy,
    },
    simulation::simulate,
};

#[derive(Default)]
struct Counter {
    count: u32,
}

impl Unit for Counter {
    fn observe(&self) -> Value {
        json!({"count": self.count})
    }
}

#[derive(Debug, Message)]
#[rtype(result = "u32")]
enum Count {
    Up,
    Panic,
    PanicLater,
    PanicInReply,
}

impl On<Count> for Counter {
    fn on(&mut self, message: Count, cx: &mut UnitContext<'_, Self>) -> Reply<u32> {
        match message {
            Count::Up => self.count += 1,
            Count::Panic => panic!("asked to"),
            Count::PanicLater => cx.spawn(async {
                tokio::task::yield_now().await;
                panic!("asked to, later")
            }),
            Count::PanicInReply => return Reply::later(async { panic!("asked to, in the reply") }),
        }
        Reply::Now(self.count)
    }
}

fn system() -> System {
    System::new(SystemOptions::local(1, Arc::new(SystemClock))).expect("no threads are started")
}

fn policy() -> Policy {
    Policy { backoff: Duration::from_millis(5), intensity: 3, ..Policy::default() }
}

async fn up(counter: &UnitAddr<Counter>) -> Result<u32, TellError> {
    counter.ask(Count::Up, Cause::default()).await
}

fn restarts(system: &System, path: &str) -> Option<u64> {
    system.directory().snapshot().iter().find(|actor| &*actor.path == path).map(|actor| actor.restarts)
}

async fn restarted(system: &System, path: &str, times: u64) {
    let reached = async {
        while restarts(system, path) != Some(times) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), reached).await.expect("it restarts in time");
}

#[test]
fn what_is_kept_for_each_unit_is_small() {
    assert!(size_of::<Guard<Counter>>() <= 512, "{}: there are as many as objects", size_of::<Guard<Counter>>());
}

#[actix::test]
async fn a_unit_that_panics_starts_anew_and_keeps_its_mailbox() {
    let system = system();
    let built = Arc::new(AtomicUsize::new(0));
    let count = built.clone();
    let counter = system.spawn("counter", policy(), move |_| {
        count.fetch_add(1, Relaxed);
        Counter::default()
    });
    assert_eq!(up(&counter).await, Ok(1));
    let (lost, kept) = tokio::join!(counter.ask(Count::Panic, Cause::default()), up(&counter));
    assert_eq!(lost, Err(TellError::Closed), "the message in hand is lost");
    assert_eq!(kept, Ok(1), "the next one meets a fresh unit");
    assert_eq!(built.load(Relaxed), 2);
    assert_eq!(restarts(&system, "counter"), Some(1));
}

#[actix::test]
async fn a_panic_in_a_spawned_future_or_a_late_reply_restarts_the_unit_too() {
    let system = system();
    let counter = system.spawn("counter", policy(), |_| Counter::default());
    assert_eq!(up(&counter).await, Ok(1));
    assert_eq!(counter.ask(Count::PanicLater, Cause::default()).await, Ok(1));
    restarted(&system, "counter", 1).await;
    assert_eq!(up(&counter).await, Ok(1));
    assert_eq!(counter.ask(Count::PanicInReply, Cause::default()).await, Err(TellError::Closed));
    restarted(&system, "counter", 2).await;
    assert_eq!(up(&counter).await, Ok(1));
}

#[actix::test]
async fn a_neighbour_notices_nothing() {
    let system = system();
    let broken = system.spawn("broken", policy(), |_| Counter::default());
    let sound = system.spawn("sound", policy(), |_| Counter::default());
    assert_eq!(up(&sound).await, Ok(1));
    assert_eq!(broken.ask(Count::Panic, Cause::default()).await, Err(TellError::Closed));
    assert_eq!(up(&sound).await, Ok(2));
}

#[actix::test]
async fn too_many_failures_escalate_to_the_parent_and_at_the_root_break_the_system() {
    let system = system();
    let _parent = system.spawn("parent", policy(), |_| Counter::default());
    let child = system.spawn("parent/child", policy(), |_| Counter::default());
    for _ in 0..4 {
        assert_eq!(child.ask(Count::Panic, Cause::default()).await, Err(TellError::Closed));
    }
    restarted(&system, "parent", 1).await;
    assert!(system.directory().get("parent/child").is_none(), "the child gave up");
    let alone = system.spawn("alone", policy(), |_| Counter::default());
    for _ in 0..4 {
        assert_eq!(alone.ask(Count::Panic, Cause::default()).await, Err(TellError::Closed));
    }
    let why = tokio::time::timeout(Duration::from_secs(5), system.broken()).await.expect("the system is broken");
    assert_eq!(why, "alone gave up");
}

#[actix::test]
async fn a_failing_parent_takes_its_children_along() {
    let system = system();
    let _parent = system.spawn("parent", policy(), |_| Counter::default());
    let child = system.spawn("parent/child", policy(), |_| Counter::default());
    assert_eq!(up(&child).await, Ok(1));
    assert!(system.directory().kill("parent"));
    restarted(&system, "parent", 1).await;
    assert!(system.directory().get("parent/child").is_none());
    assert_eq!(up(&child).await, Err(TellError::Closed));
}

#[actix::test]
async fn the_directory_counts_and_observes() {
    let system = system();
    let counter = system.spawn("counter", policy(), |_| Counter::default());
    for _ in 0..3 {
        up(&counter).await.expect("it lives");
    }
    let seen = system.directory().observe(Duration::from_secs(1)).await;
    assert_eq!((&*seen[0].path, seen[0].handled, &seen[0].status), ("counter", 3, &json!({"count": 3})));
    assert!(system.shutdown(Duration::from_secs(1)).await);
    assert!(system.directory().snapshot().is_empty());
    assert_eq!(up(&counter).await, Err(TellError::Closed));
}

/// Waits for a state of the unit at `path`.
async fn reaches(system: &System, path: &str, state: ActorState) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(600);
    while system.directory().snapshot().iter().all(|actor| &*actor.path != path || actor.state != state) {
        assert!(tokio::time::Instant::now() < deadline, "never {state:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[test]
fn a_unit_of_one_object_that_keeps_failing_is_set_aside_and_its_parent_lives() {
    simulate(1, fails_again_and_again);
}

async fn fails_again_and_again(system: System) {
    let told = Arc::new(AtomicUsize::new(0));
    let parent = system.spawn("pods", policy(), |_| Counter::default());
    let hears = told.clone();
    let per_object = Policy::per_object_at(move |path, why| {
        assert_eq!((path, why), ("pods/bad", "poisoned by the chaos switch"));
        hears.fetch_add(1, Relaxed);
    });
    let bad = system.spawn("pods/bad", per_object.clone(), |_| Counter::default());
    assert_eq!(up(&bad).await, Ok(1));
    system.directory().poison_key("pods/bad", "", true);
    bad.wake(Count::Up, Cause::default());
    reaches(&system, "pods/bad", ActorState::Quarantined).await;
    assert_eq!(told.load(Relaxed), 1);
    assert_eq!(up(&parent).await, Ok(1));
    assert_eq!(restarts(&system, "pods"), Some(0), "the parent never failed");
    let before = restarts(&system, "pods/bad").expect("lives");
    tokio::time::sleep(Duration::from_secs(290)).await;
    assert_eq!(restarts(&system, "pods/bad"), Some(before), "it rests");
    tokio::time::sleep(Duration::from_secs(320)).await;
    let tried = restarts(&system, "pods/bad").expect("lives") - before;
    assert!((1..=2).contains(&tried), "one failure leads straight back: tried {tried} times");
    assert_eq!(told.load(Relaxed), 1, "it is told once");
    system.directory().poison_key("pods/bad", "", false);
    bad.lift_quarantine();
    reaches(&system, "pods/bad", ActorState::Running).await;
    assert_eq!(up(&bad).await.map(|count| count > 0), Ok(true));
}

#[test]
fn a_unit_that_rests_after_a_failure_ends_at_once_when_it_is_stopped() {
    simulate(1, ends_while_it_rests);
}

async fn ends_while_it_rests(system: System) {
    let bad = system.spawn("pods/bad", Policy::per_object(|_| {}), |_| Counter::default());
    system.directory().poison_key("pods/bad", "", true);
    bad.wake(Count::Up, Cause::default());
    reaches(&system, "pods/bad", ActorState::Quarantined).await;
    let again = system.spawn("pods/bad", policy(), |_| Counter::default());
    assert_eq!(up(&again).await, Ok(1), "another takes its place");
    assert!(system.shutdown(Duration::from_secs(1)).await, "nobody sleeps on");
    assert_eq!(up(&bad).await, Err(TellError::Closed));
}
