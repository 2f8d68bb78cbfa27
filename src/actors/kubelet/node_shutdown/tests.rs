//! A shutdown from logind's word to the end of its lock, with a logind that says what the test wants.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use parking_lot::Mutex;
use serde_json::json;
use tokio::{
    sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
    time::{Instant, sleep},
};
use troupe_api::meta::SystemClock;

use super::{
    logind::{Lock, Logind, LogindBus, LogindError},
    plan::Period,
    state::State,
    watch::{Parts, ShutdownEffects, run},
};
use crate::kubelet::dbus::BusError;

/// What a logind is and was asked for.
#[derive(Default)]
struct World {
    delay: Mutex<Duration>,
    overridden: Mutex<Option<Duration>>,
    /// It reads its configuration again when it is asked to.
    reloads: bool,
    locks: Arc<AtomicUsize>,
    events: Mutex<Option<UnboundedReceiver<bool>>>,
}

/// Counts itself while it lives.
struct Held(Arc<AtomicUsize>);

impl Held {
    fn new(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Held(count.clone())
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

struct FakeBus(Arc<World>);

struct FakeLogind {
    world: Arc<World>,
    events: UnboundedReceiver<bool>,
}

#[async_trait]
impl LogindBus for FakeBus {
    async fn connect(&self) -> Result<Box<dyn Logind>, LogindError> {
        let events = self.0.events.lock().take().ok_or(BusError::Closed)?;
        Ok(Box::new(FakeLogind { world: self.0.clone(), events }))
    }
}

#[async_trait]
impl Logind for FakeLogind {
    async fn inhibit_delay(&mut self) -> Result<Duration, LogindError> {
        Ok(*self.world.delay.lock())
    }

    async fn override_inhibit_delay(&mut self, delay: Duration) -> Result<(), LogindError> {
        *self.world.overridden.lock() = Some(delay);
        Ok(())
    }

    async fn reload(&mut self) -> Result<(), LogindError> {
        if let Some(delay) = self.world.overridden.lock().filter(|_| self.world.reloads) {
            *self.world.delay.lock() = delay;
        }
        Ok(())
    }

    async fn inhibit(&mut self) -> Result<Lock, LogindError> {
        Ok(Box::new(Held::new(&self.world.locks)))
    }

    async fn monitor(&mut self) -> Result<(), LogindError> {
        Ok(())
    }

    async fn next(&mut self) -> Result<bool, LogindError> {
        Ok(self.events.recv().await.ok_or(BusError::Closed)?)
    }
}

/// Pods that end some seconds after they are told to, and what was done.
struct Node {
    pods: Vec<(Arc<Pod>, u64)>,
    told: Mutex<Vec<(String, Instant)>>,
    log: Mutex<Vec<String>>,
    began: Instant,
}

impl Node {
    fn new(pods: &[(&str, i32, i64, u64)]) -> Arc<Self> {
        let pod = |(name, priority, grace, ends): &(&str, i32, i64, u64)| {
            let spec = json!({"priority": priority, "terminationGracePeriodSeconds": grace, "containers": []});
            let pod = serde_json::from_value(json!({"metadata": {"name": name, "uid": name}, "spec": spec})).expect("a pod");
            (Arc::new(pod), *ends)
        };
        let pods = pods.iter().map(pod).collect();
        Arc::new(Node { pods, told: Mutex::default(), log: Mutex::default(), began: Instant::now() })
    }

    fn note(&self, what: impl Into<String>) {
        self.log.lock().push(format!("{}s {}", self.began.elapsed().as_secs(), what.into()));
    }

    fn log(&self) -> Vec<String> {
        std::mem::take(&mut *self.log.lock())
    }
}

impl ShutdownEffects for Node {
    fn tell(&self, message: &'static str) {
        self.note(message);
    }

    fn set_shutting_down(&self, is_active: bool) {
        self.note(if is_active { "not ready" } else { "ready" });
    }

    fn active_pods(&self) -> Vec<Arc<Pod>> {
        self.pods.iter().map(|(pod, _)| pod.clone()).collect()
    }

    fn terminate(&self, pod: &Pod, grace: u64) {
        let name = pod.metadata.name.clone().unwrap_or_default();
        self.note(format!("{name} within {grace}"));
        self.told.lock().push((name, Instant::now()));
    }

    fn has_ended(&self, pod: &Pod) -> bool {
        let ends = self.pods.iter().find(|(known, _)| known.metadata.name == pod.metadata.name).map_or(0, |(_, ends)| *ends);
        let told = self.told.lock();
        told.iter().any(|(name, at)| Some(name) == pod.metadata.name.as_ref() && at.elapsed() >= Duration::from_secs(ends))
    }
}

struct Stage {
    world: Arc<World>,
    node: Arc<Node>,
    events: UnboundedSender<bool>,
    place: tempfile::TempDir,
    watch: tokio::task::JoinHandle<()>,
}

impl Stage {
    fn new(delay: u64, reloads: bool, pods: &[(&str, i32, i64, u64)]) -> Self {
        let (events, received) = unbounded_channel();
        let delay = Mutex::new(Duration::from_secs(delay));
        let world = Arc::new(World { delay, reloads, events: Mutex::new(Some(received)), ..World::default() });
        let (node, place) = (Node::new(pods), tempfile::tempdir().expect("a directory"));
        let parts = Parts {
            bus: Arc::new(FakeBus(world.clone())),
            effects: node.clone(),
            periods: Arc::from([Period { priority: 0, grace: 20 }, Period { priority: 2_000_000_000, grace: 10 }]),
            root: place.path().to_owned(),
            clock: Arc::new(SystemClock),
        };
        Stage { watch: tokio::spawn(run(parts)), world, node, events, place }
    }

    fn locks(&self) -> usize {
        self.world.locks.load(Ordering::Relaxed)
    }

    fn state(&self) -> Option<(Option<Timestamp>, Option<Timestamp>)> {
        State::load(self.place.path()).expect("reads").map(|state| state.times())
    }
}

#[tokio::test(start_paused = true)]
async fn pods_end_by_their_priorities_before_the_lock_goes() {
    let stage = Stage::new(5, true, &[("slow", 0, 120, 60), ("quick", 0, 5, 3), ("system", 2_000_001_000, 120, 4)]);
    sleep(Duration::from_secs(1)).await;
    assert_eq!((*stage.world.overridden.lock(), stage.locks(), stage.state()), (Some(Duration::from_secs(30)), 1, None));
    stage.events.send(true).expect("it listens");
    sleep(Duration::from_secs(2)).await;
    let begun = ["1s Shutdown manager detected shutdown event", "1s not ready", "1s slow within 20", "1s quick within 5"];
    assert_eq!(stage.node.log(), begun);
    assert!(stage.state().is_some_and(|(start, end)| start.is_some() && end.is_none()));
    assert_eq!(stage.locks(), 1, "it makes the machine wait");
    sleep(Duration::from_secs(40)).await;
    assert_eq!(stage.node.log(), ["21s system within 10"], "one of the others takes all of its time");
    assert_eq!(stage.locks(), 0);
    assert!(stage.state().is_some_and(|(_, end)| end.is_some()));
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_for_what_has_ended_and_a_cancelled_shutdown_is_taken_back() {
    let stage = Stage::new(60, false, &[("quick", 0, 5, 2)]);
    sleep(Duration::from_secs(1)).await;
    assert_eq!(*stage.world.overridden.lock(), None, "logind waits long enough");
    stage.events.send(true).expect("it listens");
    sleep(Duration::from_secs(4)).await;
    assert_eq!((stage.locks(), stage.node.log().len()), (0, 3));
    stage.events.send(false).expect("it listens");
    sleep(Duration::from_secs(1)).await;
    assert_eq!(stage.node.log(), ["5s Shutdown manager detected shutdown cancellation", "5s ready"]);
    assert_eq!(stage.locks(), 1, "the next one waits again");
}

#[tokio::test(start_paused = true)]
async fn a_logind_that_does_not_wait_long_enough_or_is_not_there_is_given_up() {
    let stage = Stage::new(5, false, &[]);
    stage.watch.await.expect("it ends by itself");
    assert_eq!(stage.world.locks.load(Ordering::Relaxed), 0);
    let none = Stage::new(60, true, &[]);
    none.world.events.lock().take();
    none.watch.await.expect("it ends by itself");
}

#[tokio::test(start_paused = true)]
async fn a_logind_that_goes_away_is_looked_for() {
    let Stage { world, node, events, place: _place, watch } = Stage::new(60, true, &[]);
    sleep(Duration::from_secs(1)).await;
    drop(events);
    sleep(Duration::from_secs(5)).await;
    assert!(!watch.is_finished() && world.locks.load(Ordering::Relaxed) == 0);
    let (events, received) = unbounded_channel();
    *world.events.lock() = Some(received);
    sleep(Duration::from_secs(2)).await;
    assert_eq!(world.locks.load(Ordering::Relaxed), 1);
    events.send(false).expect("it listens");
    sleep(Duration::from_secs(1)).await;
    assert_eq!(node.log().len(), 2);
}
