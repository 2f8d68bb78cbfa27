//! Keys that a service outside keeps (KMS v2, KEP-3299).
//!
//! In: values to seal and open. Out: upstream's envelope: the sealed value, and beside it the seed of its key, sealed by the service. The
//! service is asked for a new seed when it says that its own key is another one, and to open seeds that are not known yet.

mod envelope;
mod grpc;
mod provider;

pub use envelope::EncryptedObject;
pub use grpc::GrpcKms;
pub use provider::KmsProvider;

#[cfg(test)]
pub use envelope::DataKey;

use std::collections::BTreeMap;

use async_trait::async_trait;

/// What the service says of itself.
#[derive(Clone, PartialEq, prost::Message)]
pub struct StatusResponse {
    #[prost(string, tag = "1")]
    pub version: String,
    #[prost(string, tag = "2")]
    pub healthz: String,
    #[prost(string, tag = "3")]
    pub key_id: String,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct StatusRequest {}

#[derive(Clone, PartialEq, prost::Message)]
pub struct EncryptRequest {
    #[prost(bytes = "vec", tag = "1")]
    pub plaintext: Vec<u8>,
    #[prost(string, tag = "2")]
    pub uid: String,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct EncryptResponse {
    #[prost(bytes = "vec", tag = "1")]
    pub ciphertext: Vec<u8>,
    #[prost(string, tag = "2")]
    pub key_id: String,
    #[prost(btree_map = "string, bytes", tag = "3")]
    pub annotations: BTreeMap<String, Vec<u8>>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct DecryptRequest {
    #[prost(bytes = "vec", tag = "1")]
    pub ciphertext: Vec<u8>,
    #[prost(string, tag = "2")]
    pub uid: String,
    #[prost(string, tag = "3")]
    pub key_id: String,
    #[prost(btree_map = "string, bytes", tag = "4")]
    pub annotations: BTreeMap<String, Vec<u8>>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct DecryptResponse {
    #[prost(bytes = "vec", tag = "1")]
    pub plaintext: Vec<u8>,
}

/// The service, as it is asked.
#[async_trait]
pub trait KmsService: Send + Sync + 'static {
    async fn status(&self) -> Result<StatusResponse, String>;
    async fn encrypt(&self, request: EncryptRequest) -> Result<EncryptResponse, String>;
    async fn decrypt(&self, request: DecryptRequest) -> Result<DecryptResponse, String>;
}
