//! Replies with one document: objects, statuses, plain JSON.

use std::sync::Arc;

use actix_web::HttpResponse;
use serde_json::{Map, Value};
use troupe_api::{
    aside,
    meta::floats,
    protobuf,
    service::{ApiReply, ReplyBody},
    status::{Status, StatusDetails, success_text},
    stored::StoredObject,
};

use super::{
    accept::{Encoding, Form},
    answering::Answering,
    list,
    messages::MessageForm,
    outgoing::{Document, Outgoing},
    table::TableForm,
};
use crate::render::{FullForm, write_partial};

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
            let document = move || {
                let mut json = Vec::new();
                floats::write_json(&mut json, form.tree(tree).root()).map(|()| outgoing.json_document(json))
            };
            aside::compute(length, document).await.map_err(Status::internal)?.respond(reply.code)
        }
        ReplyBody::Tree(tree) => {
            let (object, tree) = aside::compute(length, move || (StoredObject::from_object(&tree), tree)).await;
            let object = Arc::new(object.map_err(Status::internal)?);
            match outgoing.accepted.form {
                Form::Table(version) if tree.kind() != &*answering.target.resource.kind => {
                    let mut out = Vec::new();
                    answering.table(version)?.of_another_kind(tree.kind(), &answering.target.resource).write_single(&object, true, &mut out);
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
        let mut out = Vec::with_capacity(object.encoded_length() + 64);
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
    let length = if is_copied { 0 } else { object.encoded_length() };
    let document = aside::compute(length, move || rendering.document(&object, outgoing)).await;
    Ok(document.respond(code))
}
