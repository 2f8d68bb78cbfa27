//! SchedulingGates: a pod with gates is not looked at (KEP-3521).

use k8s_openapi::api::core::v1::Pod;

use crate::scheduler::framework::{Plugin, Point};

/// See the module.
pub struct SchedulingGates;

impl Plugin for SchedulingGates {
    fn name(&self) -> &'static str {
        "SchedulingGates"
    }

    fn points(&self) -> &'static [Point] {
        &[Point::PreEnqueue]
    }

    fn pre_enqueue(&self, pod: &Pod) -> Result<(), String> {
        let gates = pod.spec.as_ref().and_then(|spec| spec.scheduling_gates.as_deref()).unwrap_or_default();
        if gates.is_empty() {
            return Ok(());
        }
        let names: Vec<&str> = gates.iter().map(|gate| gate.name.as_str()).collect();
        Err(format!("waiting for scheduling gates: [{}]", names.join(" ")))
    }
}
