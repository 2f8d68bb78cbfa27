//! One table drives the API: a [`Resource`] is one row, a [`Registry`] the whole table.
//!
//! Routes, discovery, OpenAPI, storage keys, RBAC, garbage collection and quota read it. Rows of built-in kinds are
//! static, rows of custom resources come and go; a registry is immutable and swapped atomically.

pub mod aggregated;
pub mod budget;
pub mod column;
pub mod cron;
pub mod custom;
pub mod definitions;
mod disabled;
pub mod discovered;
pub mod divisors;
pub mod enablement;
mod feature;
pub mod flow_bootstrap;
pub mod forms;
mod gated;
pub mod int_or_string;
pub mod kinds;
mod pod_amounts;
pub mod printing;
pub mod priorities;
pub mod registry;
pub mod resource;
pub mod scale;
pub mod scale_columns;
pub mod strategy;
mod table;
pub mod validation;
pub mod webhook_config;

pub use crate::meta::tree;
pub use column::{Column, ColumnType};
pub use feature::Feature;
pub use gated::{Gated, Withheld};
pub use registry::Registry;
pub use resource::{Resource, SchemaSource, Served, Subresource};
pub use strategy::{Strategy, WriteContext};
pub use table::{builtin, is_builtin, optional};
