//! Warnings that come with every reply about a deprecated version.

use crate::service::Target;

/// What whoever reads or writes `target` is warned of.
pub fn warning(target: &Target) -> Option<&str> {
    target.served().deprecation.as_deref()
}
