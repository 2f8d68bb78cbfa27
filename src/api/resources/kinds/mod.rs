//! The strategies of built-in kinds, one file a kind (or a family of small kinds).

mod admission;
mod api_service;
mod autoscaler_v1;
mod autoscaling;
mod batch;
mod certificates;
mod component_status;
mod config;
mod coordination;
mod csi;
mod daemon_set;
mod definition;
mod deployment;
mod device_taint_rule;
mod devices;
mod disruption;
mod endpoint_slice;
mod endpoints;
mod event;
mod extensions;
mod flow_control;
mod ingress;
mod limits;
mod namespace;
mod network_policy;
mod node;
mod pod;
mod pod_certificates;
mod pod_spec;
mod pod_template;
#[cfg(test)]
mod prepare_tests;
mod priority_class;
mod rbac;
mod replica_set;
mod replication_controller;
mod resource_pool_status;
mod resource_slice;
mod scheduling;
mod service;
mod service_account;
mod stateful_set;
mod storage;
mod storage_migration;
#[cfg(test)]
mod tests;
mod trust_bundle;
mod usage_metrics;
mod volume;

use serde_json::{Value, json};

pub use admission::{AdmissionBinding, AdmissionPolicy, WebhookConfiguration};
pub use api_service::ApiService;
pub use autoscaling::HorizontalPodAutoscaler;
pub use batch::{CronJob, Job};
pub use certificates::CertificateSigningRequest;
pub use component_status::ComponentStatus;
pub use config::{ConfigMap, Secret};
pub use coordination::{Lease, LeaseCandidate};
pub use csi::{CsiDriver, CsiNode, CsiStorageCapacity};
pub use daemon_set::DaemonSet;
pub use definition::{CLEANUP_FINALIZER, CustomResourceDefinition};
pub use deployment::Deployment;
pub use device_taint_rule::DeviceTaintRule;
pub use devices::{DeviceClass, ResourceClaim, ResourceClaimTemplate};
pub use disruption::PodDisruptionBudget;
pub use endpoint_slice::EndpointSlice;
pub use endpoints::Endpoints;
pub use event::{Event, strict_event};
pub use extensions::{ControllerRevision, RuntimeClass};
pub use flow_control::{FlowSchema, PriorityLevel};
pub use ingress::{Ingress, IngressClass, IpAddress, ServiceCidr};
pub use limits::{LimitRange, ResourceQuota};
pub use namespace::Namespace;
pub use network_policy::NetworkPolicy;
pub use node::Node;
pub use pod::{Pod, Summary, qos_class};
pub use pod_certificates::PodCertificateRequest;
pub use pod_spec::default_pod_spec;
pub use pod_template::PodTemplate;
pub use priority_class::PriorityClass;
pub use rbac::{Binding, Role};
pub use replica_set::ReplicaSet;
pub use replication_controller::ReplicationController;
pub use resource_pool_status::ResourcePoolStatusRequest;
pub use resource_slice::ResourceSlice;
pub use scheduling::{PodGroup, Workload};
pub use service::Service;
pub use service_account::ServiceAccount;
pub use stateful_set::StatefulSet;
pub use storage::{StorageClass, VolumeAttachment, VolumeAttributesClass};
pub use storage_migration::StorageVersionMigration;
pub use trust_bundle::ClusterTrustBundle;
pub use usage_metrics::UsageMetrics;
pub use volume::{PersistentVolume, PersistentVolumeClaim};

use super::{
    Column, ColumnType, Strategy, WriteContext,
    printing::{name, string},
};
use crate::meta::{Clock, Object};

/// A kind without status, generation, printer or other rules.
#[derive(Default)]
pub struct Bare;

impl Strategy for Bare {
    fn has_generation(&self) -> bool {
        false
    }

    fn columns(&self) -> Vec<Column> {
        created_at_columns()
    }

    fn cells(&self, object: &Object, _clock: &dyn Clock) -> Vec<Value> {
        created_at_cells(object)
    }
}

/// The columns of built-in kinds without printer.
fn created_at_columns() -> Vec<Column> {
    let created = Column { kind: ColumnType::Date, ..string("Created At", "The time when this object was created.") };
    vec![name(), created]
}

fn created_at_cells(object: &Object) -> Vec<Value> {
    vec![object.name().into(), object.str(&["metadata", "creationTimestamp"]).into()]
}

/// On create: an empty status.
fn empty_status(object: &mut Object) {
    object.set(&["status"], json!({}));
}

/// On a main update: the status stays as it was.
fn keep_status(new: &mut Object, old: &Object) {
    restore(new, old, &["status"]);
}

/// On a status update: all but metadata and status stays as it was.
fn take_status(new: &mut Object, old: &Object) {
    let (metadata, status) = (new.remove(&["metadata"]), new.remove(&["status"]));
    *new = old.clone();
    for (field, value) in [("metadata", metadata), ("status", status)] {
        match value {
            Some(value) => new.set(&[field], value),
            None => drop(new.remove(&[field])),
        }
    }
}

/// The usual update: `status` writes status and metadata, the main resource everything else.
fn split_update(new: &mut Object, old: &Object, context: &WriteContext<'_>) {
    match context.subresource {
        "status" => take_status(new, old),
        _ => keep_status(new, old),
    }
}

/// The update of stricter kinds: `status` writes of metadata only what is not kept from it.
fn split_update_strictly(new: &mut Object, old: &Object, context: &WriteContext<'_>) {
    split_update(new, old, context);
    if context.subresource == "status" {
        reset_metadata(new, old);
    }
}

/// What a status update of stricter kinds may not touch in metadata.
fn reset_metadata(new: &mut Object, old: &Object) {
    for field in ["deletionTimestamp", "generation", "labels", "annotations", "finalizers", "ownerReferences"] {
        restore(new, old, &["metadata", field]);
    }
}

/// Puts the value at a path back to what it was.
fn restore(new: &mut Object, old: &Object, path: &[&str]) {
    match old.get(path) {
        Some(value) => new.set(path, value.clone()),
        None => drop(new.remove(path)),
    }
}

/// The value of a selectable field that is the text at its own path.
fn text_field(strategy: &dyn Strategy, object: &Object, path: &str) -> Option<String> {
    if !strategy.selectable_paths().contains(&path) {
        return None;
    }
    let segments: Vec<&str> = path.split('.').collect();
    Some(match object.get(&segments) {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Null) | None => String::new(),
        Some(other) => other.to_string(),
    })
}

/// The value of a selectable field that is a number, 0 where missing.
fn number_field(object: &Object, path: &[&str]) -> Option<String> {
    Some(object.int(path).unwrap_or(0).to_string())
}

/// The pod spec of a workload's template.
fn template_spec(spec: &Value) -> &Value {
    super::tree::at(spec, &["template", "spec"])
}
