//! Vocabulary shared by every layer: keys, group/version/kind, revisions, selectors, the object tree, causes, time.

pub mod amounts;
pub mod cause;
pub mod decimal;
pub mod floats;
pub mod gvk;
pub mod key;
mod label_query;
pub mod limits;
pub mod matcher;
pub mod names;
pub mod object;
pub mod operation;
pub mod quantity;
pub mod request;
pub mod revision;
pub mod rfc3339;
pub mod selector;
pub mod semver;
pub mod time;
pub mod tree;
pub mod url;

pub use cause::{Cause, ObjectVersion};
pub use gvk::{GroupResource, GroupVersion, GroupVersionKind, GroupVersionResource};
pub use key::{ObjectKey, Uid};
pub use matcher::{FieldMatcher, LabelMatcher, RequiredLabel};
pub use object::Object;
pub use quantity::{Quantity, QuantityError};
pub use revision::Revision;
pub use selector::{FieldSelector, LabelSelector, Requirement, SelectorError};
pub use time::{Clock, SystemClock};
