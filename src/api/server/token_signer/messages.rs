//! What is said to a signer (`k8s.io/externaljwt/apis/v1`).

#[derive(Clone, PartialEq, prost::Message)]
pub struct SignRequest {
    /// The second part of the token, as it stands there.
    #[prost(string, tag = "1")]
    pub claims: String,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct SignResponse {
    /// The first part of the token, as it stands there.
    #[prost(string, tag = "1")]
    pub header: String,
    /// The last part of the token, as it stands there.
    #[prost(string, tag = "2")]
    pub signature: String,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct KeysRequest {}

#[derive(Clone, PartialEq, prost::Message)]
pub struct KeysResponse {
    #[prost(message, repeated, tag = "1")]
    pub keys: Vec<Key>,
    /// As of when they are.
    #[prost(message, optional, tag = "2")]
    pub data_timestamp: Option<Timestamp>,
    /// Seconds after which it is worth asking again.
    #[prost(int64, tag = "3")]
    pub refresh_hint_seconds: i64,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Key {
    #[prost(string, tag = "1")]
    pub key_id: String,
    /// A SubjectPublicKeyInfo in DER.
    #[prost(bytes = "vec", tag = "2")]
    pub key: Vec<u8>,
    #[prost(bool, tag = "3")]
    pub exclude_from_oidc_discovery: bool,
}

/// `google.protobuf.Timestamp`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Timestamp {
    #[prost(int64, tag = "1")]
    pub seconds: i64,
    #[prost(int32, tag = "2")]
    pub nanos: i32,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct MetadataRequest {}

#[derive(Clone, PartialEq, prost::Message)]
pub struct MetadataResponse {
    #[prost(int64, tag = "1")]
    pub max_token_expiration_seconds: i64,
}
