//! Kinds that extend or guard the API itself.

use super::row::{Group, Row, STATUS};

pub(super) const API_REGISTRATION: Group = Group {
    name: "apiregistration.k8s.io",
    versions: &["v1"],
    rows: &[Row::cluster("APIService", "apiservices").extension().stored_at("apiregistration.k8s.io/apiservices").subs(&[STATUS])],
};

pub(super) const API_EXTENSIONS: Group = Group {
    name: "apiextensions.k8s.io",
    versions: &["v1"],
    rows: &[Row::cluster("CustomResourceDefinition", "customresourcedefinitions")
        .short(&["crd", "crds"])
        .extension()
        .stored_at("apiextensions.k8s.io/customresourcedefinitions")
        .subs(&[STATUS])],
};

pub(super) const ADMISSION_REGISTRATION: Group = Group {
    name: "admissionregistration.k8s.io",
    versions: &["v1"],
    rows: &[
        Row::cluster("MutatingAdmissionPolicy", "mutatingadmissionpolicies").extension(),
        Row::cluster("MutatingAdmissionPolicyBinding", "mutatingadmissionpolicybindings").extension(),
        Row::cluster("MutatingWebhookConfiguration", "mutatingwebhookconfigurations").extension(),
        Row::cluster("ValidatingAdmissionPolicy", "validatingadmissionpolicies").extension().subs(&[STATUS]),
        Row::cluster("ValidatingAdmissionPolicyBinding", "validatingadmissionpolicybindings").extension(),
        Row::cluster("ValidatingWebhookConfiguration", "validatingwebhookconfigurations").extension(),
    ],
};

pub(super) const FLOW_CONTROL: Group = Group {
    name: "flowcontrol.apiserver.k8s.io",
    versions: &["v1"],
    rows: &[
        Row::cluster("FlowSchema", "flowschemas").subs(&[STATUS]),
        Row::cluster("PriorityLevelConfiguration", "prioritylevelconfigurations").subs(&[STATUS]),
    ],
};
