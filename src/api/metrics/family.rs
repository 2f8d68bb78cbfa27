//! Families: all series of one name, told apart by the values of their labels.

use std::{
    cell::RefCell,
    collections::{BTreeMap, HashMap, VecDeque},
    hash::{DefaultHasher, Hash, Hasher},
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    thread::LocalKey,
    time::{Duration, Instant},
};

use parking_lot::{Mutex, RwLock};

use super::{Collect, Counter, Gauge, Histogram, SeriesLabels, Text};

/// The values of a series' labels, in the family's order.
type Values = Box<[Box<str>]>;

/// A series that is forgotten counts for another one no sooner than this: whoever had it in hand has let go of it then.
const REUSED_AFTER: Duration = Duration::from_secs(300);

/// How often series were forgotten. Memos begin anew then.
static FORGOTTEN: AtomicU64 = AtomicU64::new(0);

/// What a thread found before, by the values it asked for.
#[derive(Debug)]
pub struct Memo<T> {
    known: HashMap<u64, Vec<Known<T>>>,
    /// Of [`FORGOTTEN`].
    forgotten: u64,
}

#[derive(Debug)]
struct Known<T> {
    owner: usize,
    values: Values,
    found: T,
}

impl<T> Default for Memo<T> {
    fn default() -> Self {
        Memo { known: HashMap::new(), forgotten: FORGOTTEN.load(Relaxed) }
    }
}

impl<T: Copy> Memo<T> {
    /// What was found for `values`, or what `find` finds now. `owner` tells users of one memo apart.
    pub fn get(&mut self, owner: usize, values: &[&str], find: impl FnOnce() -> T) -> T {
        let forgotten = FORGOTTEN.load(Relaxed);
        if self.forgotten != forgotten {
            *self = Memo { known: HashMap::new(), forgotten };
        }
        let mut hasher = DefaultHasher::new();
        (owner, values).hash(&mut hasher);
        // Two of one hash are rare, and there is one of these for each thread and series.
        let known = self.known.entry(hasher.finish()).or_insert_with(|| Vec::with_capacity(1));
        let same = |known: &&Known<T>| known.owner == owner && known.values.iter().map(|value| &**value).eq(values.iter().copied());
        if let Some(known) = known.iter().find(same) {
            return known.found;
        }
        let found = find();
        known.push(Known { owner, values: owned(values), found });
        found
    }
}

fn owned(values: &[&str]) -> Values {
    values.iter().map(|value| (*value).into()).collect()
}

/// A kind of series.
pub trait Metric: Sized + Sync + 'static {
    /// As in a `# TYPE` line.
    const TYPE: &'static str;

    /// A series at zero. Only histograms have bounds.
    fn new(bounds: &'static [f64]) -> Self;

    /// Sets it to zero.
    fn reset(&self);

    /// The series that this thread used before.
    fn memo() -> &'static LocalKey<RefCell<Memo<&'static Self>>>;

    /// Writes the series' lines.
    fn write(&self, name: &str, labels: &[(&str, &str)], text: &mut Text);
}

/// All series of one name. Make it a `static`; its memory lives as long as the process, so label values must come from a small set, or name
/// things whose series are forgotten with them.
pub struct Family<M: 'static> {
    name: &'static str,
    help: &'static str,
    labels: &'static [&'static str],
    bounds: &'static [f64],
    series: RwLock<BTreeMap<Values, &'static M>>,
    /// Forgotten series, oldest first.
    spare: Mutex<VecDeque<(Instant, &'static M)>>,
}

impl<M: Metric> Family<M> {
    pub const fn new(name: &'static str, help: &'static str, labels: &'static [&'static str]) -> Self {
        Family { name, help, labels, bounds: &[], series: RwLock::new(BTreeMap::new()), spare: Mutex::new(VecDeque::new()) }
    }

    /// The series with these values of the labels, made where it is missing.
    pub fn with(&'static self, values: &[&str]) -> &'static M {
        debug_assert_eq!(values.len(), self.labels.len(), "{} has labels {:?}", self.name, self.labels);
        let owner = std::ptr::from_ref(self).addr();
        // While a thread ends, its memo may be gone.
        let known = M::memo().try_with(|memo| memo.borrow_mut().get(owner, values, || self.find(values)));
        known.unwrap_or_else(|_| self.find(values))
    }

    /// The same for who remembers what is found, or asks once: no memo has it.
    pub fn find(&self, values: &[&str]) -> &'static M {
        debug_assert_eq!(values.len(), self.labels.len(), "{} has labels {:?}", self.name, self.labels);
        let values = owned(values);
        if let Some(series) = self.series.read().get(&values) {
            return series;
        }
        self.series.write().entry(values).or_insert_with(|| self.spare(Instant::now()).unwrap_or_else(|| Box::leak(Box::new(M::new(self.bounds)))))
    }

    /// A forgotten series that nobody has in hand any more.
    fn spare(&self, now: Instant) -> Option<&'static M> {
        let mut spare = self.spare.lock();
        spare.front().filter(|(since, _)| now.saturating_duration_since(*since) >= REUSED_AFTER)?;
        let (_, series) = spare.pop_front()?;
        series.reset();
        Some(series)
    }

    fn forget_at(&self, now: Instant, is_gone: &dyn Fn(&SeriesLabels<'_>) -> bool) {
        let mut series = self.series.write();
        let mut forgotten = Vec::new();
        series.retain(|values, series| {
            let stays = !is_gone(&SeriesLabels::new(self.labels, values));
            if !stays {
                forgotten.push((now, *series));
            }
            stays
        });
        drop(series);
        if !forgotten.is_empty() {
            FORGOTTEN.fetch_add(1, Relaxed);
            self.spare.lock().extend(forgotten);
        }
    }
}

impl Family<Histogram> {
    /// A family of histograms; see [`Histogram::new`] for `bounds`.
    pub const fn histogram(name: &'static str, help: &'static str, labels: &'static [&'static str], bounds: &'static [f64]) -> Self {
        Family { name, help, labels, bounds, series: RwLock::new(BTreeMap::new()), spare: Mutex::new(VecDeque::new()) }
    }
}

impl<M: Metric> Collect for Family<M> {
    fn forget(&self, is_gone: &dyn Fn(&SeriesLabels<'_>) -> bool) {
        self.forget_at(Instant::now(), is_gone);
    }

    fn collect(&self, text: &mut Text) {
        let series = self.series.read();
        if series.is_empty() {
            return;
        }
        text.family(self.name, self.help, M::TYPE);
        for (values, series) in &*series {
            let labels: Vec<_> = self.labels.iter().copied().zip(values.iter().map(|value| &**value)).collect();
            series.write(self.name, &labels, text);
        }
    }
}

thread_local! {
    static COUNTERS: RefCell<Memo<&'static Counter>> = RefCell::default();
    static GAUGES: RefCell<Memo<&'static Gauge>> = RefCell::default();
    static HISTOGRAMS: RefCell<Memo<&'static Histogram>> = RefCell::default();
}

impl Metric for Counter {
    const TYPE: &'static str = "counter";

    fn new(_: &'static [f64]) -> Self {
        Counter::default()
    }

    fn reset(&self) {
        Counter::reset(self);
    }

    fn memo() -> &'static LocalKey<RefCell<Memo<&'static Self>>> {
        &COUNTERS
    }

    fn write(&self, name: &str, labels: &[(&str, &str)], text: &mut Text) {
        text.count(name, labels, self.get());
    }
}

impl Metric for Gauge {
    const TYPE: &'static str = "gauge";

    fn new(_: &'static [f64]) -> Self {
        Gauge::default()
    }

    fn reset(&self) {
        self.set(0.0);
    }

    fn memo() -> &'static LocalKey<RefCell<Memo<&'static Self>>> {
        &GAUGES
    }

    fn write(&self, name: &str, labels: &[(&str, &str)], text: &mut Text) {
        text.sample(name, labels, self.get());
    }
}

impl Metric for Histogram {
    const TYPE: &'static str = "histogram";

    fn new(bounds: &'static [f64]) -> Self {
        Histogram::new(bounds)
    }

    fn reset(&self) {
        Histogram::reset(self);
    }

    fn memo() -> &'static LocalKey<RefCell<Memo<&'static Self>>> {
        &HISTOGRAMS
    }

    fn write(&self, name: &str, labels: &[(&str, &str)], text: &mut Text) {
        text.histogram(name, labels, self);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::{parse::Samples, render};

    #[test]
    fn series_are_told_apart_by_their_labels_and_shared_by_threads() {
        static REQUESTS: Family<Counter> = Family::new("test_requests_total", "Requests.", &["verb", "code"]);
        static OTHERS: Family<Counter> = Family::new("test_others_total", "Others.", &["verb", "code"]);
        REQUESTS.with(&["GET", "200"]).increment();
        OTHERS.with(&["GET", "200"]).add(7);
        std::thread::spawn(|| REQUESTS.with(&["GET", "200"]).increment()).join().expect("no panic");
        REQUESTS.with(&["PUT", "409"]).add(5);
        let text = render(&[&REQUESTS, &OTHERS]);
        let samples = Samples::parse(std::str::from_utf8(&text).expect("text")).expect("parses");
        assert_eq!(samples.value("test_requests_total", &[("verb", "GET"), ("code", "200")]), Some(2.0));
        assert_eq!(samples.value("test_requests_total", &[("code", "409")]), Some(5.0));
        assert_eq!(samples.value("test_others_total", &[]), Some(7.0));
    }

    #[test]
    fn series_of_what_is_gone_are_forgotten_and_their_memory_is_used_again() {
        static OBJECTS: Family<Histogram> = Family::histogram("test_objects", "Objects.", &["group", "resource"], &[1.0]);
        let series = |text: &[u8]| Samples::parse(std::str::from_utf8(text).expect("text")).expect("parses");
        let (begun, mut seen) = (Instant::now(), std::collections::BTreeSet::new());
        OBJECTS.with(&["a", "stays"]).observe(1.0);
        for round in 0..100_u32 {
            let resource = format!("r{round}");
            for _ in 0..2 {
                OBJECTS.with(&["a", &resource]).observe(2.0);
            }
            seen.insert(std::ptr::from_ref(OBJECTS.with(&["a", &resource])).addr());
            let samples = series(&render(&[&OBJECTS]));
            assert_eq!(samples.value("test_objects_count", &[("resource", &resource)]), Some(2.0), "it begins at zero");
            let is_gone = |labels: &SeriesLabels<'_>| labels.get("resource") == Some(&*resource) && labels.get("version").is_none();
            // As if it had been long ago.
            OBJECTS.forget_at(begun.checked_sub(REUSED_AFTER).expect("the machine runs for minutes"), &is_gone);
            let samples = series(&render(&[&OBJECTS]));
            assert_eq!(samples.value("test_objects_count", &[]), Some(1.0));
        }
        assert_eq!(seen.len(), 1, "memory does not grow");
        OBJECTS.forget(&|labels| labels.get("resource") == Some("stays"));
        OBJECTS.with(&["a", "stays"]).observe(1.0);
        assert_eq!(OBJECTS.with(&["a", "stays"]).count(), 1, "a memo does not lead to what is forgotten");
        let fresh = std::ptr::from_ref(OBJECTS.with(&["a", "other"])).addr();
        assert!(seen.contains(&fresh) || OBJECTS.spare.lock().len() == 1);
    }

    #[test]
    fn a_family_without_series_is_not_shown() {
        static NOTHING: Family<Gauge> = Family::new("test_nothing", "Nothing.", &["a"]);
        assert!(render(&[&NOTHING]).is_empty());
    }
}
