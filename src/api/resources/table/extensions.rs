//! Kinds that extend or guard the API itself.

use super::row::{Group, Row, STATUS, with};
use crate::resources::{Feature, kinds};

pub(super) const API_REGISTRATION: Group = Group {
    name: "apiregistration.k8s.io",
    versions: &["v1"],
    rows: &[Row::cluster("APIService", "apiservices")
        .strategy(with::<kinds::ApiService>)
        .extension()
        .stored_at("apiregistration.k8s.io/apiservices")
        .subs(&[STATUS])],
};

pub(super) const API_EXTENSIONS: Group = Group {
    name: "apiextensions.k8s.io",
    versions: &["v1"],
    rows: &[Row::cluster("CustomResourceDefinition", "customresourcedefinitions")
        .features(&[Feature::Expressions, Feature::ShortHistory])
        .strategy(with::<kinds::CustomResourceDefinition>)
        .short(&["crd", "crds"])
        .extension()
        .stored_at("apiextensions.k8s.io/customresourcedefinitions")
        .hashed_as("v1beta1")
        .subs(&[STATUS])],
};

pub(super) const ADMISSION_REGISTRATION: Group = Group {
    name: "admissionregistration.k8s.io",
    versions: &["v1"],
    rows: &[
        Row::cluster("MutatingAdmissionPolicy", "mutatingadmissionpolicies")
            .features(&[Feature::Parameters, Feature::Expressions])
            .strategy(with::<kinds::AdmissionPolicy<true>>)
            .extension()
            .hashed_as("v1beta1"),
        Row::cluster("MutatingAdmissionPolicyBinding", "mutatingadmissionpolicybindings")
            .features(&[Feature::Parameters])
            .strategy(with::<kinds::AdmissionBinding>)
            .extension()
            .hashed_as("v1beta1"),
        Row::cluster("MutatingWebhookConfiguration", "mutatingwebhookconfigurations")
            .features(&[Feature::Expressions])
            .strategy(with::<kinds::WebhookConfiguration>)
            .extension(),
        Row::cluster("ValidatingAdmissionPolicy", "validatingadmissionpolicies")
            .features(&[Feature::Parameters, Feature::Expressions])
            .strategy(with::<kinds::AdmissionPolicy<false>>)
            .extension()
            .subs(&[STATUS]),
        Row::cluster("ValidatingAdmissionPolicyBinding", "validatingadmissionpolicybindings")
            .features(&[Feature::Parameters])
            .strategy(with::<kinds::AdmissionBinding>)
            .extension(),
        Row::cluster("ValidatingWebhookConfiguration", "validatingwebhookconfigurations")
            .features(&[Feature::Expressions])
            .strategy(with::<kinds::WebhookConfiguration>)
            .extension(),
    ],
};

pub(super) const FLOW_CONTROL: Group = Group {
    name: "flowcontrol.apiserver.k8s.io",
    versions: &["v1"],
    rows: &[
        Row::cluster("FlowSchema", "flowschemas").strategy(with::<kinds::FlowSchema>).subs(&[STATUS]),
        Row::cluster("PriorityLevelConfiguration", "prioritylevelconfigurations").strategy(with::<kinds::PriorityLevel>).subs(&[STATUS]),
    ],
};

/// Off where nothing is said.
pub(super) const STORAGE_MIGRATION: Group = Group {
    name: "storagemigration.k8s.io",
    versions: &["v1beta1"],
    rows: &[Row::cluster("StorageVersionMigration", "storageversionmigrations").strategy(with::<kinds::StorageVersionMigration>).subs(&[STATUS])],
};
