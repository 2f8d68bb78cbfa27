//! Quota: what an object costs, which quotas it counts against, and whether they have room for it. Pure.
//!
//! An [`Evaluator`] measures the objects of one resource. [`demands`] says what a write costs each quota of its
//! namespace; the API server charges that before the write commits. [`usage()`] counts what exists, for the controller.

mod demand;
mod devices;
mod evaluator;
mod limited;
pub mod pod_resources;
mod pods;
pub mod scopes;
mod storage;
#[cfg(test)]
mod tests;
mod usage;

pub use demand::{Demand, Write, demands, exceeded};
pub use evaluator::Evaluator;
pub use limited::{LimitedResource, Uncovered, uncovered};
pub use usage::{hard, is_tracked, usage, used};

use crate::meta::GroupResource;

/// Whether quota takes no notice of a resource: what is not stored, and events.
pub fn is_ignored(resource: &GroupResource) -> bool {
    match &*resource.group {
        "" => matches!(&*resource.resource, "bindings" | "componentstatuses" | "events"),
        "authentication.k8s.io" | "authorization.k8s.io" => true,
        "events.k8s.io" => &*resource.resource == "events",
        _ => false,
    }
}
