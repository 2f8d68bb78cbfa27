//! Events about pods and the node, as upstream writes them: repeated ones are counted, not repeated.

use std::{collections::HashMap, sync::Arc};

use jiff::Timestamp;
use k8s_openapi::{
    api::core::v1::{Event, EventSource, Node, ObjectReference, Pod},
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time},
};
use serde_json::json;
use tokio::sync::mpsc;
use troupe_api::{client::Client, meta::time::format_time, service::PatchType};

/// How many events may wait for the API server; more are dropped.
const QUEUE: usize = 1000;
/// How many kinds of events are remembered for counting.
const REMEMBERED: usize = 4096;

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
    pub init: bool,
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
pub struct EventRecorder {
    queue: Option<mpsc::Sender<(ObjectReference, Note)>>,
}

impl EventRecorder {
    /// A recorder that writes through `client`; its task ends with the last recorder.
    pub fn start(client: Client, node_name: Arc<str>) -> Self {
        let (queue, mut notes) = mpsc::channel(QUEUE);
        tokio::spawn(async move {
            let mut known = HashMap::new();
            while let Some((object, note)) = notes.recv().await {
                write(&client, &node_name, &mut known, object, note).await;
            }
        });
        EventRecorder { queue: Some(queue) }
    }

    /// A recorder that forgets all.
    pub fn nowhere() -> Self {
        EventRecorder { queue: None }
    }

    /// Records an event about a pod.
    pub fn pod(&self, pod: &Pod, note: Note) {
        let field_path = note.container.as_ref().map(|container| {
            let list = if container.init { "initContainers" } else { "containers" };
            format!("spec.{list}{{{}}}", container.name)
        });
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
        self.send(object, note);
    }

    /// Records an event about the node.
    pub fn node(&self, node: &Node, note: Note) {
        let meta = &node.metadata;
        let object = ObjectReference {
            kind: Some("Node".into()),
            name: meta.name.clone(),
            // Upstream's kubelet puts the name here, and describe finds node events by it.
            uid: meta.name.clone(),
            ..ObjectReference::default()
        };
        self.send(object, note);
    }

    fn send(&self, object: ObjectReference, note: Note) {
        if let Some(queue) = &self.queue
            && queue.try_send((object, note)).is_err()
        {
            tracing::warn!("event dropped: the API server does not keep up");
        }
    }
}

/// What makes two events the same.
type Key = (Option<String>, Option<String>, String, String);

async fn write(client: &Client, node: &str, known: &mut HashMap<Key, (String, i32)>, object: ObjectReference, note: Note) {
    let key = (object.uid.clone(), object.field_path.clone(), note.reason.clone(), note.message.clone());
    let namespace = object.namespace.clone().unwrap_or_else(|| "default".into());
    let api = client.namespaced::<Event>(namespace.as_str());
    let now = Timestamp::now();
    if let Some((name, count)) = known.get_mut(&key) {
        *count += 1;
        let patch = json!({"count": *count, "lastTimestamp": format_time(now)});
        match api.patch(name, "", PatchType::Merge, &patch).await {
            Ok(_) => return,
            // Events expire; a new one begins.
            Err(status) if status.is_not_found() => {}
            Err(status) => return tracing::warn!(error = %status, "event not written"),
        }
    }
    let name = format!("{}.{:x}", object.name.as_deref().unwrap_or("node"), now.as_nanosecond());
    let event = event(node, &namespace, &name, object, &note, now);
    match api.create(&event).await {
        Ok(_) => {
            if known.len() >= REMEMBERED {
                known.clear();
            }
            known.insert(key, (name, 1));
        }
        Err(status) => tracing::warn!(error = %status, reason = note.reason, "event not written"),
    }
}

fn event(node: &str, namespace: &str, name: &str, object: ObjectReference, note: &Note, now: Timestamp) -> Event {
    Event {
        metadata: ObjectMeta { name: Some(name.to_owned()), namespace: Some(namespace.to_owned()), ..ObjectMeta::default() },
        involved_object: object,
        reason: Some(note.reason.clone()),
        message: Some(note.message.clone()),
        type_: Some(if note.warning { "Warning" } else { "Normal" }.into()),
        source: Some(EventSource { component: Some("kubelet".into()), host: Some(node.to_owned()) }),
        reporting_component: Some("kubelet".into()),
        reporting_instance: Some(node.to_owned()),
        first_timestamp: Some(Time(now)),
        last_timestamp: Some(Time(now)),
        count: Some(1),
        ..Event::default()
    }
}
