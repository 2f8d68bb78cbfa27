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
    accept::{Accepted, Encoding, Form},
    compress::{Gzip, MIN_GZIP},
    pretty::Indenter,
    query::Query,
    render::{FullForm, api_version, list_metadata, write_partial},
    reply::Outgoing,
    table::TableForm,
};
use crate::{
    meta::{Clock, SystemClock},
    service::{ListReply, Target},
    status::Status,
    stored::StoredObject,
};

/// A slice of a streamed list is about this long.
const SLICE: usize = 64 * 1024;

/// How items are written.
enum ItemForm {
    /// Without kind and apiVersion, as in typed lists.
    Plain(FullForm),
    Partial(&'static str),
    Row(Box<TableForm>),
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

impl ListBytes {
    fn new(outgoing: &Outgoing, target: &Target, query: &Query, clock: &Arc<dyn Clock>, list: ListReply) -> Result<Self, Status> {
        let metadata = list_metadata(&list);
        let document = |kind: &str, version: &str| {
            format!("{{\"kind\":\"{kind}\",\"apiVersion\":\"{version}\",\"metadata\":{metadata},\"items\":[").into_bytes()
        };
        let (form, head) = match outgoing.accepted.form {
            Form::Full => (ItemForm::Plain(FullForm::new(target)), document(&target.resource.list_kind(), &api_version(target))),
            Form::PartialList(version) => (ItemForm::Partial(version), document("PartialObjectMetadataList", version)),
            Form::Table(version) => {
                let table = TableForm::new(target, query, version, clock.clone())?;
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
        while self.state != State::Done && out.len() < enough {
            let Some(item) = self.items.next() else {
                out.extend_from_slice(b"]}");
                self.state = State::Done;
                break;
            };
            if self.state == State::Rest {
                out.push(b',');
            }
            self.state = State::Rest;
            match &self.form {
                ItemForm::Plain(full) => full.write_list_item(&item, out),
                ItemForm::Partial(version) => write_partial(&item, version, out),
                ItemForm::Row(table) => table.write_row(&item, out),
            }
        }
        self.state != State::Done
    }
}

/// Answers with a list.
///
/// # Errors
/// When the form does not fit a list.
pub fn answer(outgoing: &Outgoing, target: &Target, query: &Query, clock: &Arc<dyn Clock>, list: ListReply) -> Result<HttpResponse, Status> {
    let stored: usize = list.items.iter().map(|item| item.encoded().len() + 40).sum();
    let mut bytes = ListBytes::new(outgoing, target, query, clock, list)?;
    if stored <= SLICE || outgoing.accepted.encoding == Encoding::Yaml {
        let mut whole = Vec::with_capacity(stored.min(SLICE) + 1024);
        bytes.fill(&mut whole, usize::MAX);
        return Ok(outgoing.json(200, whole));
    }
    let mut response = HttpResponse::Ok();
    response.insert_header((header::CONTENT_TYPE, HeaderValue::from_static("application/json")));
    let gzip = (outgoing.gzip && stored >= MIN_GZIP).then(Gzip::new);
    if gzip.is_some() {
        response.insert_header((header::CONTENT_ENCODING, HeaderValue::from_static("gzip")));
        response.insert_header((header::VARY, HeaderValue::from_static("Accept-Encoding")));
    }
    Ok(response.body(ListStream { bytes, indenter: outgoing.accepted.pretty.then(Indenter::default), gzip, ended: false }))
}

/// The JSON body of a list, slice by slice, as a reply carries it.
///
/// # Panics
/// Never: every list has this form.
pub fn slices(target: &Target, list: ListReply) -> impl Iterator<Item = Vec<u8>> {
    let accepted = Accepted { encoding: Encoding::Json, form: Form::Full, pretty: false };
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let bytes = ListBytes::new(&Outgoing { accepted, gzip: false }, target, &Query::default(), &clock, list).expect("full lists are always there");
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
