//! Protobuf in both directions: one transcoder between JSON trees and messages over the field numbers of the schema tables.
//!
//! client-go's typed clients, so also most of kubectl's commands, send and prefer it: `k8s\0` followed by a `runtime.Unknown`
//! that names the kind and wraps the object. What goes out is byte for byte what Go's generated code writes.

mod decode;
mod encode;
mod envelope;
mod union;

#[cfg(test)]
mod independent_tests;
#[cfg(test)]
mod tests;

pub use decode::to_json;
pub use encode::{list_meta, object, partial};
pub use envelope::{UNKNOWN_TAIL, item_head, item_size, metadata_of, unknown, unknown_head, watch_event};

use serde_json::Value;

use crate::{
    meta::{GroupVersion, GroupVersionKind},
    schema::Schemas,
};

/// The media type.
pub const MEDIA_TYPE: &str = "application/vnd.kubernetes.protobuf";

/// The media type of a watch.
pub const STREAM_TYPE: &str = "application/vnd.kubernetes.protobuf;stream=watch";

const MAGIC: &[u8] = b"k8s\0";

/// Whether objects of a kind have a protobuf form; custom resources have none.
pub fn knows(gvk: &GroupVersionKind) -> bool {
    Schemas::builtin().has(gvk)
}

/// A whole document by its own kind and apiVersion; `None` when they are not built in.
pub fn document(value: &Value) -> Option<Vec<u8>> {
    let text = |field| value.get(field).and_then(Value::as_str).unwrap_or_default();
    let (api_version, kind) = (text("apiVersion"), text("kind"));
    let GroupVersion { group, version } = GroupVersion::parse(if api_version.is_empty() { "v1" } else { api_version });
    let schema = Schemas::builtin().get(&GroupVersionKind::new(group, version, kind))?;
    let mut raw = Vec::with_capacity(1024);
    object(schema.root_struct(), value.as_object()?, &mut raw);
    Some(unknown(api_version, kind, &raw))
}
