//! Certificates, networking, policy, RBAC, scheduling, coordination, node and discovery.

use super::row::{Group, Row, STATUS, own, with};
use crate::resources::{Feature, kinds};

pub(super) const CERTIFICATES: Group = Group {
    name: "certificates.k8s.io",
    versions: &["v1"],
    rows: &[Row::cluster("CertificateSigningRequest", "certificatesigningrequests")
        .features(&[Feature::Vital])
        .strategy(with::<kinds::CertificateSigningRequest>)
        .short(&["csr"])
        .subs(&[own("approval"), STATUS])],
};

/// Off where nothing is said.
pub(super) const TRUST_BUNDLES: Group = Group {
    name: "certificates.k8s.io",
    versions: &["v1beta1", "v1alpha1"],
    rows: &[Row::cluster("ClusterTrustBundle", "clustertrustbundles")
        .strategy(with::<kinds::ClusterTrustBundle>)
        .deprecated_in("v1alpha1", "certificates.k8s.io/v1alpha1 ClusterTrustBundle is deprecated in v1.34+, unavailable in v1.37+")],
};

/// Off where nothing is said.
pub(super) const POD_CERTIFICATES: Group = Group {
    name: "certificates.k8s.io",
    versions: &["v1beta1"],
    rows: &[Row::namespaced("PodCertificateRequest", "podcertificaterequests")
        .features(&[Feature::Signed])
        .strategy(with::<kinds::PodCertificateRequest>)
        .subs(&[STATUS])],
};

pub(super) const NETWORKING: Group = Group {
    name: "networking.k8s.io",
    versions: &["v1"],
    rows: &[
        Row::cluster("IngressClass", "ingressclasses").strategy(with::<kinds::IngressClass>),
        Row::namespaced("Ingress", "ingresses").strategy(with::<kinds::Ingress>).short(&["ing"]).stored_at("ingress").subs(&[STATUS]),
        Row::cluster("IPAddress", "ipaddresses").strategy(with::<kinds::IpAddress>).short(&["ip"]),
        Row::namespaced("NetworkPolicy", "networkpolicies").strategy(with::<kinds::NetworkPolicy>).short(&["netpol"]),
        Row::cluster("ServiceCIDR", "servicecidrs").strategy(with::<kinds::ServiceCidr>).subs(&[STATUS]),
    ],
};

pub(super) const POLICY: Group = Group {
    name: "policy",
    versions: &["v1"],
    rows: &[Row::namespaced("PodDisruptionBudget", "poddisruptionbudgets")
        .strategy(with::<kinds::PodDisruptionBudget>)
        .short(&["pdb"])
        .subs(&[STATUS])],
};

pub(super) const RBAC: Group = Group {
    name: "rbac.authorization.k8s.io",
    versions: &["v1"],
    rows: &[
        Row::cluster("ClusterRoleBinding", "clusterrolebindings").features(&[Feature::Grants]).strategy(with::<kinds::Binding>),
        Row::cluster("ClusterRole", "clusterroles").features(&[Feature::Grants]).strategy(with::<kinds::Role>),
        Row::namespaced("RoleBinding", "rolebindings").features(&[Feature::Grants]).strategy(with::<kinds::Binding>),
        Row::namespaced("Role", "roles").features(&[Feature::Grants]).strategy(with::<kinds::Role>),
    ],
};

pub(super) const SCHEDULING: Group = Group {
    name: "scheduling.k8s.io",
    versions: &["v1"],
    rows: &[Row::cluster("PriorityClass", "priorityclasses").strategy(with::<kinds::PriorityClass>).short(&["pc"])],
};

/// Off where nothing is said.
pub(super) const WORKLOADS: Group = Group {
    name: "scheduling.k8s.io",
    versions: &["v1alpha2"],
    rows: &[
        Row::namespaced("PodGroup", "podgroups").strategy(with::<kinds::PodGroup>).subs(&[STATUS]),
        Row::namespaced("Workload", "workloads").strategy(with::<kinds::Workload>),
    ],
};

pub(super) const COORDINATION: Group = Group {
    name: "coordination.k8s.io",
    versions: &["v1"],
    rows: &[Row::namespaced("Lease", "leases")
        .features(&[Feature::Renewals, Feature::VitalInSystem, Feature::ShortHistory])
        .strategy(with::<kinds::Lease>)],
};

/// What leaders are chosen among.
pub(super) const CANDIDATES: Group = Group {
    name: "coordination.k8s.io",
    versions: &["v1beta1", "v1alpha2"],
    rows: &[Row::namespaced("LeaseCandidate", "leasecandidates")
        .features(&[Feature::Renewals, Feature::VitalInSystem, Feature::ShortHistory])
        .strategy(with::<kinds::LeaseCandidate>)],
};

pub(super) const NODE: Group =
    Group { name: "node.k8s.io", versions: &["v1"], rows: &[Row::cluster("RuntimeClass", "runtimeclasses").strategy(with::<kinds::RuntimeClass>)] };

pub(super) const DISCOVERY: Group = Group {
    name: "discovery.k8s.io",
    versions: &["v1"],
    rows: &[Row::namespaced("EndpointSlice", "endpointslices").strategy(with::<kinds::EndpointSlice>)],
};
