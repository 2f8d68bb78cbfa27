//! Events about pods and the node, with what upstream points them to.

use k8s_openapi::api::core::v1::{ObjectReference, Pod, PodSpec};
use troupe_api_client::Client;

use crate::runtime::{events, system::System, token_bucket::Rate};

/// What an event says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// `Warning` rather than `Normal`.
    pub warning: bool,
    pub reason: String,
    pub message: String,
    /// The container it is about.
    pub container: Option<ContainerField>,
}

/// A container as events point to it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ContainerField {
    pub name: String,
    /// The list of the pod's spec that it is in.
    pub list: &'static str,
}

impl ContainerField {
    /// A container of a pod.
    pub fn of(spec: &PodSpec, name: &str) -> Self {
        let list = if spec.init_containers.iter().flatten().any(|container| container.name == name) {
            "initContainers"
        } else if spec.ephemeral_containers.iter().flatten().any(|container| container.name == name) {
            "ephemeralContainers"
        } else {
            "containers"
        };
        ContainerField { name: name.to_owned(), list }
    }
}

impl Note {
    pub fn normal(reason: &str, message: impl Into<String>) -> Self {
        Note { warning: false, reason: reason.to_owned(), message: message.into(), container: None }
    }

    pub fn warning(reason: &str, message: impl Into<String>) -> Self {
        Note { warning: true, ..Note::normal(reason, message) }
    }

    /// The same about one container.
    pub fn about(self, container: Option<ContainerField>) -> Self {
        Note { container, ..self }
    }
}

/// Takes events without waiting. Cheap to clone.
#[derive(Clone)]
pub struct EventRecorder(Option<events::EventRecorder>);

impl EventRecorder {
    /// A recorder that writes through `client`, no more often than that; its task ends with the last recorder.
    pub fn start(system: &System, client: &Client, node_name: &str, rate: Option<Rate>) -> Self {
        EventRecorder(Some(events::EventRecorder::paced(system, client, "kubelet", node_name, rate)))
    }

    /// A recorder that forgets all.
    pub fn nowhere() -> Self {
        EventRecorder(None)
    }

    /// Records an event about a pod.
    pub fn pod(&self, pod: &Pod, note: Note) {
        let field_path = note.container.as_ref().map(|container| format!("spec.{}{{{}}}", container.list, container.name));
        let meta = &pod.metadata;
        let object = ObjectReference {
            api_version: Some("v1".into()),
            kind: Some("Pod".into()),
            namespace: meta.namespace.clone(),
            name: meta.name.clone(),
            uid: meta.uid.clone(),
            resource_version: meta.resource_version.clone(),
            field_path,
        };
        self.send(&object, note);
    }

    /// Records an event about the node of this name.
    pub fn node(&self, name: &str, note: Note) {
        let object = ObjectReference {
            kind: Some("Node".into()),
            name: Some(name.to_owned()),
            // Upstream's kubelet puts the name here, and describe finds node events by it.
            uid: Some(name.to_owned()),
            ..ObjectReference::default()
        };
        self.send(&object, note);
    }

    fn send(&self, object: &ObjectReference, note: Note) {
        let Some(recorder) = &self.0 else { return };
        if note.warning {
            recorder.warning(object, &note.reason, note.message);
        } else {
            recorder.normal(object, &note.reason, note.message);
        }
    }
}
