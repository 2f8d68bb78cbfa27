//! Watch streams over HTTP: newline-delimited frames, several to a write, ended by time, shutdown or the service.

use std::{
    cell::RefCell,
    convert::Infallible,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use actix_web::{
    HttpResponse,
    body::{BodySize, MessageBody},
    http::header::{self, HeaderValue},
};
use bytes::{Bytes, BytesMut};
use serde_json::json;
use tokio::time::Sleep;
use tokio_util::sync::WaitForCancellationFutureOwned;

use super::{
    monitor::WatchCounts,
    render::{FullForm, write_partial},
    table::TableForm,
};
use crate::{
    meta::Revision,
    service::{EventType, Target, WatchItem, WatchStream},
    status::Status,
    stored::StoredObject,
};

/// Frames are gathered up to about this many bytes before a write.
const GATHER: usize = 16 * 1024;

/// The form of a watch's objects.
#[derive(Clone)]
pub enum WatchForm {
    Full(FullForm),
    Partial(&'static str),
    Table(Box<TableForm>),
}

/// Frames events for one watcher.
pub struct Framer {
    form: WatchForm,
    target: Target,
    api_version: String,
    /// The next table is the first and describes its columns.
    first_table: bool,
    counts: WatchCounts,
}

impl Framer {
    pub fn new(form: WatchForm, target: Target) -> Self {
        let api_version = super::render::api_version(&target);
        let counts = WatchCounts::of(&target.resource, &target.version);
        Framer { form, target, api_version, first_table: true, counts }
    }

    /// The frame of an item; `None` for an end that clients need not hear of.
    fn frame(&mut self, item: &WatchItem) -> Option<Bytes> {
        match item {
            WatchItem::Event { event, object, .. } => {
                let frame = self.event(*event, object);
                self.counts.sent(frame.len());
                Some(frame)
            }
            WatchItem::Bookmark { revision, initial_end } => Some(self.bookmark(*revision, *initial_end)),
            WatchItem::End(status) => error_frame(status),
        }
    }

    fn event(&mut self, event: EventType, object: &Arc<StoredObject>) -> Bytes {
        let kind = match event {
            EventType::Added => "ADDED",
            EventType::Modified => "MODIFIED",
            EventType::Deleted => "DELETED",
        };
        match &self.form {
            WatchForm::Full(_) => shared_frame(object, kind, &self.api_version, || self.make(kind, object)),
            WatchForm::Partial(_) => self.make(kind, object),
            WatchForm::Table(_) => {
                let frame = self.make(kind, object);
                self.first_table = false;
                frame
            }
        }
    }

    fn make(&self, kind: &str, object: &StoredObject) -> Bytes {
        let mut out = Vec::with_capacity(object.encoded().len() + 96);
        out.extend_from_slice(b"{\"type\":\"");
        out.extend_from_slice(kind.as_bytes());
        out.extend_from_slice(b"\",\"object\":");
        match &self.form {
            WatchForm::Full(full) => full.write(object, &mut out),
            WatchForm::Partial(version) => write_partial(object, version, &mut out),
            WatchForm::Table(table) => table.write_single(object, self.first_table, &mut out),
        }
        out.extend_from_slice(b"}\n");
        out.into()
    }

    fn bookmark(&mut self, revision: Revision, initial_end: bool) -> Bytes {
        let mut metadata = json!({"creationTimestamp": null});
        if initial_end {
            metadata["annotations"] = json!({"k8s.io/initial-events-end": "true"});
        }
        let encoded = format!("{{\"kind\":\"{}\",\"apiVersion\":\"{}\",\"metadata\":{metadata}}}", self.target.resource.kind, self.api_version);
        let object = StoredObject::new(encoded.into(), revision).expect("a bookmark has the store's form");
        let frame = self.make("BOOKMARK", &object);
        self.first_table = false;
        frame
    }
}

/// An ERROR frame. A watcher that was too slow is not told: its stream ends and it resumes.
fn error_frame(status: &Status) -> Option<Bytes> {
    if matches!(status.code, 429 | 503 | 504) {
        return None;
    }
    Some(format!("{{\"type\":\"ERROR\",\"object\":{}}}\n", status.to_json()).into())
}

/// A remembered frame.
struct SharedFrame {
    object: Arc<StoredObject>,
    kind: String,
    api_version: String,
    frame: Bytes,
}

/// Frames remembered per worker thread, by revision; a power of two.
const SHARED_FRAMES: usize = 64;
/// Longer frames are made anew for each watcher.
const SHARED_FRAME_MAX: usize = 16 * 1024;

thread_local! {
    static SHARED: RefCell<[Option<SharedFrame>; SHARED_FRAMES]> = const { RefCell::new([const { None }; SHARED_FRAMES]) };
}

/// The frame of a version of an object, made once per worker for all watchers that see it about the same time.
fn shared_frame(object: &Arc<StoredObject>, kind: &str, api_version: &str, make: impl FnOnce() -> Bytes) -> Bytes {
    SHARED.with_borrow_mut(|slots| {
        let slot = &mut slots[usize::try_from(object.revision.0).unwrap_or(0) % SHARED_FRAMES];
        if let Some(known) = slot
            && Arc::ptr_eq(&known.object, object)
            && known.kind == kind
            && known.api_version == api_version
        {
            return known.frame.clone();
        }
        let frame = make();
        if frame.len() <= SHARED_FRAME_MAX {
            *slot = Some(SharedFrame { object: object.clone(), kind: kind.into(), api_version: api_version.into(), frame: frame.clone() });
        }
        frame
    })
}

/// A watch as an HTTP body.
pub struct WatchBody {
    stream: Option<WatchStream>,
    framer: Framer,
    deadline: Pin<Box<Sleep>>,
    shutdown: Pin<Box<WaitForCancellationFutureOwned>>,
}

impl WatchBody {
    pub fn new(stream: WatchStream, framer: Framer, lasts: Duration, shutdown: WaitForCancellationFutureOwned) -> Self {
        WatchBody { stream: Some(stream), framer, deadline: Box::pin(tokio::time::sleep(lasts)), shutdown: Box::pin(shutdown) }
    }

    /// The next frames, as many as are there.
    fn poll_frames(&mut self, context: &mut Context<'_>) -> Poll<Option<Bytes>> {
        let Some(stream) = &mut self.stream else { return Poll::Ready(None) };
        if self.deadline.as_mut().poll(context).is_ready() || self.shutdown.as_mut().poll(context).is_ready() {
            self.stream = None;
            return Poll::Ready(None);
        }
        let mut gathered = Gathered::default();
        let ended = loop {
            match stream.as_mut().poll_next(context) {
                Poll::Ready(Some(item)) => {
                    gathered.push(self.framer.frame(&item));
                    if matches!(item, WatchItem::End(_)) {
                        break true;
                    }
                    if gathered.len() >= GATHER {
                        break false;
                    }
                }
                Poll::Ready(None) => break true,
                Poll::Pending if gathered.len() == 0 => return Poll::Pending,
                Poll::Pending => break false,
            }
        };
        if ended {
            self.stream = None;
        }
        Poll::Ready(gathered.finish())
    }
}

/// Frames on their way into one write; a single one is not copied.
#[derive(Default)]
struct Gathered {
    single: Option<Bytes>,
    many: BytesMut,
}

impl Gathered {
    fn len(&self) -> usize {
        self.many.len() + self.single.as_ref().map_or(0, Bytes::len)
    }

    fn push(&mut self, frame: Option<Bytes>) {
        let Some(frame) = frame else { return };
        if self.len() == 0 {
            self.single = Some(frame);
            return;
        }
        if let Some(single) = self.single.take() {
            self.many.reserve(GATHER.min(single.len() * 4));
            self.many.extend_from_slice(&single);
        }
        self.many.extend_from_slice(&frame);
    }

    fn finish(self) -> Option<Bytes> {
        if self.len() == 0 { None } else { Some(self.single.unwrap_or_else(|| self.many.freeze())) }
    }
}

impl MessageBody for WatchBody {
    type Error = Infallible;

    fn size(&self) -> BodySize {
        BodySize::Stream
    }

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, Infallible>>> {
        self.poll_frames(context).map(|frames| frames.map(Ok))
    }
}

/// The response that carries a watch.
pub fn answer(body: impl MessageBody + 'static) -> HttpResponse {
    HttpResponse::Ok().insert_header((header::CONTENT_TYPE, HeaderValue::from_static("application/json"))).body(body)
}

/// The reply to a watch whose revision is gone: a stream with that one error, as upstream sends it.
pub fn expired(status: &Status) -> HttpResponse {
    answer(error_frame(status).unwrap_or_default())
}
