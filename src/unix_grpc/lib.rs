//! Calls of gRPC services behind unix sockets, as plugins of a node and services of keys offer them.

use std::{
    path::{Path, PathBuf},
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use http::uri::PathAndQuery;
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tonic::{
    Code, Request, Response, Status, Streaming,
    client::Grpc,
    transport::{Channel, Endpoint, Uri},
};
use tonic_prost::ProstCodec;

/// A service. It is connected to when it is first asked, and anew when the service is. Cheap to clone.
#[derive(Clone)]
pub struct Service {
    channel: Channel,
    patience: Duration,
}

impl Service {
    /// `patience` is how long one call may take. Must be called within a tokio runtime.
    pub fn new(socket: &Path, patience: Duration) -> Self {
        let channel = Endpoint::from_static("http://localhost").connect_with_connector_lazy(Connector(socket.to_owned()));
        Service { channel, patience }
    }

    /// A service that is reached by other means than a socket of this machine.
    pub fn over(channel: Channel, patience: Duration) -> Self {
        Service { channel, patience }
    }

    /// Makes one call.
    ///
    /// # Errors
    /// What the service says, or that it cannot be reached or does not answer in time.
    pub async fn ask<Q, A>(&self, method: &'static str, request: Q) -> Result<A, Status>
    where
        Q: prost::Message + Default + 'static,
        A: prost::Message + Default + 'static,
    {
        self.call(
            |mut client| async move { client.unary(Request::new(request), PathAndQuery::from_static(method), ProstCodec::<Q, A>::default()).await },
        )
        .await
    }

    /// Begins a call with many answers, which has no end of its own.
    ///
    /// # Errors
    /// What the service says, or that it cannot be reached or does not answer in time.
    pub async fn watch<Q, A>(&self, method: &'static str, request: Q) -> Result<Streaming<A>, Status>
    where
        Q: prost::Message + Default + 'static,
        A: prost::Message + Default + 'static,
    {
        self.call(|mut client| async move {
            client.server_streaming(Request::new(request), PathAndQuery::from_static(method), ProstCodec::<Q, A>::default()).await
        })
        .await
    }

    async fn call<A, F: Future<Output = Result<Response<A>, Status>>>(&self, begin: impl FnOnce(Grpc<Channel>) -> F) -> Result<A, Status> {
        let call = async {
            let mut client = Grpc::new(self.channel.clone());
            client.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
            begin(client).await
        };
        match tokio::time::timeout(self.patience, call).await {
            Ok(answer) => answer.map(Response::into_inner),
            Err(_) => Err(Status::deadline_exceeded("context deadline exceeded")),
        }
    }
}

/// An error as upstream's client words it.
pub fn words(status: &Status) -> String {
    format!("rpc error: code = {} desc = {}", code_name(status), status.message())
}

/// What kind of error it is, in upstream's spelling.
pub fn code_name(status: &Status) -> String {
    match status.code() {
        Code::Cancelled => "Canceled".to_owned(),
        code => format!("{code:?}"),
    }
}

/// What connects to a socket, as tonic asks for it.
#[derive(Clone)]
struct Connector(PathBuf);

impl tower_service::Service<Uri> for Connector {
    type Response = TokioIo<UnixStream>;
    type Error = std::io::Error;
    type Future = Pin<Box<dyn Future<Output = std::io::Result<TokioIo<UnixStream>>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let socket = self.0.clone();
        Box::pin(async move { Ok(TokioIo::new(UnixStream::connect(socket).await?)) })
    }
}
