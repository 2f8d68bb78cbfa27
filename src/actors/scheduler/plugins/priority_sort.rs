//! PrioritySort: the order of the queue, by priority, then by age ([`crate::scheduler::queue`]). There is no other.

use crate::scheduler::framework::{Plugin, Point};

/// See the module.
pub struct PrioritySort;

impl Plugin for PrioritySort {
    fn name(&self) -> &'static str {
        "PrioritySort"
    }

    fn points(&self) -> &'static [Point] {
        &[Point::QueueSort]
    }
}
