//! What a configuration keeps of the machine for others than pods, and durations as Go writes them. Pure.

use std::{collections::BTreeMap, fmt::Write};

use troupe_api::meta::Quantity;

use super::{CpuSet, KubeletConfiguration};
use crate::kubelet::node::reserved::Reserved;

const RESOURCES: [&str; 4] = ["cpu", "memory", "ephemeral-storage", "pid"];

/// Why nothing is reserved: upstream's words.
pub type Reservation = Result<Reserved, String>;

impl KubeletConfiguration {
    /// What pods do not get: `systemReserved` and `kubeReserved` together, and whole CPUs of `reservedSystemCPUs` instead of theirs.
    ///
    /// # Errors
    /// When it is no amount of something that can be reserved.
    pub fn reserved(&self) -> Reservation {
        let (of_kube, of_system) = (self.map("kubeReserved"), self.map("systemReserved"));
        let kube = amounts(&of_kube).map_err(|why| format!("--kube-reserved value failed to parse: {why}"))?;
        let system = amounts(&of_system).map_err(|why| format!("--system-reserved value failed to parse: {why}"))?;
        let sum = |name: &str| [&kube, &system].iter().filter_map(|all| all.get(name)).copied().fold(0_i64, i64::saturating_add);
        let cpus = CpuSet::parse(self.text("reservedSystemCPUs")).map_err(|why| format!("unable to parse reserved-cpus list: {why}"))?;
        let counted = i64::try_from(cpus.0.len()).unwrap_or(i64::MAX).saturating_mul(1000);
        Ok(Reserved {
            milli_cpus: if cpus.0.is_empty() { sum("cpu") } else { counted },
            memory: sum("memory") / 1000,
            storage: sum("ephemeral-storage") / 1000,
            processes: sum("pid") / 1000,
        })
    }
}

/// Thousandths by resource.
fn amounts(given: &BTreeMap<String, String>) -> Result<BTreeMap<&str, i64>, String> {
    let mut all = BTreeMap::new();
    for (name, text) in given {
        if !RESOURCES.contains(&name.as_str()) {
            return Err(format!("cannot reserve {name:?} resource"));
        }
        let quantity = Quantity::parse(text).map_err(|error| format!("failed to parse quantity {text:?} for {name:?} resource: {error}"))?;
        if quantity.sign() < 0 {
            return Err(format!("resource quantity for {name:?} cannot be negative: {text}"));
        }
        all.insert(name.as_str(), quantity.milli_value());
    }
    Ok(all)
}

/// A duration as Go writes it: `1h0m0s`, `1.5s`, `100ms`.
pub(super) fn shown_duration(nanoseconds: i64) -> String {
    const SECOND: u64 = 1_000_000_000;
    let sign = if nanoseconds < 0 { "-" } else { "" };
    let all = nanoseconds.unsigned_abs();
    if all == 0 {
        return "0s".into();
    }
    if all < SECOND {
        let (unit, name) = match all {
            0..1_000 => (1, "ns"),
            1_000..1_000_000 => (1_000, "µs"),
            _ => (1_000_000, "ms"),
        };
        return format!("{sign}{}{name}", fraction(all, unit));
    }
    let (hours, minutes, rest) = (all / (3600 * SECOND), all / (60 * SECOND) % 60, all % (60 * SECOND));
    let mut text = sign.to_owned();
    if hours > 0 {
        // Writing into a text never fails.
        let _ = write!(text, "{hours}h");
    }
    if hours > 0 || minutes > 0 {
        let _ = write!(text, "{minutes}m");
    }
    text + &fraction(rest, SECOND) + "s"
}

/// How often a unit is in a number, with decimals where it is not whole.
fn fraction(number: u64, unit: u64) -> String {
    let digits = unit.ilog10() as usize;
    let (whole, part) = (number / unit, number % unit);
    if part == 0 { whole.to_string() } else { format!("{whole}.{}", format!("{part:0digits$}").trim_end_matches('0')) }
}
