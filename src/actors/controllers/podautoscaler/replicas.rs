//! How many replicas a metric asks for. Pure; the rules are upstream's replica calculator's.
//!
//! Amounts are thousandths of the metric's unit: of a core, of a byte, of whatever else is measured.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use jiff::{SignedDuration, Timestamp};

use super::{
    options::Starting,
    pod::{Requests, ScaledPod},
};

/// What one pod used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PodMetric {
    /// When the measurement ended.
    pub timestamp: Timestamp,
    /// How long it took.
    pub window: SignedDuration,
    pub value: i64,
}

/// Measurements by the pod's name.
pub type PodMetrics = BTreeMap<String, PodMetric>;

/// By how much the ratio of use and target may differ from one before anything is done.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tolerances {
    pub down: f64,
    pub up: f64,
}

impl Tolerances {
    fn allow(self, ratio: f64) -> bool {
        (1.0 - self.down..=1.0 + self.up).contains(&ratio)
    }
}

/// What one metric comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Proposal {
    pub replicas: i32,
    /// Percent of what was requested.
    pub utilization: Option<i32>,
    /// Average of a pod, or the metric's whole value where it is not of pods.
    pub usage: i64,
}

/// The target's pods and what is known of them.
pub struct Measured<'a> {
    pub pods: &'a [Arc<ScaledPod>],
    pub metrics: PodMetrics,
    /// Replicas that the target's spec asks for.
    pub current: i32,
    pub tolerances: Tolerances,
    pub starting: Starting,
    pub now: Timestamp,
}

/// Pods by what their metrics are good for.
#[derive(Debug, Default, PartialEq, Eq)]
struct Groups {
    ready: usize,
    unready: BTreeSet<String>,
    /// Without a measurement.
    missing: BTreeSet<String>,
    ignored: BTreeSet<String>,
}

/// Replicas for which use is `target` percent of the requests of `resource`; of one container, or of whole pods where `container` is empty.
///
/// # Errors
/// No pods, no measurements of ready pods, or a pod without a request.
pub fn by_utilization(mut measured: Measured<'_>, target: i32, resource: &str, container: &str) -> Result<Proposal, String> {
    let groups = measured.group(resource)?;
    let requests = requests(measured.pods, container, resource)?;
    let ratio = |metrics: &PodMetrics| utilization_ratio(metrics, &requests, target);
    let (first, utilization, usage) = ratio(&measured.metrics)?;
    let fallback = i64::from(target.max(100));
    let assumed = |pod: &str| requests.get(pod).copied().unwrap_or(0).saturating_mul(fallback) / 100;
    let replicas = measured.settle(&groups, first, assumed, |metrics| Ok(ratio(metrics)?.0))?;
    Ok(Proposal { replicas, utilization: Some(utilization), usage })
}

/// Replicas for which the average of all pods is `target`. `resource` is empty where the metric is none of a resource.
///
/// # Errors
/// No pods, or no measurements of ready pods.
pub fn by_average(mut measured: Measured<'_>, target: i64, resource: &str) -> Result<Proposal, String> {
    let groups = measured.group(resource)?;
    let (first, usage) = average_ratio(&measured.metrics, target);
    let replicas = measured.settle(&groups, first, |_| target, |metrics| Ok(average_ratio(metrics, target).0))?;
    Ok(Proposal { replicas, utilization: None, usage })
}

/// Replicas for which a metric of the whole target, now `usage`, comes to `target`.
///
/// # Errors
/// No pods.
pub fn by_value(measured: &Measured<'_>, usage: i64, target: i64) -> Result<Proposal, String> {
    let ratio = float(usage) / float(target);
    let replicas = if measured.current == 0 {
        whole(ratio)
    } else if measured.tolerances.allow(ratio) {
        measured.current
    } else {
        let pods = some(measured.pods)?;
        let ready = pods.iter().filter(|pod| pod.standing.phase == "Running" && pod.standing.is_ready).count();
        whole(ratio * count(ready))
    };
    Ok(Proposal { replicas, utilization: None, usage })
}

/// Replicas for which a metric of the whole target, now `usage`, comes to `target` a pod; `replicas` are there now.
pub fn by_value_per_pod(usage: i64, target: i64, replicas: i32, tolerances: Tolerances) -> Proposal {
    let ratio = float(usage) / (float(target) * f64::from(replicas));
    let wanted = if tolerances.allow(ratio) { replicas } else { whole(float(usage) / float(target)) };
    #[allow(clippy::cast_possible_truncation, reason = "a cast from float saturates, which is what upstream does by hand")]
    let usage = (float(usage) / f64::from(replicas.max(1))).ceil() as i64;
    Proposal { replicas: wanted, utilization: None, usage }
}

impl Measured<'_> {
    /// Sorts the pods and forgets measurements of those that do not count.
    fn group(&mut self, resource: &str) -> Result<Groups, String> {
        let mut groups = Groups::default();
        for pod in some(self.pods)? {
            let name = pod.meta.name.to_string();
            if pod.standing.is_deleted || pod.standing.phase == "Failed" {
                groups.ignored.insert(name);
            } else if pod.standing.phase == "Pending" {
                groups.unready.insert(name);
            } else if let Some(metric) = self.metrics.get(&name) {
                if resource == "cpu" && is_starting(pod, metric, self.starting, self.now) {
                    groups.unready.insert(name);
                } else {
                    groups.ready += 1;
                }
            } else {
                groups.missing.insert(name);
            }
        }
        self.metrics.retain(|name, _| !groups.ignored.contains(name) && !groups.unready.contains(name));
        if self.metrics.is_empty() {
            return Err("did not receive metrics for targeted pods (pods might be unready)".into());
        }
        Ok(groups)
    }

    /// Decides by the `first` ratio and, where pods are not measured or not ready, by that of the metrics filled up: such pods are assumed to
    /// work against the change.
    fn settle(
        &mut self,
        groups: &Groups,
        first: f64,
        assumed: impl Fn(&str) -> i64,
        ratio: impl Fn(&PodMetrics) -> Result<f64, String>,
    ) -> Result<i32, String> {
        let up_with_unready = !groups.unready.is_empty() && first > 1.0;
        if !up_with_unready && groups.missing.is_empty() {
            return Ok(if self.tolerances.allow(first) { self.current } else { whole(first * count(groups.ready)) });
        }
        let metric = |value| PodMetric { timestamp: self.now, window: SignedDuration::ZERO, value };
        if first < 1.0 {
            self.metrics.extend(groups.missing.iter().map(|name| (name.clone(), metric(assumed(name)))));
        } else if first > 1.0 {
            self.metrics.extend(groups.missing.iter().map(|name| (name.clone(), metric(0))));
        }
        if up_with_unready {
            self.metrics.extend(groups.unready.iter().map(|name| (name.clone(), metric(0))));
        }
        let second = ratio(&self.metrics)?;
        let turned = (first < 1.0 && second > 1.0) || (first > 1.0 && second < 1.0);
        if self.tolerances.allow(second) || turned {
            return Ok(self.current);
        }
        let wanted = whole(second * count(self.metrics.len()));
        let against = (second < 1.0 && wanted > self.current) || (second > 1.0 && wanted < self.current);
        Ok(if against { self.current } else { wanted })
    }
}

/// A pod whose use of cpu says nothing yet, or not any more.
fn is_starting(pod: &ScaledPod, metric: &PodMetric, starting: Starting, now: Timestamp) -> bool {
    let (Some(ready), Some(started)) = (pod.readiness, pod.started) else { return true };
    let after = |time: Timestamp, duration: SignedDuration| time.saturating_add(duration).unwrap_or(Timestamp::MAX);
    if after(started, starting.cpu_initialization) > now {
        return ready.is_false || metric.timestamp < after(ready.changed, metric.window);
    }
    ready.is_false && after(started, starting.initial_readiness) > ready.changed
}

fn some<T>(pods: &[T]) -> Result<&[T], String> {
    if pods.is_empty() { Err("no pods returned by selector while calculating replica count".into()) } else { Ok(pods) }
}

/// What each pod, or one container of each, requests of a resource.
fn requests(pods: &[Arc<ScaledPod>], container: &str, resource: &str) -> Result<BTreeMap<String, i64>, String> {
    let request = |pod: &Arc<ScaledPod>| {
        let amount = pod_level(pod, container, resource).unwrap_or_else(|| of_containers(pod, container, resource))?;
        Ok((pod.meta.name.to_string(), amount))
    };
    pods.iter().map(request).collect()
}

/// The request of the pod as a whole, where it makes one.
fn pod_level(pod: &ScaledPod, container: &str, resource: &str) -> Option<Result<i64, String>> {
    let own = pod.own.as_ref().filter(|_| container.is_empty())?;
    let amount = own.get(resource).map_or_else(|| of_containers(pod, "", resource), Ok);
    Some(amount.map_err(|_| format!("missing pod-level request for {resource} in Pod {}", pod.meta.name)))
}

fn of_containers(pod: &ScaledPod, container: &str, resource: &str) -> Result<i64, String> {
    let name = &pod.meta.name;
    let mut chosen = pod.containers.iter().filter(|one| container.is_empty() || *one.container == *container).peekable();
    if chosen.peek().is_none() && !container.is_empty() {
        return Err(format!("container {container} not found in Pod {name}"));
    }
    chosen.try_fold(0_i64, |sum, Requests { container, amounts }| {
        let request = amounts.get(resource).ok_or_else(|| format!("missing request for {resource} in container {container} of Pod {name}"))?;
        Ok(sum.saturating_add(request))
    })
}

/// The ratio of use and target, the use in percent, and the average.
fn utilization_ratio(metrics: &PodMetrics, requests: &BTreeMap<String, i64>, target: i32) -> Result<(f64, i32, i64), String> {
    let known = metrics.iter().filter_map(|(name, metric)| Some((metric.value, requests.get(name)?)));
    let (used, requested, pods) = known.fold((0_i128, 0_i128, 0), |(used, requested, pods), (value, request)| {
        (used + i128::from(value), requested + i128::from(*request), pods + 1)
    });
    if requested == 0 {
        return Err("no metrics returned matched known pods".into());
    }
    let percent = i32::try_from(used * 100 / requested).unwrap_or(i32::MAX);
    let average = i64::try_from(used / pods).unwrap_or(i64::MAX);
    Ok((f64::from(percent) / f64::from(target), percent, average))
}

/// The ratio of average and target, and the average.
fn average_ratio(metrics: &PodMetrics, target: i64) -> (f64, i64) {
    let used: i128 = metrics.values().map(|metric| i128::from(metric.value)).sum();
    let average = i64::try_from(used / i128::try_from(metrics.len().max(1)).unwrap_or(1)).unwrap_or(i64::MAX);
    (float(average) / float(target), average)
}

#[allow(clippy::cast_possible_truncation, reason = "a cast from float saturates: more replicas than that nobody asks for")]
fn whole(replicas: f64) -> i32 {
    replicas.ceil() as i32
}

#[allow(clippy::cast_precision_loss, reason = "ratios need no more digits")]
fn float(amount: i64) -> f64 {
    amount as f64
}

#[allow(clippy::cast_precision_loss, reason = "there are fewer pods than that")]
fn count(pods: usize) -> f64 {
    pods as f64
}
