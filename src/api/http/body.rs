//! Request bodies: the size limit and content types.

use std::time::Duration;

use actix_web::{HttpRequest, dev::Payload, http::header};
use bytes::{Bytes, BytesMut};
use futures::StreamExt;

use super::protobuf;
use crate::{
    service::{Body, PatchType},
    status::{Reason, Status},
};

/// The longest body taken, as upstream.
pub const MAX_BODY: usize = 3 * 1024 * 1024;

/// How much of a refused body is read and thrown away, and for how long.
const MAX_DRAINED: usize = 16 * 1024 * 1024;
const DRAIN_TIME: Duration = Duration::from_secs(2);

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

/// Reads the whole body.
///
/// # Errors
/// 413 above [`MAX_BODY`], 400 when the client breaks off.
pub async fn read(request: &HttpRequest, payload: &mut Payload) -> Result<Bytes, Status> {
    let declared = request.headers().get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
    if declared.is_some_and(|length| length > MAX_BODY) {
        return Err(too_large());
    }
    let mut whole = BytesMut::new();
    while let Some(chunk) = payload.next().await {
        let chunk = chunk.map_err(|error| Status::bad_request(format!("unable to read the request body: {error}")))?;
        if whole.len() + chunk.len() > MAX_BODY {
            return Err(too_large());
        }
        if whole.is_empty() && declared == Some(chunk.len()) {
            return Ok(chunk);
        }
        whole.extend_from_slice(&chunk);
    }
    Ok(whole.freeze())
}

/// Reads what a refused request still sends, so that the connection lives on and the client gets to read the reply;
/// false when that is too much or takes too long.
pub async fn drain(payload: &mut Payload) -> bool {
    let rest = async {
        let mut left = MAX_DRAINED;
        while let Some(Ok(chunk)) = payload.next().await {
            let Some(still) = left.checked_sub(chunk.len()) else { return false };
            left = still;
        }
        true
    };
    tokio::time::timeout(DRAIN_TIME, rest).await.unwrap_or(false)
}

fn too_large() -> Status {
    Status::new(413, Reason::RequestEntityTooLarge, format!("Request entity is too large: limit is {MAX_BODY}"))
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

/// Marks bytes with their encoding for the service; protobuf becomes JSON here.
///
/// # Errors
/// 400 for protobuf that does not decode.
pub fn object_body(format: InputFormat, bytes: Bytes) -> Result<Body, Status> {
    match format {
        InputFormat::Json => Ok(Body::Json(bytes)),
        InputFormat::Yaml => Ok(Body::Yaml(bytes)),
        InputFormat::Protobuf => Ok(Body::Json(protobuf::to_json(&bytes)?.to_string().into())),
    }
}
