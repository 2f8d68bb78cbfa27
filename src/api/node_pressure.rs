//! How much of the last minute a node's tasks waited, as the kernel tells it (pressure stall information, PSI): what kubelets, the API
//! server and the scheduler agree on.
//!
//! Upstream's resource metrics have no place for it. A kubelet adds it to `/metrics/resource` for whoever asks by [`PATH`], as others expect
//! upstream's families there and no more; the API server passes it on in annotations of `NodeMetrics`.

use std::collections::BTreeMap;

/// Where a kubelet tells it beside the resource metrics. Kubelets of somebody else's leave it out.
pub const PATH: &str = "/metrics/resource?pressure=true";
/// The family of it, in percent, with the labels [`RESOURCE`] and [`TASKS`].
pub const METRIC: &str = "troupe_node_pressure_percent";
/// The label that names what was waited for.
pub const RESOURCE: &str = "resource";
/// The label that says how many waited at once: `some` tasks, or the `full` number of those that had something to do.
pub const TASKS: &str = "tasks";
/// All of the time.
pub const WHOLE: u32 = 10_000;

/// Shares of the last minute (`avg60`), in hundredths of a percent. What is not known is `None`.
///
/// Of processors and memory it is the time in which some task waited: it waits because it gets less of them than it could use. Of disks it is
/// the time in which all tasks that had something to do waited: whoever reads from a disk waits, even if nobody else wants it, which is no
/// harm while others go on; that all wait is time lost. So the kernel's documentation (`Documentation/accounting/psi.rst`) tells the two
/// apart, and says that `full` is undefined for processors at the level of the system.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NodePressure {
    pub cpu: Option<u32>,
    pub memory: Option<u32>,
    pub io: Option<u32>,
}

impl NodePressure {
    /// What is known, each with the values of [`RESOURCE`] and [`TASKS`].
    pub fn told(self) -> impl Iterator<Item = (&'static str, &'static str, u32)> {
        let all = [("cpu", "some", self.cpu), ("memory", "some", self.memory), ("io", "full", self.io)];
        all.into_iter().filter_map(|(resource, tasks, share)| Some((resource, tasks, share?)))
    }

    /// Takes in what somebody told. Other resources, other tasks and what is no percentage are passed over.
    pub fn take(&mut self, resource: &str, tasks: &str, percent: f64) {
        let field = match (resource, tasks) {
            ("cpu", "some") => &mut self.cpu,
            ("memory", "some") => &mut self.memory,
            ("io", "full") => &mut self.io,
            _ => return,
        };
        if let Some(share) = share(percent) {
            *field = Some(share);
        }
    }

    /// As annotations tell it, by their names.
    pub fn annotations(self) -> BTreeMap<String, String> {
        let told = |(resource, tasks, share): (&str, &str, u32)| (annotation(resource, tasks), format!("{}.{:02}", share / 100, share % 100));
        self.told().map(told).collect()
    }

    /// From annotations by their names.
    pub fn of_annotations<'a>(annotation_of: impl Fn(&str) -> Option<&'a str>) -> Self {
        let mut pressure = NodePressure::default();
        for (resource, tasks) in [("cpu", "some"), ("memory", "some"), ("io", "full")] {
            if let Some(percent) = annotation_of(&annotation(resource, tasks)).and_then(|text| text.parse().ok()) {
                pressure.take(resource, tasks, percent);
            }
        }
        pressure
    }
}

/// Whether a query of `/metrics/resource` is that of [`PATH`].
pub fn is_asked_for(query: &str) -> bool {
    query.split('&').any(|parameter| parameter == "pressure=true")
}

/// The annotation's name, such as `pressure.troupe.dev/io-full`.
fn annotation(resource: &str, tasks: &str) -> String {
    format!("pressure.troupe.dev/{resource}-{tasks}")
}

/// Hundredths of a percent, not more than the whole.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "what is cast lies between 0 and 10,000")]
fn share(percent: f64) -> Option<u32> {
    (percent >= 0.0).then(|| (percent.min(100.0) * 100.0).round() as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn annotations_come_back_as_what_they_were_made_of() {
        let pressure = NodePressure { cpu: Some(5), memory: None, io: Some(WHOLE) };
        let annotations = pressure.annotations();
        let wanted = [("pressure.troupe.dev/cpu-some", "0.05"), ("pressure.troupe.dev/io-full", "100.00")];
        assert_eq!(annotations, BTreeMap::from(wanted.map(|(name, value)| (name.to_owned(), value.to_owned()))));
        assert_eq!(NodePressure::of_annotations(|name| annotations.get(name).map(String::as_str)), pressure);
        assert_eq!(NodePressure::default().annotations(), BTreeMap::new());
        assert_eq!(NodePressure::of_annotations(|_| None), NodePressure::default());
        assert_eq!(NodePressure::of_annotations(|_| Some("much")), NodePressure::default());
    }

    #[test]
    fn what_is_no_percentage_is_passed_over_and_no_share_is_more_than_the_whole() {
        let mut pressure = NodePressure::default();
        for (resource, tasks, percent) in [("cpu", "full", 1.0), ("irq", "full", 1.0), ("cpu", "some", f64::NAN), ("memory", "some", -1.0)] {
            pressure.take(resource, tasks, percent);
        }
        assert_eq!(pressure, NodePressure::default());
        pressure.take("memory", "some", 12.34);
        pressure.take("io", "full", f64::INFINITY);
        assert_eq!(pressure, NodePressure { cpu: None, memory: Some(1234), io: Some(WHOLE) });
    }

    #[test]
    fn it_is_told_to_those_who_ask() {
        assert!(PATH.split_once('?').is_some_and(|(_, query)| is_asked_for(query)));
        assert!(is_asked_for("a=b&pressure=true") && !is_asked_for("") && !is_asked_for("pressure=false"));
    }
}
