//! What the kubelet's server answers.

use std::{fmt, io, path::Path, sync::Arc, time::Duration};

use hyper::{Method, Request, Response, body::Incoming};
use serde_json::{Value, json};
use troupe_api::{
    metrics::{CONTENT_TYPE, health},
    node_pressure,
    version::VersionInfo,
};
use troupe_api_server::http::streaming::{LogOptions, query_value};
use troupe_cri::Runtime;

use super::{
    authorize, checkpoint,
    directory::{LookupError, PodDirectory, PodRef},
    documents, logs,
    route::Route,
    streams::{self, Purpose},
    system_logs,
};
use crate::{
    insight,
    kubelet::{
        metrics::{probes, scrape},
        stats::{self, Sample},
    },
    runtime::system::System,
    serving::{self, Body, Gate, Handler, ServerHandle, document, streaming, text},
    zpages::{Asked, Zpages},
};

/// Where it answers what monitoring asks, as `/statusz` lists it.
pub const PATHS: [&str; 4] = ["/configz", "/flagz", "/healthz", "/metrics"];
/// `/run` waits no longer for its command.
const RUN_TIMEOUT: Duration = Duration::from_secs(120);

/// What the server needs.
#[derive(Clone)]
pub struct KubeletServerOptions {
    /// Asks clients for certificates and verifies those that come.
    pub tls: Arc<rustls::ServerConfig>,
    /// The node whose subresources requests are authorized as.
    pub node_name: Arc<str>,
    pub runtime: Arc<dyn Runtime>,
    pub pods: Arc<dyn PodDirectory>,
    /// The cgroup that holds the node's pods.
    pub cgroup_parent: Arc<str>,
    /// Where checkpoints of containers lie.
    pub checkpoints: Arc<Path>,
    pub gate: Arc<dyn Gate>,
    /// The configuration that `/configz` tells.
    pub configuration: Arc<Value>,
    /// What the kubelet is, and with which flags it runs.
    pub zpages: Arc<Zpages>,
    /// What `/metrics` says was built.
    pub version: VersionInfo,
    /// Whose insides it tells of to who may look; `None` tells of none.
    pub insight: Option<System>,
}

impl fmt::Debug for KubeletServerOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KubeletServerOptions").field("node_name", &self.node_name).finish_non_exhaustive()
    }
}

/// Serves on `listener` until stopped. Must be called within a tokio runtime.
///
/// # Errors
/// When the listener cannot be used.
pub fn serve(listener: std::net::TcpListener, options: KubeletServerOptions) -> io::Result<ServerHandle> {
    let (tls, options) = (options.tls.clone(), Arc::new(options));
    let answer: Handler = Arc::new(move |request, certificate| {
        let options = options.clone();
        Box::pin(async move { handle(request, certificate.as_deref(), options).await })
    });
    serving::serve(listener, &tls, answer)
}

async fn handle(request: Request<Incoming>, certificate: Option<&[u8]>, options: Arc<KubeletServerOptions>) -> Response<Body> {
    if let Err(refused) = authorize::admit(&request, certificate, &options.node_name, &*options.gate).await {
        return text(refused.code, refused.text);
    }
    let Some(route) = Route::of(request.uri().path()) else { return text(404, "404 page not found\n") };
    if !authorize::takes(request.method()) {
        return text(405, "405: Method Not Allowed");
    }
    dispatch(request, route, options).await
}

async fn dispatch(request: Request<Incoming>, route: Route, options: Arc<KubeletServerOptions>) -> Response<Body> {
    let KubeletServerOptions { runtime, pods, node_name, version, .. } = &*options;
    let says = |flag: &str| options.configuration[flag].as_bool();
    match route {
        Route::Logs { pod, container } => container_logs(&request, pods, &pod, &container).await,
        Route::Exec { pod, container } => streams::remote_command(request, runtime.clone(), pods.clone(), (pod, container), Purpose::Exec).await,
        Route::Attach { pod, container } => streams::remote_command(request, runtime.clone(), pods.clone(), (pod, container), Purpose::Attach).await,
        Route::PortForward { pod } => streams::port_forward(request, runtime.clone(), pods.clone(), pod).await,
        Route::Run { .. } if request.method() != Method::POST => text(405, "405: Method Not Allowed"),
        Route::Run { pod, container } => run(&request, &options, &pod, &container).await,
        Route::Checkpoint { .. } if request.method() != Method::POST => text(405, "405: Method Not Allowed"),
        Route::Checkpoint { pod, container } => {
            let query = request.uri().query().unwrap_or_default();
            checkpoint::answer(query, &**runtime, &**pods, &options.checkpoints, (&pod, &container)).await
        }
        Route::Pods | Route::RunningPods => documents::pod_list(&pods.pods().await),
        Route::Healthz => {
            health::checked("ping", "healthz", true);
            text(200, "ok")
        }
        Route::Configz => document(200, "application/json", json!({"kubeletconfig": *options.configuration}).to_string()),
        Route::Zpage => options.zpages.respond(&Asked::of(&request)).unwrap_or_else(|| text(404, "404 page not found\n")),
        Route::HealthMetrics => document(200, CONTENT_TYPE, health::slis()),
        Route::ProbeMetrics => document(200, CONTENT_TYPE, probes::page()),
        Route::Insight => match &options.insight {
            Some(system) => insight::answer(system, &request).await,
            None => text(404, "404 page not found\n"),
        },
        Route::Metrics => {
            let text = scrape(node_name, pods.pods().await.len(), &pods.volumes().await, &**runtime, version, options.insight.as_ref()).await;
            document(200, CONTENT_TYPE, text)
        }
        Route::SystemLogs { .. } if says("enableSystemLogHandler") == Some(false) => text(405, "logs endpoint is disabled.\n"),
        Route::SystemLogs { .. } if request.method() != Method::GET => text(405, "405: Method Not Allowed"),
        Route::SystemLogs { path } => {
            let takes_queries = says("enableSystemLogQuery") == Some(true);
            system_logs::answer(&path, takes_queries.then(|| request.uri().query().unwrap_or_default())).await
        }
        Route::ResourceMetrics | Route::ContainerMetrics | Route::Summary => {
            let query = request.uri().query().unwrap_or_default();
            usage(&route, node_pressure::is_asked_for(query), &options).await
        }
    }
}

/// What containers and the node use, and `with_pressure` what the node's tasks waited for.
async fn usage(route: &Route, with_pressure: bool, options: &KubeletServerOptions) -> Response<Body> {
    let KubeletServerOptions { node_name, runtime, pods, cgroup_parent, .. } = options;
    let own = stats::own_group();
    match (Sample::take(&**runtime).await, route) {
        (sample, Route::ResourceMetrics) => {
            let swaps = stats::swaps(cgroup_parent).await;
            let sample = sample.as_ref().ok();
            let pressure = sample.filter(|_| with_pressure).map(|sample| sample.node.pressures.of_node()).unwrap_or_default();
            document(200, CONTENT_TYPE, stats::resource(sample, &swaps, pressure))
        }
        (Err(error), _) => text(500, error.to_string()),
        (Ok(sample), Route::ContainerMetrics) => {
            let details = stats::details(&**runtime, cgroup_parent, own.as_deref(), &sample).await;
            document(200, CONTENT_TYPE, stats::cadvisor(&sample, &details))
        }
        (Ok(sample), _) => {
            let details = stats::details(&**runtime, cgroup_parent, own.as_deref(), &sample).await;
            let (volumes, logs, images) = (pods.volumes().await, pods.logs().await, stats::of_images(&**runtime).await);
            let (kubelet, rates) = (own.as_deref(), stats::rates());
            let known = stats::Known { volumes: &volumes, logs: &logs, details: &details, pods: cgroup_parent, kubelet, rates, images };
            document(200, "application/json", stats::summary(node_name, &sample, known).to_string())
        }
    }
}

async fn container_logs(request: &Request<Incoming>, pods: &Arc<dyn PodDirectory>, pod: &PodRef, container: &str) -> Response<Body> {
    let query = request.uri().query().unwrap_or_default();
    let options = match LogOptions::parse(query, &pod.name) {
        Ok(options) => options,
        Err(status) if status.code == 422 => return text(422, r#"{"message": "Invalid request."}"#),
        Err(_) => return text(400, r#"{"message": "Unable to decode query."}"#),
    };
    let log = match pods.log(pod, container, options.previous).await {
        Ok(log) => log,
        Err(LookupError::NotFound(why)) => return text(404, why),
        Err(error) => return text(400, error.to_string()),
    };
    match logs::stream(log, &pod.namespace, options, pods.clone()).await {
        Ok(chunks) => streaming(chunks),
        Err(error) => text(400, error.to_string()),
    }
}

/// Runs a command and answers with what it printed.
async fn run(request: &Request<Incoming>, options: &KubeletServerOptions, pod: &PodRef, container: &str) -> Response<Body> {
    let command = query_value(request.uri().query().unwrap_or_default(), "cmd");
    let command: Vec<String> = command.split(' ').map(str::to_owned).collect();
    let id = match options.pods.container(pod, container).await {
        Ok(id) => id,
        Err(error) => return streams::failure(&error),
    };
    match options.runtime.exec_sync(&id, &command, RUN_TIMEOUT).await {
        Ok(output) if output.exit_code == 0 => document(200, "application/json", [output.stdout, output.stderr].concat()),
        Ok(output) => text(500, format!("command terminated with exit code {}", output.exit_code)),
        Err(error) => text(500, error.to_string()),
    }
}
