//! Prometheus' text format, version 0.0.4.

use std::fmt::Write;

use bytes::Bytes;

use super::{Histogram, SeriesLabels};

/// The media type of a scrape.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Adds its families to a scrape.
pub trait Collect: Send + Sync {
    fn collect(&self, text: &mut Text);

    /// Forgets the series of what is gone. Collectors that read living things have none.
    fn forget(&self, _is_gone: &dyn Fn(&SeriesLabels<'_>) -> bool) {}
}

impl<F: Fn(&mut Text) + Send + Sync> Collect for F {
    fn collect(&self, text: &mut Text) {
        self(text);
    }
}

/// The whole scrape of some collectors, in their order.
pub fn render(collectors: &[&dyn Collect]) -> Bytes {
    let mut text = Text::default();
    for collector in collectors {
        collector.collect(&mut text);
    }
    text.0.into()
}

/// A scrape being written.
#[derive(Debug, Default)]
pub struct Text(String);

/// Writing to a string does not fail.
const INFALLIBLE: &str = "a string takes any text";

impl Text {
    /// Begins a family; its samples follow.
    pub fn family(&mut self, name: &str, help: &str, kind: &str) {
        let help = help.replace('\\', "\\\\").replace('\n', "\\n");
        write!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}\n").expect(INFALLIBLE);
    }

    /// A whole family with one sample and no labels.
    pub fn single(&mut self, name: &str, help: &str, kind: &str, value: f64) {
        self.family(name, help, kind);
        self.sample(name, &[], value);
    }

    /// One sample.
    pub fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: f64) {
        self.head(name, labels, None);
        self.0.push_str(&number(value));
        self.0.push('\n');
    }

    /// One sample that is a whole number.
    pub fn count(&mut self, name: &str, labels: &[(&str, &str)], value: u64) {
        self.head(name, labels, None);
        writeln!(self.0, "{value}").expect(INFALLIBLE);
    }

    /// The samples of one histogram.
    pub fn histogram(&mut self, name: &str, labels: &[(&str, &str)], histogram: &Histogram) {
        let bucket = format!("{name}_bucket");
        let mut all = 0;
        for (bound, count) in histogram.cumulative() {
            self.head(&bucket, labels, Some(&number(bound)));
            writeln!(self.0, "{count}").expect(INFALLIBLE);
            all = count;
        }
        self.sample(&format!("{name}_sum"), labels, histogram.sum());
        self.count(&format!("{name}_count"), labels, all);
    }

    fn head(&mut self, name: &str, labels: &[(&str, &str)], bound: Option<&str>) {
        self.0.push_str(name);
        let all = labels.iter().copied().chain(bound.map(|bound| ("le", bound)));
        let mut open = '{';
        for (label, value) in all {
            self.0.push(open);
            open = ',';
            self.0.push_str(label);
            self.0.push_str("=\"");
            self.escape(value);
            self.0.push('"');
        }
        self.0.push_str(if open == ',' { "} " } else { " " });
    }

    fn escape(&mut self, value: &str) {
        for character in value.chars() {
            match character {
                '\\' => self.0.push_str("\\\\"),
                '"' => self.0.push_str("\\\""),
                '\n' => self.0.push_str("\\n"),
                other => self.0.push(other),
            }
        }
    }
}

/// A number as Go's `%g` writes it, so that bucket bounds read as upstream's.
fn number(value: f64) -> String {
    if value.is_infinite() {
        return if value > 0.0 { "+Inf" } else { "-Inf" }.to_owned();
    }
    if value.is_nan() || value == 0.0 {
        return if value.is_nan() { "NaN" } else { "0" }.to_owned();
    }
    let scientific = format!("{value:e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if (-4..6).contains(&exponent) {
        return value.to_string();
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{digits}e{sign}{:02}", exponent.abs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_read_as_upstreams_do() {
        let cases =
            [(0.005, "0.005"), (1.0, "1"), (1.25, "1.25"), (1e-8, "1e-08"), (1e6, "1e+06"), (16_777_216.0, "1.6777216e+07"), (f64::INFINITY, "+Inf")];
        for (value, text) in cases {
            assert_eq!(number(value), text);
        }
        assert_eq!(number(0.0), "0");
        assert_eq!(number(12.5), "12.5");
    }

    #[test]
    fn label_values_and_help_texts_are_escaped() {
        let mut text = Text::default();
        text.family("m", "a\nb\\c", "gauge");
        text.sample("m", &[("path", "a\"b\\c\nd"), ("x", "")], 1.0);
        assert_eq!(text.0, "# HELP m a\\nb\\\\c\n# TYPE m gauge\nm{path=\"a\\\"b\\\\c\\nd\",x=\"\"} 1\n");
    }

    #[test]
    fn a_histogram_is_written_with_cumulative_buckets_sum_and_count() {
        static BOUNDS: [f64; 2] = [0.1, 1.0];
        let histogram = Histogram::new(&BOUNDS);
        histogram.observe(0.5);
        histogram.observe(3.0);
        let mut text = Text::default();
        text.histogram("h", &[("a", "b")], &histogram);
        let expected =
            "h_bucket{a=\"b\",le=\"0.1\"} 0\nh_bucket{a=\"b\",le=\"1\"} 1\nh_bucket{a=\"b\",le=\"+Inf\"} 2\nh_sum{a=\"b\"} 3.5\nh_count{a=\"b\"} 2\n";
        assert_eq!(text.0, expected);
    }
}
