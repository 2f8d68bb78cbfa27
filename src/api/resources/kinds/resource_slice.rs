//! Slices of what drivers of devices offer (resource.k8s.io).

use serde_json::Value;

use crate::{
    meta::{Clock, Object, time::format_time},
    resources::{
        Column, Strategy, WriteContext,
        printing::{age, name, non_empty, string},
        resource::age_of,
        tree::{Fields, child, each, fill},
        validation::devices,
    },
    status::FieldError,
};

/// Attributes with more than one value: of a feature that is off.
const LISTS: [&str; 4] = ["bools", "ints", "strings", "versions"];
/// A field of another.
const MAPPINGS: &str = "nodeAllocatableResourceMappings";

/// The rules of resource slices.
#[derive(Default)]
pub struct ResourceSlice;

impl Strategy for ResourceSlice {
    fn default_object(&self, object: &mut Object) {
        each(object.map_mut(&["spec"]), "devices", |device| {
            let Some(mappings) = child(device, "nodeAllocatableResourceMappings") else { return };
            for mapping in mappings.values_mut().filter_map(Value::as_object_mut) {
                fill(mapping, "allocationMultiplier", "1");
            }
        });
    }

    fn prepare_create(&self, object: &mut Object, context: &WriteContext<'_>) {
        prepare(object, None, context.clock);
    }

    fn prepare_update(&self, new: &mut Object, old: &Object, context: &WriteContext<'_>) {
        prepare(new, Some(old), context.clock);
    }

    fn validate_create(&self, object: &Object) -> Vec<FieldError> {
        devices::slice(object)
    }

    fn validate_update(&self, new: &Object, old: &Object, _subresource: &str) -> Vec<FieldError> {
        devices::slice_update(new, old)
    }

    fn warnings(&self, object: &Object) -> Vec<String> {
        let driver = object.str(&["spec", "driver"]);
        let is_lower = driver == driver.to_lowercase();
        let warning = || format!("spec.driver: driver names should be lowercase; {driver:?} contains uppercase characters");
        (!is_lower).then(warning).into_iter().collect()
    }

    fn selectable_paths(&self) -> &'static [&'static str] {
        &["spec.nodeName", "spec.driver"]
    }

    fn selectable_field(&self, object: &Object, path: &str) -> Option<String> {
        super::text_field(self, object, path)
    }

    fn columns(&self) -> Vec<Column> {
        vec![
            name(),
            string("Node", "The node that the devices are on."),
            string("Driver", "The driver that offers the devices."),
            string("Pool", "The pool that the slice is a part of."),
            age(),
        ]
    }

    fn cells(&self, object: &Object, clock: &dyn Clock) -> Vec<Value> {
        vec![
            object.name().into(),
            non_empty(object.str(&["spec", "nodeName"]), "<unset>").into(),
            object.str(&["spec", "driver"]).into(),
            object.str(&["spec", "pool", "name"]).into(),
            age_of(object, clock).into(),
        ]
    }
}

/// Notes when taints came, and drops fields of features that are off unless the slice has them already.
fn prepare(new: &mut Object, old: Option<&Object>, clock: &dyn Clock) {
    let in_use = |has: fn(&Value) -> bool| old.is_some_and(|old| old.list(&["spec", "devices"]).iter().any(has));
    let (keeps_lists, keeps_mappings) = (in_use(has_lists), in_use(has_mappings));
    let now = format_time(clock.now());
    each(new.map_mut(&["spec"]), "devices", |device| {
        each(device, "taints", |taint| fill(taint, "timeAdded", now.as_str()));
        if !keeps_mappings {
            device.remove(MAPPINGS);
        }
        if !keeps_lists {
            drop_lists(device);
        }
    });
}

fn has_mappings(device: &Value) -> bool {
    device.get(MAPPINGS).and_then(Value::as_object).is_some_and(|mappings| !mappings.is_empty())
}

fn has_lists(device: &Value) -> bool {
    let mut attributes = device.get("attributes").and_then(Value::as_object).into_iter().flatten();
    attributes.any(|(_, attribute)| LISTS.iter().any(|list| attribute.get(list).is_some()))
}

fn drop_lists(device: &mut Fields) {
    let attributes = child(device, "attributes").into_iter().flat_map(|attributes| attributes.values_mut());
    for attribute in attributes.filter_map(Value::as_object_mut) {
        LISTS.iter().for_each(|list| drop(attribute.remove(*list)));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::resources::kinds::tests::FixedClock;

    fn slice(device: Value) -> Object {
        Object::from_value(json!({"spec": {"devices": [device]}})).expect("an object")
    }

    #[test]
    fn fields_of_features_that_are_off_go_unless_they_stand_already() {
        let device = json!({
            "name": "d", "attributes": {"a": {"ints": [1], "int": 2}}, "nodeAllocatableResourceMappings": {"cpu": {"allocationMultiplier": "1"}},
        });
        let mut new = slice(device.clone());
        prepare(&mut new, None, &FixedClock);
        assert_eq!(new, slice(json!({"name": "d", "attributes": {"a": {"int": 2}}})));
        let mut kept = slice(device.clone());
        prepare(&mut kept, Some(&slice(device.clone())), &FixedClock);
        assert_eq!(kept, slice(device));
    }

    #[test]
    fn a_taint_knows_since_when_it_is_there() {
        let mut new = slice(json!({"taints": [{"key": "a"}, {"key": "b", "timeAdded": "2025-01-01T00:00:00Z"}]}));
        prepare(&mut new, None, &FixedClock);
        let taints = json!([{"key": "a", "timeAdded": "2026-01-01T01:00:00Z"}, {"key": "b", "timeAdded": "2025-01-01T00:00:00Z"}]);
        assert_eq!(new, slice(json!({"taints": taints})));
    }
}
