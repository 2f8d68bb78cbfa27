//! gRPC services of plugins, made of closures, behind sockets of tests.

use std::{convert::Infallible, marker::PhantomData, path::Path, sync::Arc};

use futures::{future::BoxFuture, stream::BoxStream};
use http::{Request, Response};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message;
use tokio::{net::UnixListener, task::JoinHandle};
use tonic::{Status, body::Body};
use tonic_prost::ProstCodec;

/// What answers calls of one method.
pub type Method = Arc<dyn Fn(Request<Incoming>) -> BoxFuture<'static, Response<Body>> + Send + Sync>;

/// A service that ends with the test.
pub struct Served(JoinHandle<()>);

impl Drop for Served {
    fn drop(&mut self) {
        self.0.abort();
    }
}

struct Unary<F, Q, A>(Arc<F>, PhantomData<fn(Q) -> A>);

impl<F, Q, A> tonic::server::UnaryService<Q> for Unary<F, Q, A>
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

/// One question, one answer.
pub fn unary<Q, A>(answer: impl Fn(Q) -> Result<A, Status> + Send + Sync + 'static) -> Method
where
    Q: Message + Default + 'static,
    A: Message + Default + 'static,
{
    let answer = Arc::new(answer);
    Arc::new(move |request| {
        let service = Unary(answer.clone(), PhantomData);
        Box::pin(async move { tonic::server::Grpc::new(ProstCodec::<A, Q>::default()).unary(service, request).await })
    })
}

struct Streaming<F, Q, A>(Arc<F>, PhantomData<fn(Q) -> A>);

impl<F, Q, A> tonic::server::ServerStreamingService<Q> for Streaming<F, Q, A>
where
    F: Fn(Q) -> BoxStream<'static, Result<A, Status>>,
    A: Send + 'static,
{
    type Response = A;
    type ResponseStream = BoxStream<'static, Result<A, Status>>;
    type Future = BoxFuture<'static, Result<tonic::Response<Self::ResponseStream>, Status>>;

    fn call(&mut self, request: tonic::Request<Q>) -> Self::Future {
        let answers = (self.0)(request.into_inner());
        Box::pin(async move { Ok(tonic::Response::new(answers)) })
    }
}

/// One question, many answers.
pub fn streaming<Q, A>(answers: impl Fn(Q) -> BoxStream<'static, Result<A, Status>> + Send + Sync + 'static) -> Method
where
    Q: Message + Default + 'static,
    A: Message + Default + 'static,
{
    let answers = Arc::new(answers);
    Arc::new(move |request| {
        let service = Streaming(answers.clone(), PhantomData);
        Box::pin(async move { tonic::server::Grpc::new(ProstCodec::<A, Q>::default()).server_streaming(service, request).await })
    })
}

/// Serves methods, by their paths, behind a socket.
pub fn serve(socket: &Path, methods: Vec<(&'static str, Method)>) -> Served {
    let listener = UnixListener::bind(socket).expect("binds");
    let methods = Arc::new(methods);
    Served(tokio::spawn(async move {
        // Connections end with the service, as those of a process that dies.
        let mut connections = tokio::task::JoinSet::new();
        while let Ok((stream, _)) = listener.accept().await {
            let methods = methods.clone();
            connections.spawn(async move {
                let service = service_fn(move |request: Request<Incoming>| {
                    let method = methods.iter().find(|(path, _)| *path == request.uri().path()).map(|(_, method)| method.clone());
                    async move {
                        Ok::<_, Infallible>(match method {
                            Some(method) => method(request).await,
                            None => Status::unimplemented("unknown method").into_http(),
                        })
                    }
                });
                let served = hyper::server::conn::http2::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service);
                // The client may go at any time.
                let _ = served.await;
            });
        }
    }))
}
