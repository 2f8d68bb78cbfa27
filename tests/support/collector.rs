//! A collector of spans behind a unix socket: OpenTelemetry's trace service with its one method, over gRPC.

use std::{convert::Infallible, path::Path, sync::Arc};

use bytes::Bytes;
use futures::stream;
use http_body_util::{BodyExt, StreamBody};
use hyper::{
    HeaderMap, Request, Response,
    body::{Frame, Incoming},
    header::HeaderValue,
    server::conn::http2,
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use parking_lot::Mutex;
use prost::Message;
use tokio::{net::UnixListener, runtime::Runtime};
use troupe_api_server::otlp::proto::{EXPORT, ExportRequest, Span, Value};

/// Of a message of gRPC: whether it is compressed, and its length.
const PREFIX: usize = 5;

/// A span as it came, and which component made it.
#[derive(Clone, Debug)]
pub struct Collected {
    pub component: String,
    pub span: Span,
}

/// There until it is dropped.
pub struct Collector {
    spans: Arc<Mutex<Vec<Collected>>>,
    _runtime: Runtime,
}

impl Collector {
    /// Listens at a socket.
    pub fn at(socket: &Path) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
        let spans = Arc::<Mutex<Vec<Collected>>>::default();
        let listener = runtime.block_on(async { UnixListener::bind(socket).expect("binds") });
        let kept = spans.clone();
        runtime.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let kept = kept.clone();
                let service = service_fn(move |request| answer(request, kept.clone()));
                tokio::spawn(http2::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service));
            }
        });
        Collector { spans, _runtime: runtime }
    }

    /// What came so far.
    pub fn spans(&self) -> Vec<Collected> {
        self.spans.lock().clone()
    }
}

type Reply = Response<StreamBody<stream::Iter<std::array::IntoIter<Result<Frame<Bytes>, Infallible>, 2>>>>;

async fn answer(request: Request<Incoming>, kept: Arc<Mutex<Vec<Collected>>>) -> Result<Reply, Infallible> {
    assert_eq!(request.uri().path(), EXPORT);
    let body = request.into_body().collect().await.expect("a whole request").to_bytes();
    let message = ExportRequest::decode(&body[PREFIX..]).expect("a request with spans");
    kept.lock().extend(collected(message));
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    let frames = [Ok(Frame::data(Bytes::from_static(&[0; PREFIX]))), Ok(Frame::trailers(trailers))];
    let reply = Response::builder().header("content-type", "application/grpc").body(StreamBody::new(stream::iter(frames)));
    Ok(reply.expect("well formed"))
}

fn collected(message: ExportRequest) -> Vec<Collected> {
    let mut all = Vec::new();
    for of_component in message.resource_spans {
        let attributes = of_component.resource.unwrap_or_default().attributes;
        let named = attributes.into_iter().find(|attribute| attribute.key == "service.name").and_then(|attribute| attribute.value?.value);
        let component = match named {
            Some(Value::Text(component)) => component,
            other => panic!("no component: {other:?}"),
        };
        let spans = of_component.scope_spans.into_iter().flat_map(|scope| scope.spans);
        all.extend(spans.map(|span| Collected { component: component.clone(), span }));
    }
    all
}
