//! Pods.

mod claim_status;
mod columns;
mod defaulting;
mod ephemeral;
mod label_keys;
mod resize;
mod status_update;
mod summary;
#[cfg(test)]
mod tests;
mod update;
#[cfg(test)]
mod update_tests;
mod validation;

use serde_json::Value;

pub use defaulting::qos_class;
pub use summary::Summary;

use super::{keep_status, pod_spec::mirror_service_account, take_status};
use crate::{
    meta::{Clock, Object},
    resources::{Column, Strategy, WriteContext, validation::warnings},
    status::FieldError,
};

/// The rules of pods.
#[derive(Default)]
pub struct Pod;

impl Strategy for Pod {
    fn default_object(&self, object: &mut Object) {
        defaulting::default_pod(object);
    }

    fn prepare_create(&self, object: &mut Object, context: &WriteContext<'_>) {
        mirror_service_account(object.map_mut(&["spec"]));
        label_keys::merge(object);
        let status = defaulting::initial_status(object, context.clock.now());
        object.set(&["status"], status);
    }

    fn status_resets(&self) -> &'static [&'static [&'static str]] {
        &[&["f:metadata", "f:ownerReferences"]]
    }

    fn prepare_update(&self, new: &mut Object, old: &Object, context: &WriteContext<'_>) {
        match context.subresource {
            "status" => {
                take_status(new, old);
                update::keep_kubelet_facts(new, old);
            }
            "ephemeralcontainers" => ephemeral::keep_all_but_ephemeral_containers(new, old),
            "resize" => resize::keep_all_but_resources(new, old),
            _ => keep_status(new, old),
        }
    }

    fn validate_create(&self, object: &Object) -> Vec<FieldError> {
        validation::create(object)
    }

    fn validate_update(&self, new: &Object, old: &Object, subresource: &str) -> Vec<FieldError> {
        match subresource {
            "status" => status_update::validate_status(new, old),
            "ephemeralcontainers" => ephemeral::validate_ephemeral_containers(new, old),
            "resize" => resize::validate_resize(new, old),
            "" => update::validate(new, old),
            _ => Vec::new(),
        }
    }

    fn graceful_deletion(&self, object: &Object, requested: Option<i64>) -> Option<i64> {
        let finished = matches!(object.str(&["status", "phase"]), "Failed" | "Succeeded");
        if finished || object.str(&["spec", "nodeName"]).is_empty() {
            return Some(0);
        }
        let period = requested.or_else(|| object.int(&["spec", "terminationGracePeriodSeconds"])).unwrap_or(0);
        Some(if period < 0 { 1 } else { period })
    }

    fn selectable_paths(&self) -> &'static [&'static str] {
        &[
            "spec.nodeName",
            "spec.restartPolicy",
            "spec.schedulerName",
            "spec.serviceAccountName",
            "spec.hostNetwork",
            "status.phase",
            "status.podIP",
            "status.nominatedNodeName",
        ]
    }

    fn selectable_field(&self, object: &Object, path: &str) -> Option<String> {
        match path {
            "spec.hostNetwork" => Some(defaulting::on_host_network(object).to_string()),
            "status.podIP" => {
                let first = object.list(&["status", "podIPs"]).first().and_then(|ip| ip.get("ip")?.as_str());
                Some(first.unwrap_or_else(|| object.str(&["status", "podIP"])).to_owned())
            }
            _ => super::text_field(self, object, path),
        }
    }

    fn warnings_on_create(&self, object: &Object) -> Vec<String> {
        warnings::pod_name(object, "the Pod's hostname")
    }

    fn status_warnings(&self, object: &Object) -> Vec<String> {
        warnings::pod_status(object)
    }

    fn columns(&self) -> Vec<Column> {
        columns::columns()
    }

    fn cells(&self, object: &Object, clock: &dyn Clock) -> Vec<Value> {
        columns::cells(object, clock)
    }
}
