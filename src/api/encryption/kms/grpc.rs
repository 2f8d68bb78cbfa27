//! The service behind a unix socket.

use std::{path::PathBuf, time::Duration};

use async_trait::async_trait;
use http::uri::PathAndQuery;
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tonic::{
    Request, Status,
    client::Grpc,
    transport::{Channel, Endpoint, Uri},
};
use tonic_prost::ProstCodec;

use super::{DecryptRequest, DecryptResponse, EncryptRequest, EncryptResponse, KmsService, StatusRequest, StatusResponse};
use crate::encryption::config::Kms;

/// A client of one service. It connects when it is first asked, and anew when the service is.
pub struct GrpcKms {
    channel: Channel,
    patience: Duration,
}

impl GrpcKms {
    /// Must be called within a tokio runtime.
    pub fn new(kms: &Kms) -> Self {
        let path = kms.endpoint.strip_prefix("unix://").unwrap_or(&kms.endpoint);
        // Upstream's sign for names that are no files.
        let socket = PathBuf::from(path.strip_prefix("/@").map_or_else(|| path.to_owned(), |name| format!("\0{name}")));
        let connector = Connector(socket);
        let channel = Endpoint::from_static("http://localhost").connect_with_connector_lazy(connector);
        GrpcKms { channel, patience: Duration::from_nanos(u64::try_from(kms.timeout).unwrap_or(u64::MAX)) }
    }

    async fn ask<Q, A>(&self, method: &'static str, request: Q) -> Result<A, String>
    where
        Q: prost::Message + Default + 'static,
        A: prost::Message + Default + 'static,
    {
        let call = async {
            let mut client = Grpc::new(self.channel.clone());
            client.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
            client.unary(Request::new(request), PathAndQuery::from_static(method), ProstCodec::<Q, A>::default()).await
        };
        match tokio::time::timeout(self.patience, call).await {
            Ok(Ok(answer)) => Ok(answer.into_inner()),
            Ok(Err(status)) => Err(format!("rpc error: code = {:?} desc = {}", status.code(), status.message())),
            Err(_) => Err("rpc error: code = DeadlineExceeded desc = context deadline exceeded".into()),
        }
    }
}

/// What connects to a socket, as tonic asks for it.
#[derive(Clone)]
struct Connector(PathBuf);

impl tower_service::Service<Uri> for Connector {
    type Response = TokioIo<UnixStream>;
    type Error = std::io::Error;
    type Future = std::pin::Pin<Box<dyn Future<Output = std::io::Result<TokioIo<UnixStream>>> + Send>>;

    fn poll_ready(&mut self, _: &mut std::task::Context<'_>) -> std::task::Poll<std::io::Result<()>> {
        std::task::Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let socket = self.0.clone();
        Box::pin(async move { Ok(TokioIo::new(UnixStream::connect(socket).await?)) })
    }
}

#[async_trait]
impl KmsService for GrpcKms {
    async fn status(&self) -> Result<StatusResponse, String> {
        self.ask("/v2.KeyManagementService/Status", StatusRequest {}).await
    }

    async fn encrypt(&self, request: EncryptRequest) -> Result<EncryptResponse, String> {
        self.ask("/v2.KeyManagementService/Encrypt", request).await
    }

    async fn decrypt(&self, request: DecryptRequest) -> Result<DecryptResponse, String> {
        self.ask("/v2.KeyManagementService/Decrypt", request).await
    }
}
