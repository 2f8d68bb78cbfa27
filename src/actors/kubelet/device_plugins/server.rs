//! Where plugins register, and what they tell of their devices from then on.

use std::{
    convert::Infallible,
    fs,
    os::unix::fs::FileTypeExt,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use futures::{future::BoxFuture, stream};
use http::{Request, Response};
use serde_json::{Value, json};
use tokio::{net::UnixListener, time::Instant};
use tonic::{Status, body::Body, server::NamedService};
use tonic_prost::ProstCodec;
use troupe_api::resources::validation::resource_names::is_extended;
use troupe_unix_grpc::{Service, words};

use super::{
    DevicePlugins, PATIENCE, Plugin,
    proto::{Empty, ListAndWatchResponse, RegisterRequest, VERSION},
};
use crate::{
    kubelet::device_metrics as metrics,
    runtime::host::{Unit, UnitContext},
};

const SOCKET: &str = "kubelet.sock";
const RETRY: Duration = Duration::from_secs(5);

static REGISTRATIONS: AtomicU64 = AtomicU64::new(0);

/// The unit that plugins register with.
pub struct DevicePluginServer {
    plugins: Arc<DevicePlugins>,
}

impl DevicePluginServer {
    pub fn new(plugins: Arc<DevicePlugins>) -> Self {
        DevicePluginServer { plugins }
    }

    fn serve(&mut self, cx: &mut UnitContext<'_, Self>) {
        let plugins = self.plugins.clone();
        cx.spawn_then(async move { serve(plugins).await }, |_, why, cx| {
            tracing::warn!(why, "device plugins cannot register, will retry");
            cx.after(RETRY, Self::serve);
        });
    }
}

impl Unit for DevicePluginServer {
    fn started(&mut self, cx: &mut UnitContext<'_, Self>) {
        self.serve(cx);
    }

    fn observe(&self) -> Value {
        json!({"resources": self.plugins.amounts()})
    }
}

/// Serves until something is wrong, and says what.
pub async fn serve(plugins: Arc<DevicePlugins>) -> String {
    let listener = match listen(&plugins.directory) {
        Ok(listener) => listener,
        Err(error) => return error.to_string(),
    };
    let incoming = stream::unfold(listener, |listener| async move {
        let accepted = listener.accept().await.map(|(stream, _)| stream);
        Some((accepted, listener))
    });
    let served = tonic::transport::Server::builder().add_service(Registration(plugins)).serve_with_incoming(incoming).await;
    served.map_or_else(|error| error.to_string(), |()| "it ended".to_owned())
}

/// Sockets of before are removed: by that plugins learn that they have to register again.
fn listen(directory: &Path) -> std::io::Result<UnixListener> {
    fs::create_dir_all(directory)?;
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if fs::symlink_metadata(&path)?.file_type().is_socket() {
            fs::remove_file(path)?;
        }
    }
    UnixListener::bind(directory.join(SOCKET))
}

/// `v1beta1.Registration`.
#[derive(Clone)]
struct Registration(Arc<DevicePlugins>);

impl NamedService for Registration {
    const NAME: &'static str = "v1beta1.Registration";
}

/// The one method of it.
struct Register(Arc<DevicePlugins>);

impl tonic::server::UnaryService<RegisterRequest> for Register {
    type Response = Empty;
    type Future = BoxFuture<'static, Result<tonic::Response<Empty>, Status>>;

    fn call(&mut self, request: tonic::Request<RegisterRequest>) -> Self::Future {
        let outcome = register(&self.0, request.into_inner());
        Box::pin(async move { outcome.map(|()| tonic::Response::new(Empty {})).map_err(Status::unknown) })
    }
}

impl tower_service::Service<Request<Body>> for Registration {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let plugins = self.0.clone();
        Box::pin(async move {
            if request.uri().path() != "/v1beta1.Registration/Register" {
                return Ok(Status::unimplemented("unknown method").into_http());
            }
            let mut grpc = tonic::server::Grpc::new(ProstCodec::<Empty, RegisterRequest>::default());
            Ok(grpc.unary(Register(plugins), request).await)
        })
    }
}

/// Makes a plugin known, and listens to it from now on.
fn register(plugins: &Arc<DevicePlugins>, request: RegisterRequest) -> Result<(), String> {
    if request.version != VERSION {
        let version = request.version;
        return Err(format!("requested API version {version:?} is not supported by kubelet. Supported version is [{VERSION}]"));
    }
    if !is_extended(&request.resource_name) {
        return Err(format!("the ResourceName {:?} is invalid", request.resource_name));
    }
    // A name, not a way out of the directory.
    if request.endpoint.is_empty() || request.endpoint.contains('/') {
        return Err(format!("the endpoint {:?} is invalid", request.endpoint));
    }
    let service = Service::new(&plugins.directory.join(&request.endpoint), PATIENCE);
    let number = REGISTRATIONS.fetch_add(1, Ordering::Relaxed);
    let plugin = Plugin { service, options: request.options.unwrap_or_default(), number };
    plugins.plugins.lock().insert(request.resource_name.clone(), plugin.clone());
    metrics::registered(&request.resource_name);
    tracing::info!(resource = request.resource_name, endpoint = request.endpoint, "device plugin registered");
    // It ends with the plugin's stream.
    drop(tokio::spawn(listen_to(plugins.clone(), request.resource_name, plugin)));
    Ok(())
}

/// Takes in what a plugin says of its devices until it ends.
async fn listen_to(plugins: Arc<DevicePlugins>, resource: String, plugin: Plugin) {
    let why = match follow(&plugins, &resource, &plugin).await {
        Ok(()) => "its stream ended".to_owned(),
        Err(status) => words(&status),
    };
    let mut known = plugins.plugins.lock();
    // Another one may have taken its place.
    if known.get(&resource).is_some_and(|known| known.number == plugin.number) {
        known.remove(&resource);
        plugins.state.lock().stop(&resource, Instant::now());
        plugins.told.notify_one();
        tracing::warn!(resource, why, "device plugin is gone: none of its devices can be used");
    }
}

async fn follow(plugins: &Arc<DevicePlugins>, resource: &str, plugin: &Plugin) -> Result<(), Status> {
    let mut answers: tonic::Streaming<ListAndWatchResponse> = plugin.service.watch("/v1beta1.DevicePlugin/ListAndWatch", Empty {}).await?;
    while let Some(answer) = answers.message().await? {
        if plugins.plugins.lock().get(resource).is_none_or(|known| known.number != plugin.number) {
            return Ok(());
        }
        plugins.state.lock().set(resource, &answer.devices);
        plugins.told.notify_one();
        if let Err(why) = plugins.keep().await {
            tracing::warn!(why, resource, "devices of a plugin are not kept for the next process");
        }
    }
    Ok(())
}
