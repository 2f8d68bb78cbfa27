//! Descriptions of definitions and fields, from the schemas that k8s-openapi's types carry.

use std::{collections::HashMap, sync::LazyLock};

use k8s_openapi::{
    api,
    apiextensions_apiserver::pkg::apis::apiextensions,
    apimachinery::pkg::{apis::meta, version},
    kube_aggregator::pkg::apis::apiregistration,
};
use schemars::{JsonSchema, SchemaGenerator, generate::SchemaSettings};
use serde_json::{Value, json};
use troupe_api::{meta::GroupVersion, resources::Resource};

/// What the definitions of a group and version say about themselves, by full name.
pub struct Descriptions {
    definitions: HashMap<String, Documented>,
}

/// The texts of one definition.
pub struct Documented {
    pub description: String,
    pub fields: HashMap<String, String>,
}

impl Descriptions {
    pub fn of(group_version: &GroupVersion) -> Self {
        let mut generator = SchemaSettings::draft2020_12().into_generator();
        common(&mut generator);
        add_roots(&group_version.to_string(), &mut generator);
        let definitions = generator.take_definitions(false);
        let mut definitions: HashMap<_, _> = definitions.into_iter().map(|(name, schema)| (name, documented(&schema))).collect();
        if let Some(event) = definitions.get_mut(WATCH_EVENT) {
            tell_of_object(event);
        }
        if group_version.to_string() == "metrics.k8s.io/v1beta1" {
            definitions.extend(usage_metrics());
        }
        Descriptions { definitions }
    }

    pub fn get(&self, full_name: &str) -> Option<&Documented> {
        self.definitions.get(full_name)
    }
}

/// The text of a field that every object has: `apiVersion`, `kind`, `metadata`.
pub fn of_every_object(field: &str) -> &'static str {
    static EVERY: LazyLock<Option<Documented>> = LazyLock::new(|| alone::<api::core::v1::ConfigMap>("io.k8s.api.core.v1.ConfigMap"));
    of_field(&EVERY, field)
}

/// The text of a field of the options of deletions.
pub fn of_deletion(field: &str) -> &'static str {
    static OPTIONS: LazyLock<Option<Documented>> =
        LazyLock::new(|| alone::<meta::v1::DeleteOptions>("io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions"));
    of_field(&OPTIONS, field)
}

fn of_field(documented: &'static LazyLock<Option<Documented>>, field: &str) -> &'static str {
    documented.as_ref().and_then(|documented| documented.fields.get(field)).map_or("", String::as_str)
}

/// What a type says of itself.
fn alone<T: JsonSchema>(name: &str) -> Option<Documented> {
    let mut generator = SchemaSettings::draft2020_12().into_generator();
    root::<T>(&mut generator);
    generator.take_definitions(false).get(name).map(documented)
}

const WATCH_EVENT: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.WatchEvent";

/// The type says of events in its second paragraph what their object is.
fn tell_of_object(event: &mut Documented) {
    if let Some((whole, object)) = event.description.split_once("\n\n") {
        let (whole, object) = (whole.to_owned(), object.trim_end().to_owned());
        event.fields.insert("object".to_owned(), object);
        event.description = whole;
    }
}

const CONVENTIONS: &str = "https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md";

/// Says of the definition of a resource's lists what it holds: there are no types for lists that would.
pub fn describe_list(list: &mut Value, row: &Resource, kind: &str) {
    list["description"] = format!("{} is a list of {kind}", row.list_kind()).into();
    let Some(properties) = list["properties"].as_object_mut() else { return };
    for field in ["apiVersion", "kind"] {
        if let Some(property) = properties.get_mut(field) {
            property["description"] = of_every_object(field).into();
        }
    }
    if let Some(metadata) = properties.get_mut("metadata") {
        if metadata.get("allOf").is_none() {
            *metadata = json!({"allOf": [metadata.take()]});
        }
        metadata["description"] = format!("Standard list metadata. More info: {CONVENTIONS}#types-kinds").into();
    }
    if let Some(items) = properties.get_mut("items") {
        items["description"] = format!("List of {}. More info: {CONVENTIONS}", row.plural).into();
    }
}

/// The kinds of `metrics.k8s.io`, for which there are no types.
fn usage_metrics() -> impl Iterator<Item = (String, Documented)> {
    const SPAN: [(&str, &str); 2] =
        [("timestamp", "When the measurement ended: what is said was used in the window before."), ("window", "How long the measurement took.")];
    const CONTAINER: &[(&str, &str)] =
        &[("name", "The name of the container in the pod's spec."), ("usage", "What it used: of memory the working set.")];
    const NODE: &[(&str, &str)] = &[SPAN[0], SPAN[1], ("usage", "What it used: of memory the working set.")];
    const POD: &[(&str, &str)] = &[SPAN[0], SPAN[1], ("containers", "What each container used in the same window.")];
    let all = [
        ("ContainerMetrics", "ContainerMetrics is what a container uses.", CONTAINER),
        ("NodeMetrics", "NodeMetrics is what a node uses.", NODE),
        ("PodMetrics", "PodMetrics is what a pod uses.", POD),
    ];
    all.into_iter().map(|(name, description, fields)| {
        let fields = fields.iter().map(|(field, text)| ((*field).to_owned(), (*text).to_owned())).collect();
        (format!("io.k8s.metrics.pkg.apis.metrics.v1beta1.{name}"), Documented { description: description.to_owned(), fields })
    })
}

fn documented(schema: &Value) -> Documented {
    let description = |value: &Value| value["description"].as_str().map(str::to_owned);
    let fields = schema["properties"].as_object().into_iter().flatten();
    Documented {
        description: description(schema).unwrap_or_default(),
        fields: fields.filter_map(|(name, value)| Some((name.clone(), description(value)?))).collect(),
    }
}

fn root<T: JsonSchema>(generator: &mut SchemaGenerator) {
    generator.subschema_for::<T>();
}

/// Types that every document holds.
fn common(generator: &mut SchemaGenerator) {
    root::<meta::v1::APIGroupList>(generator);
    root::<meta::v1::APIResourceList>(generator);
    root::<meta::v1::APIVersions>(generator);
    root::<meta::v1::DeleteOptions>(generator);
    root::<meta::v1::ListMeta>(generator);
    root::<meta::v1::Patch>(generator);
    root::<meta::v1::Status>(generator);
    root::<meta::v1::WatchEvent<()>>(generator);
    root::<version::Info>(generator);
    root::<api::autoscaling::v1::Scale>(generator);
    root::<api::policy::v1::Eviction>(generator);
    root::<api::authentication::v1::TokenRequest>(generator);
}

macro_rules! roots {
    ($($group_version:literal: $($module:ident)::+ { $($kind:ident),+ $(,)? })+) => {
        /// The root kinds of a group and version.
        fn add_roots(group_version: &str, generator: &mut SchemaGenerator) {
            match group_version {
                $($group_version => {
                    use $($module)::+ as package;
                    $(root::<package::$kind>(generator);)+
                })+
                _ => {}
            }
        }
    };
}

roots! {
    "admissionregistration.k8s.io/v1": api::admissionregistration::v1 { MutatingAdmissionPolicy, MutatingAdmissionPolicyBinding, MutatingWebhookConfiguration, ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding, ValidatingWebhookConfiguration }
    "admissionregistration.k8s.io/v1alpha1": api::admissionregistration::v1alpha1 { MutatingAdmissionPolicy, MutatingAdmissionPolicyBinding }
    "admissionregistration.k8s.io/v1beta1": api::admissionregistration::v1beta1 { MutatingAdmissionPolicy, MutatingAdmissionPolicyBinding }
    "internal.apiserver.k8s.io/v1alpha1": api::apiserverinternal::v1alpha1 { StorageVersion }
    "apps/v1": api::apps::v1 { ControllerRevision, DaemonSet, Deployment, ReplicaSet, StatefulSet }
    "authentication.k8s.io/v1": api::authentication::v1 { SelfSubjectReview, TokenRequest, TokenReview }
    "authorization.k8s.io/v1": api::authorization::v1 { LocalSubjectAccessReview, SelfSubjectAccessReview, SelfSubjectRulesReview, SubjectAccessReview }
    "autoscaling/v1": api::autoscaling::v1 { HorizontalPodAutoscaler, Scale }
    "autoscaling/v2": api::autoscaling::v2 { HorizontalPodAutoscaler }
    "batch/v1": api::batch::v1 { CronJob, Job }
    "certificates.k8s.io/v1": api::certificates::v1 { CertificateSigningRequest }
    "certificates.k8s.io/v1alpha1": api::certificates::v1alpha1 { ClusterTrustBundle }
    "certificates.k8s.io/v1beta1": api::certificates::v1beta1 { ClusterTrustBundle, PodCertificateRequest }
    "coordination.k8s.io/v1": api::coordination::v1 { Lease }
    "coordination.k8s.io/v1alpha2": api::coordination::v1alpha2 { LeaseCandidate }
    "coordination.k8s.io/v1beta1": api::coordination::v1beta1 { LeaseCandidate }
    "v1": api::core::v1 { Binding, ComponentStatus, ConfigMap, Endpoints, Event, LimitRange, Namespace, Node, PersistentVolume, PersistentVolumeClaim, Pod, PodTemplate, ReplicationController, ResourceQuota, Secret, Service, ServiceAccount }
    "discovery.k8s.io/v1": api::discovery::v1 { EndpointSlice }
    "events.k8s.io/v1": api::events::v1 { Event }
    "flowcontrol.apiserver.k8s.io/v1": api::flowcontrol::v1 { FlowSchema, PriorityLevelConfiguration }
    "networking.k8s.io/v1": api::networking::v1 { Ingress, IngressClass, IPAddress, NetworkPolicy, ServiceCIDR }
    "networking.k8s.io/v1beta1": api::networking::v1beta1 { IPAddress, ServiceCIDR }
    "node.k8s.io/v1": api::node::v1 { RuntimeClass }
    "policy/v1": api::policy::v1 { Eviction, PodDisruptionBudget }
    "rbac.authorization.k8s.io/v1": api::rbac::v1 { ClusterRole, ClusterRoleBinding, Role, RoleBinding }
    "resource.k8s.io/v1": api::resource::v1 { DeviceClass, ResourceClaim, ResourceClaimTemplate, ResourceSlice }
    "resource.k8s.io/v1alpha3": api::resource::v1alpha3 { DeviceTaintRule, ResourcePoolStatusRequest }
    "resource.k8s.io/v1beta1": api::resource::v1beta1 { DeviceClass, ResourceClaim, ResourceClaimTemplate, ResourceSlice }
    "resource.k8s.io/v1beta2": api::resource::v1beta2 { DeviceClass, DeviceTaintRule, ResourceClaim, ResourceClaimTemplate, ResourceSlice }
    "scheduling.k8s.io/v1": api::scheduling::v1 { PriorityClass }
    "scheduling.k8s.io/v1alpha2": api::scheduling::v1alpha2 { PodGroup, Workload }
    "storage.k8s.io/v1": api::storage::v1 { CSIDriver, CSINode, CSIStorageCapacity, StorageClass, VolumeAttachment, VolumeAttributesClass }
    "storage.k8s.io/v1beta1": api::storage::v1beta1 { VolumeAttributesClass }
    "storagemigration.k8s.io/v1beta1": api::storagemigration::v1beta1 { StorageVersionMigration }
    "apiextensions.k8s.io/v1": apiextensions::v1 { CustomResourceDefinition }
    "apiregistration.k8s.io/v1": apiregistration::v1 { APIService }
}
