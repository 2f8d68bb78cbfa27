//! Request bodies: the size limit and content types.

use std::time::Duration;

use actix_web::{HttpRequest, dev::Payload, http::header};
use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use tokio::time::{Instant, timeout, timeout_at};
use troupe_api::{
    protobuf,
    service::{Body, PatchType},
    status::{Reason, Status},
};

use super::limits::{Held, MAX_BODY};

/// How much of a refused body is read and thrown away, and for how long; Go's server takes as much.
const MAX_DRAINED: usize = 256 * 1024;
const DRAIN_TIME: Duration = Duration::from_millis(100);

/// A body has this long to arrive, and a second more for so many bytes that have.
const PATIENCE: Duration = Duration::from_secs(10);
const SLOWEST: usize = 64 * 1024;

const INPUT_TYPES: &str = "application/json, application/yaml, application/vnd.kubernetes.protobuf";
const PATCH_TYPES: &str =
    "application/json-patch+json, application/merge-patch+json, application/strategic-merge-patch+json, application/apply-patch+yaml";

/// The encodings of bodies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InputFormat {
    Json,
    Yaml,
    Protobuf,
}

/// Reads the whole body, keeping account of it in `held`.
///
/// # Errors
/// 413 above [`MAX_BODY`], 400 when the client breaks off, 408 when it is too slow, 429 when its user sends too much at once.
pub async fn read(request: &HttpRequest, payload: &mut Payload, held: &mut Held) -> Result<Bytes, Status> {
    let declared = declared(request);
    if declared.is_some_and(|length| length > MAX_BODY) {
        return Err(too_large());
    }
    let (began, mut whole) = (Instant::now(), BytesMut::new());
    loop {
        let until = began + PATIENCE + Duration::from_secs((whole.len() / SLOWEST) as u64);
        let Some(chunk) = timeout_at(until, payload.next()).await.map_err(|_| too_slow())? else { break };
        let chunk = chunk.map_err(|error| Status::bad_request(format!("unable to read the request body: {error}")))?;
        if whole.len() + chunk.len() > MAX_BODY {
            return Err(too_large());
        }
        held.add(chunk.len())?;
        if whole.is_empty() && declared == Some(chunk.len()) {
            return Ok(chunk);
        }
        whole.extend_from_slice(&chunk);
    }
    Ok(whole.freeze())
}

fn declared(request: &HttpRequest) -> Option<usize> {
    request.headers().get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok())
}

/// Reads the little that a refused request may still send, so that the connection lives on; false when that is too much or
/// takes too long.
pub async fn drain(request: &HttpRequest, payload: &mut Payload) -> bool {
    if declared(request).is_some_and(|length| length > MAX_DRAINED) {
        return false;
    }
    let rest = async {
        let mut left = MAX_DRAINED;
        while let Some(Ok(chunk)) = payload.next().await {
            let Some(still) = left.checked_sub(chunk.len()) else { return false };
            left = still;
        }
        true
    };
    timeout(DRAIN_TIME, rest).await.unwrap_or(false)
}

fn too_slow() -> Status {
    Status::new(408, Reason::Timeout, "Timeout: the request body did not arrive in time")
}

fn too_large() -> Status {
    Status::too_large(format!("limit is {MAX_BODY}"))
}

/// The media type of the body, without parameters; JSON when none is given.
fn media_type(request: &HttpRequest) -> &str {
    let given = request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("");
    given.split(';').next().unwrap_or("").trim()
}

/// The encoding of an object in the body.
///
/// # Errors
/// 415 in upstream's words.
pub fn input_format(request: &HttpRequest) -> Result<InputFormat, Status> {
    match media_type(request) {
        "" | "application/json" => Ok(InputFormat::Json),
        "application/yaml" => Ok(InputFormat::Yaml),
        protobuf::MEDIA_TYPE => Ok(InputFormat::Protobuf),
        _ => Err(unsupported(INPUT_TYPES)),
    }
}

/// The kind of patch in the body.
///
/// # Errors
/// 415 in upstream's words.
pub fn patch_type(request: &HttpRequest) -> Result<PatchType, Status> {
    match media_type(request) {
        "application/json-patch+json" => Ok(PatchType::Json),
        "application/merge-patch+json" => Ok(PatchType::Merge),
        "application/strategic-merge-patch+json" => Ok(PatchType::StrategicMerge),
        "application/apply-patch+yaml" => Ok(PatchType::Apply),
        _ => Err(unsupported(PATCH_TYPES)),
    }
}

fn unsupported(accepted: &str) -> Status {
    Status::unsupported_media_type(format!("the body of the request was in an unknown format - accepted media types include: {accepted}"))
}

/// Marks bytes with their encoding for the service, which decodes them.
pub fn object_body(format: InputFormat, bytes: Bytes) -> Body {
    match format {
        InputFormat::Json => Body::Json(bytes),
        InputFormat::Yaml => Body::Yaml(bytes),
        InputFormat::Protobuf => Body::Protobuf(bytes),
    }
}
