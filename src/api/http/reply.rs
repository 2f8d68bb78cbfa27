//! Replies with one document: objects, statuses, plain JSON.

use std::sync::Arc;

use actix_web::{
    HttpRequest, HttpResponse,
    http::{
        StatusCode,
        header::{self, HeaderName, HeaderValue},
    },
};
use bytes::Bytes;
use serde_json::{Value, json};

use super::{
    accept::{Accepted, Encoding, Form},
    compress::{MIN_GZIP, gzipped, takes_gzip},
    list,
    messages::MessageForm,
    pretty::indented,
    protobuf,
    query::Query,
    render::{FullForm, write_partial},
    server::Shared,
    table::TableForm,
};
use crate::{
    service::{ApiReply, ReplyBody, Target},
    status::Status,
    stored::StoredObject,
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
        let (content_type, body) = encoded(self.accepted.encoding, self.accepted.pretty, json);
        self.document(code, content_type, body.into())
    }

    /// An enveloped protobuf message.
    pub fn message(&self, code: u16, message: Vec<u8>) -> HttpResponse {
        self.document(code, protobuf::MEDIA_TYPE, message.into())
    }

    fn document(&self, code: u16, content_type: &'static str, body: Bytes) -> HttpResponse {
        let mut response = HttpResponse::build(status_code(code));
        response.insert_header((header::CONTENT_TYPE, HeaderValue::from_static(content_type)));
        if self.gzip && body.len() >= MIN_GZIP {
            response.insert_header((header::CONTENT_ENCODING, HeaderValue::from_static("gzip")));
            response.insert_header((header::VARY, HeaderValue::from_static("Accept-Encoding")));
            return response.body(gzipped(&body));
        }
        response.body(body)
    }
}

/// The HTTP status of a code that we made ourselves.
pub fn status_code(code: u16) -> StatusCode {
    StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}

/// A JSON document in another encoding, with its media type. What has no protobuf form stays JSON.
fn encoded(encoding: Encoding, pretty: bool, json: Vec<u8>) -> (&'static str, Vec<u8>) {
    match encoding {
        Encoding::Yaml => ("application/yaml", yaml_of(&json)),
        Encoding::Protobuf => match serde_json::from_slice(&json).ok().and_then(|value| protobuf::document(&value)) {
            Some(message) => (protobuf::MEDIA_TYPE, message),
            None => ("application/json", json),
        },
        Encoding::Json if pretty => ("application/json", indented(&json)),
        Encoding::Json => ("application/json", json),
    }
}

fn yaml_of(json: &[u8]) -> Vec<u8> {
    let value: Value = serde_json::from_slice(json).unwrap_or(Value::Null);
    serde_norway::to_string(&value).unwrap_or_default().into_bytes()
}

/// A failure.
pub fn failure(status: &Status, encoding: Encoding, pretty: bool) -> HttpResponse {
    let mut value = status.to_json();
    if value.get("details").is_none() && matches!(status.code, 404 | 405 | 504) {
        value["details"] = json!({});
    }
    let (content_type, body) = encoded(encoding, pretty, value.to_string().into_bytes());
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

/// What a reply to a call depends on beside what is replied.
pub struct Answering<'a> {
    pub shared: &'a Shared,
    pub target: &'a Target,
    pub query: &'a Query,
    pub outgoing: Outgoing,
}

impl Answering<'_> {
    pub fn table(&self, version: &'static str) -> Result<TableForm, Status> {
        TableForm::new(self.target, self.query, version, self.shared.options.clock.clone())
    }
}

/// The reply to a call, in the form that was agreed on.
///
/// # Errors
/// When the form does not fit what is replied, or the object does not encode.
pub async fn answer(answering: &Answering<'_>, reply: ApiReply) -> Result<HttpResponse, Status> {
    let outgoing = answering.outgoing;
    let mut response = match reply.body {
        ReplyBody::Object(object) => stored(answering, reply.code, &object)?,
        ReplyBody::Tree(tree) if outgoing.accepted.form == Form::Full => {
            let tree = FullForm::new(answering.target).tree(tree);
            outgoing.json(reply.code, serde_json::to_vec(tree.root()).map_err(Status::internal)?)
        }
        ReplyBody::Tree(tree) => {
            let object = Arc::new(StoredObject::from_object(&tree).map_err(Status::internal)?);
            match outgoing.accepted.form {
                Form::Table(version) if tree.kind() != &*answering.target.resource.kind => {
                    let mut out = Vec::new();
                    answering.table(version)?.of_another_kind().write_single(&object, true, &mut out);
                    outgoing.json(reply.code, out)
                }
                _ => stored(answering, reply.code, &object)?,
            }
        }
        ReplyBody::List(list) => list::answer(answering, list).await?,
        ReplyBody::Success { details } => {
            let mut success = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"});
            match details {
                Value::Null => success["code"] = reply.code.into(),
                details => success["details"] = details,
            }
            outgoing.json(reply.code, success.to_string().into_bytes())
        }
    };
    for warning in &reply.warnings {
        add_warning(&mut response, warning);
    }
    Ok(response)
}

fn stored(answering: &Answering<'_>, code: u16, object: &Arc<StoredObject>) -> Result<HttpResponse, Status> {
    let Answering { target, shared, outgoing, .. } = answering;
    let mut out = Vec::with_capacity(object.encoded().len() + 64);
    let is_message = outgoing.accepted.encoding == Encoding::Protobuf;
    match outgoing.accepted.form {
        Form::Full if is_message => return Ok(outgoing.message(code, MessageForm::full(target, &shared.memos)?.enveloped(object))),
        Form::Partial(version) if is_message => {
            return Ok(outgoing.message(code, MessageForm::partial(target, version, &shared.memos).enveloped(object)));
        }
        Form::Full => FullForm::new(target).write(object, &mut out),
        Form::Partial(version) => write_partial(object, version, &mut out),
        Form::Table(version) => answering.table(version)?.write_single(object, true, &mut out),
        Form::PartialList(_) => {
            let kind = &target.resource.kind;
            return Err(Status::not_acceptable(format!("you requested PartialObjectMetadataList, but the requested object is not a list ({kind})")));
        }
    }
    Ok(outgoing.json(code, out))
}

/// Appends a `Warning: 299` header.
pub fn add_warning(response: &mut HttpResponse, text: &str) {
    let clean: String = text.chars().filter(|character| !character.is_control()).collect();
    let quoted = clean.replace('\\', "\\\\").replace('"', "\\\"");
    // Text that no header can carry is dropped, as upstream does.
    if let Ok(value) = HeaderValue::from_bytes(format!("299 - \"{quoted}\"").as_bytes()) {
        response.headers_mut().append(HeaderName::from_static("warning"), value);
    }
}
