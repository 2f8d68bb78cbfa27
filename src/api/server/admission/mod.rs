//! Admission: ordered plugins that change or refuse a request between decoding and commit.
//!
//! Everything that is asked takes the one type [`Attributes`]. What may change the object is a [`MutatingPlugin`], what only may refuse it a
//! [`ValidatingPlugin`]; those that ask others (webhooks, policies) are plugins like all and share how requests are matched and shown
//! ([`matching`]). The API server runs the whole pipeline again when a write is retried after a conflict, so plugins must not remember
//! what they did. Plugins see the object in its storage version, one of a custom resource in that of the request, and read
//! other objects through [`Reads`].

mod admission_request;
mod always;
mod always_pull_images;
mod anti_affinity;
mod attributes;
mod certificates;
mod claim_access;
mod claim_resize;
mod config;
mod default_classes;
pub mod durations;
mod event_rate_limit;
mod expressions;
mod extended_resources;
mod external_ips;
mod go_json;
mod job_validation;
mod lifecycle;
mod limit_ranger;
mod match_conditions;
pub mod match_metrics;
pub mod matching;
mod mountable_secrets;
mod namespace_exists;
mod node_restriction;
mod nodes;
mod owner_references;
mod pipeline;
mod plugin;
mod pod_groups;
mod pod_node_selector;
mod pod_resize;
pub mod pod_security;
mod pod_tolerations;
mod pod_topology_labels;
pub mod policies;
mod priority;
mod reinvocation;
mod resource_name;
mod resource_quota;
mod runtime_class;
mod selection;
mod service_account;
mod storage_protection;
mod tolerations;
mod webhooks;

pub use admission_request::admission_request;
pub use always::{AlwaysAdmit, AlwaysDeny};
pub use always_pull_images::AlwaysPullImages;
pub use anti_affinity::LimitPodHardAntiAffinityTopology;
pub use attributes::{Attributes, NewObject, OperationOptions, Reads};
pub use certificates::{CertificateApproval, CertificateSigning, CertificateSubjectRestriction, ClusterTrustBundleAttest};
pub use claim_access::ResourceClaimAccess;
pub use claim_resize::PersistentVolumeClaimResize;
pub use config::AdmissionConfigurationError;
pub use default_classes::{DefaultIngressClass, DefaultStorageClass};
pub use event_rate_limit::EventRateLimit;
pub use extended_resources::ExtendedResourceToleration;
pub use external_ips::DenyServiceExternalIPs;
pub use job_validation::JobValidation;
pub use lifecycle::NamespaceLifecycle;
pub use limit_ranger::LimitRanger;
pub use namespace_exists::NamespaceExists;
pub use node_restriction::{NodeRestriction, node_may_label};
pub use nodes::TaintNodesByCondition;
pub use owner_references::OwnerReferencesPermissionEnforcement;
pub use pipeline::{ConfiguredPlugins, Pipeline};
pub use plugin::{MutatingPlugin, Plugin, ValidatingPlugin};
pub use pod_groups::{POD_GROUP_FINALIZER, PodGroupProtection, PodGroupWorkloadExists};
pub use pod_node_selector::PodNodeSelector;
pub use pod_resize::{NodeDeclaredFeatureValidator, PodResizeValidator};
pub use pod_security::PodSecurity;
pub use pod_tolerations::PodTolerationRestriction;
pub use pod_topology_labels::PodTopologyLabels;
pub use policies::{MutatingPolicies, ValidatingPolicies};
pub use priority::Priority;
pub use reinvocation::{Asked, Reinvocation};
pub use runtime_class::RuntimeClass;
pub use selection::{Selection, SelectionError};
pub use service_account::ServiceAccount;
pub use storage_protection::{PV_FINALIZER, PVC_FINALIZER, StorageObjectInUseProtection, VAC_FINALIZER};
pub use tolerations::DefaultTolerationSeconds;
pub use troupe_api::meta::operation::Operation;
#[doc(hidden)]
pub use webhooks::fuzzing as webhook_fuzzing;
pub use webhooks::{MutatingWebhooks, Refusals as WebhookRefusals, ValidatingWebhooks, metrics as webhook_metrics, webhooks};
