//! What the types alone don't say: the fields of every kind with their list keys, patch strategies, defaults and
//! protobuf numbers, and the code that decodes, defaults and checks object trees by them.
//!
//! Built-in kinds come from compact tables (`tables/`, written by `generate.py`), custom resources from their
//! structural schemas; both are the same [`Schema`], so patching, pruning and field ownership have one code path.

pub mod builtin;
pub mod conversion;
pub mod decode;
pub mod defaults;
pub mod node;
pub mod openapi;
pub mod raw;
pub mod strict;
mod table;
mod tables;
pub mod validate;

pub use builtin::Schemas;
pub use decode::{DecodeError, Decoded, Format};
pub use node::{Field, Kind, ListType, Node, PatchStrategy, Schema, Struct, StructRef};
pub use strict::{FieldPath, StrictProblem};
pub use validate::validate;

#[cfg(test)]
mod tests;
