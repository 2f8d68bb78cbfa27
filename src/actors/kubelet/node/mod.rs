//! The node object: registered, kept up to date, and its lease renewed.

pub mod facts;
pub mod lease;
pub mod own;
pub mod reserved;
mod sight;
pub mod status;
mod told;

use std::{
    collections::BTreeMap,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use actix::Message;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, NodeCondition, NodeStatus, Taint};
use serde_json::{Value, json};
use troupe_api::{Status, meta::GroupResource, service::PatchType};
use troupe_api_client::Client;
use troupe_cri::RuntimeFeatures;

use self::{
    facts::{MachineFacts, Usage},
    reserved::Reserved,
    sight::Sight,
    status::{NodeInputs, annotations, labels, machine_labels, node, patch, same, shows},
};
use super::{
    context::{NodeContext, runtime_version},
    events::Note,
    eviction::signals::Threshold,
};
use crate::runtime::{
    envelope::Reply,
    host::{On, Unit, UnitContext},
};

/// Soon after the start the status is looked at more often.
const LOOK_AT_FIRST: Duration = Duration::from_millis(200);
const RETRY: Duration = Duration::from_millis(500);

/// What the node is told about itself.
#[derive(Clone, Debug)]
pub struct NodeFacts {
    pub labels: BTreeMap<String, String>,
    pub port: u16,
    pub max_pods: u32,
    pub kubelet_version: String,
    pub machine: MachineFacts,
    /// How often the lease is renewed.
    pub heartbeat: Duration,
    pub reserved: Reserved,
    /// What eviction keeps free.
    pub thresholds: Vec<Threshold>,
    pub registration: Registration,
    pub status: NodeStatusOptions,
}

/// What a node is when it registers.
#[derive(Clone, Debug, PartialEq)]
pub struct Registration {
    /// Whether it does so itself; else it waits for its object.
    pub by_itself: bool,
    pub taints: Vec<Taint>,
    /// Its name at a cloud provider; empty for none.
    pub provider_id: String,
}

impl Default for Registration {
    fn default() -> Self {
        Registration { by_itself: true, taints: Vec::new(), provider_id: String::new() }
    }
}

/// How a node's status is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NodeStatusOptions {
    /// How often it is looked at (upstream's `nodeStatusUpdateFrequency`).
    pub update: Duration,
    /// How often it is written although it does not change (upstream's `nodeStatusReportFrequency`).
    pub report: Duration,
    /// How many images it lists; `None` for all.
    pub most_images: Option<usize>,
}

impl Default for NodeStatusOptions {
    /// Upstream's.
    fn default() -> Self {
        NodeStatusOptions { update: Duration::from_secs(10), report: Duration::from_secs(300), most_images: Some(50) }
    }
}

/// The node's status is to be looked at now.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
pub struct ReportNow;

/// The unit that speaks for the node.
pub struct NodeReporter {
    context: Arc<NodeContext>,
    client: Client,
    facts: Arc<NodeFacts>,
    node: Option<Arc<Node>>,
    written: Option<NodeStatus>,
    written_at: Option<Instant>,
    sight: Sight,
    renewed: Option<Timestamp>,
    /// A renewal is under way, or waits to be tried again.
    renewing: bool,
    ready: bool,
    /// Counts looks at the status, so that only the newest timer leads to one.
    looks: u64,
    looking: bool,
    /// It was asked for while one was under way.
    again: bool,
    /// The conditions that events told of last.
    told: Vec<NodeCondition>,
    cordoned: bool,
}

/// A status that the API shows.
struct Shown {
    /// Whether it had to be written.
    wrote: bool,
    node: Arc<Node>,
}

impl NodeReporter {
    pub fn new(context: Arc<NodeContext>, client: Client, facts: Arc<NodeFacts>) -> Self {
        let (node, written, written_at, renewed) = (None, None, None, None);
        let sight = Sight::default();
        let (renewing, ready, looks, looking, again) = (false, false, 0, false, false);
        let (told, cordoned) = (Vec::new(), false);
        NodeReporter { context, client, facts, node, written, written_at, sight, renewed, renewing, ready, looks, looking, again, told, cordoned }
    }

    fn register(&mut self, cx: &mut UnitContext<'_, Self>) {
        // A look follows.
        self.looking = true;
        let (context, client, facts) = (self.context.clone(), self.client.clone(), self.facts.clone());
        let work = async move { register(&context, &client, &facts).await };
        cx.spawn_then(work, |reporter, registered, cx| match registered {
            Ok((node, is_new)) => {
                tracing::info!(node = &*reporter.context.node_name, "node registered");
                reporter.tell(Note::normal("Starting", "Starting kubelet."));
                let status = node.status.as_ref().filter(|_| !is_new);
                reporter.told = status.and_then(|status| status.conditions.clone()).unwrap_or_default();
                let boot_id = &reporter.facts.machine.boot_id;
                told::rebooted(&reporter.context.node_name, status, boot_id).into_iter().for_each(|note| reporter.tell(note));
                let is_first = reporter.node.replace(node).is_none();
                reporter.renew(cx);
                if is_first {
                    cx.every(reporter.facts.heartbeat, Self::renew);
                }
                reporter.report(cx);
            }
            Err(error) => {
                tracing::warn!(%error, "node not registered");
                // Somebody else makes the object, who knows when.
                let pause = if reporter.facts.registration.by_itself { RETRY } else { reporter.facts.status.update };
                cx.after(pause, Self::register);
            }
        });
    }

    fn renew(&mut self, cx: &mut UnitContext<'_, Self>) {
        if std::mem::replace(&mut self.renewing, true) {
            return;
        }
        let (client, name, heartbeat) = (self.client.clone(), self.context.node_name.clone(), self.facts.heartbeat);
        let clock = self.context.clock.clone();
        let uid = self.node.as_ref().and_then(|node| node.metadata.uid.clone());
        let before = self.renewed;
        let work = async move {
            // The first renewal may follow those of a process before this one.
            let before = match before {
                None => lease::renewed(&client, &name).await?,
                before => before,
            };
            let now = lease::next_renewal(before, clock.now());
            lease::renew(&client, &name, uid.as_deref(), now, heartbeat).await.map(|()| now)
        };
        cx.spawn_then(work, |reporter, renewed: Result<Timestamp, Status>, cx| match renewed {
            Ok(renewed) => {
                reporter.renewing = false;
                reporter.renewed = Some(renewed);
            }
            Err(error) => {
                tracing::warn!(%error, "lease not renewed");
                cx.after(Duration::from_secs(2), |reporter, cx| {
                    reporter.renewing = false;
                    reporter.renew(cx);
                });
            }
        });
    }

    fn report_after(&mut self, pause: Duration, cx: &mut UnitContext<'_, Self>) {
        let pause = if std::mem::take(&mut self.again) { Duration::ZERO } else { pause };
        self.looks += 1;
        let look = self.looks;
        cx.after(pause, move |reporter, cx| {
            if reporter.looks == look {
                reporter.report(cx);
            }
        });
    }

    fn report(&mut self, cx: &mut UnitContext<'_, Self>) {
        self.looking = true;
        let (context, client, facts) = (self.context.clone(), self.client.clone(), self.facts.clone());
        let (before, since, mut sight) = (self.written.clone(), self.written_at, self.sight.clone());
        let report = facts.status.report;
        let work = async move {
            sight.look(&*context.runtime).await;
            if let Ok(runtime) = sight.runtime(Instant::now()) {
                context.features.store(Arc::new(RuntimeFeatures::of(runtime)));
            }
            if let Some(version) = &sight.version {
                context.runtime_version.store(Arc::new(runtime_version(version)));
            }
            let status = measure(&context, &facts, before.as_ref(), &sight);
            let due = since.is_none_or(|since| since.elapsed() >= report);
            let before = before.filter(|_| !due);
            let written = write(&context, &client, &facts, (before.as_ref(), &status)).await;
            (sight, status, written)
        };
        cx.spawn_then(work, |reporter, (sight, status, written), cx| {
            reporter.sight = sight;
            reporter.looking = false;
            reporter.reported(status, written, cx);
        });
    }

    fn reported(&mut self, status: NodeStatus, written: Result<Shown, Status>, cx: &mut UnitContext<'_, Self>) {
        let ready = status.conditions.iter().flatten().any(|condition| condition.type_ == "Ready" && condition.status == "True");
        match written {
            Ok(Shown { wrote, node }) => {
                if wrote {
                    self.written_at = Some(Instant::now());
                }
                self.announce(ready, &status, &node);
                self.written = Some(status);
                // One that shuts down says so once.
                let settled = ready || self.context.shutting_down.load(Ordering::Relaxed);
                self.report_after(if settled { self.facts.status.update } else { LOOK_AT_FIRST }, cx);
            }
            Err(error) if error.is_not_found() => {
                // Somebody deleted the node object: register again.
                self.written = None;
                self.register(cx);
            }
            Err(error) => {
                tracing::warn!(%error, "node status not written");
                self.report_after(RETRY, cx);
            }
        }
    }

    /// Tells what is not any more as it was told last.
    fn announce(&mut self, ready: bool, status: &NodeStatus, node: &Node) {
        let name = self.context.node_name.clone();
        let conditions = status.conditions.as_deref().unwrap_or_default();
        told::changes(&name, &self.told, conditions).into_iter().for_each(|note| self.tell(note));
        self.told = conditions.to_vec();
        if std::mem::replace(&mut self.ready, ready) != ready {
            self.tell(told::is_now(&name, if ready { "NodeReady" } else { "NodeNotReady" }));
        }
        let cordoned = told::is_cordoned(node);
        if std::mem::replace(&mut self.cordoned, cordoned) != cordoned {
            self.tell(told::is_now(&name, if cordoned { "NodeNotSchedulable" } else { "NodeSchedulable" }));
        }
    }

    fn tell(&self, note: Note) {
        self.context.events.node(&self.context.node_name, note);
    }
}

fn measure(context: &NodeContext, facts: &NodeFacts, before: Option<&NodeStatus>, sight: &Sight) -> NodeStatus {
    let usage = Usage::measure(&context.root);
    let conditions = before.and_then(|before| before.conditions.clone()).unwrap_or_default();
    let devices = context.device_plugins.amounts();
    status::status(&inputs(context, facts, usage, sight.runtime(Instant::now()), (&sight.images, &devices)), &conditions)
}

/// Writes the status unless it is as it was `before`, and shown so.
async fn write(
    context: &NodeContext,
    client: &Client,
    facts: &NodeFacts,
    (before, status): (Option<&NodeStatus>, &NodeStatus),
) -> Result<Shown, Status> {
    let api = client.all::<Node>();
    if before.is_some_and(|before| same(before, status)) {
        // Others change conditions too: of a node that was silent they become Unknown.
        let node = api.get(&context.node_name).await?;
        let labels = machine_labels(&facts.machine.architecture);
        if !has_all(node.metadata.labels.as_ref(), &labels) {
            // What the machine is nobody else knows better.
            api.patch(&context.node_name, "", PatchType::Merge, &json!({"metadata": {"labels": labels}})).await?;
        }
        if shows(node.status.as_ref(), status) {
            return Ok(Shown { wrote: false, node });
        }
    }
    let node = api.patch(&context.node_name, "status", PatchType::StrategicMerge, &patch(status)).await?;
    Ok(Shown { wrote: true, node })
}

fn inputs<'a>(
    context: &'a NodeContext,
    facts: &'a NodeFacts,
    usage: Usage,
    runtime: Result<&'a troupe_cri::proto::StatusResponse, &'a str>,
    (images, devices): (&'a [troupe_cri::proto::Image], &'a BTreeMap<String, (usize, usize)>),
) -> NodeInputs<'a> {
    NodeInputs {
        name: &context.node_name,
        labels: &facts.labels,
        ips: &context.node_ips,
        port: facts.port,
        max_pods: facts.max_pods,
        reserved: facts.reserved,
        thresholds: &facts.thresholds,
        registration: &facts.registration,
        most_images: facts.status.most_images,
        kubelet_version: &facts.kubelet_version,
        volumes: &context.volumes,
        facts: &facts.machine,
        usage,
        disk_pressure: context.disk_pressure.load(Ordering::Relaxed),
        memory_pressure: context.memory_pressure.load(Ordering::Relaxed),
        pid_pressure: context.pid_pressure.load(Ordering::Relaxed),
        shutting_down: context.shutting_down.load(Ordering::Relaxed),
        runtime,
        runtime_version: context.runtime_version.load_full(),
        images,
        devices,
        now: context.clock.now(),
    }
}

/// The node as it would register here, without asking the runtime.
pub fn made(context: &NodeContext, facts: &NodeFacts) -> Node {
    node(&inputs(context, facts, Usage::measure(&context.root), Err("it was not asked"), (&[], &context.device_plugins.amounts())))
}

/// Creates the node object, or brings labels and annotations of the one that exists up to date; gives it, and whether it is new.
async fn register(context: &NodeContext, client: &Client, facts: &NodeFacts) -> Result<(Arc<Node>, bool), Status> {
    let api = client.all::<Node>();
    let runtime = context.runtime.status().await.map_err(|error| error.to_string());
    let devices = context.device_plugins.amounts();
    let inputs = inputs(context, facts, Usage::measure(&context.root), runtime.as_ref().map_err(String::as_str), (&[], &devices));
    if let Some(known) = api.get_opt(&context.node_name).await? {
        let (labels, annotations) = (labels(&inputs), annotations(&inputs));
        if has_all(known.metadata.labels.as_ref(), &labels) && has_all(known.metadata.annotations.as_ref(), &annotations) {
            return Ok((known, false));
        }
        let patch = json!({"metadata": {"labels": labels, "annotations": annotations}});
        return Ok((api.patch(&context.node_name, "", PatchType::Merge, &patch).await?, false));
    }
    if !facts.registration.by_itself {
        return Err(Status::not_found(&GroupResource::new("", "nodes"), &context.node_name));
    }
    Ok((api.create(&node(&inputs)).await?, true))
}

fn has_all(known: Option<&BTreeMap<String, String>>, wanted: &BTreeMap<String, String>) -> bool {
    wanted.iter().all(|(key, value)| known.and_then(|known| known.get(key)) == Some(value))
}

impl Unit for NodeReporter {
    fn started(&mut self, cx: &mut UnitContext<'_, Self>) {
        self.register(cx);
    }

    fn observe(&self) -> Value {
        json!({"ready": self.ready, "registered": self.node.is_some(), "lease": self.renewed.map(|time| time.to_string())})
    }
}

impl On<ReportNow> for NodeReporter {
    fn on(&mut self, _: ReportNow, cx: &mut UnitContext<'_, Self>) -> Reply<()> {
        if self.looking {
            self.again = true;
        } else if self.node.is_some() {
            self.report_after(Duration::ZERO, cx);
        }
        Reply::Now(())
    }
}
