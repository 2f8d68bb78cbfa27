//! Events: what units tell people about objects, with upstream's counting of repeats.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use jiff::Timestamp;
use k8s_openapi::{
    api::core::v1::{Event, EventSource, ObjectReference},
    apimachinery::pkg::apis::meta::v1::Time,
};
use serde_json::json;
use tokio::sync::mpsc;
use troupe_api::{
    client::Client,
    meta::{Clock, time::format_time},
    service::PatchType,
    status::Status,
};

use super::system::{System, TaskHandle};

/// Events waiting to be written; more are dropped, as they are news and not state.
const BACKLOG: usize = 1000;
/// How many distinct events are remembered for counting repeats.
const REMEMBERED: usize = 4096;

/// Writes events of one component. Cheap to clone; never blocks.
#[derive(Clone)]
pub struct EventRecorder {
    posts: mpsc::Sender<Post>,
    _writer: Arc<TaskHandle>,
}

struct Post {
    about: ObjectReference,
    kind: &'static str,
    reason: String,
    message: String,
}

/// What makes two events the same.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Identity {
    namespace: String,
    kind: String,
    name: String,
    uid: String,
    reason: String,
    message: String,
}

struct Known {
    event: String,
    count: i32,
}

impl EventRecorder {
    /// A recorder that writes through `client` with this component as source.
    pub fn new(system: &System, client: &Client, component: &str) -> Self {
        EventRecorder::on_host(system, client, component, "")
    }

    /// The same for a component of one node.
    pub fn on_host(system: &System, client: &Client, component: &str, host: &str) -> Self {
        let (posts, queue) = mpsc::channel(BACKLOG);
        let writer = Writer {
            client: client.clone(),
            clock: system.clock().clone(),
            component: component.to_owned(),
            host: host.to_owned(),
            known: HashMap::new(),
            order: VecDeque::new(),
        };
        let mut parts = Some((writer, queue));
        let task = system.spawn_task(&format!("events/{component}"), move || {
            let parts = parts.take();
            async move {
                if let Some((writer, queue)) = parts {
                    writer.run(queue).await;
                }
            }
        });
        EventRecorder { posts, _writer: Arc::new(task) }
    }

    /// Something normal happened.
    pub fn normal(&self, about: &ObjectReference, reason: &str, message: impl Into<String>) {
        self.post(about, "Normal", reason, message.into());
    }

    /// Something went wrong.
    pub fn warning(&self, about: &ObjectReference, reason: &str, message: impl Into<String>) {
        self.post(about, "Warning", reason, message.into());
    }

    fn post(&self, about: &ObjectReference, kind: &'static str, reason: &str, message: String) {
        let post = Post { about: about.clone(), kind, reason: reason.to_owned(), message };
        if self.posts.try_send(post).is_err() {
            tracing::debug!(reason, "an event is dropped: too many wait");
        }
    }
}

struct Writer {
    client: Client,
    clock: Arc<dyn Clock>,
    component: String,
    host: String,
    known: HashMap<Identity, Known>,
    order: VecDeque<Identity>,
}

impl Writer {
    async fn run(mut self, mut queue: mpsc::Receiver<Post>) {
        while let Some(post) = queue.recv().await {
            let reason = post.reason.clone();
            if let Err(error) = self.write(post).await {
                tracing::debug!(%error, reason, component = self.component, "an event was not written");
            }
        }
    }

    async fn write(&mut self, post: Post) -> Result<(), Status> {
        let identity = identity(&post);
        let namespace = if identity.namespace.is_empty() { "default".to_owned() } else { identity.namespace.clone() };
        let api = self.client.namespaced::<Event>(namespace.as_str());
        let now = self.clock.now();
        if let Some(known) = self.known.get_mut(&identity) {
            let patch = json!({"count": known.count + 1, "lastTimestamp": format_time(now)});
            match api.patch(&known.event, "", PatchType::StrategicMerge, &patch).await {
                Ok(_) => {
                    known.count += 1;
                    return Ok(());
                }
                // It lived its time: write it anew.
                Err(status) if status.is_not_found() => {}
                Err(status) => return Err(status),
            }
        }
        let event = self.event(&post, &namespace, now);
        let made = api.create(&event).await?;
        self.remember(identity, made.metadata.name.clone().unwrap_or_default());
        Ok(())
    }

    fn event(&self, post: &Post, namespace: &str, now: Timestamp) -> Event {
        let time = Some(Time(now));
        let mut event = Event {
            involved_object: post.about.clone(),
            reason: Some(post.reason.clone()),
            message: Some(post.message.clone()),
            type_: Some(post.kind.to_owned()),
            count: Some(1),
            first_timestamp: time.clone(),
            last_timestamp: time,
            source: Some(EventSource { component: Some(self.component.clone()), host: (!self.host.is_empty()).then(|| self.host.clone()) }),
            reporting_component: Some(self.component.clone()),
            reporting_instance: Some(self.host.clone()),
            ..Event::default()
        };
        let about = post.about.name.as_deref().unwrap_or_default();
        event.metadata.name = Some(format!("{about}.{:x}", now.as_nanosecond()));
        event.metadata.namespace = Some(namespace.to_owned());
        event
    }

    fn remember(&mut self, identity: Identity, event: String) {
        if self.order.len() >= REMEMBERED
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
        if self.known.insert(identity.clone(), Known { event, count: 1 }).is_none() {
            self.order.push_back(identity);
        }
    }
}

fn identity(post: &Post) -> Identity {
    let text = |field: &Option<String>| field.clone().unwrap_or_default();
    Identity {
        namespace: text(&post.about.namespace),
        kind: text(&post.about.kind),
        name: text(&post.about.name),
        uid: text(&post.about.uid) + &text(&post.about.field_path),
        reason: post.reason.clone(),
        message: post.message.clone(),
    }
}
