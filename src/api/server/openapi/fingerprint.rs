//! What a document of custom resources will be made of, as a hash: clients keep documents by their hashes, and an index has those of all
//! documents while few are ever asked for.

use std::sync::{Arc, LazyLock};

use serde_json::json;
use sha2::{Digest, Sha512};

use super::{Room, document, order};
use troupe_api::{
    meta::{GroupVersion, Object},
    resources::{Registry, Resource, SchemaSource, definitions::definition::Definition},
    stored::StoredObject,
};

/// Changes with how documents are made, as it may from one release to the next: the hash of the document of a sample.
static FORM: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let registry = Registry::new(sample().map(Arc::new).into_iter().collect());
    let made = document(&registry, &GroupVersion::new("example.com", "v1"), &mut Room::of_group());
    Sha512::digest(order::bytes(&made.unwrap_or_default(), order::Form::Document)).to_vec()
});

/// The hash; `None` where the document has a built-in kind.
pub(super) fn of(rows: &[Arc<Resource>], version: &str) -> Option<String> {
    if !rows.iter().all(|row| row.is_custom()) {
        return None;
    }
    let mut hash = Sha512::new();
    hash.update(&*FORM);
    for row in rows {
        add(&mut hash, row, version)?;
    }
    Some(hex::encode_upper(hash.finalize()))
}

/// Takes in all of a row that its paths and definitions are made of, each behind its length.
fn add(hash: &mut Sha512, row: &Resource, version: &str) -> Option<()> {
    let served = row.version(version);
    let SchemaSource::Defined(schema) = &served.schema else { return None };
    let subresources = served.subresources.iter().map(|subresource| subresource.name).collect::<Vec<_>>().join(",");
    let scope = if row.namespaced { "Namespaced" } else { "Cluster" };
    let selectable = served.selectable.join(",");
    let names = [&*row.group, version, &*row.plural, &*row.kind, &*row.list_kind, scope, &*subresources, &*selectable];
    let text = schema.text();
    for part in names.map(str::as_bytes).into_iter().chain([&*text]) {
        hash.update(part.len().to_le_bytes());
        hash.update(part);
    }
    Some(())
}

fn sample() -> Option<Resource> {
    let names = json!({"plural": "samples", "singular": "sample", "kind": "Sample", "listKind": "SampleList"});
    let scale = json!({"specReplicasPath": ".spec.replicas", "statusReplicasPath": ".status.replicas"});
    let schema = json!({"type": "object", "properties": {"spec": {"type": "object", "properties": {"replicas": {"type": "integer"}}}}});
    let version =
        json!({"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": schema}, "subresources": {"status": {}, "scale": scale}});
    let definition = json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": "samples.example.com"},
        "spec": {"group": "example.com", "scope": "Namespaced", "names": names, "versions": [version]},
        "status": {"acceptedNames": names, "conditions": [
            {"type": "NamesAccepted", "status": "True"}, {"type": "Established", "status": "True"}]},
    });
    let stored = StoredObject::from_object(&Object::from_value(definition)?).ok()?;
    Definition::read(&stored)?.resource()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_document_is_made_of_changes_its_hash() {
        let row = || sample().expect("a row");
        let hash = |row: Resource| of(&[Arc::new(row)], "v1").expect("a custom resource");
        assert_eq!(hash(row()), hash(row()));
        let changes: [fn(&mut Resource); 4] = [
            |row| row.kind = "Other".into(),
            |row| row.namespaced = false,
            |row| row.list_kind = "Others".into(),
            |row| row.group = "other.example.com".into(),
        ];
        for change in changes {
            let mut changed = row();
            change(&mut changed);
            assert_ne!(hash(changed), hash(row()));
        }
        assert_ne!(of(&[], "v1"), of(&[Arc::new(row())], "v1"));
        let builtin: Vec<_> = troupe_api::resources::builtin().into_iter().filter(|row| &*row.group == "apps").collect();
        assert_eq!(of(&builtin, "v1"), None, "built-in documents are hashed themselves");
    }
}
