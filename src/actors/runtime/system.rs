//! The root of the supervision tree: escalates failures, shuts down.

use std::{
    io,
    sync::Arc,
    time::{Duration, Instant},
};

use futures::FutureExt;
use parking_lot::Mutex;
use rand::{Rng, RngCore, SeedableRng, rngs::StdRng};
use serde::{Deserialize, Serialize};
use tokio::sync::{oneshot, watch};
use troupe_api::meta::{Cause, Clock, SystemClock};

use super::{
    directory::{Control, Directory},
    panics::panic_text,
    placement::{ArbiterGroup, Placement},
    recorder::Recorder,
    work::{NoRecord, WorkRecord},
};

/// How to boot a [`System`].
#[derive(Clone, Debug)]
pub struct SystemOptions {
    /// Threads for units, beside one each for the API server's caches, their watchers and leases; 0 runs everything on the caller's `LocalSet`.
    pub arbiters: usize,
    /// Seeds all jitter and generated randomness; `None` takes it from the operating system.
    pub seed: Option<u64>,
    pub clock: Arc<dyn Clock>,
    /// How many messages the recorder remembers.
    pub hops: usize,
    /// How many hops that changed something it remembers.
    pub changes: usize,
    /// What others call this process, such as `node@host`.
    pub process: String,
    /// Where it is noted what units work on.
    pub work: Arc<dyn WorkRecord>,
}

/// A process with actors, as others name it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    pub name: String,
    /// Tells it apart from all others that ever were.
    pub id: String,
    pub pid: u32,
}

impl Default for SystemOptions {
    fn default() -> Self {
        SystemOptions {
            arbiters: 2,
            seed: None,
            clock: Arc::new(SystemClock),
            hops: 8192,
            changes: 16_384,
            process: "troupe".to_owned(),
            work: Arc::new(NoRecord),
        }
    }
}

impl SystemOptions {
    /// One thread, seeded: for tests and simulations, inside a `LocalSet`.
    pub fn local(seed: u64, clock: Arc<dyn Clock>) -> Self {
        SystemOptions { arbiters: 0, seed: Some(seed), clock, ..SystemOptions::default() }
    }
}

struct Inner {
    directory: Directory,
    recorder: Recorder,
    placement: Placement,
    clock: Arc<dyn Clock>,
    rng: Mutex<StdRng>,
    process: Process,
    work: Arc<dyn WorkRecord>,
    fatal: watch::Sender<Option<String>>,
}

/// The actor system of a process. Cheap to clone.
#[derive(Clone)]
pub struct System(Arc<Inner>);

impl System {
    /// # Errors
    /// When an arbiter thread cannot be started.
    pub fn new(options: SystemOptions) -> io::Result<Self> {
        let rng = options.seed.map_or_else(|| StdRng::seed_from_u64(rand::random()), StdRng::seed_from_u64);
        Ok(System(Arc::new(Inner {
            directory: Directory::default(),
            recorder: Recorder::new(options.hops, options.changes),
            placement: Placement::new(options.arbiters)?,
            clock: options.clock,
            rng: Mutex::new(rng),
            process: Process { name: options.process, id: uuid::Uuid::new_v4().to_string(), pid: std::process::id() },
            work: options.work,
            fatal: watch::Sender::new(None),
        })))
    }

    pub fn directory(&self) -> &Directory {
        &self.0.directory
    }

    pub fn recorder(&self) -> &Recorder {
        &self.0.recorder
    }

    /// Which process this is.
    pub fn process(&self) -> &Process {
        &self.0.process
    }

    /// Where it is noted what units work on.
    pub fn work(&self) -> &Arc<dyn WorkRecord> {
        &self.0.work
    }

    pub(super) fn placement(&self) -> &Placement {
        &self.0.placement
    }

    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.0.clock
    }

    /// A generator of its own, seeded from the system's.
    pub fn rng(&self) -> StdRng {
        StdRng::seed_from_u64(self.0.rng.lock().next_u64())
    }

    /// The cause of what is done because of `cause`: the same trace, or a new one, under a span of its own.
    pub fn next_cause(&self, cause: &Cause) -> Cause {
        let mut rng = self.0.rng.lock();
        let trace = if cause.trace == 0 { rng.random() } else { cause.trace };
        Cause { trace, span: rng.random_range(1..=u64::MAX), ..cause.clone() }
    }

    pub(crate) fn jitter(&self) -> f64 {
        self.0.rng.lock().random_range(0.0..1.0)
    }

    /// Runs a task on an arbiter chosen by `name`; a panic in it is logged and runs it anew after a pause.
    pub fn spawn_task<F>(&self, name: &str, mut make: impl FnMut() -> F + Send + 'static) -> TaskHandle
    where
        F: Future<Output = ()> + 'static,
    {
        let (alive, ended) = oneshot::channel::<()>();
        let label: Arc<str> = name.into();
        self.0.placement.run(ArbiterGroup::Workers, name, move || {
            tokio::task::spawn_local(async move {
                let work = async move {
                    while let Err(panic) = std::panic::AssertUnwindSafe(make()).catch_unwind().await {
                        tracing::error!(task = %label, panic = panic_text(panic.as_ref()), "task panicked, restarting");
                        tokio::time::sleep(Duration::from_secs(1)).await;
                    }
                };
                // In a fixed order, so that simulations repeat themselves.
                tokio::select! { biased; _ = ended => {}, () = work => {} }
            });
        });
        TaskHandle { _alive: alive }
    }

    /// Stops the unit at `path` and all below it, in good order.
    pub fn stop(&self, path: &str) {
        self.stop_below(path);
        if let Some(entry) = self.directory().get(path) {
            entry.end();
        }
    }

    pub(crate) fn stop_below(&self, path: &str) {
        for entry in self.directory().below(path) {
            entry.end();
        }
    }

    /// A unit gave up: its nearest living ancestor fails in turn; without one the system is broken.
    pub(crate) fn escalate(&self, path: &str) {
        let mut ancestor = path;
        while let Some((parent, _)) = ancestor.rsplit_once('/') {
            if let Some(entry) = self.directory().get(parent) {
                entry.control(Control::Crash(format!("{path} gave up")));
                return;
            }
            ancestor = parent;
        }
        self.0.fatal.send_replace(Some(format!("{path} gave up")));
    }

    /// Resolves when a failure reached the root: the daemon should exit non-zero then.
    pub async fn broken(&self) -> String {
        let mut fatal = self.0.fatal.subscribe();
        let why = fatal.wait_for(Option::is_some).await.expect("the system holds the sender");
        why.clone().unwrap_or_default()
    }

    /// Stops all units; `true` when all ended within `patience`.
    pub async fn shutdown(&self, patience: Duration) -> bool {
        let deadline = tokio::time::Instant::now() + patience;
        for status in self.directory().snapshot() {
            self.stop(&status.path);
        }
        while !self.directory().snapshot().is_empty() {
            if tokio::time::Instant::now() >= deadline {
                return false;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        true
    }

    /// Monotonic time as the system's executor counts it; paused in simulations.
    pub fn instant(&self) -> Instant {
        tokio::time::Instant::now().into_std()
    }
}

/// Ends its task when dropped.
#[derive(Debug)]
pub struct TaskHandle {
    _alive: oneshot::Sender<()>,
}
