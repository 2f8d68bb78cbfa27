//! Classes, drivers, capacities and attachments of volumes (storage.k8s.io).

mod attachment;
mod capacity;
mod class;
mod csi_driver;
mod csi_node;
mod inline;
#[cfg(test)]
mod tests;
mod topologies;

use serde_json::Value;

use super::Field;
use crate::meta::Object;

pub use attachment::{attachment, attachment_update};
pub use capacity::{capacity, capacity_update};
pub use class::{attributes_class, attributes_class_update, class, class_update};
pub use csi_driver::{driver, driver_update};
pub use csi_node::{node, node_update};

/// A field of the object itself.
fn root<'a>(object: &'a Object, name: &'a str) -> Field<'a> {
    Field::root(name, object.get(&[name]).unwrap_or(&Value::Null))
}
