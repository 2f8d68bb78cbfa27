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
    pretty::indented,
    query::Query,
    render::{FullForm, write_partial},
    table::TableForm,
};
use crate::{
    meta::Clock,
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

    /// A whole JSON document.
    pub fn json(&self, code: u16, json: Vec<u8>) -> HttpResponse {
        let (content_type, body) = match self.accepted.encoding {
            Encoding::Yaml => ("application/yaml", yaml_of(&json)),
            Encoding::Json if self.accepted.pretty => ("application/json", indented(&json)),
            Encoding::Json => ("application/json", json),
        };
        self.document(code, content_type, body.into())
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

fn yaml_of(json: &[u8]) -> Vec<u8> {
    let value: Value = serde_json::from_slice(json).unwrap_or(Value::Null);
    serde_norway::to_string(&value).unwrap_or_default().into_bytes()
}

/// A failure.
pub fn failure(status: &Status, pretty: bool) -> HttpResponse {
    let mut value = status.to_json();
    if value.get("details").is_none() && matches!(status.code, 404 | 405 | 504) {
        value["details"] = json!({});
    }
    let json = value.to_string().into_bytes();
    let mut response = HttpResponse::build(status_code(status.code));
    response.insert_header((header::CONTENT_TYPE, HeaderValue::from_static("application/json")));
    let retry_after = status.details.as_ref().map_or(0, |details| details.retry_after_seconds);
    if retry_after > 0 {
        response.insert_header((header::RETRY_AFTER, retry_after.to_string()));
    }
    if matches!(status.code, 401 | 403) {
        response.insert_header((header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")));
    }
    response.body(if pretty { indented(&json) } else { json })
}

/// The reply to a call, in the form that was agreed on.
///
/// # Errors
/// When the form does not fit what is replied, or the object does not encode.
pub fn answer(outgoing: &Outgoing, target: &Target, query: &Query, clock: &Arc<dyn Clock>, reply: ApiReply) -> Result<HttpResponse, Status> {
    let mut response = match reply.body {
        ReplyBody::Object(object) => outgoing.json(reply.code, object_json(outgoing, target, query, clock, &object)?),
        ReplyBody::Tree(tree) if outgoing.accepted.form == Form::Full => {
            let tree = FullForm::new(target).tree(tree);
            outgoing.json(reply.code, serde_json::to_vec(tree.root()).map_err(Status::internal)?)
        }
        ReplyBody::Tree(tree) => {
            let object = StoredObject::from_object(&tree).map_err(Status::internal)?;
            let json = match outgoing.accepted.form {
                Form::Table(version) if tree.kind() != &*target.resource.kind => {
                    let mut out = Vec::new();
                    TableForm::new(target, query, version, clock.clone())?.of_another_kind().write_single(&object, true, &mut out);
                    out
                }
                _ => object_json(outgoing, target, query, clock, &object)?,
            };
            outgoing.json(reply.code, json)
        }
        ReplyBody::List(list) => list::answer(outgoing, target, query, clock, list)?,
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

fn object_json(outgoing: &Outgoing, target: &Target, query: &Query, clock: &Arc<dyn Clock>, object: &StoredObject) -> Result<Vec<u8>, Status> {
    let mut out = Vec::with_capacity(object.encoded().len() + 64);
    match outgoing.accepted.form {
        Form::Full => FullForm::new(target).write(object, &mut out),
        Form::Partial(version) => write_partial(object, version, &mut out),
        Form::Table(version) => TableForm::new(target, query, version, clock.clone())?.write_single(object, true, &mut out),
        Form::PartialList(_) => {
            let kind = &target.resource.kind;
            return Err(Status::not_acceptable(format!("you requested PartialObjectMetadataList, but the requested object is not a list ({kind})")));
        }
    }
    Ok(out)
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
