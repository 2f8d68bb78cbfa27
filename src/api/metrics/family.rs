//! Families: all series of one name, told apart by the values of their labels.

use std::{
    cell::RefCell,
    collections::{BTreeMap, HashMap},
    hash::{DefaultHasher, Hash, Hasher},
    thread::LocalKey,
};

use parking_lot::RwLock;

use super::{Collect, Counter, Gauge, Histogram, Text};

/// The values of a series' labels, in the family's order.
type Values = Box<[Box<str>]>;

/// What a thread found before, by the values it asked for.
#[derive(Debug)]
pub struct Memo<T>(HashMap<u64, Vec<Known<T>>>);

#[derive(Debug)]
struct Known<T> {
    owner: usize,
    values: Values,
    found: T,
}

impl<T> Default for Memo<T> {
    fn default() -> Self {
        Memo(HashMap::new())
    }
}

impl<T: Copy> Memo<T> {
    /// What was found for `values`, or what `find` finds now. `owner` tells users of one memo apart.
    pub fn get(&mut self, owner: usize, values: &[&str], find: impl FnOnce() -> T) -> T {
        let mut hasher = DefaultHasher::new();
        (owner, values).hash(&mut hasher);
        let known = self.0.entry(hasher.finish()).or_default();
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

    /// The series that this thread used before.
    fn memo() -> &'static LocalKey<RefCell<Memo<&'static Self>>>;

    /// Writes the series' lines.
    fn write(&self, name: &str, labels: &[(&str, &str)], text: &mut Text);
}

/// All series of one name. Make it a `static`; series live as long as the process, so label values must come from a small set.
pub struct Family<M: 'static> {
    name: &'static str,
    help: &'static str,
    labels: &'static [&'static str],
    bounds: &'static [f64],
    series: RwLock<BTreeMap<Values, &'static M>>,
}

impl<M: Metric> Family<M> {
    pub const fn new(name: &'static str, help: &'static str, labels: &'static [&'static str]) -> Self {
        Family { name, help, labels, bounds: &[], series: RwLock::new(BTreeMap::new()) }
    }

    /// The series with these values of the labels, made where it is missing.
    pub fn with(&'static self, values: &[&str]) -> &'static M {
        debug_assert_eq!(values.len(), self.labels.len(), "{} has labels {:?}", self.name, self.labels);
        let owner = std::ptr::from_ref(self).addr();
        // While a thread ends, its memo may be gone.
        let known = M::memo().try_with(|memo| memo.borrow_mut().get(owner, values, || self.find(values)));
        known.unwrap_or_else(|_| self.find(values))
    }

    fn find(&self, values: &[&str]) -> &'static M {
        let values = owned(values);
        if let Some(series) = self.series.read().get(&values) {
            return series;
        }
        self.series.write().entry(values).or_insert_with(|| Box::leak(Box::new(M::new(self.bounds))))
    }
}

impl Family<Histogram> {
    /// A family of histograms; see [`Histogram::new`] for `bounds`.
    pub const fn histogram(name: &'static str, help: &'static str, labels: &'static [&'static str], bounds: &'static [f64]) -> Self {
        Family { name, help, labels, bounds, series: RwLock::new(BTreeMap::new()) }
    }
}

impl<M: Metric> Collect for Family<M> {
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
    fn a_family_without_series_is_not_shown() {
        static NOTHING: Family<Gauge> = Family::new("test_nothing", "Nothing.", &["a"]);
        assert!(render(&[&NOTHING]).is_empty());
    }
}
