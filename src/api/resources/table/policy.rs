//! Certificates, networking, policy, RBAC, scheduling, coordination, node and discovery.

use super::row::{Group, Row, STATUS, own};

pub(super) const CERTIFICATES: Group = Group {
    name: "certificates.k8s.io",
    versions: &["v1"],
    rows: &[Row::cluster("CertificateSigningRequest", "certificatesigningrequests").short(&["csr"]).subs(&[own("approval"), STATUS])],
};

pub(super) const NETWORKING: Group = Group {
    name: "networking.k8s.io",
    versions: &["v1"],
    rows: &[
        Row::cluster("IngressClass", "ingressclasses"),
        Row::namespaced("Ingress", "ingresses").short(&["ing"]).stored_at("ingress").subs(&[STATUS]),
        Row::cluster("IPAddress", "ipaddresses").short(&["ip"]),
        Row::namespaced("NetworkPolicy", "networkpolicies").short(&["netpol"]),
        Row::cluster("ServiceCIDR", "servicecidrs").subs(&[STATUS]),
    ],
};

pub(super) const POLICY: Group = Group {
    name: "policy",
    versions: &["v1"],
    rows: &[Row::namespaced("PodDisruptionBudget", "poddisruptionbudgets").short(&["pdb"]).subs(&[STATUS])],
};

pub(super) const RBAC: Group = Group {
    name: "rbac.authorization.k8s.io",
    versions: &["v1"],
    rows: &[
        Row::cluster("ClusterRoleBinding", "clusterrolebindings"),
        Row::cluster("ClusterRole", "clusterroles"),
        Row::namespaced("RoleBinding", "rolebindings"),
        Row::namespaced("Role", "roles"),
    ],
};

pub(super) const SCHEDULING: Group =
    Group { name: "scheduling.k8s.io", versions: &["v1"], rows: &[Row::cluster("PriorityClass", "priorityclasses").short(&["pc"])] };

pub(super) const COORDINATION: Group = Group { name: "coordination.k8s.io", versions: &["v1"], rows: &[Row::namespaced("Lease", "leases")] };

pub(super) const NODE: Group = Group { name: "node.k8s.io", versions: &["v1"], rows: &[Row::cluster("RuntimeClass", "runtimeclasses")] };

pub(super) const DISCOVERY: Group =
    Group { name: "discovery.k8s.io", versions: &["v1"], rows: &[Row::namespaced("EndpointSlice", "endpointslices")] };
