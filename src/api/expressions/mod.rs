//! The expression language of the API: CEL, as upstream speaks it (`k8s.io/apiserver/pkg/cel` over `github.com/google/cel-go`).
//!
//! An [`Environment`] names the variables that there are and says what is known of them. An expression is compiled once
//! ([`Program::compile`]): read (`syntax`), its types checked (`check`), its cost estimated (`cost`). A program is evaluated against JSON
//! documents as they are: only what it looks at is turned into values (`values`). Evaluation charges upstream's costs to a [`Meter`], and
//! beside them what it really does, so that neither time nor memory is without bound whatever expression and document are.
//!
//! This module knows nothing of the objects that are judged. No crate does it all: `cel` has no checker, no costs and no limits, and
//! converts documents as a whole.

mod check;
mod composition;
mod cost;
mod environment;
mod evaluate;
mod library;
mod meter;
mod permissions;
mod program;
pub mod syntax;
mod types;
mod url;
mod values;
pub mod words;

#[cfg(test)]
mod tests;

pub use check::messages::{JSON_PATCH, OBJECT};
pub use composition::{Composed, Composition};
pub use cost::Estimate;
pub use environment::{Environment, Variable};
pub use library::{parsed_quantity, parsed_version};
pub use meter::{Fault, MOST_DEPTH, Meter};
pub use permissions::{Access, Answer, Inquiry, Permissions, Question, Subject};
pub use program::{Failure, Program};
pub use types::{AUTHORIZER, Declaration, Field, Identity, ObjectType, QUANTITY, RESOURCE_CHECK, Shape, Type, escape, unescape};
pub use values::times::duration as go_duration;
pub use values::{Made, Map, Named, Val, from_json, object_from_json, to_json};
