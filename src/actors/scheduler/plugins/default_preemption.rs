//! DefaultPreemption: less important pods make room.

use crate::scheduler::{
    framework::{Failure, Outcome, Plugin, Point},
    preemption::{Tries, preempt},
};

/// See the module.
#[derive(Default)]
pub struct DefaultPreemption {
    /// How many nodes are tried.
    pub tries: Tries,
}

impl Plugin for DefaultPreemption {
    fn name(&self) -> &'static str {
        "DefaultPreemption"
    }

    fn points(&self) -> &'static [Point] {
        &[Point::PostFilter]
    }

    fn post_filter(&self, failure: &mut Failure<'_, '_>) -> Option<Outcome> {
        Some(preempt(failure, &self.tries))
    }
}
