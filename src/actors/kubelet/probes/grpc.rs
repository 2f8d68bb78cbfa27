//! The gRPC health protocol: `grpc.health.v1.Health/Check`, encoded by hand since it is two fields.

use std::time::Duration;

use bytes::{Buf, BufMut};
use http::uri::PathAndQuery;
use tokio::time::{Instant, sleep, timeout_at};
use tonic::{
    Code, Request, Status,
    client::Grpc,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
    transport::{Channel, Endpoint},
};
use troupe_unix_grpc::words;

use super::{ProbeOutcome, go_duration};

/// `SERVING` of `HealthCheckResponse.ServingStatus`.
const SERVING: u8 = 1;
/// Upstream's client waits so long before it tries to connect again.
const AGAIN: Duration = Duration::from_secs(1);

/// Asks a server whether `service` is healthy; the empty one is the server as a whole. Failures read as upstream's.
pub async fn check(host: &str, port: u16, service: &str, limit: Duration) -> ProbeOutcome {
    let address = if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
    let (deadline, limit) = (Instant::now() + limit, go_duration(limit));
    let channel = match Endpoint::from_shared(format!("http://{address}")) {
        Ok(endpoint) => timeout_at(deadline, connect(endpoint)).await,
        Err(error) => return ProbeOutcome::Failure(format!("error: failed to connect service at {address:?}: {error}")),
    };
    let Ok(channel) = channel else {
        return ProbeOutcome::Failure(format!("timeout: failed to connect service {address:?} within {limit}: context deadline exceeded"));
    };
    match timeout_at(deadline, ask(channel, service)).await {
        Ok(Ok(SERVING)) => ProbeOutcome::Success,
        Ok(Ok(status)) => ProbeOutcome::Failure(format!("service unhealthy (responded with {:?})", status_name(status))),
        Ok(Err(status)) if status.code() == Code::Unimplemented => {
            let protocol = "error: this server does not implement the grpc health protocol (grpc.health.v1.Health)";
            ProbeOutcome::Failure(format!("{protocol}: {}", status.message()))
        }
        Ok(Err(status)) => ProbeOutcome::Failure(format!("error: health rpc probe failed: {}", words(&status))),
        Err(_) => ProbeOutcome::Failure(format!("timeout: health rpc did not complete within {limit}")),
    }
}

/// Tries until somebody listens.
async fn connect(endpoint: Endpoint) -> Channel {
    loop {
        if let Ok(channel) = endpoint.connect().await {
            return channel;
        }
        sleep(AGAIN).await;
    }
}

/// The names of `HealthCheckResponse.ServingStatus`.
fn status_name(status: u8) -> &'static str {
    match status {
        0 => "UNKNOWN",
        SERVING => "SERVING",
        2 => "NOT_SERVING",
        _ => "SERVICE_UNKNOWN",
    }
}

async fn ask(channel: Channel, service: &str) -> Result<u8, Status> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_server_that_is_not_there_is_waited_for_as_long_as_the_probe_may_take() {
        let port = std::net::TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port").port();
        let began = Instant::now();
        let outcome = check("127.0.0.1", port, "", Duration::from_secs(1)).await;
        let why = format!("timeout: failed to connect service \"127.0.0.1:{port}\" within 1s: context deadline exceeded");
        assert_eq!(outcome, ProbeOutcome::Failure(why));
        assert!(began.elapsed() >= Duration::from_secs(1));
    }
}
