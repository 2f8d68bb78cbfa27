//! Events: what units tell people about objects, as client-go's two recorders do: most components count what repeats and
//! join what is alike (`correlate.rs`), the scheduler begins series (`series.rs`).

mod correlate;
mod recent;
mod series;

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use k8s_openapi::{
    api::core::v1::{Event, EventSource, ObjectReference},
    apimachinery::pkg::apis::meta::v1::{MicroTime, Time},
};
use serde_json::json;
use tokio::sync::mpsc;
use troupe_api::{
    meta::{
        Clock,
        time::{format_micro_time, format_time},
    },
    service::PatchType,
    status::Status,
};
use troupe_api_client::Client;

use self::{
    correlate::Correlator,
    recent::Recent,
    series::{Series, Written},
};
use super::{
    system::{System, TaskHandle},
    token_bucket::{Rate, TokenBucket},
};

/// Events waiting to be written; more are dropped, as they are news and not state.
const BACKLOG: usize = 1000;
/// How often series are looked through for those that are over.
const FINISH: Duration = Duration::from_secs(6 * 60);
/// How often series that go on are written again, before they expire.
const REFRESH: Duration = Duration::from_secs(30 * 60);

/// The reason of events about objects that are set aside because work on them panics or fails again and again.
pub const QUARANTINED: &str = "ReconcileQuarantined";

/// What such an event says.
pub fn quarantine_message(unit: &str, why: &str) -> String {
    format!("{unit} failed on this object again and again. It is set aside until it changes, and tried every few minutes: {why}")
}

/// Writes events of one component. Cheap to clone; never blocks.
#[derive(Clone)]
pub struct EventRecorder {
    posts: mpsc::Sender<Post>,
    action: &'static str,
    _writer: Arc<TaskHandle>,
}

/// An event that is to be written.
#[derive(Clone, Debug)]
struct Post {
    about: ObjectReference,
    kind: &'static str,
    reason: String,
    message: String,
    /// What was tried; only events in series say so.
    action: &'static str,
}

/// How what repeats is told.
enum Form {
    Counted(Correlator),
    InSeries(Series),
}

impl EventRecorder {
    /// A recorder that writes through `client` with this component as source.
    pub fn new(system: &System, client: &Client, component: &str) -> Self {
        EventRecorder::on_host(system, client, component, "")
    }

    /// The same for a component of one node.
    pub fn on_host(system: &System, client: &Client, component: &str, host: &str) -> Self {
        EventRecorder::paced(system, client, component, host, None)
    }

    /// The same, writing no more often than that.
    pub fn paced(system: &System, client: &Client, component: &str, host: &str, rate: Option<Rate>) -> Self {
        EventRecorder::start(system, client, component, host, rate, || Form::Counted(Correlator::default()))
    }

    /// A recorder of events in series, which tell what was tried ([`Self::trying`]).
    pub fn in_series(system: &System, client: &Client, component: &str) -> Self {
        let host = nix::unistd::gethostname().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        EventRecorder::start(system, client, component, &host, None, || Form::InSeries(Series::default()))
    }

    fn start(system: &System, client: &Client, component: &str, host: &str, rate: Option<Rate>, form: impl Fn() -> Form) -> Self {
        let (posts, queue) = mpsc::channel(BACKLOG);
        let writer = Writer {
            client: client.clone(),
            clock: system.clock().clone(),
            component: component.to_owned(),
            host: host.to_owned(),
            form: form(),
            pace: rate.map(|rate| TokenBucket::new(rate, system.clock().instant())),
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
        EventRecorder { posts, action: "", _writer: Arc::new(task) }
    }

    /// The same recorder for what came of trying this.
    pub fn trying(&self, action: &'static str) -> Self {
        EventRecorder { action, ..self.clone() }
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
        let message = shortened(message, LONGEST_MESSAGE);
        let post = Post { about: about.clone(), kind, reason: reason.to_owned(), message, action: self.action };
        if self.posts.try_send(post).is_err() {
            tracing::debug!(reason, "an event is dropped: too many wait");
        }
    }
}

/// Whoever wrote a pod is quoted in events of it, and these wait, are remembered, and are kept by the API.
const LONGEST_MESSAGE: usize = 4 << 10;
/// The API takes no longer texts in events in series.
const LONGEST_NOTE: usize = 1 << 10;

struct Writer {
    client: Client,
    clock: Arc<dyn Clock>,
    component: String,
    host: String,
    form: Form,
    /// How often it may write, where that is bounded.
    pace: Option<TokenBucket>,
}

impl Writer {
    async fn run(mut self, mut queue: mpsc::Receiver<Post>) {
        let (mut finish, mut refresh) = (tokio::time::interval(FINISH), tokio::time::interval(REFRESH));
        let in_series = matches!(self.form, Form::InSeries(_));
        loop {
            // In a fixed order, so that simulations repeat themselves.
            tokio::select! {
                biased;
                post = queue.recv() => match post {
                    Some(post) => self.take(post).await,
                    None => return,
                },
                _ = finish.tick(), if in_series => self.write_series(Series::finish).await,
                _ = refresh.tick(), if in_series => self.write_series(|series: &mut Series, _| series.all()).await,
            }
        }
    }

    async fn take(&mut self, post: Post) {
        let reason = post.reason.clone();
        let written = match &self.form {
            Form::Counted(_) => self.count(post).await,
            Form::InSeries(_) => self.add_to_series(post).await,
        };
        if let Err(error) = written {
            tracing::debug!(%error, reason, component = self.component, "an event was not written");
        }
    }

    /// Waits until one more may be written.
    async fn wait(&mut self) {
        if let Some(pace) = &mut self.pace {
            tokio::time::sleep(pace.reserve(self.clock.instant())).await;
        }
    }

    async fn count(&mut self, post: Post) -> Result<(), Status> {
        let now = self.clock.now();
        let Form::Counted(correlator) = &mut self.form else { return Ok(()) };
        let (key, message) = match correlator.take(&post, now) {
            correlate::Outcome::Skip => return Ok(()),
            correlate::Outcome::Create { key, message } => {
                self.wait().await;
                (key, message)
            }
            correlate::Outcome::Count { key, name, count, message } => {
                self.wait().await;
                let patch = json!({"count": count, "lastTimestamp": format_time(now), "message": message});
                let api = self.client.namespaced::<Event>(namespace(&post));
                match api.patch(&name, "", PatchType::StrategicMerge, &patch).await {
                    // It lived its time: write it anew.
                    Err(status) if status.is_not_found() => (key, message),
                    written => return written.map(drop),
                }
            }
        };
        let time = Some(Time(now));
        let source = EventSource { component: Some(self.component.clone()), host: (!self.host.is_empty()).then(|| self.host.clone()) };
        let event = Event {
            message: Some(message),
            count: Some(1),
            first_timestamp: time.clone(),
            last_timestamp: time,
            source: Some(source),
            reporting_instance: Some(self.host.clone()),
            ..self.event(&post, now)
        };
        let name = self.create(&post, &event).await?;
        if let Form::Counted(correlator) = &mut self.form {
            correlator.wrote(key, name);
        }
        Ok(())
    }

    async fn add_to_series(&mut self, post: Post) -> Result<(), Status> {
        let now = self.clock.now();
        let Form::InSeries(series) = &mut self.form else { return Ok(()) };
        let key = match series.take(&post, now) {
            series::Outcome::Nothing => return Ok(()),
            series::Outcome::Write(written) => return self.write_one(written).await,
            series::Outcome::Create(key) => key,
        };
        let event = Event {
            event_time: Some(MicroTime(now)),
            message: Some(shortened(post.message.clone(), LONGEST_NOTE)),
            action: Some(if post.action.is_empty() { post.reason.clone() } else { post.action.to_owned() }),
            reporting_instance: Some(format!("{}-{}", self.component, self.host)),
            ..self.event(&post, now)
        };
        let name = self.create(&post, &event).await?;
        if let Form::InSeries(series) = &mut self.form {
            series.wrote(key, namespace(&post), name, now);
        }
        Ok(())
    }

    async fn write_series(&mut self, which: impl Fn(&mut Series, Timestamp) -> Vec<Written>) {
        let now = self.clock.now();
        let Form::InSeries(series) = &mut self.form else { return };
        for written in which(series, now) {
            if let Err(error) = self.write_one(written).await {
                tracing::debug!(%error, component = self.component, "a series of events was not written");
            }
        }
    }

    async fn write_one(&mut self, written: Written) -> Result<(), Status> {
        let patch = json!({"series": {"count": written.count, "lastObservedTime": format_micro_time(written.last)}});
        let api = self.client.namespaced::<Event>(written.namespace.as_str());
        let outcome = api.patch(&written.name, "", PatchType::StrategicMerge, &patch).await;
        if let (Err(status), Form::InSeries(series)) = (&outcome, &mut self.form)
            && status.is_not_found()
        {
            series.lost(&written.name);
        }
        outcome.map(drop)
    }

    /// What events of either form have.
    fn event(&self, post: &Post, now: Timestamp) -> Event {
        let mut event = Event {
            involved_object: post.about.clone(),
            reason: Some(post.reason.clone()),
            message: Some(post.message.clone()),
            type_: Some(post.kind.to_owned()),
            reporting_component: Some(self.component.clone()),
            ..Event::default()
        };
        let about = post.about.name.as_deref().unwrap_or_default();
        event.metadata.name = Some(format!("{about}.{:x}", now.as_nanosecond()));
        event.metadata.namespace = Some(namespace(post));
        event
    }

    async fn create(&self, post: &Post, event: &Event) -> Result<String, Status> {
        let made = self.client.namespaced::<Event>(namespace(post)).create(event).await?;
        Ok(made.metadata.name.clone().unwrap_or_default())
    }
}

/// Where an event is written: beside its object.
fn namespace(post: &Post) -> String {
    post.about.namespace.clone().filter(|namespace| !namespace.is_empty()).unwrap_or_else(|| "default".to_owned())
}

/// The text, or its beginning.
fn shortened(mut message: String, longest: usize) -> String {
    const END: &str = " ...";
    if message.len() > longest {
        message.truncate(message.floor_char_boundary(longest - END.len()));
        message.push_str(END);
    }
    message
}

#[cfg(test)]
mod tests;
