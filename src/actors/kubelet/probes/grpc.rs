//! The gRPC health protocol: `grpc.health.v1.Health/Check`, encoded by hand since it is two fields.

use std::time::Duration;

use bytes::{Buf, BufMut};
use http::uri::PathAndQuery;
use tonic::{
    Code, Request, Status,
    client::Grpc,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
    transport::Endpoint,
};

use super::ProbeOutcome;

/// `SERVING` of `HealthCheckResponse.ServingStatus`.
const SERVING: u8 = 1;

/// Asks a server whether `service` is healthy; the empty one is the server as a whole.
pub async fn check(host: &str, port: u16, service: &str, limit: Duration) -> ProbeOutcome {
    let address = if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
    match tokio::time::timeout(limit, ask(&address, service)).await {
        Ok(Ok(SERVING)) => ProbeOutcome::Success,
        Ok(Ok(_)) => ProbeOutcome::Failure("service unhealthy (responded with \"NOT_SERVING\")".into()),
        Ok(Err(status)) if status.code() == Code::Unimplemented => {
            ProbeOutcome::Failure("error: this server does not implement the grpc health protocol (grpc.health.v1.Health)".into())
        }
        Ok(Err(status)) => ProbeOutcome::Failure(format!("error: health rpc probe failed: {}", status.message())),
        Err(_) => ProbeOutcome::Failure(format!("timeout: failed to connect service \"{address}\" within {}s", limit.as_secs())),
    }
}

async fn ask(address: &str, service: &str) -> Result<u8, Status> {
    let endpoint = Endpoint::from_shared(format!("http://{address}")).map_err(|error| Status::internal(error.to_string()))?;
    let channel = endpoint.connect().await.map_err(|error| Status::unavailable(error.to_string()))?;
    let mut client = Grpc::new(channel);
    client.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
    let path = PathAndQuery::from_static("/grpc.health.v1.Health/Check");
    Ok(client.unary(Request::new(service.to_owned()), path, HealthCodec).await?.into_inner())
}

#[derive(Clone, Copy, Default)]
struct HealthCodec;

impl Codec for HealthCodec {
    type Encode = String;
    type Decode = u8;
    type Encoder = HealthCodec;
    type Decoder = HealthCodec;

    fn encoder(&mut self) -> Self::Encoder {
        HealthCodec
    }

    fn decoder(&mut self) -> Self::Decoder {
        HealthCodec
    }
}

impl Encoder for HealthCodec {
    type Item = String;
    type Error = Status;

    /// Field 1, a string.
    fn encode(&mut self, service: String, out: &mut EncodeBuf<'_>) -> Result<(), Status> {
        if service.is_empty() {
            return Ok(());
        }
        out.put_u8(0x0a);
        let mut length = service.len();
        while length >= 0x80 {
            out.put_u8((length & 0x7f) as u8 | 0x80);
            length >>= 7;
        }
        out.put_u8(length as u8);
        out.put_slice(service.as_bytes());
        Ok(())
    }
}

impl Decoder for HealthCodec {
    type Item = u8;
    type Error = Status;

    /// Field 1, an enumeration of small values; absent means 0.
    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<u8>, Status> {
        let mut status = 0;
        while buffer.remaining() >= 2 {
            let (tag, value) = (buffer.get_u8(), buffer.get_u8());
            if tag == 0x08 {
                status = value;
            }
        }
        Ok(Some(status))
    }
}
