//! What a key queue counts, under the names of client-go's work queues.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{
        LazyLock,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use parking_lot::RwLock;
use troupe_api::metrics::{Collect, Counter, Family, Gauge, Histogram, Text, exponential};

const LABELS: [&str; 1] = ["name"];
const SECONDS: [f64; 10] = exponential(1e-8, 10.0);

static DEPTHS: Family<Gauge> = Family::new("workqueue_depth", "Current depth of workqueue", &LABELS);
static ADDS: Family<Counter> = Family::new("workqueue_adds_total", "Total number of adds handled by workqueue", &LABELS);
static RETRIES: Family<Counter> = Family::new("workqueue_retries_total", "Total number of retries handled by workqueue", &LABELS);
static WAITS: Family<Histogram> = Family::histogram(
    "workqueue_queue_duration_seconds",
    "How long in seconds an item stays in workqueue before being requested.",
    &LABELS,
    &SECONDS,
);
static WORK: Family<Histogram> =
    Family::histogram("workqueue_work_duration_seconds", "How long in seconds processing an item from workqueue takes.", &LABELS, &SECONDS);
/// What all work queues count.
pub static COLLECTORS: [&dyn Collect; 6] = [&ADDS, &DEPTHS, &WAITS, &RETRIES, &Underway, &WORK];

/// When the work in progress of each queue began.
static STARTS: RwLock<BTreeMap<String, &'static Starts>> = RwLock::new(BTreeMap::new());

/// Keys in flight whose start is remembered; none of our queues works on more at once.
const PLACES: usize = 64;

/// Nanoseconds after the process' first queue at which work began; 0 where there is none.
struct Starts([AtomicU64; PLACES]);

/// Nanoseconds since the first call; never 0.
fn clock() -> u64 {
    static BEGUN: LazyLock<Instant> = LazyLock::new(Instant::now);
    u64::try_from(BEGUN.elapsed().as_nanos()).unwrap_or(u64::MAX).max(1)
}

impl Starts {
    fn of(name: &str) -> &'static Self {
        STARTS.write().entry(name.to_owned()).or_insert_with(|| Box::leak(Box::new(Starts([const { AtomicU64::new(0) }; PLACES]))))
    }

    /// Notes a start; `None` when all places are taken.
    fn begin(&self) -> Option<u8> {
        let now = clock();
        let free = |place: &AtomicU64| place.compare_exchange(0, now, Relaxed, Relaxed).is_ok();
        self.0.iter().position(free).and_then(|place| u8::try_from(place).ok())
    }

    fn end(&self, place: u8) {
        self.0[usize::from(place)].store(0, Relaxed);
    }

    /// Seconds that all work in progress has taken so far, and the longest of it.
    fn so_far(&self) -> (f64, f64) {
        let now = clock();
        let begun = self.0.iter().map(|place| place.load(Relaxed)).filter(|begun| *begun > 0);
        let times = begun.map(|begun| Duration::from_nanos(now.saturating_sub(begun)).as_secs_f64());
        times.fold((0.0, 0.0), |(sum, longest), time| (sum + time, time.max(longest)))
    }
}

/// Tells of work in progress.
struct Underway;

impl Collect for Underway {
    fn collect(&self, text: &mut Text) {
        let starts: Vec<_> = STARTS.read().iter().map(|(name, starts)| (name.clone(), starts.so_far())).collect();
        let help = "How many seconds has the longest running processor for workqueue been running.";
        text.family("workqueue_longest_running_processor_seconds", help, "gauge");
        for (name, (_, longest)) in &starts {
            text.sample("workqueue_longest_running_processor_seconds", &[("name", name)], *longest);
        }
        let help = "How many seconds of work has done that is in progress and hasn't been observed by work_duration.";
        text.family("workqueue_unfinished_work_seconds", help, "gauge");
        for (name, (sum, _)) in &starts {
            text.sample("workqueue_unfinished_work_seconds", &[("name", name)], *sum);
        }
    }
}

/// The series of one queue.
#[derive(Clone, Copy)]
pub struct QueueMetrics {
    depth: &'static Gauge,
    adds: &'static Counter,
    retries: &'static Counter,
    waits: &'static Histogram,
    work: &'static Histogram,
    starts: &'static Starts,
}

impl fmt::Debug for QueueMetrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("QueueMetrics").field("depth", &self.depth.get()).finish_non_exhaustive()
    }
}

impl QueueMetrics {
    /// The series of the queue with this name. A queue that begins anew under it has nothing in it yet.
    pub fn of(name: &str) -> Self {
        let metrics = QueueMetrics {
            depth: DEPTHS.with(&[name]),
            adds: ADDS.with(&[name]),
            retries: RETRIES.with(&[name]),
            waits: WAITS.with(&[name]),
            work: WORK.with(&[name]),
            starts: Starts::of(name),
        };
        metrics.depth(0);
        metrics.starts.0.iter().for_each(|place| place.store(0, Relaxed));
        metrics
    }

    pub(super) fn added(&self) {
        self.adds.increment();
    }

    pub(super) fn retried(&self) {
        self.retries.increment();
    }

    pub(super) fn depth(&self, ready: usize) {
        self.depth.set_count(ready);
    }

    /// Work on a key begins that was ready since `ready`.
    pub(super) fn begun(&self, ready: Option<Since>) -> Since {
        self.waits.observe_time(ready.map_or(Duration::ZERO, |since| since.at.elapsed()));
        Since { at: Instant::now(), place: self.starts.begin() }
    }

    pub(super) fn ended(&self, since: Since) {
        self.work.observe_time(since.at.elapsed());
        if let Some(place) = since.place {
            self.starts.end(place);
        }
    }
}

/// Since when a key is ready or worked on. Only metrics look at it: the queue plans with the time it is handed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Since {
    at: Instant,
    place: Option<u8>,
}

impl Since {
    pub fn now() -> Self {
        Since { at: Instant::now(), place: None }
    }
}
