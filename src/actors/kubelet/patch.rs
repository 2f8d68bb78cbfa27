//! Strategic merge patches of what the kubelet reports.

use serde_json::{Map, Value, json};

/// Has the list at `name`, where the patch has one, take the place of the old one instead of being merged into it by its merge key
/// (`$patch: replace`, as upstream's kubelet sends it for the addresses of its node).
pub fn replace_list(fields: &mut Map<String, Value>, name: &str) {
    if let Some(items) = fields.get_mut(name).and_then(Value::as_array_mut) {
        items.insert(0, json!({"$patch": "replace"}));
    }
}

/// What the API server makes of an object and a patch.
#[cfg(test)]
pub fn merged(object: Value, patch: &Value) -> Value {
    use troupe_api::{
        meta::{GroupVersionKind, Object},
        patch::apply,
        schema::Schemas,
        service::PatchType,
    };
    let kind = object["kind"].as_str().expect("a kind");
    let schema = Schemas::builtin().get(&GroupVersionKind::new("", "v1", kind)).expect("a built-in kind");
    let object = Object::from_value(object).expect("an object");
    apply(PatchType::StrategicMerge, patch.to_string().as_bytes(), &object, &schema).expect("applies").into_value()
}
