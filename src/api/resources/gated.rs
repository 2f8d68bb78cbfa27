//! Fields of features that may be off.

use super::tree::Fields;

/// The fields that one feature brought to a kind, or to the spec of a pod.
#[derive(Clone, Copy, Debug)]
pub struct Gated {
    pub feature: &'static str,
    /// Whether an object, or a pod's spec, has one of them.
    pub is_used: fn(&Fields) -> bool,
    pub drop: fn(&mut Fields),
}

impl Gated {
    /// Drops them from `new` while the feature is off, unless `old` has some already.
    pub fn settle(&self, new: &mut Fields, old: Option<&Fields>, is_on: &dyn Fn(&str) -> bool) {
        if !is_on(self.feature) && !old.is_some_and(self.is_used) {
            (self.drop)(new);
        }
    }
}
