//! LIST replies: one piece when small, else a stream of slices, never the whole body in memory.

use std::{
    mem,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant},
    vec,
};

use actix_web::{
    HttpResponse,
    body::{BodySize, MessageBody},
    http::header::{self, HeaderValue},
};
use bytes::Bytes;
use troupe_api::{
    protobuf,
    service::{ListReply, Target},
    status::Status,
    stored::StoredObject,
};

use super::{
    accept::{Encoding, Form},
    answering::Answering,
    compress::{Gzip, MIN_GZIP},
    limits::Held,
    messages::MessageForm,
    pretty::Indenter,
    table::TableForm,
    yaml,
};
use crate::{
    render::{FullForm, api_version, list_metadata, write_partial},
    underway::{Cut, Unsent},
};

/// A slice of a streamed list is about this long.
const SLICE: usize = 64 * 1024;
/// Rows of a table may take long to make and say little: after this time others have their turn.
const ROWS_AT_ONCE: Duration = Duration::from_millis(2);

/// How items are written.
enum ItemForm {
    /// Without kind and apiVersion, as in typed lists.
    Plain(FullForm),
    Partial(&'static str),
    Row(Box<TableForm>),
    Message(Box<MessageForm>),
}

impl ItemForm {
    /// What stands between two items.
    fn separator(&self) -> &'static [u8] {
        if matches!(self, ItemForm::Message(_)) { b"" } else { b"," }
    }

    /// What stands behind the last item.
    fn tail(&self) -> &'static [u8] {
        if matches!(self, ItemForm::Message(_)) { protobuf::UNKNOWN_TAIL } else { b"]}" }
    }

    fn write(&self, item: &Arc<StoredObject>, out: &mut Vec<u8>) {
        match self {
            ItemForm::Plain(full) => full.write_list_item(item, out),
            ItemForm::Partial(version) => write_partial(item, version, out),
            ItemForm::Row(table) => table.write_row(item, out),
            ItemForm::Message(form) => {
                let message = form.message(item);
                protobuf::item_head(message.len(), out);
                out.extend_from_slice(&message);
            }
        }
    }
}

/// The bytes of a list, made as they are asked for.
struct ListBytes {
    items: Unsent<vec::IntoIter<Arc<StoredObject>>>,
    form: ItemForm,
    state: State,
    head: Vec<u8>,
    /// Items are turned into YAML one by one.
    yaml: bool,
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
        let items = answering.shared.lists.send(list.items.into_iter());
        Ok(ListBytes { items, form, state: State::Head, head, yaml: false })
    }

    /// Appends bytes until `out` has about `enough`; false when that was the end.
    ///
    /// # Errors
    /// When the list took too long.
    fn fill(&mut self, out: &mut Vec<u8>, enough: usize) -> Result<bool, Cut> {
        if self.state == State::Head {
            let head = mem::take(&mut self.head);
            out.extend(if self.yaml { yaml::list_head(&head) } else { head });
            self.state = State::First;
        }
        let (form, state, yaml) = (&self.form, &mut self.state, self.yaml);
        // Who wants all of it at once waits for it.
        let begun = (enough < usize::MAX && matches!(form, ItemForm::Row(_))).then(Instant::now);
        let is_long = || begun.is_some_and(|begun| begun.elapsed() > ROWS_AT_ONCE);
        self.items.with(|items| {
            while *state != State::Done && out.len() < enough && !is_long() {
                let is_first = *state == State::First;
                let Some(item) = items.next() else {
                    out.extend_from_slice(if yaml { yaml::list_end(is_first) } else { form.tail() });
                    *state = State::Done;
                    break;
                };
                *state = State::Rest;
                if yaml {
                    out.extend_from_slice(if is_first { b"\n" } else { b"" });
                    let mut json = Vec::with_capacity(item.encoded_length() + 64);
                    form.write(&item, &mut json);
                    yaml::list_item(&json, out);
                } else {
                    out.extend_from_slice(if is_first { b"" } else { form.separator() });
                    form.write(&item, out);
                }
            }
            *state != State::Done
        })
    }
}

/// The form and the head of a list of messages. Its length stands before it, so every item is encoded, and most are remembered, once before.
async fn messages(answering: &Answering<'_>, form: MessageForm, metadata: &str, list: &ListReply) -> (ItemForm, Vec<u8>) {
    let (mut size, mut at_once) = (0, 0);
    for item in &list.items {
        size += protobuf::item_size(form.message(item).len());
        at_once += item.encoded_length();
        if at_once >= SLICE {
            // Others have their turn.
            tokio::task::yield_now().await;
            at_once = 0;
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
    let (mut stored, mut largest) = (0, 0);
    for length in list.items.iter().map(|item| item.encoded_length()) {
        stored += length + 40;
        largest = largest.max(length);
    }
    let held = if stored > SLICE { answering.hold(SLICE + largest)? } else { None };
    let mut bytes = ListBytes::new(answering, list).await?;
    let is_message = outgoing.accepted.encoding == Encoding::Protobuf;
    if stored <= SLICE {
        let mut whole = Vec::with_capacity(stored.min(SLICE) + 1024);
        bytes.fill(&mut whole, usize::MAX).map_err(|cut| Status::timeout(cut.to_string()))?;
        return Ok(if is_message { outgoing.message(200, whole) } else { outgoing.json(200, whole) });
    }
    let mut response = HttpResponse::Ok();
    bytes.yaml = outgoing.accepted.encoding == Encoding::Yaml;
    let content_type = match outgoing.accepted.encoding {
        Encoding::Protobuf => protobuf::MEDIA_TYPE,
        Encoding::Yaml => "application/yaml",
        Encoding::Json => "application/json",
    };
    response.insert_header((header::CONTENT_TYPE, HeaderValue::from_static(content_type)));
    let gzip = (outgoing.gzip && stored >= MIN_GZIP).then(Gzip::new);
    if gzip.is_some() {
        response.insert_header((header::CONTENT_ENCODING, HeaderValue::from_static("gzip")));
        response.insert_header((header::VARY, HeaderValue::from_static("Accept-Encoding")));
    }
    let indenter = (outgoing.accepted.pretty && outgoing.accepted.encoding == Encoding::Json).then(Indenter::default);
    Ok(response.body(ListStream { bytes, indenter, gzip, ended: false, gives_way: false, _held: held }))
}

/// The JSON body of a list, slice by slice, as a reply carries it.
pub fn slices(target: &Target, list: ListReply) -> impl Iterator<Item = Vec<u8>> {
    let head = document(&target.resource.list_kind(), &api_version(target), &list_metadata(&list));
    let bytes = ListBytes {
        items: Unsent::uncut(list.items.into_iter()),
        form: ItemForm::Plain(FullForm::new(target)),
        state: State::Head,
        head,
        yaml: false,
    };
    let mut stream = ListStream { bytes, indenter: None, gzip: None, ended: false, gives_way: false, _held: None };
    std::iter::from_fn(move || {
        loop {
            match stream.piece() {
                Ok(Piece::Bytes(slice)) => return Some(slice),
                Ok(Piece::Nothing) => {}
                Ok(Piece::End) | Err(Cut) => return None,
            }
        }
    })
}

/// A list as an HTTP body.
struct ListStream {
    bytes: ListBytes,
    indenter: Option<Indenter>,
    gzip: Option<Gzip>,
    ended: bool,
    /// The last piece took its time: others have their turn before the next one.
    gives_way: bool,
    /// The piece that may wait for the client.
    _held: Option<Held>,
}

/// What came of making a slice.
enum Piece {
    Bytes(Vec<u8>),
    /// Nothing to send yet.
    Nothing,
    End,
}

impl ListStream {
    /// Makes a slice, or as much of one as takes no longer than others should wait.
    fn piece(&mut self) -> Result<Piece, Cut> {
        if self.ended {
            return Ok(Piece::End);
        }
        let mut slice = Vec::with_capacity(SLICE + 16 * 1024);
        self.ended = !self.bytes.fill(&mut slice, SLICE)?;
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
        Ok(if slice.is_empty() { Piece::Nothing } else { Piece::Bytes(slice) })
    }
}

impl MessageBody for ListStream {
    type Error = Cut;

    fn size(&self) -> BodySize {
        BodySize::Stream
    }

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Cut>>> {
        if mem::take(&mut self.gives_way) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        self.gives_way = matches!(self.bytes.form, ItemForm::Row(_));
        match self.piece() {
            Ok(Piece::Bytes(slice)) => Poll::Ready(Some(Ok(slice.into()))),
            Ok(Piece::Nothing) => {
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            Ok(Piece::End) => Poll::Ready(None),
            Err(cut) => Poll::Ready(Some(Err(cut))),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::atomic::{AtomicUsize, Ordering::Relaxed},
        task::{Wake, Waker},
        thread,
    };

    use jiff::Timestamp;
    use serde_json::json;

    use super::*;
    use crate::http::query::Query;
    use troupe_api::{
        meta::{Clock, Object},
        resources::{Registry, builtin},
    };

    /// Rows that ask it take their time.
    #[derive(Debug)]
    struct Slow;

    impl Clock for Slow {
        fn now(&self) -> Timestamp {
            thread::sleep(ROWS_AT_ONCE + Duration::from_millis(1));
            Timestamp::UNIX_EPOCH
        }

        fn instant(&self) -> Instant {
            Instant::now()
        }
    }

    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Relaxed);
        }
    }

    #[test]
    fn others_have_their_turn_between_rows_that_take_long() {
        const ROWS: usize = 20;
        let resource = Registry::new(builtin()).by_kind("", "ConfigMap").expect("a kind");
        let target = Target { resource, version: "v1".into(), namespace: "n".into(), name: "".into(), subresource: "".into() };
        let map = |at: usize| {
            let metadata = json!({"name": format!("m{at}"), "namespace": "n", "creationTimestamp": "2026-01-01T00:00:00Z"});
            let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata});
            Arc::new(StoredObject::from_object(&Object::from_value(map).expect("an object")).expect("the store's form"))
        };
        let items: Vec<_> = (0..ROWS).map(map).collect();
        let table = TableForm::new(&target, &Query::parse(""), "meta.k8s.io/v1", Arc::new(Slow)).expect("a table");
        let bytes = ListBytes {
            items: Unsent::uncut(items.into_iter()),
            form: ItemForm::Row(Box::new(table)),
            state: State::Head,
            head: Vec::new(),
            yaml: false,
        };
        let mut stream = ListStream { bytes, indenter: None, gzip: None, ended: false, gives_way: false, _held: None };
        let (mut pieces, mut gave_way) = (0, 0);
        let woken = Arc::new(Woken::default());
        let waker = Waker::from(woken.clone());
        loop {
            match Pin::new(&mut stream).poll_next(&mut Context::from_waker(&waker)) {
                Poll::Ready(None) => break,
                Poll::Ready(Some(piece)) => pieces += usize::from(!piece.expect("is not cut").is_empty()),
                Poll::Pending => gave_way += 1,
            }
        }
        assert!(pieces >= ROWS && gave_way >= ROWS, "{pieces} pieces, gave way {gave_way} times");
        assert_eq!(woken.0.load(Relaxed), gave_way, "and is woken for the rest");
    }
}
