//! Distributions of numbers, counted without locks.

use std::{
    fmt::Write,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

/// Of whole numbers: nanoseconds, bytes.
#[derive(Debug)]
pub struct Histogram {
    /// The upper ends of the buckets, smallest first; they belong to them.
    bounds: &'static [u64],
    /// So many of the numbers make one of what is told.
    unit: f64,
    /// By bucket, the last of what is above all bounds.
    counts: Box<[AtomicU64]>,
    sum: AtomicU64,
}

impl Histogram {
    pub fn new(bounds: &'static [u64], unit: f64) -> Self {
        Histogram { bounds, unit, counts: (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect(), sum: AtomicU64::new(0) }
    }

    pub fn observe(&self, number: u64) {
        self.counts[self.bounds.partition_point(|bound| *bound < number)].fetch_add(1, Relaxed);
        self.sum.fetch_add(number, Relaxed);
    }

    pub fn count(&self) -> u64 {
        self.counts.iter().map(|count| count.load(Relaxed)).sum()
    }

    /// Writes the lines of a series, as Prometheus reads them. A series that counted nothing is left out.
    pub fn write(&self, name: &str, labels: &str, page: &mut String) {
        if self.count() == 0 {
            return;
        }
        let mut below = 0;
        for (bound, count) in self.bounds.iter().zip(self.counts.iter()) {
            below += count.load(Relaxed);
            // Writing to a text does not fail.
            let _ = writeln!(page, "{name}_bucket{{{labels},le=\"{}\"}} {below}", *bound as f64 / self.unit);
        }
        let all = below + self.counts[self.bounds.len()].load(Relaxed);
        let sum = self.sum.load(Relaxed) as f64 / self.unit;
        let _ = writeln!(page, "{name}_bucket{{{labels},le=\"+Inf\"}} {all}\n{name}_sum{{{labels}}} {sum}\n{name}_count{{{labels}}} {all}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_counts_in_its_bucket_and_all_above() {
        let histogram = Histogram::new(&[250, 500], 1000.0);
        [1, 250, 251, 900].into_iter().for_each(|number| histogram.observe(number));
        let mut page = String::new();
        histogram.write("x", "a=\"b\"", &mut page);
        let expected =
            ["x_bucket{a=\"b\",le=\"0.25\"} 2", "x_bucket{a=\"b\",le=\"0.5\"} 3", "x_bucket{a=\"b\",le=\"+Inf\"} 4", "x_sum{a=\"b\"} 1.402"];
        assert_eq!(page.lines().take(4).collect::<Vec<_>>(), expected);
        assert_eq!(page.lines().last(), Some("x_count{a=\"b\"} 4"));
    }
}
