//! The core group, and events.k8s.io, which serves the same events.

use super::row::{Group, Row, SCALE, STATUS, Sub, foreign, own, sub, with};
use crate::meta::request::Verb;
use crate::resources::{Feature, kinds};

const PROXY_VERBS: &[&str] = &["create", "delete", "get", "patch", "update"];
const STREAM_VERBS: &[&str] = &["create", "get"];

const POD_SUBRESOURCES: &[Sub] = &[
    sub("attach", "PodAttachOptions", STREAM_VERBS),
    sub("binding", "Binding", &["create"]),
    own("ephemeralcontainers"),
    foreign("eviction", "policy/v1", "Eviction", &["create"]),
    sub("exec", "PodExecOptions", STREAM_VERBS),
    sub("log", "Pod", &["get"]),
    sub("portforward", "PodPortForwardOptions", STREAM_VERBS),
    sub("proxy", "PodProxyOptions", PROXY_VERBS),
    own("resize"),
    STATUS,
];

const NAMESPACE_VERBS: &[Verb] = &[Verb::Create, Verb::Delete, Verb::Get, Verb::List, Verb::Patch, Verb::Update, Verb::Watch];

pub(super) const GROUP: Group = Group {
    name: "",
    versions: &["v1"],
    rows: &[
        Row::namespaced("Binding", "bindings").features(&[Feature::Bindings]).strategy(with::<kinds::Bare>).verbs(&[Verb::Create]),
        Row::cluster("ComponentStatus", "componentstatuses")
            .strategy(with::<kinds::ComponentStatus>)
            .short(&["cs"])
            .verbs(&[Verb::Get, Verb::List])
            .deprecated("v1 ComponentStatus is deprecated in v1.19+"),
        Row::namespaced("ConfigMap", "configmaps").strategy(with::<kinds::ConfigMap>).short(&["cm"]),
        Row::namespaced("Endpoints", "endpoints")
            .strategy(with::<kinds::Endpoints>)
            .short(&["ep"])
            .stored_at("services/endpoints")
            .deprecated("v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice"),
        Row::namespaced("Event", "events").features(&[Feature::News, Feature::ShortHistory]).strategy(with::<kinds::Event>).short(&["ev"]),
        Row::namespaced("LimitRange", "limitranges").strategy(with::<kinds::LimitRange>).short(&["limits"]),
        Row::cluster("Namespace", "namespaces")
            .features(&[Feature::Namespaces, Feature::ReturnsDeleted])
            .strategy(with::<kinds::Namespace>)
            .short(&["ns"])
            .verbs(NAMESPACE_VERBS)
            .subs(&[sub("finalize", "Namespace", &["update"]), STATUS]),
        Row::cluster("Node", "nodes")
            .features(&[Feature::Vital])
            .strategy(with::<kinds::Node>)
            .short(&["no"])
            .stored_at("minions")
            .subs(&[sub("proxy", "NodeProxyOptions", PROXY_VERBS), STATUS]),
        Row::namespaced("PersistentVolumeClaim", "persistentvolumeclaims")
            .features(&[Feature::ReturnsDeleted])
            .strategy(with::<kinds::PersistentVolumeClaim>)
            .short(&["pvc"])
            .subs(&[STATUS]),
        Row::cluster("PersistentVolume", "persistentvolumes")
            .features(&[Feature::ReturnsDeleted])
            .strategy(with::<kinds::PersistentVolume>)
            .short(&["pv"])
            .subs(&[STATUS]),
        Row::namespaced("Pod", "pods")
            .features(&[Feature::ReturnsDeleted])
            .strategy(with::<kinds::Pod>)
            .pod_at(&[])
            .short(&["po"])
            .all()
            .subs(POD_SUBRESOURCES),
        Row::namespaced("PodTemplate", "podtemplates")
            .features(&[Feature::ReturnsDeleted])
            .strategy(with::<kinds::PodTemplate>)
            .pod_at(&["template"]),
        Row::namespaced("ReplicationController", "replicationcontrollers")
            .strategy(with::<kinds::ReplicationController>)
            .pod_at(&["spec", "template"])
            .short(&["rc"])
            .all()
            .stored_at("controllers")
            .subs(&[SCALE, STATUS]),
        Row::namespaced("ResourceQuota", "resourcequotas")
            .features(&[Feature::ReturnsDeleted])
            .strategy(with::<kinds::ResourceQuota>)
            .short(&["quota"])
            .subs(&[STATUS]),
        Row::namespaced("Secret", "secrets").strategy(with::<kinds::Secret>),
        Row::namespaced("ServiceAccount", "serviceaccounts")
            .features(&[Feature::ReturnsDeleted])
            .strategy(with::<kinds::ServiceAccount>)
            .short(&["sa"])
            .subs(&[foreign("token", "authentication.k8s.io/v1", "TokenRequest", &["create"])]),
        Row::namespaced("Service", "services")
            .features(&[Feature::ServiceAddresses, Feature::ReturnsDeleted])
            .strategy(with::<kinds::Service>)
            .short(&["svc"])
            .all()
            .stored_at("services/specs")
            .subs(&[sub("proxy", "ServiceProxyOptions", PROXY_VERBS), STATUS]),
    ],
};

pub(super) const EVENTS: Group = Group {
    name: "events.k8s.io",
    versions: &["v1"],
    rows: &[Row::namespaced("Event", "events")
        .features(&[Feature::News, Feature::ShortHistory])
        .strategy(kinds::strict_event)
        .short(&["ev"])
        .stored_as_group("")],
};
