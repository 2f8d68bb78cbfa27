//! Patches: of an object that is there, by whoever may change it.

use serde_json::{Value, json};
use troupe_api::{
    meta::{GroupVersionKind, Object},
    patch::{
        self,
        ownership::{self, ManagedFields, Manager},
    },
    schema::{Format, Schema, Schemas},
    service::PatchType,
};

use crate::budget;

fn schema() -> std::sync::Arc<Schema> {
    Schemas::builtin().get(&GroupVersionKind::new("apps", "v1", "Deployment")).expect("a kind that is built in")
}

/// A Deployment with lists, keyed lists and maps.
fn current(schema: &Schema) -> Object {
    let container =
        json!({"name": "a", "image": "i", "ports": [{"containerPort": 80}], "env": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}]});
    let volumes = json!([{"name": "v", "emptyDir": {}}, {"name": "w", "secret": {"secretName": "s"}}]);
    let object = json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": "d", "namespace": "n", "labels": {"a": "b"}, "finalizers": ["x/y", "z/w"]},
        "spec": {"replicas": 2, "selector": {"matchLabels": {"a": "b"}}, "template": {
            "metadata": {"labels": {"a": "b"}},
            "spec": {"containers": [container, {"name": "b", "image": "j"}], "volumes": volumes, "tolerations": [{"key": "k"}]},
        }},
    });
    let text = object.to_string();
    schema.decode(text.as_bytes(), Format::Json).expect("it decodes").object
}

/// What the copies of a JSON patch may cost whatever its length, as upstream allows them: the patched tree, its copy that is
/// decoded, and what that becomes.
const COPIES: usize = 3 * (16 << 20);

/// `extra` is the memory that a patch may take beside what its length allows.
fn patch(patch_type: PatchType, data: &[u8], nothing: &str, extra: usize) {
    let schema = schema();
    let object = current(&schema);
    let base = serde_json::to_vec(object.root()).expect("a tree encodes").len();
    // The patch works on the object as well.
    let patched = budget::hold(data.len() + base + extra / budget::MEMORY_PER_BYTE, || patch::apply(patch_type, data, &object, &schema));
    let unchanged = patch::apply(patch_type, nothing.as_bytes(), &object, &schema).expect("a patch of nothing is one");
    assert_eq!(unchanged, object, "a patch of nothing changes something");
    let Ok(patched) = patched else { return };
    let encoded = serde_json::to_vec(patched.root()).expect("a tree encodes");
    let again = schema.decode(&encoded, Format::Json).expect("what a patch makes decodes");
    assert!(again.problems.is_empty(), "{:?}", again.problems);
}

pub fn json_patch(data: &[u8]) {
    patch(PatchType::Json, data, "[]", COPIES);
}

pub fn merge_patch(data: &[u8]) {
    patch(PatchType::Merge, data, "{}", 0);
}

pub fn strategic_patch(data: &[u8]) {
    patch(PatchType::StrategicMerge, data, "{}", 0);
}

/// What is applied twice is applied once.
pub fn apply(data: &[u8]) {
    let schema = schema();
    let (live, manager) = (current(&schema), Manager { name: "fuzz", subresource: "", status_resets: &[] });
    let now = jiff::Timestamp::UNIX_EPOCH;
    let base = serde_json::to_vec(live.root()).expect("a tree encodes").len();
    let applied = budget::hold(data.len() + base, || {
        let decoded = patch::decode_apply(data, &schema)?;
        ownership::apply(Some(&live), &decoded.object, manager, true, &schema, now).map(|applied| (applied, decoded.object))
    });
    let Ok((applied, configuration)) = applied else { return };
    let again = ownership::apply(Some(&applied), &configuration, manager, false, &schema, now).expect("nobody else owns what was applied");
    assert_eq!(again, applied, "applying again changes something");
}

/// Ownership as clients may send it: what is read is written and read again, and an update goes on from it.
pub fn managed_fields(data: &[u8]) {
    let schema = schema();
    let object = current(&schema);
    let Ok(entries) = budget::hold(data.len(), || serde_json::from_slice::<Value>(data)) else { return };
    let mut owned = object.clone();
    owned.set(&["metadata", "managedFields"], entries);
    let base = serde_json::to_vec(owned.root()).expect("a tree encodes").len();
    let Some(read) = budget::hold(base, || ManagedFields::read(&owned)) else { return };
    let mut written = object.clone();
    read.write(&mut written);
    let again = ManagedFields::read(&written).expect("what is written is read");
    let mut rewritten = object.clone();
    again.write(&mut rewritten);
    assert_eq!(rewritten, written, "writing changes what it wrote");
    let mut new = owned.clone();
    new.set(&["spec", "replicas"], 3);
    let manager = Manager { name: "fuzz", subresource: "", status_resets: &[] };
    budget::hold(base, || ownership::track_update(Some(&owned), &mut new, manager, &schema, jiff::Timestamp::UNIX_EPOCH));
    // As much changes as there are entries: what differs is kept once, whatever versions they speak.
    let mut changed = owned;
    let labels: serde_json::Map<String, Value> = (0..data.len() / 32).map(|at| (format!("label{at}"), "x".into())).collect();
    changed.set(&["metadata", "labels"], labels);
    let size = serde_json::to_vec(changed.root()).expect("a tree encodes").len();
    budget::hold(size, || ownership::track_update(None, &mut changed, manager, &schema, jiff::Timestamp::UNIX_EPOCH));
}
