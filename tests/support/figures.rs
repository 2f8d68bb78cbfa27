//! How benchmarks report: a line for whoever watches, and a row of the table that `make bench` prints at the end.

use std::{fs::OpenOptions, io::Write};

/// A figure that is to be at least, or at most, its budget.
#[derive(Clone, Copy, Debug)]
pub enum Budget {
    AtLeast(f64),
    AtMost(f64),
    /// Told for comparison only.
    None,
}

/// One measured figure.
#[derive(Clone, Copy, Debug)]
pub struct Figure<'a> {
    pub what: &'a str,
    pub value: f64,
    /// As it follows a number: ` MiB`, `/s`, or nothing for a ratio.
    pub unit: &'a str,
    pub budget: Budget,
    /// What Kubernetes v1.36 with etcd 3.4 and containerd 1.6 did on two cores, where that was measured.
    pub upstream: &'a str,
}

impl Figure<'_> {
    /// Prints the figure, and appends it to the file that `TROUPE_BENCH_ROWS` names.
    pub fn report(&self) {
        let measured = format!("{}{}", number(self.value), self.unit);
        let (budget, met) = match self.budget {
            Budget::AtLeast(least) => (format!("≥ {}{}", number(least), self.unit), self.value >= least),
            Budget::AtMost(most) => (format!("≤ {}{}", number(most), self.unit), self.value <= most),
            Budget::None => (String::new(), true),
        };
        let verdict = if budget.is_empty() || met { "" } else { " ✘" };
        println!("  {}: {measured}{}{budget}{verdict}", self.what, if budget.is_empty() { "" } else { ", budget " });
        let Some(path) = std::env::var_os("TROUPE_BENCH_ROWS") else { return };
        let row = format!("{}\t{measured}{verdict}\t{budget}\t{}\n", self.what, self.upstream);
        let written = OpenOptions::new().create(true).append(true).open(&path).and_then(|mut file| file.write_all(row.as_bytes()));
        written.unwrap_or_else(|error| panic!("{} takes no rows: {error}", path.display()));
    }
}

/// A figure with a budget.
pub fn report(what: &str, value: f64, unit: &str, budget: Budget) {
    Figure { what, value, unit, budget, upstream: "" }.report();
}

/// A figure with a budget, beside upstream's.
pub fn report_beside(what: &str, value: f64, unit: &str, budget: Budget, upstream: &str) {
    Figure { what, value, unit, budget, upstream }.report();
}

/// Three digits that count, thousands set apart.
fn number(value: f64) -> String {
    let digits = match value.abs() {
        large if large >= 100.0 => 0,
        middle if middle >= 10.0 => 1,
        _ => 2,
    };
    let text = format!("{value:.digits$}");
    let (whole, fraction) = text.split_once('.').unwrap_or((&text, ""));
    let mut grouped = String::new();
    for (at, digit) in whole.chars().enumerate() {
        if at > 0 && (whole.len() - at) % 3 == 0 && digit.is_ascii_digit() && !grouped.ends_with('-') {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    if fraction.is_empty() { grouped } else { format!("{grouped}.{fraction}") }
}
