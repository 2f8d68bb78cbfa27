//! DefaultPreemption: less important pods make room.

use crate::scheduler::{
    framework::{Failure, Outcome, Plugin},
    preemption::preempt,
};

/// See the module.
pub struct DefaultPreemption;

impl Plugin for DefaultPreemption {
    fn name(&self) -> &'static str {
        "DefaultPreemption"
    }

    fn post_filter(&self, failure: &mut Failure<'_, '_>) -> Option<Outcome> {
        Some(preempt(failure))
    }
}
