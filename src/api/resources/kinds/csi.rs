//! What CSI drivers are, where they run, and how much room they have (storage.k8s.io).

use serde_json::{Value, json};

use super::{Bare, created_at_cells, created_at_columns};
use crate::{
    meta::{Clock, Object},
    resources::{
        Column, Gated, Strategy, WriteContext,
        printing::{age, boolean, integer, name, or_none, string},
        resource::age_of,
        tree::{Fields, at, child, fill, text},
        validation::{storage, warnings::node_labels},
    },
    status::FieldError,
};

const TOKENS_IN_ATTRIBUTES: &str = "spec.serviceAccountTokenInSecrets is unset; if supported by this CSI driver, set to true to prevent possible logging of tokens in volume attributes";
/// Nodes without a driver get no pods with volumes of its.
const SCALING: &str = "VolumeLimitScaling";
const PREVENT_SCHEDULING: &str = "preventPodSchedulingIfMissing";
static OF_SCALING: [Gated; 1] = [Gated { feature: SCALING, is_used: prevents_scheduling, drop: drop_prevention }];

fn prevents_scheduling(driver: &Fields) -> bool {
    driver.get("spec").is_some_and(|spec| !at(spec, &[PREVENT_SCHEDULING]).is_null())
}

fn drop_prevention(driver: &mut Fields) {
    if let Some(spec) = child(driver, "spec") {
        spec.remove(PREVENT_SCHEDULING);
    }
}

/// The rules of CSI drivers.
#[derive(Default)]
pub struct CsiDriver;

impl Strategy for CsiDriver {
    fn default_object(&self, object: &mut Object) {
        let spec = object.map_mut(&["spec"]);
        fill(spec, "attachRequired", true);
        fill(spec, "podInfoOnMount", false);
        fill(spec, "storageCapacity", false);
        spec.entry("fsGroupPolicy").or_insert_with(|| "ReadWriteOnceWithFSType".into());
        fill(spec, "requiresRepublish", false);
        fill(spec, "seLinuxMount", false);
        if spec.get("volumeLifecycleModes").and_then(Value::as_array).is_none_or(Vec::is_empty) {
            spec.insert("volumeLifecycleModes".into(), json!(["Persistent"]));
        }
    }

    fn gated(&self) -> &'static [Gated] {
        &OF_SCALING
    }

    fn default_enabled(&self, object: &mut Object, is_on: &dyn Fn(&str) -> bool) {
        if is_on(SCALING) {
            fill(object.map_mut(&["spec"]), PREVENT_SCHEDULING, false);
        }
    }

    /// As upstream: counted from the first change on.
    fn prepare_create(&self, object: &mut Object, _context: &WriteContext<'_>) {
        object.remove(&["metadata", "generation"]);
    }

    fn prepare_update(&self, _new: &mut Object, _old: &Object, _context: &WriteContext<'_>) {}

    fn has_generation(&self) -> bool {
        true
    }

    fn allow_unconditional_update(&self) -> bool {
        false
    }

    fn validate_create(&self, object: &Object) -> Vec<FieldError> {
        storage::driver(object)
    }

    fn validate_update(&self, new: &Object, old: &Object, _subresource: &str) -> Vec<FieldError> {
        storage::driver_update(new, old)
    }

    fn warnings(&self, object: &Object) -> Vec<String> {
        let tells = !object.list(&["spec", "tokenRequests"]).is_empty() && object.get(&["spec", "serviceAccountTokenInSecrets"]).is_none();
        tells.then(|| TOKENS_IN_ATTRIBUTES.to_owned()).into_iter().collect()
    }

    fn columns(&self) -> Vec<Column> {
        vec![
            name(),
            boolean("AttachRequired", "Whether volumes must be attached before they are mounted."),
            boolean("PodInfoOnMount", "Whether the driver is told about the pod."),
            boolean("StorageCapacity", "Whether the driver publishes its capacity."),
            string("TokenRequests", "The audiences of tokens that the driver asks for."),
            boolean("RequiresRepublish", "Whether the driver wants periodic calls for mounted volumes."),
            string("Modes", "The kinds of volumes that the driver supports."),
            age(),
        ]
    }

    fn cells(&self, object: &Object, clock: &dyn Clock) -> Vec<Value> {
        let flag = |field: &str| Value::from(object.get(&["spec", field]).and_then(Value::as_bool).unwrap_or(false));
        let audiences = object.list(&["spec", "tokenRequests"]).iter().map(|request| text(request, &["audience"]));
        let tokens = match object.get(&["spec", "tokenRequests"]) {
            Some(Value::Array(_)) => audiences.collect::<Vec<_>>().join(","),
            _ => "<unset>".to_owned(),
        };
        let modes = object.list(&["spec", "volumeLifecycleModes"]).iter().filter_map(Value::as_str).collect::<Vec<_>>();
        vec![
            object.name().into(),
            object.get(&["spec", "attachRequired"]).and_then(Value::as_bool).unwrap_or(true).into(),
            flag("podInfoOnMount"),
            flag("storageCapacity"),
            tokens.into(),
            flag("requiresRepublish"),
            or_none(modes.join(",")).into(),
            age_of(object, clock).into(),
        ]
    }
}

/// The rules of CSI nodes.
#[derive(Default)]
pub struct CsiNode;

impl Strategy for CsiNode {
    fn default_object(&self, object: &mut Object) {
        object.map_mut(&["spec"]).entry("drivers").or_insert(Value::Null);
    }

    fn has_generation(&self) -> bool {
        false
    }

    fn allow_unconditional_update(&self) -> bool {
        false
    }

    fn validate_create(&self, object: &Object) -> Vec<FieldError> {
        storage::node(object)
    }

    fn validate_update(&self, new: &Object, old: &Object, _subresource: &str) -> Vec<FieldError> {
        storage::node_update(new, old)
    }

    fn columns(&self) -> Vec<Column> {
        vec![name(), integer("Drivers", "Drivers indicates the number of CSI drivers registered on the node"), age()]
    }

    fn cells(&self, object: &Object, clock: &dyn Clock) -> Vec<Value> {
        vec![object.name().into(), object.list(&["spec", "drivers"]).len().into(), age_of(object, clock).into()]
    }
}

/// The rules of CSI storage capacities.
#[derive(Default)]
pub struct CsiStorageCapacity;

impl Strategy for CsiStorageCapacity {
    fn has_generation(&self) -> bool {
        Bare.has_generation()
    }

    fn allow_unconditional_update(&self) -> bool {
        false
    }

    fn validate_create(&self, object: &Object) -> Vec<FieldError> {
        storage::capacity(object)
    }

    fn validate_update(&self, new: &Object, old: &Object, _subresource: &str) -> Vec<FieldError> {
        storage::capacity_update(new, old)
    }

    fn warnings(&self, object: &Object) -> Vec<String> {
        node_labels::warn_of_selector(object.get(&["nodeTopology"]).unwrap_or(&Value::Null), "nodeTopology")
    }

    fn columns(&self) -> Vec<Column> {
        created_at_columns()
    }

    fn cells(&self, object: &Object, _clock: &dyn Clock) -> Vec<Value> {
        created_at_cells(object)
    }
}
