//! Stored objects as bytes of a form, spliced without decoding where the form allows it.

use troupe_api::{
    meta::{GroupVersion, Object, floats},
    service::Target,
    stored::StoredObject,
};

/// `apiVersion` of the target's group and version.
pub fn api_version(target: &Target) -> String {
    let (group, version) = (&target.resource.group, &target.version);
    if group.is_empty() { version.to_string() } else { format!("{group}/{version}") }
}

/// Writes objects as a target's version shows them.
#[derive(Clone, Debug)]
pub struct FullForm {
    target: Target,
    /// The form that clients see and the one that is stored, where they are not the same.
    forms: Option<(GroupVersion, GroupVersion)>,
}

impl FullForm {
    pub fn new(target: &Target) -> Self {
        let resource = &target.resource;
        let served = GroupVersion::new(resource.group.clone(), target.version.clone());
        let stored = GroupVersion::new(resource.storage_group.clone(), resource.storage.version.clone());
        // Objects of custom resources come in the version that was asked for.
        let differ = served != stored && !resource.is_custom();
        FullForm { target: target.clone(), forms: differ.then_some((served, stored)) }
    }

    /// Appends a whole object.
    pub fn write(&self, object: &StoredObject, out: &mut Vec<u8>) {
        match self.forms {
            Some(_) => write_tree(&self.tree(object.to_object()), out),
            None => object.write_json(out),
        }
    }

    /// Appends an object without kind and apiVersion: an item of a list.
    pub fn write_list_item(&self, object: &StoredObject, out: &mut Vec<u8>) {
        // Lists of custom resources are of no type that would say what their items are.
        if self.target.resource.is_custom() {
            return self.write(object, out);
        }
        if self.forms.is_none() {
            return object.write_list_item(out);
        }
        let mut tree = self.tree(object.to_object());
        tree.remove(&["kind"]);
        tree.remove(&["apiVersion"]);
        write_tree(&tree, out);
    }

    /// A tree in the stored form as clients see it. What is of another kind, such as a `Scale`, stays as it is.
    pub fn tree(&self, mut tree: Object) -> Object {
        let resource = &self.target.resource;
        let Some((served, stored)) = &self.forms else { return tree };
        if tree.kind() == &*resource.kind && tree.api_version() == stored.to_string() {
            resource.strategy.convert(&mut tree, stored, served);
            tree.set_gvk(&resource.gvk(&self.target.version));
        }
        tree
    }
}

fn write_tree(tree: &Object, out: &mut Vec<u8>) {
    floats::write_json(out, tree.root()).expect("a tree always encodes");
}

/// Appends `PartialObjectMetadata` of an object.
pub fn write_partial(object: &StoredObject, api_version: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"kind\":\"PartialObjectMetadata\",\"apiVersion\":\"");
    out.extend_from_slice(api_version.as_bytes());
    out.extend_from_slice(b"\",\"metadata\":{\"resourceVersion\":\"");
    out.extend_from_slice(object.revision.to_string().as_bytes());
    out.push(b'"');
    let encoded = object.encoded();
    let fields = metadata_fields(&encoded);
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
pub fn list_metadata(list: &troupe_api::service::ListReply) -> String {
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
    use troupe_api::meta::Revision;

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
