//! What nodes and pods use, as `metrics.k8s.io` has it. Never stored.

use serde_json::Value;

use crate::{
    meta::{Clock, Object, quantity},
    resources::{
        Column, Strategy,
        printing::{name, string},
        tree::{at, text},
    },
};

/// The rules of node and pod metrics.
#[derive(Default)]
pub struct UsageMetrics;

impl Strategy for UsageMetrics {
    fn has_generation(&self) -> bool {
        false
    }

    fn columns(&self) -> Vec<Column> {
        vec![name(), string("CPU", "What is used of cpu."), string("Memory", "What is used of memory."), string("Window", "How long was measured.")]
    }

    fn cells(&self, object: &Object, _clock: &dyn Clock) -> Vec<Value> {
        let containers = object.list(&["containers"]).iter().map(|container| at(container, &["usage"]));
        let usages: Vec<&Value> = object.get(&["usage"]).into_iter().chain(containers).collect();
        let sum = |resource: &str| usages.iter().filter_map(|usage| quantity::nanos(text(usage, &[resource]))).sum::<i128>();
        let (cpu, memory) = (quantity::canonical(sum("cpu"), false), quantity::canonical(sum("memory"), true));
        vec![object.name().into(), cpu.into(), memory.into(), object.str(&["window"]).into()]
    }
}
