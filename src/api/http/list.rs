//! LIST replies: one piece when small, else a stream of slices, never the whole body in memory.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    vec,
};

use actix_web::{
    HttpResponse,
    body::{BodySize, MessageBody},
    http::header::{self, HeaderValue},
};
use bytes::Bytes;

use super::{
    accept::{Encoding, Form},
    compress::{Gzip, MIN_GZIP},
    messages::MessageForm,
    pretty::Indenter,
    protobuf,
    render::{FullForm, api_version, list_metadata, write_partial},
    reply::Answering,
    table::TableForm,
};
use crate::{
    service::{ListReply, Target},
    status::Status,
    stored::StoredObject,
};

/// A slice of a streamed list is about this long.
const SLICE: usize = 64 * 1024;
/// Items that are encoded without giving way to others.
const ITEMS_AT_ONCE: usize = 32;

/// How items are written.
enum ItemForm {
    /// Without kind and apiVersion, as in typed lists.
    Plain(FullForm),
    Partial(&'static str),
    Row(Box<TableForm>),
    Message(Box<MessageForm>),
}

impl ItemForm {
    /// What stands between two items, and behind the last one.
    fn marks(&self) -> (&'static [u8], &'static [u8]) {
        match self {
            ItemForm::Message(_) => (b"", protobuf::UNKNOWN_TAIL),
            _ => (b",", b"]}"),
        }
    }
}

/// The bytes of a list, made as they are asked for.
struct ListBytes {
    items: vec::IntoIter<Arc<StoredObject>>,
    form: ItemForm,
    state: State,
    head: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Head,
    First,
    Rest,
    Done,
}

/// All of a list before its first item.
fn document(kind: &str, version: &str, metadata: &str) -> Vec<u8> {
    format!("{{\"kind\":\"{kind}\",\"apiVersion\":\"{version}\",\"metadata\":{metadata},\"items\":[").into_bytes()
}

impl ListBytes {
    async fn new(answering: &Answering<'_>, list: ListReply) -> Result<Self, Status> {
        let (target, accepted) = (answering.target, answering.outgoing.accepted);
        let metadata = list_metadata(&list);
        let memos = &answering.shared.memos;
        let is_message = accepted.encoding == Encoding::Protobuf;
        let (form, head) = match accepted.form {
            Form::Full if is_message => messages(answering, MessageForm::full(target, memos)?, &metadata, &list).await,
            Form::PartialList(version) if is_message => messages(answering, MessageForm::partial(target, version, memos), &metadata, &list).await,
            Form::Full => (ItemForm::Plain(FullForm::new(target)), document(&target.resource.list_kind(), &api_version(target), &metadata)),
            Form::PartialList(version) => (ItemForm::Partial(version), document("PartialObjectMetadataList", version, &metadata)),
            Form::Table(version) => {
                let table = answering.table(version)?;
                let mut head = Vec::with_capacity(1024);
                table.write_head(&metadata, true, &mut head);
                (ItemForm::Row(Box::new(table)), head)
            }
            Form::Partial(_) => {
                let kind = target.resource.list_kind();
                return Err(Status::not_acceptable(format!("you requested PartialObjectMetadata, but the requested object is a list ({kind})")));
            }
        };
        Ok(ListBytes { items: list.items.into_iter(), form, state: State::Head, head })
    }

    /// Appends bytes until `out` has about `enough`; false when that was the end.
    fn fill(&mut self, out: &mut Vec<u8>, enough: usize) -> bool {
        if self.state == State::Head {
            out.append(&mut self.head);
            self.state = State::First;
        }
        let (separator, tail) = self.form.marks();
        while self.state != State::Done && out.len() < enough {
            let Some(item) = self.items.next() else {
                out.extend_from_slice(tail);
                self.state = State::Done;
                break;
            };
            if self.state == State::Rest {
                out.extend_from_slice(separator);
            }
            self.state = State::Rest;
            match &self.form {
                ItemForm::Plain(full) => full.write_list_item(&item, out),
                ItemForm::Partial(version) => write_partial(&item, version, out),
                ItemForm::Row(table) => table.write_row(&item, out),
                ItemForm::Message(form) => {
                    let message = form.message(&item);
                    protobuf::item_head(message.len(), out);
                    out.extend_from_slice(&message);
                }
            }
        }
        self.state != State::Done
    }
}

/// The form and the head of a list of messages. Its length stands before it, so every item is encoded, and most are remembered, once before.
async fn messages(answering: &Answering<'_>, form: MessageForm, metadata: &str, list: &ListReply) -> (ItemForm, Vec<u8>) {
    let mut size = 0;
    for (at, item) in list.items.iter().enumerate() {
        size += protobuf::item_size(form.message(item).len());
        if at % ITEMS_AT_ONCE == ITEMS_AT_ONCE - 1 {
            tokio::task::yield_now().await;
        }
    }
    let head = form.list_head(answering.target, metadata, size);
    (ItemForm::Message(Box::new(form)), head)
}

/// Answers with a list.
///
/// # Errors
/// When the form does not fit a list.
pub async fn answer(answering: &Answering<'_>, list: ListReply) -> Result<HttpResponse, Status> {
    let outgoing = answering.outgoing;
    let stored: usize = list.items.iter().map(|item| item.encoded().len() + 40).sum();
    let mut bytes = ListBytes::new(answering, list).await?;
    let is_message = outgoing.accepted.encoding == Encoding::Protobuf;
    if stored <= SLICE || outgoing.accepted.encoding == Encoding::Yaml {
        let mut whole = Vec::with_capacity(stored.min(SLICE) + 1024);
        bytes.fill(&mut whole, usize::MAX);
        return Ok(if is_message { outgoing.message(200, whole) } else { outgoing.json(200, whole) });
    }
    let mut response = HttpResponse::Ok();
    let content_type = if is_message { protobuf::MEDIA_TYPE } else { "application/json" };
    response.insert_header((header::CONTENT_TYPE, HeaderValue::from_static(content_type)));
    let gzip = (outgoing.gzip && stored >= MIN_GZIP).then(Gzip::new);
    if gzip.is_some() {
        response.insert_header((header::CONTENT_ENCODING, HeaderValue::from_static("gzip")));
        response.insert_header((header::VARY, HeaderValue::from_static("Accept-Encoding")));
    }
    let indenter = (outgoing.accepted.pretty && !is_message).then(Indenter::default);
    Ok(response.body(ListStream { bytes, indenter, gzip, ended: false }))
}

/// The JSON body of a list, slice by slice, as a reply carries it.
pub fn slices(target: &Target, list: ListReply) -> impl Iterator<Item = Vec<u8>> {
    let head = document(&target.resource.list_kind(), &api_version(target), &list_metadata(&list));
    let bytes = ListBytes { items: list.items.into_iter(), form: ItemForm::Plain(FullForm::new(target)), state: State::Head, head };
    let mut stream = ListStream { bytes, indenter: None, gzip: None, ended: false };
    std::iter::from_fn(move || stream.next_slice())
}

/// A list as an HTTP body.
struct ListStream {
    bytes: ListBytes,
    indenter: Option<Indenter>,
    gzip: Option<Gzip>,
    ended: bool,
}

impl ListStream {
    fn next_slice(&mut self) -> Option<Vec<u8>> {
        while !self.ended {
            let mut slice = Vec::with_capacity(SLICE + 16 * 1024);
            self.ended = !self.bytes.fill(&mut slice, SLICE);
            if let Some(indenter) = &mut self.indenter {
                let mut indented = Vec::with_capacity(slice.len() * 2);
                indenter.feed(&slice, &mut indented);
                slice = indented;
            }
            if let Some(gzip) = &mut self.gzip {
                slice = gzip.feed(&slice);
            }
            if self.ended
                && let Some(gzip) = self.gzip.take()
            {
                slice.extend(gzip.finish());
            }
            if !slice.is_empty() {
                return Some(slice);
            }
        }
        None
    }
}

impl MessageBody for ListStream {
    type Error = Infallible;

    fn size(&self) -> BodySize {
        BodySize::Stream
    }

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Bytes, Infallible>>> {
        Poll::Ready(self.next_slice().map(|slice| Ok(slice.into())))
    }
}
