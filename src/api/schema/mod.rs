//! What the types alone don't say: the fields of every kind with their list keys, patch strategies, defaults and
//! protobuf numbers, and the code that decodes, defaults and checks object trees by them.
//!
//! Built-in kinds come from compact tables (`tables/`, written by `generate.py`), custom resources from their
//! structural schemas; both are the same [`Schema`], so patching, pruning and field ownership have one code path.

pub mod builtin;
pub mod conversion;
pub mod decode;
pub mod defaults;
pub mod duplicates;
pub mod error;
pub mod json_syntax;
pub mod node;
pub mod raw;
pub mod strict;
pub mod structural;
pub mod table;
mod tables;
pub mod validate;
mod walk;
mod yaml;

pub use builtin::Schemas;
pub use decode::{Decoded, DocumentError, Format, from_yaml};
pub use error::DecodeError;
pub use node::{Field, Kind, ListType, Node, PatchStrategy, ScalarType, Schema, Struct, StructRef};
pub use strict::{FieldPath, StrictProblem};
pub use validate::validate;
pub use yaml::to_yaml;

#[cfg(test)]
mod tests;
