//! In which order pods end with their node, and how long each has: pure, as upstream's `nodeshutdown` does it.

use std::{sync::Arc, time::Duration};

use k8s_openapi::api::core::v1::Pod;

use crate::kubelet::eviction::rank::CRITICAL;

/// What a pod has without a priority class (`scheduling.DefaultPriorityWhenNoDefaultClassExists`).
const USUAL: i32 = 0;

/// The time that pods have from a priority on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Period {
    pub priority: i32,
    /// Seconds.
    pub grace: u64,
}

/// Pods that end together.
#[derive(Clone, Debug, PartialEq)]
pub struct Group {
    pub period: Period,
    pub pods: Vec<Arc<Pod>>,
}

/// The periods by rising priority: those that are given, or two of the whole time, of which critical pods have the last part. None where
/// there is no time.
pub fn periods(mut by_priority: Vec<Period>, whole: Duration, critical: Duration) -> Vec<Period> {
    if by_priority.is_empty() && !whole.is_zero() && critical <= whole {
        let usual = Period { priority: USUAL, grace: (whole - critical).as_secs() };
        by_priority = vec![usual, Period { priority: CRITICAL, grace: critical.as_secs() }];
    }
    by_priority.sort_by_key(|period| period.priority);
    by_priority
}

/// The time that all take together.
pub fn requested(periods: &[Period]) -> Duration {
    Duration::from_secs(periods.iter().fold(0, |sum, period| sum.saturating_add(period.grace)))
}

/// The pods of each period. One with less than the least priority is of the first.
pub fn groups(periods: &[Period], pods: Vec<Arc<Pod>>) -> Vec<Group> {
    let mut groups: Vec<Group> = periods.iter().map(|period| Group { period: *period, pods: Vec::new() }).collect();
    for pod in pods {
        let priority = pod.spec.as_ref().and_then(|spec| spec.priority).unwrap_or(USUAL);
        let index = groups.iter().rposition(|group| group.period.priority <= priority).unwrap_or(0);
        if let Some(group) = groups.get_mut(index) {
            group.pods.push(pod);
        }
    }
    groups
}

/// Seconds that a pod of a group has: what it asks for, if that is less. Nobody is killed at once.
pub fn grace(pod: &Pod, group: u64) -> u64 {
    let own = pod.spec.as_ref().and_then(|spec| spec.termination_grace_period_seconds).map(|own| own.max(0).unsigned_abs());
    own.map_or(group, |own| own.min(group)).max(1)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(name: &str, priority: Option<i32>) -> Arc<Pod> {
        Arc::new(serde_json::from_value(json!({"metadata": {"name": name}, "spec": {"priority": priority, "containers": []}})).expect("a pod"))
    }

    const fn period(priority: i32, grace: u64) -> Period {
        Period { priority, grace }
    }

    #[test]
    fn critical_pods_have_the_last_part_of_the_whole_time() {
        let seconds = Duration::from_secs;
        assert_eq!(periods(Vec::new(), seconds(30), seconds(10)), [period(0, 20), period(CRITICAL, 10)]);
        assert_eq!(periods(Vec::new(), seconds(0), seconds(0)), []);
        assert_eq!(periods(Vec::new(), seconds(5), seconds(10)), []);
        let given = vec![period(9, 1), period(-5, 2)];
        assert_eq!(periods(given, seconds(30), seconds(10)), [period(-5, 2), period(9, 1)]);
        assert_eq!(requested(&[period(0, 20), period(CRITICAL, 10)]), seconds(30));
    }

    #[test]
    fn a_pod_is_of_the_period_that_begins_at_or_below_its_priority() {
        let periods = [period(0, 1), period(1000, 2), period(CRITICAL, 3)];
        let pods =
            vec![pod("low", Some(-7)), pod("none", None), pod("edge", Some(1000)), pod("middle", Some(2000)), pod("node", Some(2_000_001_000))];
        let names: Vec<Vec<String>> =
            groups(&periods, pods).into_iter().map(|group| group.pods.iter().filter_map(|pod| pod.metadata.name.clone()).collect()).collect();
        assert_eq!(names, [vec!["low", "none"], vec!["edge", "middle"], vec!["node"]]);
        assert_eq!(groups(&[], vec![pod("a", None)]), []);
    }

    #[test]
    fn a_pod_has_no_more_than_it_asks_for_and_no_more_than_its_group() {
        let asking = |seconds: Option<i64>| {
            let spec = json!({"terminationGracePeriodSeconds": seconds, "containers": []});
            serde_json::from_value::<Pod>(json!({"spec": spec})).expect("a pod")
        };
        let graces = [(Some(5), 20), (Some(120), 20), (None, 20), (Some(0), 20), (Some(9), 0)].map(|(own, group)| grace(&asking(own), group));
        assert_eq!(graces, [5, 20, 20, 1, 1]);
    }
}
