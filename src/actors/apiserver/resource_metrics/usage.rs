//! What nodes, pods and containers use, by two scrapes of a kubelet's `/metrics/resource`. Pure.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use troupe_api::{
    metrics::parse::{self, NotASample, Seen},
    node_pressure::{self, NodePressure},
};

/// A container is measured from its start on if that is so long ago at least; before that figures say little.
const YOUNG: SignedDuration = SignedDuration::from_secs(10);

/// A pod has no more containers than this, whatever a kubelet says.
const MOST_CONTAINERS: usize = 4096;

/// Counters at one time.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Counters {
    /// Seconds of cpu since the start.
    cpu: Option<f64>,
    /// Working set; bytes.
    memory: Option<f64>,
    /// Seconds since 1970.
    started: Option<f64>,
}

/// A pod's namespace and name.
pub type PodName = (String, String);

/// What a kubelet said at one time.
#[derive(Clone, Debug, PartialEq)]
pub struct Scrape {
    at: Timestamp,
    node: Counters,
    pressure: NodePressure,
    pods: BTreeMap<PodName, BTreeMap<String, Counters>>,
}

/// What was used between two scrapes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Usage {
    /// Billionths of a core.
    pub nano_cores: u64,
    /// Working set; bytes.
    pub memory: u64,
    pub window: SignedDuration,
}

/// A pod's use by container.
#[derive(Clone, Debug, PartialEq)]
pub struct PodUsage {
    pub timestamp: Timestamp,
    pub window: SignedDuration,
    pub containers: Vec<(String, Usage)>,
}

impl Scrape {
    /// Reads the text that a kubelet answered at a time: what it says of its node, and of the pods that `is_its` says are on it. A kubelet
    /// may say anything, of whomever it likes: no more is kept than there is to know.
    ///
    /// # Errors
    /// On a line that is no sample.
    pub fn parse(text: &str, at: Timestamp, is_its: impl Fn(&PodName) -> bool) -> Result<Self, NotASample> {
        let mut scrape = Scrape { at, node: Counters::default(), pressure: NodePressure::default(), pods: BTreeMap::new() };
        for sample in parse::each(text) {
            let sample = sample?;
            let add = |sum: &mut Option<f64>| *sum = Some(sum.unwrap_or(0.0) + sample.value);
            let field: fn(&mut Counters) -> &mut Option<f64> = match sample.name {
                "node_cpu_usage_seconds_total" => {
                    add(&mut scrape.node.cpu);
                    continue;
                }
                "node_memory_working_set_bytes" => {
                    add(&mut scrape.node.memory);
                    continue;
                }
                node_pressure::METRIC => {
                    take_pressure(&mut scrape.pressure, &sample);
                    continue;
                }
                "container_cpu_usage_seconds_total" => |counters| &mut counters.cpu,
                "container_memory_working_set_bytes" => |counters| &mut counters.memory,
                "container_start_time_seconds" => |counters| &mut counters.started,
                _ => continue,
            };
            let (mut pod, mut container) = (PodName::default(), String::new());
            for (label, value) in sample.labels() {
                match label {
                    "namespace" => pod.0 = value.into_owned(),
                    "pod" => pod.1 = value.into_owned(),
                    "container" => container = value.into_owned(),
                    _ => {}
                }
            }
            if !scrape.pods.contains_key(&pod) && !is_its(&pod) {
                continue;
            }
            let containers = scrape.pods.entry(pod).or_default();
            if containers.len() < MOST_CONTAINERS || containers.contains_key(&container) {
                *field(containers.entry(container).or_default()) = Some(sample.value);
            }
        }
        Ok(scrape)
    }

    pub fn at(&self) -> Timestamp {
        self.at
    }

    /// What the node's tasks waited for, as far as its kubelet tells.
    pub fn pressure(&self) -> NodePressure {
        self.pressure
    }

    pub fn pods(&self) -> impl Iterator<Item = &PodName> {
        self.pods.keys()
    }

    /// What the node used since `before`.
    pub fn node_usage(&self, before: &Scrape) -> Option<Usage> {
        usage(&self.node, before.node.cpu?, self.at.duration_since(before.at))
    }

    /// What a pod's containers used since `before`, or since they started. `None` while something of it is not measured.
    pub fn pod_usage(&self, pod: &PodName, before: Option<&Scrape>) -> Option<PodUsage> {
        let mut containers = Vec::new();
        for (name, now) in self.pods.get(pod)? {
            let earlier = before.and_then(|before| Some((before.at, before.pods.get(pod)?.get(name)?)));
            let used = match earlier {
                Some((at, earlier)) if earlier.started == now.started && earlier.cpu <= now.cpu => {
                    usage(now, earlier.cpu?, self.at.duration_since(at))
                }
                _ => usage(now, 0.0, self.since_start(now)?),
            };
            containers.push((name.clone(), used?));
        }
        let window = containers.iter().map(|(_, usage)| usage.window).min()?;
        Some(PodUsage { timestamp: self.at, window, containers })
    }

    fn since_start(&self, counters: &Counters) -> Option<SignedDuration> {
        let started = SignedDuration::try_from_secs_f64(counters.started?).ok()?;
        let age = self.at.duration_since(Timestamp::from_duration(started).ok()?);
        (age >= YOUNG).then_some(age)
    }
}

fn take_pressure(pressure: &mut NodePressure, sample: &Seen<'_>) {
    let value_of = |label: &str| sample.labels().find(|(name, _)| *name == label).map(|(_, value)| value).unwrap_or_default();
    pressure.take(&value_of(node_pressure::RESOURCE), &value_of(node_pressure::TASKS), sample.value);
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a cast from float saturates, and use is not negative")]
fn usage(now: &Counters, cpu_before: f64, window: SignedDuration) -> Option<Usage> {
    let seconds = window.as_secs_f64();
    if seconds <= 0.0 {
        return None;
    }
    let nano_cores = ((now.cpu? - cpu_before).max(0.0) / seconds * 1e9) as u64;
    Some(Usage { nano_cores, memory: now.memory? as u64, window })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("a time")
    }

    fn scrape(second: i64, containers: &[(&str, f64, f64)]) -> Scrape {
        let mut text = format!("node_cpu_usage_seconds_total {second}\nnode_memory_working_set_bytes 4096\n");
        for (name, cpu, started) in containers {
            let labels = format!("{{container=\"{name}\",namespace=\"n\",pod=\"p\"}}");
            text += &format!("container_cpu_usage_seconds_total{labels} {cpu}\n");
            text += &format!("container_memory_working_set_bytes{labels} 2048\ncontainer_start_time_seconds{labels} {started}\n");
        }
        Scrape::parse(&text, at(second), |_| true).expect("parses")
    }

    fn pod() -> PodName {
        ("n".into(), "p".into())
    }

    #[test]
    fn use_is_the_growth_between_two_scrapes() {
        let (before, now) = (scrape(1000, &[("a", 10.0, 1.0)]), scrape(1010, &[("a", 15.0, 1.0)]));
        let window = SignedDuration::from_secs(10);
        assert_eq!(now.node_usage(&before), Some(Usage { nano_cores: 1_000_000_000, memory: 4096, window }));
        let usage = now.pod_usage(&pod(), Some(&before)).expect("is measured");
        assert_eq!(usage.containers, [("a".to_owned(), Usage { nano_cores: 500_000_000, memory: 2048, window })]);
    }

    #[test]
    fn what_a_nodes_tasks_waited_for_is_kept_where_its_kubelet_tells() {
        let text = "troupe_node_pressure_percent{resource=\"cpu\",tasks=\"some\"} 12.5\n\
            troupe_node_pressure_percent{tasks=\"full\",resource=\"io\"} 0.05\n\
            troupe_node_pressure_percent{resource=\"irq\",tasks=\"full\"} 7\ntroupe_node_pressure_percent 9\n";
        let told = Scrape::parse(text, at(1000), |_| true).expect("parses");
        assert_eq!(told.pressure(), NodePressure { cpu: Some(1250), memory: None, io: Some(5) });
        assert_eq!(scrape(1000, &[]).pressure(), NodePressure::default());
    }

    #[test]
    fn a_container_that_started_anew_is_measured_from_its_start_on() {
        let (before, now) = (scrape(1000, &[("a", 10.0, 1.0)]), scrape(1040, &[("a", 4.0, 1020.0)]));
        let usage = now.pod_usage(&pod(), Some(&before)).expect("is measured");
        assert_eq!((usage.containers[0].1.nano_cores, usage.window), (200_000_000, SignedDuration::from_secs(20)));
        assert_eq!(scrape(1025, &[("a", 4.0, 1020.0)]).pod_usage(&pod(), Some(&before)), None, "it is too young");
    }

    #[test]
    fn a_pod_of_which_not_all_is_measured_is_not_measured() {
        let (before, now) = (scrape(1000, &[("a", 10.0, 1.0)]), scrape(1010, &[("a", 15.0, 1.0), ("b", 0.1, 1009.0)]));
        assert_eq!(now.pod_usage(&pod(), Some(&before)), None);
        assert_eq!(now.pod_usage(&("n".into(), "other".into()), Some(&before)), None);
    }

    #[test]
    fn what_a_kubelet_says_of_other_pods_and_other_things_is_not_kept() {
        let mut text = "a 1\n".repeat(10_000);
        for at in 0..1000 {
            text += &format!("container_cpu_usage_seconds_total{{container=\"c\",namespace=\"n\",pod=\"p{at}\"}} 1\n");
        }
        for at in 0..10_000 {
            text += &format!("container_cpu_usage_seconds_total{{container=\"c{at}\",namespace=\"n\",pod=\"p\"}} 1\n");
        }
        let scrape = Scrape::parse(&text, at(1000), |(namespace, name)| namespace == "n" && (name == "p" || name == "p7")).expect("parses");
        assert_eq!(scrape.pods().map(|(_, name)| name.as_str()).collect::<Vec<_>>(), ["p", "p7"]);
        assert_eq!(scrape.pods.values().map(BTreeMap::len).collect::<Vec<_>>(), [MOST_CONTAINERS, 1]);
        assert!(Scrape::parse("a 1\nb\n", at(1000), |_| true).is_err());
    }
}
