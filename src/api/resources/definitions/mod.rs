//! Custom resources as rows of the table: what a CustomResourceDefinition makes, its strategy and its columns.

mod cells;
pub mod definition;
mod strategy;
