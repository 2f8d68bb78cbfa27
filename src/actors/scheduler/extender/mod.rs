//! HTTP extenders: programs beside the scheduler that are asked which nodes will do, how good they are, whom to remove, and that may bind
//! (`extenders` of a `KubeSchedulerConfiguration`). They are asked aside: meanwhile other pods get their turn, and whatever they say is
//! compared with the cluster as it is when they have answered ([`decide`]).

pub mod decide;
mod settings;
#[cfg(test)]
pub mod testing;
#[cfg(test)]
mod tests;
pub mod wire;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use futures::future::join_all;
use http::{Request, header};
use http_body_util::Full;
use k8s_openapi::api::core::v1::{Node, Pod};
use serde_json::Value;
use tokio::net::lookup_host;
use troupe_api_server::webhook_client::{Connection, Connections, connect};

pub use self::settings::ExtenderSettings;
use self::wire::Filtered;
use super::framework::{Candidate, MAX_SCORE};

/// No more of an answer is read.
const MOST: usize = 64 << 20;
/// The best score that an extender gives.
const BEST: i64 = 10;

/// An extender and its connections.
pub struct Extender {
    pub settings: ExtenderSettings,
    connections: Connections,
}

/// What the extenders said of the nodes that they were asked about.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Opinion {
    pub nodes: BTreeSet<String>,
    pub failed: BTreeMap<String, (String, bool)>,
    /// What is added to the nodes' scores.
    pub scores: BTreeMap<String, i64>,
}

/// The extenders of a scheduler; those that can be done without come last. Cheap to clone.
#[derive(Clone, Default)]
pub struct Extenders {
    all: Arc<[Arc<Extender>]>,
}

impl Extenders {
    pub fn new(settings: impl IntoIterator<Item = ExtenderSettings>) -> Self {
        let mut all: Vec<Arc<Extender>> = settings.into_iter().map(|settings| Arc::new(Extender::new(settings))).collect();
        all.sort_by_key(|extender| extender.settings.ignorable);
        Extenders { all: all.into() }
    }

    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Those whose business a pod is and that have something to say at one of these verbs.
    fn interested(&self, pod: &Pod, asked: impl Fn(&ExtenderSettings) -> bool) -> Vec<Arc<Extender>> {
        self.all.iter().filter(|extender| asked(&extender.settings) && extender.settings.is_interested(pod)).cloned().collect()
    }

    /// Those that filter or score nodes for a pod.
    pub fn of_nodes(&self, pod: &Pod) -> Vec<Arc<Extender>> {
        self.interested(pod, |settings| !settings.filter_verb.is_empty() || !settings.prioritize_verb.is_empty())
    }

    /// Those that have a say in preemption.
    pub fn of_preemption(&self, pod: &Pod) -> Vec<Arc<Extender>> {
        self.interested(pod, |settings| !settings.preempt_verb.is_empty())
    }

    /// Those that bind.
    pub fn of_binding(&self, pod: &Pod) -> Vec<Arc<Extender>> {
        self.interested(pod, |settings| !settings.bind_verb.is_empty())
    }
}

/// Asks which of the nodes will do, one extender after the other, and if several are left how good they are, all at once.
///
/// # Errors
/// When one fails that cannot be done without.
pub async fn ask(extenders: &[Arc<Extender>], pod: &Arc<Pod>, nodes: Vec<Arc<Node>>) -> Result<Opinion, String> {
    let mut left = nodes;
    let mut opinion = Opinion::default();
    for extender in extenders.iter().filter(|extender| !extender.settings.filter_verb.is_empty()) {
        if left.is_empty() {
            break;
        }
        match extender.filter(pod, &left).await {
            Ok(Filtered { nodes, failed }) => {
                left.retain(|node| node.metadata.name.as_ref().is_some_and(|name| nodes.contains(name)));
                opinion.failed.extend(failed);
            }
            Err(why) if extender.settings.ignorable => tracing::info!(extender = extender.settings.url, why, "the extender failed and is ignored"),
            Err(why) => return Err(why),
        }
    }
    if left.len() > 1 {
        let scoring = extenders.iter().filter(|extender| !extender.settings.prioritize_verb.is_empty());
        let left = &left;
        let asking = scoring.map(|extender| async move { (extender, extender.prioritize(pod, left).await) });
        for (extender, scores) in join_all(asking).await {
            match scores {
                Ok(scores) => scores.into_iter().for_each(|(node, score)| {
                    let sum = opinion.scores.entry(node).or_default();
                    *sum = sum.saturating_add(score.saturating_mul(extender.settings.weight).saturating_mul(MAX_SCORE / BEST));
                }),
                Err(why) => tracing::info!(extender = extender.settings.url, why, "the extender scored nothing"),
            }
        }
    }
    opinion.nodes = left.iter().filter_map(|node| node.metadata.name.clone()).collect();
    Ok(opinion)
}

/// Victims by node, as extenders leave them.
pub type LeftVictims = BTreeMap<String, (Vec<String>, usize)>;

/// Asks who may be removed, one extender after the other; each is told what the one before left.
///
/// # Errors
/// When one fails that cannot be done without.
pub async fn ask_preemption(
    extenders: &[Arc<Extender>],
    pod: &Arc<Pod>,
    candidates: Vec<Candidate>,
    find: impl Fn(&str, &LeftVictims) -> Result<Vec<Candidate>, String>,
    object: impl Fn(&Candidate) -> Vec<Arc<Pod>>,
) -> Result<Vec<Candidate>, String> {
    let mut left = candidates;
    for extender in extenders {
        let settings = &extender.settings;
        let args = wire::preemption(pod, &left, settings.node_cache_capable, &object);
        let answered = extender.send(&settings.preempt_verb, args).await.and_then(|answer| {
            let mut victims = wire::victims(&answer);
            if settings.ignorable {
                victims.retain(|_, (uids, _)| !uids.is_empty());
            }
            if let Some((node, _)) = victims.iter().find(|(_, (uids, _))| uids.is_empty()) {
                return Err(format!("expected at least one victim pod on node {node:?}"));
            }
            find(&settings.url, &victims)
        });
        match answered {
            Ok(candidates) => left = candidates,
            Err(why) if settings.ignorable => tracing::info!(extender = settings.url, why, "the extender failed and is ignored"),
            Err(why) => return Err(why),
        }
        if left.is_empty() {
            break;
        }
    }
    Ok(left)
}

/// Lets the extender that binds do so; `Ok(false)` if none does, or it failed and can be done without.
///
/// # Errors
/// What the extender says went wrong.
pub async fn bind(extenders: &[Arc<Extender>], pod: &Arc<Pod>, node: &str) -> Result<bool, String> {
    for extender in extenders {
        let answered = extender.send(&extender.settings.bind_verb, wire::binding(pod, node)).await;
        let bound = answered.and_then(|answer| match wire::field(&answer, "Error").as_str() {
            Some(why) if !why.is_empty() => Err(why.to_owned()),
            _ => Ok(()),
        });
        match bound {
            Ok(()) => return Ok(true),
            Err(why) if extender.settings.ignorable => tracing::info!(extender = extender.settings.url, why, "the extender failed and is ignored"),
            Err(why) => return Err(why),
        }
    }
    Ok(false)
}

impl Extender {
    fn new(settings: ExtenderSettings) -> Self {
        Extender { settings, connections: Connections::default() }
    }

    async fn filter(&self, pod: &Arc<Pod>, nodes: &[Arc<Node>]) -> Result<Filtered, String> {
        let settings = &self.settings;
        let answer = self.ask_about(&settings.filter_verb, pod, nodes).await?;
        let filtered = Filtered::read(&answer, settings.node_cache_capable)?;
        let is_known = |name: &&String| nodes.iter().any(|node| node.metadata.name.as_ref() == Some(*name));
        match filtered.nodes.iter().find(|name| settings.node_cache_capable && !is_known(name)) {
            Some(odd) => Err(format!("extender {:?} claims a filtered node {odd:?} which is not found in the input node list", settings.url)),
            None => Ok(filtered),
        }
    }

    async fn prioritize(&self, pod: &Arc<Pod>, nodes: &[Arc<Node>]) -> Result<BTreeMap<String, i64>, String> {
        Ok(wire::scores(&self.ask_about(&self.settings.prioritize_verb, pod, nodes).await?))
    }

    /// Nodes may be many: their text is made on another thread.
    async fn ask_about(&self, verb: &str, pod: &Arc<Pod>, nodes: &[Arc<Node>]) -> Result<Value, String> {
        let (pod, nodes, names_alone) = (pod.clone(), nodes.to_vec(), self.settings.node_cache_capable);
        let made = tokio::task::spawn_blocking(move || wire::arguments(&pod, &nodes, names_alone).to_string().into_bytes());
        self.post(verb, made.await.map_err(|error| error.to_string())?).await
    }

    async fn send(&self, verb: &str, args: Value) -> Result<Value, String> {
        self.post(verb, args.to_string().into_bytes()).await
    }

    async fn post(&self, verb: &str, body: Vec<u8>) -> Result<Value, String> {
        let url = format!("{}/{verb}", self.settings.url);
        let called = |why: &str| format!("Post {url:?}: {why}");
        let request = request(&url, body)?;
        let exchange = self.connections.exchange(request, MOST, || self.dial());
        let answer = match tokio::time::timeout(self.settings.timeout, exchange).await {
            Ok(answered) => answered.map_err(|why| called(&why))?,
            Err(_) => return Err(called("context deadline exceeded (Client.Timeout exceeded while awaiting headers)")),
        };
        if answer.status != 200 {
            return Err(format!("failed {verb} with extender at URL {url}, code {}", answer.status.as_u16()));
        }
        serde_json::from_slice(&answer.body).map_err(|error| error.to_string())
    }

    async fn dial(&self) -> Result<Connection, String> {
        let url: http::Uri = self.settings.url.parse().map_err(|error| format!("{error}"))?;
        let host = url.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']').to_owned();
        let port = url.port_u16().unwrap_or(if self.settings.tls.is_some() { 443 } else { 80 });
        let found = lookup_host((host.as_str(), port)).await.map_err(|error| format!("dial tcp: lookup {host}: {error}"))?;
        let addresses: Vec<_> = found.collect();
        let tls = self.settings.tls.clone().map(|tls| (self.settings.server_name.clone().unwrap_or(host), tls));
        connect(&addresses, tls).await
    }
}

fn request(url: &str, body: Vec<u8>) -> Result<Request<Full<bytes::Bytes>>, String> {
    let url: http::Uri = url.parse().map_err(|error| format!("{error}"))?;
    let request = Request::post(url.path_and_query().map_or("/", |path| path.as_str()))
        .header(header::HOST, url.authority().map_or("", |authority| authority.as_str()))
        .header(header::CONTENT_TYPE, "application/json")
        .header(header::ACCEPT, "application/json")
        .header(header::USER_AGENT, "kube-scheduler");
    request.body(Full::new(body.into())).map_err(|error| error.to_string())
}
