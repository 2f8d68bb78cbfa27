//! Where that is asked for.

use std::{
    convert::Infallible,
    fs, io,
    num::NonZeroU32,
    path::{Path, PathBuf},
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use futures::{future::BoxFuture, stream};
use http::{Request, Response};
use parking_lot::Mutex;
use prost::Message;
use serde_json::{Value, json};
use tokio::net::UnixListener;
use tonic::{Status, body::Body, server::NamedService};
use tonic_prost::ProstCodec;

use super::{
    answers::Sources,
    metrics,
    proto::{AllocatableRequest, GetRequest, GetResponse, ListRequest},
};
use crate::runtime::{
    host::{Unit, UnitContext},
    token_bucket::{Rate, TokenBucket},
};

const SOCKET: &str = "kubelet.sock";
const RETRY: Duration = Duration::from_secs(5);
/// How often the server may be asked, by all together.
const RATE: Rate = Rate { per_second: NonZeroU32::new(100).expect("is not 0"), burst: 10 };

/// The unit that serves it.
pub struct PodResourcesServer {
    directory: PathBuf,
    sources: Sources,
}

impl PodResourcesServer {
    /// A server with its socket in `directory`.
    pub fn new(directory: PathBuf, sources: Sources) -> Self {
        PodResourcesServer { directory, sources }
    }

    fn serve(&mut self, cx: &mut UnitContext<'_, Self>) {
        let (directory, sources) = (self.directory.clone(), self.sources.clone());
        cx.spawn_then(async move { serve(&directory, sources).await }, |_, why, cx| {
            tracing::warn!(why, "nobody can ask for the resources of pods, will retry");
            cx.after(RETRY, Self::serve);
        });
    }
}

impl Unit for PodResourcesServer {
    fn started(&mut self, cx: &mut UnitContext<'_, Self>) {
        self.serve(cx);
    }

    fn observe(&self) -> Value {
        json!({"socket": self.directory.join(SOCKET)})
    }
}

/// Serves until something is wrong, and says what.
pub async fn serve(directory: &Path, sources: Sources) -> String {
    let listener = match listen(directory) {
        Ok(listener) => listener,
        Err(error) => return error.to_string(),
    };
    let incoming = stream::unfold(listener, |listener| async move {
        let accepted = listener.accept().await.map(|(stream, _)| stream);
        Some((accepted, listener))
    });
    let lister = Lister { sources, tokens: Arc::new(Mutex::new(TokenBucket::new(RATE, Instant::now()))) };
    let first = AlphaLister(lister.clone());
    let served = tonic::transport::Server::builder().add_service(lister).add_service(first).serve_with_incoming(incoming).await;
    served.map_or_else(|error| error.to_string(), |()| "it ended".to_owned())
}

/// The socket of a process before this one is in the way.
fn listen(directory: &Path) -> io::Result<UnixListener> {
    fs::create_dir_all(directory)?;
    let socket = directory.join(SOCKET);
    if let Err(error) = fs::remove_file(&socket)
        && error.kind() != io::ErrorKind::NotFound
    {
        return Err(error);
    }
    UnixListener::bind(socket)
}

/// `v1.PodResourcesLister`.
#[derive(Clone)]
struct Lister {
    sources: Sources,
    tokens: Arc<Mutex<TokenBucket>>,
}

impl NamedService for Lister {
    const NAME: &'static str = "v1.PodResourcesLister";
}

impl Lister {
    async fn answer(self, request: Request<Body>) -> Response<Body> {
        let Lister { sources, tokens } = self;
        let admit = move || if tokens.lock().take(Instant::now()) { Ok(()) } else { Err(Status::resource_exhausted("rejected by rate limit")) };
        match request.uri().path() {
            "/v1.PodResourcesLister/List" => {
                let list = move |_: ListRequest| {
                    admit()?;
                    metrics::listed();
                    Ok(sources.list())
                };
                unary(request, list).await
            }
            "/v1.PodResourcesLister/GetAllocatableResources" => {
                let allocatable = move |_: AllocatableRequest| {
                    admit()?;
                    metrics::told_allocatable();
                    Ok(sources.allocatable())
                };
                unary(request, allocatable).await
            }
            "/v1.PodResourcesLister/Get" => {
                let get = move |asked: GetRequest| {
                    admit()?;
                    let found = sources.get(&asked.pod_namespace, &asked.pod_name);
                    metrics::got(found.is_ok());
                    found.map(|pod| GetResponse { pod: Some(pod) }).map_err(Status::unknown)
                };
                unary(request, get).await
            }
            _ => Status::unimplemented("unknown method").into_http(),
        }
    }
}

impl tower_service::Service<Request<Body>> for Lister {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let lister = self.clone();
        Box::pin(async move { Ok(lister.answer(request).await) })
    }
}

/// `v1alpha1.PodResourcesLister`, which upstream still serves.
#[derive(Clone)]
struct AlphaLister(Lister);

impl NamedService for AlphaLister {
    const NAME: &'static str = "v1alpha1.PodResourcesLister";
}

impl AlphaLister {
    async fn answer(self, request: Request<Body>) -> Response<Body> {
        let Lister { sources, tokens } = self.0;
        if request.uri().path() != "/v1alpha1.PodResourcesLister/List" {
            return Status::unimplemented("unknown method").into_http();
        }
        let list = move |_: ListRequest| {
            if !tokens.lock().take(Instant::now()) {
                return Err(Status::resource_exhausted("rejected by rate limit"));
            }
            metrics::listed_alpha();
            Ok(sources.list_alpha())
        };
        unary(request, list).await
    }
}

impl tower_service::Service<Request<Body>> for AlphaLister {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let lister = self.clone();
        Box::pin(async move { Ok(lister.answer(request).await) })
    }
}

/// One question, one answer.
struct Unary<F>(F);

impl<F, Q, A> tonic::server::UnaryService<Q> for Unary<F>
where
    F: Fn(Q) -> Result<A, Status>,
    A: Send + 'static,
{
    type Response = A;
    type Future = BoxFuture<'static, Result<tonic::Response<A>, Status>>;

    fn call(&mut self, request: tonic::Request<Q>) -> Self::Future {
        let answer = (self.0)(request.into_inner()).map(tonic::Response::new);
        Box::pin(async move { answer })
    }
}

async fn unary<Q, A>(request: Request<Body>, answer: impl Fn(Q) -> Result<A, Status>) -> Response<Body>
where
    Q: Message + Default + 'static,
    A: Message + Default + 'static,
{
    tonic::server::Grpc::new(ProstCodec::<A, Q>::default()).unary(Unary(answer), request).await
}
