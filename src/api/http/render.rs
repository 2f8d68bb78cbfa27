//! Stored objects as bytes of a form, spliced without decoding where the form allows it.

use crate::{service::Target, stored::StoredObject};

/// `apiVersion` of the target's group and version.
pub fn api_version(target: &Target) -> String {
    let (group, version) = (&target.resource.group, &target.version);
    if group.is_empty() { version.to_string() } else { format!("{group}/{version}") }
}

/// Writes whole objects as a target's version shows them.
#[derive(Clone, Debug)]
pub struct FullForm {
    kind: String,
    api_version: String,
    /// The stored bytes begin with this very kind and apiVersion.
    as_stored: bool,
}

impl FullForm {
    pub fn new(target: &Target) -> Self {
        let resource = &target.resource;
        let as_stored = resource.group == resource.storage_group && target.version == resource.storage_version;
        FullForm { kind: resource.kind.to_string(), api_version: api_version(target), as_stored }
    }

    pub fn write(&self, object: &StoredObject, out: &mut Vec<u8>) {
        if self.as_stored { object.write_json(out) } else { object.write_json_as(&self.kind, &self.api_version, out) }
    }
}

/// Appends `PartialObjectMetadata` of an object.
pub fn write_partial(object: &StoredObject, api_version: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"kind\":\"PartialObjectMetadata\",\"apiVersion\":\"");
    out.extend_from_slice(api_version.as_bytes());
    out.extend_from_slice(b"\",\"metadata\":{\"resourceVersion\":\"");
    out.extend_from_slice(object.revision.to_string().as_bytes());
    out.push(b'"');
    let fields = metadata_fields(object.encoded());
    if !fields.is_empty() {
        out.push(b',');
        out.extend_from_slice(fields);
    }
    out.extend_from_slice(b"}}");
}

/// The text between the braces of `metadata` in the store's form.
fn metadata_fields(encoded: &[u8]) -> &[u8] {
    const MARK: &[u8] = b"\"metadata\":{";
    let Some(at) = encoded.windows(MARK.len()).position(|window| window == MARK) else { return &[] };
    let fields = &encoded[at + MARK.len()..];
    let (mut depth, mut in_string, mut escaped) = (0_usize, false, false);
    for (at, byte) in fields.iter().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'{' if !in_string => depth += 1,
            b'}' if !in_string && depth == 0 => return &fields[..at],
            b'}' if !in_string => depth -= 1,
            _ => {}
        }
    }
    &[]
}

/// `metadata` of a list: revision, and how to go on.
pub fn list_metadata(list: &crate::service::ListReply) -> String {
    let mut metadata = format!("{{\"resourceVersion\":\"{}\"", list.revision);
    if let Some(token) = &list.continue_token {
        metadata.push_str(",\"continue\":");
        metadata.push_str(&serde_json::json!(token).to_string());
    }
    if let Some(remaining) = list.remaining {
        metadata.push_str(&format!(",\"remainingItemCount\":{remaining}"));
    }
    metadata.push('}');
    metadata
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use serde_json::{Value, json};

    use super::*;
    use crate::meta::Revision;

    #[test]
    fn partial_metadata_is_cut_out_of_the_stored_bytes() {
        let tree = json!({"name": "a", "annotations": {"x": "}\\\"{"}, "labels": {"a": "b"}});
        let encoded = format!("{{\"kind\":\"Pod\",\"apiVersion\":\"v1\",\"metadata\":{tree},\"spec\":{{}}}}");
        let stored = StoredObject::new(Bytes::from(encoded), Revision(5)).expect("well formed");
        let mut out = Vec::new();
        write_partial(&stored, "meta.k8s.io/v1", &mut out);
        let read: Value = serde_json::from_slice(&out).expect("valid JSON");
        assert_eq!(read["metadata"]["annotations"], tree["annotations"]);
        assert_eq!((&read["metadata"]["resourceVersion"], &read["kind"]), (&json!("5"), &json!("PartialObjectMetadata")));
        assert!(read.get("spec").is_none());
    }
}
