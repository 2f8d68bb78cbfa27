//! The signer behind a unix socket.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use tonic::Status;
use troupe_unix_grpc::{Service, code_name};

use super::{
    messages::{KeysRequest, KeysResponse, MetadataRequest, MetadataResponse, SignRequest, SignResponse},
    metrics,
};

/// How long one call may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// The signer, as it is asked.
#[async_trait]
pub trait SignerService: Send + Sync + 'static {
    async fn sign(&self, request: SignRequest) -> Result<SignResponse, Status>;
    async fn fetch_keys(&self) -> Result<KeysResponse, Status>;
    async fn metadata(&self) -> Result<MetadataResponse, Status>;
}

/// A client of one signer. It connects when it is first asked, and anew when the signer is.
pub struct GrpcSigner(Service);

impl GrpcSigner {
    /// `endpoint` is the path of a socket, or behind an `@` the name of one that is no file. Must be called within a tokio runtime.
    pub fn new(endpoint: &str) -> Self {
        let socket = endpoint.strip_prefix('@').map_or_else(|| endpoint.to_owned(), |name| format!("\0{name}"));
        GrpcSigner(Service::new(Path::new(&socket), PATIENCE))
    }

    async fn ask<Q, A>(&self, method: &'static str, request: Q) -> Result<A, Status>
    where
        Q: prost::Message + Default + 'static,
        A: prost::Message + Default + 'static,
    {
        let begun = Instant::now();
        let answer = self.0.ask(method, request).await;
        let code = answer.as_ref().err().map_or_else(|| super::OK.to_owned(), code_name);
        metrics::called(method, &code, begun.elapsed());
        answer
    }
}

#[async_trait]
impl SignerService for GrpcSigner {
    async fn sign(&self, request: SignRequest) -> Result<SignResponse, Status> {
        self.ask("/v1.ExternalJWTSigner/Sign", request).await
    }

    async fn fetch_keys(&self) -> Result<KeysResponse, Status> {
        self.ask("/v1.ExternalJWTSigner/FetchKeys", KeysRequest {}).await
    }

    async fn metadata(&self) -> Result<MetadataResponse, Status> {
        self.ask("/v1.ExternalJWTSigner/Metadata", MetadataRequest {}).await
    }
}
