//! A CSI driver that keeps volumes as directories, as the host-path driver does: served on a socket of its own, with what it was asked.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    fs,
    future::{Ready, ready},
    path::{Path, PathBuf},
    pin::Pin,
    process::Command,
    sync::Arc,
    task::{Context, Poll},
};

use parking_lot::Mutex;
use tokio::net::UnixListener;
use tonic::{
    Request, Response, Status,
    body::Body,
    server::{Grpc, NamedService, UnaryService},
    transport::Server,
};
use tonic_prost::ProstCodec;

use crate::{
    files::mounts::{is_mounted, unmount},
    kubelet::{
        csi::proto::{
            AccessType, Empty, NodeExpandVolumeRequest, NodeExpandVolumeResponse, NodeGetCapabilitiesResponse, NodeGetInfoResponse,
            NodeGetVolumeStatsRequest, NodeGetVolumeStatsResponse, NodePublishVolumeRequest, NodeServiceCapability, NodeStageVolumeRequest,
            NodeUnpublishVolumeRequest, NodeUnstageVolumeRequest, Rpc, RpcType, Topology, Unit, VolumeUsage,
        },
        plugins::proto::{InfoRequest, PluginInfo, RegistrationStatus, RegistrationStatusResponse},
    },
};

/// What the driver is called.
pub const NAME: &str = "dir.csi.example.com";

/// See the module.
pub struct Driver {
    /// Where volumes' contents lie, by their handles.
    pub store: PathBuf,
    able: Vec<RpcType>,
    pub calls: Mutex<Vec<String>>,
    pub staged: Mutex<Vec<NodeStageVolumeRequest>>,
    pub published: Mutex<Vec<NodePublishVolumeRequest>>,
    pub expanded: Mutex<Vec<NodeExpandVolumeRequest>>,
    pub registered: Mutex<Vec<RegistrationStatus>>,
    /// What the next call of a name answers.
    failures: Mutex<BTreeMap<&'static str, Status>>,
    /// The device that volumes of block mode are.
    pub device: Mutex<Option<PathBuf>>,
}

/// A driver that is served; it leaves with this, its socket too.
pub struct Served {
    pub driver: Arc<Driver>,
    socket: PathBuf,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Served {
    fn drop(&mut self) {
        self.task.abort();
        // Whoever watches sees that the driver is gone.
        let _ = fs::remove_file(&self.socket);
    }
}

impl Driver {
    pub fn new(place: &Path, able: &[RpcType]) -> Arc<Self> {
        let store = place.join("store");
        fs::create_dir_all(&store).expect("makes");
        Arc::new(Driver {
            store,
            able: able.to_vec(),
            calls: Mutex::default(),
            staged: Mutex::default(),
            published: Mutex::default(),
            expanded: Mutex::default(),
            registered: Mutex::default(),
            failures: Mutex::default(),
            device: Mutex::default(),
        })
    }

    /// Serves the driver where the kubelet looks for plugins.
    pub fn serve(self: &Arc<Self>, registry: &Path) -> Served {
        let socket = registry.join(format!("{NAME}-reg.sock"));
        // Under a name that nobody looks at until it listens.
        let unfinished = registry.join(".reg.sock");
        let listener = UnixListener::bind(&unfinished).expect("binds");
        fs::rename(&unfinished, &socket).expect("renames");
        let incoming = futures::stream::unfold(listener, |listener| async {
            let accepted = listener.accept().await.map(|(stream, _)| stream);
            Some((accepted, listener))
        });
        let (node, registration) = (NodeService(self.clone()), RegistrationService(self.clone()));
        let serving = Server::builder().add_service(node).add_service(registration).serve_with_incoming(incoming);
        let task = tokio::spawn(async move { serving.await.expect("serves") });
        Served { driver: self.clone(), socket, task }
    }

    /// Makes the next call of a name fail.
    pub fn fail_next(&self, call: &'static str, status: Status) {
        self.failures.lock().insert(call, status);
    }

    fn note(&self, call: &'static str, about: &str) -> Result<(), Status> {
        self.calls.lock().push(format!("{call} {about}").trim().to_owned());
        self.failures.lock().remove(call).map_or(Ok(()), Err)
    }

    fn content(&self, handle: &str) -> PathBuf {
        let content = self.store.join(handle);
        fs::create_dir_all(&content).expect("makes");
        content
    }

    fn stage(&self, request: NodeStageVolumeRequest) -> Result<Empty, Status> {
        self.staged.lock().push(request.clone());
        self.note("stage", &request.volume_id)?;
        let staging = Path::new(&request.staging_target_path);
        if !is_block(request.volume_capability.as_ref()) {
            bind(&self.content(&request.volume_id), staging)?;
        }
        Ok(Empty {})
    }

    fn unstage(&self, request: NodeUnstageVolumeRequest) -> Result<Empty, Status> {
        self.note("unstage", &request.volume_id)?;
        unbind(Path::new(&request.staging_target_path))?;
        Ok(Empty {})
    }

    fn publish(&self, request: NodePublishVolumeRequest) -> Result<Empty, Status> {
        self.published.lock().push(request.clone());
        self.note("publish", &request.volume_id)?;
        let target = Path::new(&request.target_path);
        if is_block(request.volume_capability.as_ref()) {
            let device = self.device.lock().clone().ok_or_else(|| Status::internal("no device"))?;
            if !target.exists() {
                fs::write(target, "").map_err(|error| Status::internal(error.to_string()))?;
            }
            bind(&device, target)?;
            return Ok(Empty {});
        }
        fs::create_dir_all(target).map_err(|error| Status::internal(error.to_string()))?;
        let staging = Path::new(&request.staging_target_path);
        let source = if request.staging_target_path.is_empty() { self.content(&request.volume_id) } else { staging.to_owned() };
        if !request.staging_target_path.is_empty() && !is_mounted(staging).unwrap_or(false) {
            return Err(Status::failed_precondition("it is not staged"));
        }
        bind(&source, target)?;
        Ok(Empty {})
    }

    fn unpublish(&self, request: NodeUnpublishVolumeRequest) -> Result<Empty, Status> {
        self.note("unpublish", &request.volume_id)?;
        let target = Path::new(&request.target_path);
        unbind(target)?;
        let _ = if target.is_dir() { fs::remove_dir(target) } else { fs::remove_file(target) };
        Ok(Empty {})
    }

    fn info(&self) -> NodeGetInfoResponse {
        let segments = BTreeMap::from([("topology.dir.csi.example.com/node".to_owned(), "here".to_owned())]);
        NodeGetInfoResponse { node_id: "id-of-n1".into(), max_volumes_per_node: 9, accessible_topology: Some(Topology { segments }) }
    }

    fn capabilities(&self) -> NodeGetCapabilitiesResponse {
        let capability = |kind: &RpcType| NodeServiceCapability { rpc: Some(Rpc { kind: (*kind).into() }) };
        NodeGetCapabilitiesResponse { capabilities: self.able.iter().map(capability).collect() }
    }

    fn stats(&self, request: &NodeGetVolumeStatsRequest) -> Result<NodeGetVolumeStatsResponse, Status> {
        if !Path::new(&request.volume_path).exists() {
            return Err(Status::not_found("no such volume"));
        }
        let bytes = VolumeUsage { available: 60, total: 100, used: 40, unit: Unit::Bytes.into() };
        Ok(NodeGetVolumeStatsResponse { usage: vec![bytes] })
    }

    fn expand(&self, request: NodeExpandVolumeRequest) -> Result<NodeExpandVolumeResponse, Status> {
        self.note("expand", &request.volume_id)?;
        let capacity_bytes = request.capacity_range.as_ref().map_or(0, |range| range.required_bytes);
        self.expanded.lock().push(request);
        Ok(NodeExpandVolumeResponse { capacity_bytes })
    }
}

fn is_block(capability: Option<&crate::kubelet::csi::proto::VolumeCapability>) -> bool {
    capability.is_some_and(|capability| matches!(capability.access_type, Some(AccessType::Block(_))))
}

fn bind(source: &Path, target: &Path) -> Result<(), Status> {
    let failed = |what: String| Status::internal(format!("bind {} to {}: {what}", source.display(), target.display()));
    if is_mounted(target).map_err(|error| failed(error.to_string()))? {
        return Ok(());
    }
    let output = Command::new("mount").arg("--bind").arg(source).arg(target).output().map_err(|error| failed(error.to_string()))?;
    if output.status.success() { Ok(()) } else { Err(failed(String::from_utf8_lossy(&output.stderr).into_owned())) }
}

fn unbind(target: &Path) -> Result<(), Status> {
    if is_mounted(target).unwrap_or(false) {
        unmount(target).map_err(|error| Status::internal(error.to_string()))?;
    }
    Ok(())
}

type Answer = Pin<Box<dyn Future<Output = Result<http::Response<Body>, Infallible>> + Send>>;

#[derive(Clone)]
struct NodeService(Arc<Driver>);

#[derive(Clone)]
struct RegistrationService(Arc<Driver>);

impl NamedService for NodeService {
    const NAME: &'static str = "csi.v1.Node";
}

impl NamedService for RegistrationService {
    const NAME: &'static str = "pluginregistration.Registration";
}

/// One call, answered by a function.
struct Call<F>(F);

impl<F, Q, A> UnaryService<Q> for Call<F>
where
    F: Fn(Q) -> Result<A, Status>,
{
    type Response = A;
    type Future = Ready<Result<Response<A>, Status>>;

    fn call(&mut self, request: Request<Q>) -> Self::Future {
        ready((self.0)(request.into_inner()).map(Response::new))
    }
}

fn answer<Q, A>(request: http::Request<Body>, with: impl Fn(Q) -> Result<A, Status> + Send + 'static) -> Answer
where
    Q: prost::Message + Default + Send + 'static,
    A: prost::Message + Default + Send + 'static,
{
    Box::pin(async move { Ok(Grpc::new(ProstCodec::<A, Q>::default()).unary(Call(with), request).await) })
}

impl tower_service::Service<http::Request<Body>> for NodeService {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Answer;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Answer {
        let driver = self.0.clone();
        let path = request.uri().path().to_owned();
        match path.trim_start_matches("/csi.v1.Node/") {
            "NodeGetInfo" => answer(request, move |_: Empty| driver.note("info", "").map(|()| driver.info())),
            "NodeGetCapabilities" => answer(request, move |_: Empty| Ok(driver.capabilities())),
            "NodeStageVolume" => answer(request, move |asked| driver.stage(asked)),
            "NodeUnstageVolume" => answer(request, move |asked| driver.unstage(asked)),
            "NodePublishVolume" => answer(request, move |asked| driver.publish(asked)),
            "NodeUnpublishVolume" => answer(request, move |asked| driver.unpublish(asked)),
            "NodeGetVolumeStats" => answer(request, move |asked| driver.stats(&asked)),
            "NodeExpandVolume" => answer(request, move |asked| driver.expand(asked)),
            _ => answer(request, |_: Empty| Err::<Empty, _>(Status::unimplemented("not known"))),
        }
    }
}

impl tower_service::Service<http::Request<Body>> for RegistrationService {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Answer;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Answer {
        let driver = self.0.clone();
        if request.uri().path().ends_with("/GetInfo") {
            let info = PluginInfo { kind: "CSIPlugin".into(), name: NAME.into(), endpoint: String::new(), supported_versions: vec!["1.0.0".into()] };
            return answer(request, move |_: InfoRequest| Ok(info.clone()));
        }
        answer(request, move |status: RegistrationStatus| {
            driver.registered.lock().push(status);
            Ok(RegistrationStatusResponse {})
        })
    }
}
