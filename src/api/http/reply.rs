//! Replies with one document: objects, statuses, plain JSON.

use std::sync::Arc;

use actix_web::{
    HttpRequest, HttpResponse,
    http::{
        StatusCode,
        header::{self, HeaderValue},
    },
};
use serde_json::{Map, Value};

use super::{
    accept::{Accepted, Encoding, Form},
    compress::{MIN_GZIP, gzipped, takes_gzip},
    limits::Held,
    list,
    messages::MessageForm,
    pretty::indented,
    protobuf,
    query::Query,
    render::{FullForm, write_partial},
    server::Shared,
    table::TableForm,
    yaml,
};
use crate::{
    aside,
    service::{ApiReply, ReplyBody, Target, UserInfo},
    status::{Status, StatusDetails, success_text},
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
        self.json_document(json).respond(code)
    }

    /// An enveloped protobuf message.
    pub fn message(&self, code: u16, message: Vec<u8>) -> HttpResponse {
        self.document(protobuf::MEDIA_TYPE, message).respond(code)
    }

    fn json_document(&self, json: Vec<u8>) -> Document {
        let (content_type, body) = encoded(self.accepted.encoding, self.accepted.pretty, json);
        self.document(content_type, body)
    }

    fn document(&self, content_type: &'static str, body: Vec<u8>) -> Document {
        let gzip = self.gzip && body.len() >= MIN_GZIP;
        Document { content_type, body: if gzip { gzipped(&body) } else { body }, gzip }
    }

    /// Whether JSON goes out as it is.
    fn is_plain(&self) -> bool {
        !self.gzip && !self.accepted.pretty && self.accepted.encoding == Encoding::Json
    }
}

/// A body that is ready to be sent.
struct Document {
    content_type: &'static str,
    body: Vec<u8>,
    gzip: bool,
}

impl Document {
    fn respond(self, code: u16) -> HttpResponse {
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
fn encoded(encoding: Encoding, pretty: bool, json: Vec<u8>) -> (&'static str, Vec<u8>) {
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

/// What a reply to a call depends on beside what is replied.
pub struct Answering<'a> {
    pub shared: &'a Shared,
    pub target: &'a Target,
    pub query: &'a Query,
    pub outgoing: Outgoing,
    /// Who gets the reply, and whether they may let as much of it wait as they like.
    pub user: &'a Arc<UserInfo>,
    pub exempt: bool,
}

impl Answering<'_> {
    /// Keeps account of what a reply that is made piece by piece holds: about as much as its largest piece.
    ///
    /// # Errors
    /// 429 when the user lets too much wait.
    pub fn hold(&self, piece: usize) -> Result<Option<Held>, Status> {
        if piece <= aside::SMALL {
            return Ok(None);
        }
        let mut held = self.shared.replies.hold(self.user, self.exempt);
        held.add(piece)?;
        Ok(Some(held))
    }

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
    let length = if let ReplyBody::Tree(tree) = &reply.body { length_up_to(tree.root(), aside::SMALL + 1) } else { 0 };
    Ok(match reply.body {
        ReplyBody::Object(object) => stored(answering, reply.code, object).await?,
        ReplyBody::Tree(tree) if outgoing.accepted.form == Form::Full => {
            let form = FullForm::new(answering.target);
            let document = move || serde_json::to_vec(form.tree(tree).root()).map(|json| outgoing.json_document(json));
            aside::compute(length, document).await.map_err(Status::internal)?.respond(reply.code)
        }
        ReplyBody::Tree(tree) => {
            let (object, tree) = aside::compute(length, move || (StoredObject::from_object(&tree), tree)).await;
            let object = Arc::new(object.map_err(Status::internal)?);
            match outgoing.accepted.form {
                Form::Table(version) if tree.kind() != &*answering.target.resource.kind => {
                    let mut out = Vec::new();
                    answering.table(version)?.of_another_kind().write_single(&object, true, &mut out);
                    outgoing.json(reply.code, out)
                }
                _ => stored(answering, reply.code, object).await?,
            }
        }
        ReplyBody::List(list) => list::answer(answering, list).await?,
        ReplyBody::Success { details } => {
            let details: Option<StatusDetails> = serde_json::from_value(details).map_err(Status::internal)?;
            let told = if details.is_some() { 0 } else { reply.code };
            outgoing.json(reply.code, success_text(details.as_ref(), told).into_bytes())
        }
    })
}

/// About how long a tree is as a document. It is not gone through any further once that is `enough`.
fn length_up_to(tree: &Map<String, Value>, enough: usize) -> usize {
    let (mut length, mut waiting) = (0, Vec::new());
    let fields = |fields: &Map<String, Value>| fields.keys().take(enough).map(|key| key.len() + 4).sum::<usize>() + 2;
    length += fields(tree);
    waiting.extend(tree.values());
    while let Some(value) = waiting.pop()
        && length < enough
    {
        length += match value {
            Value::String(text) => text.len() + 2,
            Value::Array(items) => {
                waiting.extend(items.iter().take(enough));
                items.len() + 2
            }
            Value::Object(inner) => {
                waiting.extend(inner.values().take(enough));
                fields(inner)
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => 5,
        };
    }
    length
}

/// A form of one stored object.
enum Rendering {
    Message(Box<MessageForm>),
    Full(FullForm),
    Partial(&'static str),
    Table(Box<TableForm>),
}

impl Rendering {
    fn document(&self, object: &Arc<StoredObject>, outgoing: Outgoing) -> Document {
        let mut out = Vec::with_capacity(object.encoded().len() + 64);
        match self {
            Rendering::Message(form) => return outgoing.document(protobuf::MEDIA_TYPE, form.enveloped(object)),
            Rendering::Full(form) => form.write(object, &mut out),
            Rendering::Partial(version) => write_partial(object, version, &mut out),
            Rendering::Table(form) => form.write_single(object, true, &mut out),
        }
        outgoing.json_document(out)
    }
}

async fn stored(answering: &Answering<'_>, code: u16, object: Arc<StoredObject>) -> Result<HttpResponse, Status> {
    let Answering { target, shared, outgoing, .. } = answering;
    let is_message = outgoing.accepted.encoding == Encoding::Protobuf;
    let rendering = match outgoing.accepted.form {
        Form::Full if is_message => Rendering::Message(Box::new(MessageForm::full(target, &shared.memos)?)),
        Form::Partial(version) if is_message => Rendering::Message(Box::new(MessageForm::partial(target, version, &shared.memos))),
        Form::Full => Rendering::Full(FullForm::new(target)),
        Form::Partial(version) => Rendering::Partial(version),
        Form::Table(version) => Rendering::Table(Box::new(answering.table(version)?)),
        Form::PartialList(_) => {
            let kind = &target.resource.kind;
            return Err(Status::not_acceptable(format!("you requested PartialObjectMetadataList, but the requested object is not a list ({kind})")));
        }
    };
    let outgoing = *outgoing;
    // What the store holds is copied, all else is made.
    let is_copied = outgoing.is_plain() && matches!(rendering, Rendering::Full(_));
    let length = if is_copied { 0 } else { object.encoded().len() };
    let document = aside::compute(length, move || rendering.document(&object, outgoing)).await;
    Ok(document.respond(code))
}
