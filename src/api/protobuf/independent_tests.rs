//! The transcoder against an independent implementation: the messages of k8s-pb, made by prost from upstream's `.proto` files.

use k8s_pb::{
    api::{
        admissionregistration::v1 as admissionregistration, apps::v1 as apps, authentication::v1 as authentication,
        authorization::v1 as authorization, autoscaling, batch::v1 as batch, certificates::v1 as certificates,
        certificates::v1beta1 as certificates_beta, coordination::v1 as coordination, core::v1 as core, discovery::v1 as discovery,
        events::v1 as events, flowcontrol::v1 as flowcontrol, networking::v1 as networking, node::v1 as node, policy::v1 as policy, rbac::v1 as rbac,
        resource::v1 as resource, scheduling::v1 as scheduling, storage::v1 as storage,
    },
    apiextensions_apiserver::pkg::apis::apiextensions::v1 as apiextensions,
    apimachinery::pkg::apis::meta::v1 as meta,
    kube_aggregator::pkg::apis::apiregistration::v1 as apiregistration,
};
use prost::Message;
use serde_json::{Value, json};

use super::*;
use crate::schema::{Kind, Node, Struct};

/// Schemas that hold themselves go no deeper than this in samples.
const DEEPEST: usize = 5;

/// A value for every field, none of them its type's zero.
fn sample(node: &Node, depth: usize, counter: &mut i64) -> Value {
    *counter += 1;
    match &node.kind {
        Kind::String => format!("text-{counter}").into(),
        Kind::Bytes => "AAEC/w==".into(),
        Kind::Int32 => (if *counter % 2 == 0 { *counter } else { -*counter }).into(),
        Kind::Int64 => (*counter * 5_000_000_000).into(),
        Kind::Bool => true.into(),
        Kind::Double => 0.25.into(),
        Kind::IntOrString if *counter % 2 == 0 => (*counter).into(),
        Kind::IntOrString => "25%".into(),
        Kind::Quantity => "1500m".into(),
        Kind::Time => "2026-01-02T03:04:05Z".into(),
        Kind::MicroTime => "2026-01-02T03:04:05.678900Z".into(),
        Kind::Duration => "90000000000ns".into(),
        Kind::Any => json!({"type": format!("text-{counter}")}),
        Kind::Struct(definition) => sample_of(definition.get(), depth, counter),
        // Deep down one item is enough: samples would grow without measure.
        Kind::List(item) => (0..if depth < 4 { 2 } else { 1 }).map(|_| sample(item, depth, counter)).collect(),
        Kind::Map(item) => {
            let keys: &[&str] = if depth < 4 { &["b", "a", "a-b"] } else { &["a"] };
            keys.iter().map(|key| ((*key).to_owned(), sample(item, depth, counter))).collect::<serde_json::Map<_, _>>().into()
        }
    }
}

fn sample_of(definition: &Struct, depth: usize, counter: &mut i64) -> Value {
    let mut object = serde_json::Map::new();
    for at in definition.wire_order() {
        let field = &definition.fields()[*at];
        let nests = |mut node: &Node| {
            while let Some(item) = node.element() {
                node = item;
            }
            node.as_struct().is_some_and(|inner| inner.full_name.ends_with("JSONSchemaProps"))
        };
        if depth < DEEPEST || !nests(&field.node) {
            object.insert(field.name.to_string(), sample(&field.node, depth + 1, counter));
        }
    }
    object.into()
}

/// Encodes a full sample, reads it as `M`, and compares what `M` writes; then reads it back as JSON.
fn check<M: Message + Default>(group: &str, version: &str, kind: &str) -> Vec<String> {
    let gvk = GroupVersionKind::new(group, version, kind);
    let schema = Schemas::builtin().get(&gvk).unwrap_or_else(|| panic!("{gvk} is in no table"));
    let tree = sample_of(schema.root_struct(), 0, &mut 0);
    let mut ours = Vec::new();
    object(schema.root_struct(), tree.as_object().expect("an object"), &mut ours);
    let message = M::decode(&ours[..]).unwrap_or_else(|error| panic!("{gvk}: {error}"));
    let theirs = message.encode_to_vec();
    let back = |message: &[u8]| {
        let mut read = to_json(&unknown(&gvk.api_version(), kind, message)).expect("our own form");
        read.as_object_mut().expect("an object").retain(|field, _| field != "kind" && field != "apiVersion");
        read
    };
    assert_eq!(back(&ours), tree, "{gvk} read back");
    if theirs == ours {
        return Vec::new();
    }
    let mut lost = Vec::new();
    differences(&tree, &back(&theirs), gvk.to_string(), &mut lost);
    assert!(!lost.is_empty(), "{gvk}: the same content in another order");
    lost
}

fn differences(ours: &Value, theirs: &Value, path: String, out: &mut Vec<String>) {
    match (ours, theirs) {
        (Value::Object(ours), Value::Object(theirs)) => {
            for (field, value) in ours {
                differences(value, theirs.get(field).unwrap_or(&Value::Null), format!("{path}.{field}"), out);
            }
        }
        (Value::Array(ours), Value::Array(theirs)) if ours.len() == theirs.len() => {
            ours.iter().zip(theirs).for_each(|(ours, theirs)| differences(ours, theirs, format!("{path}[]"), out));
        }
        _ if ours == theirs => {}
        _ => out.push(path),
    }
}

macro_rules! check_all {
    ($($group:literal $version:literal { $($kind:ident: $message:ty),* $(,)? })*) => {{
        let mut lost: Vec<String> = Vec::new();
        $($(lost.extend(check::<$message>($group, $version, stringify!($kind)));)*)*
        lost
    }};
}

#[test]
fn every_field_of_every_stable_kind_is_where_prost_looks_for_it() {
    let mut lost = check_all! {
        "" "v1" {
            Binding: core::Binding, ComponentStatus: core::ComponentStatus, ConfigMap: core::ConfigMap, Endpoints: core::Endpoints,
            Event: core::Event, LimitRange: core::LimitRange, Namespace: core::Namespace, Node: core::Node,
            PersistentVolume: core::PersistentVolume, PersistentVolumeClaim: core::PersistentVolumeClaim, Pod: core::Pod,
            PodTemplate: core::PodTemplate, ReplicationController: core::ReplicationController, ResourceQuota: core::ResourceQuota,
            Secret: core::Secret, Service: core::Service, ServiceAccount: core::ServiceAccount, Status: meta::Status,
        }
        "admissionregistration.k8s.io" "v1" {
            MutatingWebhookConfiguration: admissionregistration::MutatingWebhookConfiguration,
            ValidatingWebhookConfiguration: admissionregistration::ValidatingWebhookConfiguration,
            ValidatingAdmissionPolicy: admissionregistration::ValidatingAdmissionPolicy,
            ValidatingAdmissionPolicyBinding: admissionregistration::ValidatingAdmissionPolicyBinding,
        }
        "apiextensions.k8s.io" "v1" { CustomResourceDefinition: apiextensions::CustomResourceDefinition }
        "apiregistration.k8s.io" "v1" { APIService: apiregistration::APIService }
        "apps" "v1" {
            ControllerRevision: apps::ControllerRevision, DaemonSet: apps::DaemonSet, Deployment: apps::Deployment,
            ReplicaSet: apps::ReplicaSet, StatefulSet: apps::StatefulSet,
        }
        "authentication.k8s.io" "v1" {
            SelfSubjectReview: authentication::SelfSubjectReview, TokenRequest: authentication::TokenRequest, TokenReview: authentication::TokenReview,
        }
        "authorization.k8s.io" "v1" {
            LocalSubjectAccessReview: authorization::LocalSubjectAccessReview, SelfSubjectAccessReview: authorization::SelfSubjectAccessReview,
            SelfSubjectRulesReview: authorization::SelfSubjectRulesReview, SubjectAccessReview: authorization::SubjectAccessReview,
        }
        "autoscaling" "v1" { HorizontalPodAutoscaler: autoscaling::v1::HorizontalPodAutoscaler, Scale: autoscaling::v1::Scale }
        "autoscaling" "v2" { HorizontalPodAutoscaler: autoscaling::v2::HorizontalPodAutoscaler }
        "batch" "v1" { CronJob: batch::CronJob, Job: batch::Job }
        "certificates.k8s.io" "v1" { CertificateSigningRequest: certificates::CertificateSigningRequest }
        "certificates.k8s.io" "v1alpha1" { ClusterTrustBundle: k8s_pb::api::certificates::v1alpha1::ClusterTrustBundle }
        "certificates.k8s.io" "v1beta1" { ClusterTrustBundle: certificates_beta::ClusterTrustBundle, PodCertificateRequest: certificates_beta::PodCertificateRequest }
        "coordination.k8s.io" "v1" { Lease: coordination::Lease }
        "discovery.k8s.io" "v1" { EndpointSlice: discovery::EndpointSlice }
        "events.k8s.io" "v1" { Event: events::Event }
        "flowcontrol.apiserver.k8s.io" "v1" {
            FlowSchema: flowcontrol::FlowSchema, PriorityLevelConfiguration: flowcontrol::PriorityLevelConfiguration,
        }
        "networking.k8s.io" "v1" {
            IPAddress: networking::IPAddress, Ingress: networking::Ingress, IngressClass: networking::IngressClass,
            NetworkPolicy: networking::NetworkPolicy, ServiceCIDR: networking::ServiceCIDR,
        }
        "node.k8s.io" "v1" { RuntimeClass: node::RuntimeClass }
        "policy" "v1" { Eviction: policy::Eviction, PodDisruptionBudget: policy::PodDisruptionBudget }
        "rbac.authorization.k8s.io" "v1" {
            ClusterRole: rbac::ClusterRole, ClusterRoleBinding: rbac::ClusterRoleBinding, Role: rbac::Role, RoleBinding: rbac::RoleBinding,
        }
        "resource.k8s.io" "v1" {
            DeviceClass: resource::DeviceClass, ResourceClaim: resource::ResourceClaim,
            ResourceClaimTemplate: resource::ResourceClaimTemplate, ResourceSlice: resource::ResourceSlice,
        }
        "scheduling.k8s.io" "v1" { PriorityClass: scheduling::PriorityClass }
        "storage.k8s.io" "v1" {
            CSIDriver: storage::CSIDriver, CSINode: storage::CSINode, CSIStorageCapacity: storage::CSIStorageCapacity,
            StorageClass: storage::StorageClass, VolumeAttachment: storage::VolumeAttachment, VolumeAttributesClass: storage::VolumeAttributesClass,
        }
    };
    // What is newer than the other implementation.
    lost.retain(|path| !NEWER.iter().any(|(inside, field)| path.contains(inside) && path.ends_with(field)));
    assert_eq!(lost, Vec::<String>::new());
}

/// Fields that k8s-pb does not have yet, by a part of their path and its end.
const NEWER: [(&str, &str); 12] = [
    ("", ".shardInfo"),
    ("", ".schedulingGroup"),
    ("", ".nodeAllocatableResourceClaimStatuses"),
    ("", ".resources[].message"),
    (".volumeMounts[]", ".volumeStatus"),
    (".devices[]", ".nodeAllocatableResourceMappings"),
    (".attributes.", ".bools"),
    (".attributes.", ".ints"),
    (".attributes.", ".strings"),
    (".attributes.", ".versions"),
    ("", ".preventPodSchedulingIfMissing"),
    ("", ".stubPKCS10Request"),
];

#[test]
fn a_pod_that_prost_wrote_reads_as_its_json() {
    let port = |number| k8s_pb::apimachinery::pkg::util::intstr::IntOrString { r#type: Some(0), int_val: Some(number), str_val: Some(String::new()) };
    let get = core::HttpGetAction { path: Some("/".into()), port: Some(port(80)), ..Default::default() };
    let probe = core::Probe { handler: Some(core::ProbeHandler { http_get: Some(get), ..Default::default() }), ..Default::default() };
    let container = core::Container { name: Some("c".into()), readiness_probe: Some(probe), ..Default::default() };
    let spec = core::PodSpec { containers: vec![container], host_network: Some(false), active_deadline_seconds: Some(0), ..Default::default() };
    let metadata = meta::ObjectMeta { name: Some("p".into()), generation: Some(0), ..Default::default() };
    let pod = core::Pod { metadata: Some(metadata), spec: Some(spec), status: None };
    let read = to_json(&unknown("v1", "Pod", &pod.encode_to_vec())).expect("well formed");
    let want = json!({
        "kind": "Pod", "apiVersion": "v1", "metadata": {"name": "p"},
        "spec": {"activeDeadlineSeconds": 0, "containers": [{"name": "c", "readinessProbe": {"httpGet": {"path": "/", "port": 80}}}]},
    });
    assert_eq!(read, want);
}

#[test]
fn zero_values_stand_on_the_wire_as_go_writes_them() {
    let tree = json!({"kind": "Pod", "apiVersion": "v1", "metadata": {"name": "p"}, "spec": {"containers": [{"name": "c"}]}});
    let bytes = document(&tree).expect("a built-in kind");
    let raw = k8s_pb::apimachinery::pkg::runtime::Unknown::decode(&bytes[4..]).expect("an envelope");
    assert_eq!((raw.content_encoding.as_deref(), raw.content_type.as_deref()), (Some(""), Some("")));
    assert_eq!(raw.type_meta.expect("named").kind.as_deref(), Some("Pod"));
    let pod = core::Pod::decode(&raw.raw.expect("content")[..]).expect("a pod");
    let metadata = pod.metadata.expect("always there");
    assert_eq!((metadata.namespace.as_deref(), metadata.generation), (Some(""), Some(0)));
    let created = metadata.creation_timestamp.expect("no pointer");
    assert_eq!((created.seconds, created.nanos, metadata.deletion_timestamp), (None, None, None));
    let spec = pod.spec.expect("always there");
    assert_eq!((spec.host_network, spec.active_deadline_seconds, spec.priority), (Some(false), None, None));
    assert_eq!(spec.containers[0].image.as_deref(), Some(""));
    assert!(pod.status.is_some(), "a struct that is no pointer");
}

#[test]
fn lists_and_events_are_read_by_prost() {
    let (mut meta_bytes, mut body) = (Vec::new(), Vec::new());
    list_meta(&json!({"resourceVersion": "7", "continue": "c", "remainingItemCount": 3}), &mut meta_bytes);
    let mut item = Vec::new();
    partial(&json!({"name": "a", "labels": {"b": "2", "a": "1"}}), &mut item);
    let mut items = Vec::new();
    item_head(item.len(), &mut items);
    items.extend_from_slice(&item);
    assert_eq!(items.len(), item_size(item.len()));
    body.extend(unknown_head("meta.k8s.io/v1", "PartialObjectMetadataList", meta_bytes.len() + items.len()));
    body.extend_from_slice(&meta_bytes);
    body.extend_from_slice(&items);
    body.extend_from_slice(UNKNOWN_TAIL);
    let envelope = k8s_pb::apimachinery::pkg::runtime::Unknown::decode(&body[4..]).expect("an envelope");
    let list = meta::PartialObjectMetadataList::decode(&envelope.raw.expect("content")[..]).expect("a list");
    let metadata = list.metadata.expect("metadata");
    assert_eq!((metadata.resource_version.as_deref(), metadata.remaining_item_count), (Some("7"), Some(3)));
    assert_eq!(list.items[0].metadata.as_ref().expect("metadata").labels["b"], "2");
    let frame = watch_event("ADDED", &body);
    assert_eq!(frame[..4], u32::try_from(frame.len() - 4).expect("short").to_be_bytes());
    let event = meta::WatchEvent::decode(&frame[4..]).expect("an event");
    assert_eq!((event.r#type.as_deref(), event.object.expect("an object").raw.as_deref()), (Some("ADDED"), Some(&body[..])));
}
