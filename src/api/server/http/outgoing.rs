//! How documents go out: encodings, compression, and failures.

use actix_web::{
    HttpRequest, HttpResponse,
    http::{
        StatusCode,
        header::{self, HeaderValue},
    },
};
use troupe_api::{protobuf, status::Status};

use super::{
    accept::{Accepted, Encoding},
    compress::{MIN_GZIP, gzipped, takes_gzip},
    pretty::indented,
    yaml,
};

/// How a reply goes out.
#[derive(Clone, Copy, Debug)]
pub struct Outgoing {
    pub accepted: Accepted,
    pub gzip: bool,
}

impl Outgoing {
    pub fn new(request: &HttpRequest, accepted: Accepted) -> Self {
        Outgoing { accepted, gzip: takes_gzip(request) }
    }

    /// A whole JSON document, in the encoding that was agreed on.
    pub fn json(&self, code: u16, json: Vec<u8>) -> HttpResponse {
        self.json_document(json).respond(code)
    }

    /// An enveloped protobuf message.
    pub fn message(&self, code: u16, message: Vec<u8>) -> HttpResponse {
        self.document(protobuf::MEDIA_TYPE, message).respond(code)
    }

    pub(super) fn json_document(&self, json: Vec<u8>) -> Document {
        let (content_type, body) = encoded(self.accepted.encoding, self.accepted.pretty, json);
        self.document(content_type, body)
    }

    pub(super) fn document(&self, content_type: &'static str, body: Vec<u8>) -> Document {
        let gzip = self.gzip && body.len() >= MIN_GZIP;
        Document { content_type, body: if gzip { gzipped(&body) } else { body }, gzip }
    }

    /// Whether JSON goes out as it is.
    pub(super) fn is_plain(&self) -> bool {
        !self.gzip && !self.accepted.pretty && self.accepted.encoding == Encoding::Json
    }
}

/// A body that is ready to be sent.
pub(super) struct Document {
    content_type: &'static str,
    body: Vec<u8>,
    gzip: bool,
}

impl Document {
    pub(super) fn respond(self, code: u16) -> HttpResponse {
        let mut response = HttpResponse::build(status_code(code));
        response.insert_header((header::CONTENT_TYPE, HeaderValue::from_static(self.content_type)));
        if self.gzip {
            response.insert_header((header::CONTENT_ENCODING, HeaderValue::from_static("gzip")));
            response.insert_header((header::VARY, HeaderValue::from_static("Accept-Encoding")));
        }
        response.body(self.body)
    }
}

/// The HTTP status of a code that we made ourselves.
pub fn status_code(code: u16) -> StatusCode {
    StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}

/// A JSON document in another encoding, with its media type. What has no protobuf form stays JSON.
pub(super) fn encoded(encoding: Encoding, pretty: bool, json: Vec<u8>) -> (&'static str, Vec<u8>) {
    match encoding {
        Encoding::Yaml => ("application/yaml", yaml::document(&json)),
        Encoding::Protobuf => match serde_json::from_slice(&json).ok().and_then(|value| protobuf::document(&value)) {
            Some(message) => (protobuf::MEDIA_TYPE, message),
            None => ("application/json", json),
        },
        Encoding::Json if pretty => ("application/json", indented(&json)),
        Encoding::Json => ("application/json", json),
    }
}

/// A failure.
pub fn failure(status: &Status, encoding: Encoding, pretty: bool) -> HttpResponse {
    let text = if matches!(status.code, 404 | 405 | 504) { status.to_text_with_details() } else { status.to_text() };
    let (content_type, body) = encoded(encoding, pretty, text.into_bytes());
    let mut response = HttpResponse::build(status_code(status.code));
    response.insert_header((header::CONTENT_TYPE, HeaderValue::from_static(content_type)));
    let retry_after = status.details.as_ref().map_or(0, |details| details.retry_after_seconds);
    if retry_after > 0 {
        response.insert_header((header::RETRY_AFTER, retry_after.to_string()));
    }
    if matches!(status.code, 401 | 403) {
        response.insert_header((header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")));
    }
    response.body(body)
}
