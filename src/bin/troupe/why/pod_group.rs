//! Why the pods of a group wait for one another (KEP-4671), and how the group stands. Pure.

use jiff::Timestamp;
use serde_json::Value;

use super::{
    generic,
    report::{Reason, Report},
    tree::{condition, is_true, items, listed, text},
    warnings::warnings,
};

/// Pods named of a group.
const NAMED: usize = 10;

/// A group of pods that get nodes together.
#[derive(Clone, Debug, Default)]
pub struct Gang {
    pub name: String,
    /// The PodGroup; null where there is none of that name.
    pub group: Value,
    /// The pods that name it and have not ended.
    pub pods: Vec<Value>,
}

/// A PodGroup with what belongs to it.
#[derive(Clone, Debug, Default)]
pub struct GroupFacts {
    pub gang: Gang,
    pub events: Vec<Value>,
    /// Explanations of those of its pods that are not well.
    pub unwell: Vec<Report>,
    pub now: Timestamp,
}

impl Gang {
    /// How many pods must get nodes together; 0 where each may go alone.
    fn least(&self) -> usize {
        let least = self.group["spec"]["schedulingPolicy"]["gang"]["minCount"].as_u64().unwrap_or(0);
        usize::try_from(least).unwrap_or(usize::MAX)
    }

    fn placed(&self) -> usize {
        self.pods.iter().filter(|pod| has_node(pod)).count()
    }

    /// Its pods one by one.
    fn members(&self) -> Vec<String> {
        let mut lines: Vec<String> = self.pods.iter().take(NAMED).map(member).collect();
        if self.pods.len() > NAMED {
            lines.push(format!("… and {} more pods", self.pods.len() - NAMED));
        }
        lines
    }

    /// What keeps the group's pods waiting, where `group` is how it is called.
    fn waits(&self, group: &str) -> Option<Reason> {
        let (there, least) = (self.pods.len(), self.least());
        if there < least {
            let reason = Reason::new(format!("{group} has {there} of the {least} pods that must get nodes together")).details(self.members());
            let hint = format!("{} more must name it in spec.schedulingGroup.podGroupName; none is looked at before", least - there);
            return Some(reason.hint(hint));
        }
        let said = condition(&self.group, "PodGroupScheduled");
        if let Some(said) = said.filter(|said| said["status"] == "False") {
            let why = format!("{group} is not scheduled: {}: {}", text(&said["reason"]), text(&said["message"]));
            let hint = format!("nodes need room for {least} of its pods at once; each pod's part is in troupe why pod/NAME");
            return Some(Reason::new(why).details(self.members()).hint(hint));
        }
        let undecided = said.is_none() && least > 0 && self.placed() < least;
        undecided.then(|| {
            Reason::new(format!("{group} has the {least} pods that it needs; the scheduler has not decided on them yet")).details(self.members())
        })
    }
}

fn has_node(pod: &Value) -> bool {
    !text(&pod["spec"]["nodeName"]).is_empty()
}

fn member(pod: &Value) -> String {
    let name = text(&pod["metadata"]["name"]);
    let gates: Vec<&str> = items(&pod["spec"]["schedulingGates"]).map(|gate| text(&gate["name"])).collect();
    match text(&pod["spec"]["nodeName"]) {
        "" if !gates.is_empty() => format!("pod {name}: no node, scheduling gates hold it back: {}", listed(&gates)),
        "" => format!("pod {name}: no node"),
        node => format!("pod {name}: on node {node}"),
    }
}

/// What a pod without a node waits for because of its group.
pub fn of_pod(gang: &Gang) -> Option<Reason> {
    if gang.group.is_null() {
        return Some(Reason::new(format!("its pod group {} does not exist", gang.name)).hint(
            "create the PodGroup; where its API is not served: --feature-gates=GenericWorkload=true,GangScheduling=true \
             --runtime-config=scheduling.k8s.io/v1alpha2=true",
        ));
    }
    gang.waits(&format!("its pod group {}", gang.name))
}

/// Explains a PodGroup.
pub fn explain(facts: &GroupFacts) -> Report {
    let gang = &facts.gang;
    let object = format!("podgroup {}/{}", text(&gang.group["metadata"]["namespace"]), gang.name);
    if gang.group["metadata"]["deletionTimestamp"].is_string() {
        let pods: Vec<&str> = gang.pods.iter().map(|pod| text(&pod["metadata"]["name"])).collect();
        let left = (!pods.is_empty()).then(|| Reason::new(format!("pods of it have not ended: {}", listed(&pods))));
        let reasons = left.into_iter().chain(generic::finalizers(&gang.group)).collect();
        return Report { object, state: "Terminating".into(), reasons, ..Report::default() };
    }
    let (there, placed) = (gang.pods.len(), gang.placed());
    let state = match gang.least() {
        0 => format!("{placed} of {there} pods have a node, each may go alone"),
        least => format!("{placed} of {there} pods have a node, at least {least} go together"),
    };
    let warned = warnings(&facts.events, facts.now);
    let mut reasons: Vec<Reason> = gang.waits("it").into_iter().collect();
    reasons.extend(facts.unwell.iter().map(Report::as_reason));
    reasons.extend(warned.fresh);
    let state = if reasons.is_empty() { format!("{state}: nothing is wrong") } else { state };
    Report { object, state, reasons, earlier: warned.earlier, ..Report::default() }
}

/// Whether there is something to explain about a pod of a group.
pub fn is_unwell(pod: &Value) -> bool {
    !is_true(pod, "Ready")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn gang(least: u64, nodes: &[&str]) -> Gang {
        let pod = |(number, node): (usize, &&str)| json!({"metadata": {"name": format!("p{number}")}, "spec": {"nodeName": node}});
        let spec = json!({"schedulingPolicy": {"gang": {"minCount": least}}});
        let group = json!({"metadata": {"namespace": "d", "name": "g"}, "spec": spec});
        Gang { name: "g".into(), group, pods: nodes.iter().enumerate().map(pod).collect() }
    }

    fn text_of(gang: &Gang) -> String {
        explain(&GroupFacts { gang: gang.clone(), ..GroupFacts::default() }).text()
    }

    #[test]
    fn a_pod_learns_what_its_group_lacks() {
        assert_eq!(of_pod(&Gang { name: "g".into(), ..Gang::default() }).expect("told").what, "its pod group g does not exist");
        let mut few = gang(3, &["", ""]);
        few.pods[1]["spec"]["schedulingGates"] = json!([{"name": "example.com/wait"}]);
        let told = of_pod(&few).expect("told");
        assert_eq!(told.what, "its pod group g has 2 of the 3 pods that must get nodes together");
        assert_eq!(told.details, ["pod p0: no node", "pod p1: no node, scheduling gates hold it back: example.com/wait"]);
        assert!(told.hint.expect("a hint").starts_with("1 more must name it"));
        assert_eq!(of_pod(&gang(0, &[""])), None, "each may go alone");
        assert_eq!(of_pod(&gang(2, &["a", "a", ""])), None, "enough of them are placed");
    }

    #[test]
    fn a_group_tells_what_the_scheduler_said_of_it() {
        let mut group = gang(2, &["a", ""]);
        assert!(text_of(&group).contains("it has the 2 pods that it needs; the scheduler has not decided on them yet"), "{}", text_of(&group));
        let condition = |status: &str| json!([{"type": "PodGroupScheduled", "status": status, "reason": "Unschedulable", "message": "no room"}]);
        group.group["status"]["conditions"] = condition("False");
        let told = text_of(&group);
        assert!(told.starts_with("podgroup d/g: 1 of 2 pods have a node, at least 2 go together\n"), "{told}");
        assert!(told.contains("it is not scheduled: Unschedulable: no room") && told.contains("pod p0: on node a"), "{told}");
        group.group["status"]["conditions"] = condition("True");
        assert_eq!(text_of(&group), "podgroup d/g: 1 of 2 pods have a node, at least 2 go together: nothing is wrong\n");
        group.group["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
        assert!(text_of(&group).contains("Terminating\n  • pods of it have not ended: p0, p1"), "{}", text_of(&group));
    }
}
