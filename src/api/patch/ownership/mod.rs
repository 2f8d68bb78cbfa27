//! Field ownership: who set which field, kept in `metadata.managedFields` by every write, and server-side apply on it.
//!
//! [`track_update`] goes with creates, updates and the older patches; [`apply()`] with server-side apply. Both are pure: the
//! objects, the manager and the time come in, the new object goes out.

mod apply;
mod compare;
mod element;
mod entries;
mod fieldset;
mod merge;
mod mistyped;
mod prune;
mod remove;
mod repeated;
mod set;
mod update;
mod versions;

pub use apply::{apply, apply_across};
pub use compare::{Comparison, compare};
pub use entries::{Entry, ManagedFields, Operation};
pub use fieldset::field_set;
pub use merge::merge;
pub(crate) use mistyped::mistyped;
pub(crate) use repeated::repeated;
pub use set::FieldSet;
pub use update::{track_across, track_update};
pub use versions::{OneVersion, Spoken, Unconverted, Versions};

/// Who writes, and through which subresource.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Manager<'a> {
    /// `fieldManager`; empty becomes `unknown`.
    pub name: &'a str,
    /// `status`, `scale`, …; empty for the object itself.
    pub subresource: &'a str,
    /// What writes of the status put back beside the spec; see [`Strategy::status_resets`](crate::resources::Strategy::status_resets).
    pub status_resets: &'a [&'a [&'a str]],
}

#[cfg(test)]
mod tests;
