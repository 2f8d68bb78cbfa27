//! GangScheduling: pods of a group get nodes together or not at all (KEP-4671).
//!
//! Before there are enough of them none is looked at. The scheduler's unit looks at all of a group at once; where it cannot, as where
//! extenders are asked, those that have a node wait here for the others.

use std::{sync::Arc, time::Duration};

use k8s_openapi::api::core::v1::Pod;

use crate::scheduler::{
    framework::{Permit, Plugin, Point, WaitingPods},
    gangs::{Gangs, group_of},
    pod_info::PodInfo,
};

/// What pods are told that had a node and lack the others of their group.
pub const TOO_FEW: &str = "waiting for minCount pods from a gang to be scheduled";

/// How long a pod keeps its node without the others.
const PATIENCE: Duration = Duration::from_secs(300);

/// See the module.
pub struct GangScheduling {
    pub gangs: Arc<Gangs>,
    pub waiting: Arc<WaitingPods>,
}

impl GangScheduling {
    pub const NAME: &str = "GangScheduling";
    pub const POINTS: &[Point] = &[Point::PreEnqueue, Point::Permit];
}

impl Plugin for GangScheduling {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    fn points(&self) -> &'static [Point] {
        Self::POINTS
    }

    fn pre_enqueue(&self, pod: &Pod) -> Result<(), String> {
        group_of(pod).map_or(Ok(()), |group| self.gangs.admit(&group))
    }

    fn permit(&self, pod: &PodInfo, _node: &str) -> Permit {
        let Some(group) = group_of(&pod.pod) else { return Permit::Allow };
        match self.gangs.is_enough(&group) {
            None => Permit::Reject(format!("failed to get podGroup {group}")),
            Some(false) => Permit::Wait(PATIENCE),
            Some(true) => {
                self.gangs.members(&group, true).iter().for_each(|member| self.waiting.allow(member, Self::NAME));
                Permit::Allow
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use troupe_api::meta::ObjectKey;

    use super::*;
    use crate::scheduler::object_lookup::NoObjects;

    fn pod(name: &str, group: Option<&str>) -> PodInfo {
        let group = group.map(|name| json!({"podGroupName": name}));
        let spec = json!({"containers": [{"name": "c"}], "schedulingGroup": group});
        let pod: Pod = serde_json::from_value(json!({"metadata": {"name": name, "namespace": "n"}, "spec": spec})).expect("a pod");
        PodInfo::new(Arc::new(pod), &NoObjects)
    }

    fn plugin() -> GangScheduling {
        GangScheduling { gangs: Arc::default(), waiting: Arc::default() }
    }

    #[test]
    fn only_pods_of_groups_wait_for_others() {
        let (plugin, group) = (plugin(), ObjectKey::new("n", "g"));
        let alone = pod("alone", None);
        assert_eq!((plugin.pre_enqueue(&alone.pod), plugin.permit(&alone, "node")), (Ok(()), Permit::Allow));
        let one = pod("one", Some("g"));
        assert!(plugin.pre_enqueue(&one.pod).expect_err("no group").contains("pod group \"g\" to appear"));
        assert_eq!(plugin.permit(&one, "node"), Permit::Reject("failed to get podGroup n/g".into()));
        plugin.gangs.set_group(group.clone(), Some(0));
        plugin.gangs.note(one.key(), &group, true);
        assert_eq!((plugin.pre_enqueue(&one.pod), plugin.permit(&one, "node")), (Ok(()), Permit::Allow));
    }

    #[tokio::test(start_paused = true)]
    async fn the_last_pod_of_a_gang_lets_all_go() {
        let (plugin, group) = (plugin(), ObjectKey::new("n", "g"));
        let (one, two) = (pod("one", Some("g")), pod("two", Some("g")));
        plugin.gangs.set_group(group.clone(), Some(2));
        plugin.gangs.note(one.key(), &group, true);
        assert_eq!(plugin.permit(&one, "node"), Permit::Wait(PATIENCE));
        let verdict = plugin.waiting.wait(one.key().clone(), &[(GangScheduling::NAME, PATIENCE)]);
        plugin.gangs.note(two.key(), &group, true);
        assert_eq!(plugin.permit(&two, "node"), Permit::Allow);
        assert_eq!(verdict.await, Ok(()));
    }
}
