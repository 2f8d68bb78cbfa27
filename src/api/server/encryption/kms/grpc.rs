//! The service behind a unix socket.

use std::{path::PathBuf, time::Duration};

use async_trait::async_trait;
use troupe_unix_grpc::{Service, words};

use super::{DecryptRequest, DecryptResponse, EncryptRequest, EncryptResponse, KmsService, StatusRequest, StatusResponse};
use crate::encryption::config::Kms;

/// A client of one service. It connects when it is first asked, and anew when the service is.
pub struct GrpcKms(Service);

impl GrpcKms {
    /// Must be called within a tokio runtime.
    pub fn new(kms: &Kms) -> Self {
        let path = kms.endpoint.strip_prefix("unix://").unwrap_or(&kms.endpoint);
        // Upstream's sign for names that are no files.
        let socket = PathBuf::from(path.strip_prefix("/@").map_or_else(|| path.to_owned(), |name| format!("\0{name}")));
        GrpcKms(Service::new(&socket, Duration::from_nanos(u64::try_from(kms.timeout).unwrap_or(u64::MAX))))
    }

    async fn ask<Q, A>(&self, method: &'static str, request: Q) -> Result<A, String>
    where
        Q: prost::Message + Default + 'static,
        A: prost::Message + Default + 'static,
    {
        self.0.ask(method, request).await.map_err(|status| words(&status))
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
