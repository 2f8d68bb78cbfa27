//! Frames of watch events: a line of JSON, or a length and a protobuf message; each made once for the watchers of a worker.

use std::{cell::RefCell, sync::Arc, time::Instant};

use bytes::Bytes;
use serde_json::json;
use troupe_api::{
    meta::{Cause, Revision},
    protobuf,
    service::{EventType, Target, WatchItem},
    status::Status,
    stored::StoredObject,
};

use super::{
    messages::MessageForm,
    monitor::{self, WatchCounts},
    table::TableForm,
};
use crate::render::{FullForm, api_version, write_partial};

/// The form of a watch's objects.
#[derive(Clone)]
pub enum WatchForm {
    Full(FullForm),
    Partial(&'static str),
    Table(Box<TableForm>),
    /// Protobuf, of objects or of their metadata.
    Message(Box<MessageForm>),
}

/// Frames events for one watcher.
pub struct Framer {
    form: WatchForm,
    target: Target,
    /// Tells frames of one form from those of another.
    name: String,
    /// The same for events that say what caused them; `None` unless the watch asked for that.
    caused_name: Option<String>,
    api_version: String,
    /// The next table is the first and describes its columns.
    first_table: bool,
    counts: WatchCounts,
    began: Instant,
}

impl Framer {
    pub fn new(form: WatchForm, target: Target) -> Self {
        let api_version = api_version(&target);
        let name = match &form {
            WatchForm::Full(_) | WatchForm::Table(_) => format!("full {api_version}"),
            WatchForm::Partial(version) => format!("partial {version}"),
            WatchForm::Message(form) => format!("message {} {api_version}", form.is_partial()),
        };
        let counts = WatchCounts::of(&target.resource, &target.version);
        Framer { form, target, name, caused_name: None, api_version, first_table: true, counts, began: Instant::now() }
    }

    /// Lets whole objects in JSON come with what caused them.
    #[must_use]
    pub fn with_causes(mut self, causes: bool) -> Self {
        self.caused_name = (causes && matches!(self.form, WatchForm::Full(_))).then(|| format!("{} caused", self.name));
        self
    }

    /// The media type of the stream.
    pub fn media_type(&self) -> &'static str {
        if self.is_message() { protobuf::STREAM_TYPE } else { "application/json" }
    }

    /// Whether frames are messages of protobuf behind their lengths.
    pub fn is_message(&self) -> bool {
        matches!(self.form, WatchForm::Message(_))
    }

    /// The frame of an item; `None` for an end that clients need not hear of.
    pub fn frame(&mut self, item: &WatchItem) -> Option<Bytes> {
        match item {
            WatchItem::Event { event, object, cause } => {
                let frame = self.event(*event, object, cause);
                self.counts.sent(frame.len());
                Some(frame)
            }
            WatchItem::Bookmark { revision, initial_end } => {
                if *initial_end {
                    monitor::watch_listed(&self.target, self.began.elapsed());
                }
                Some(self.bookmark(*revision, *initial_end))
            }
            WatchItem::End(status) => self.error(status),
        }
    }

    fn event(&mut self, event: EventType, object: &Arc<StoredObject>, cause: &Cause) -> Bytes {
        let kind = match event {
            EventType::Added => "ADDED",
            EventType::Modified => "MODIFIED",
            EventType::Deleted => "DELETED",
        };
        if let WatchForm::Table(_) = self.form {
            let frame = self.make(kind, object);
            self.first_table = false;
            return frame;
        }
        match (&self.form, &self.caused_name) {
            (WatchForm::Full(full), Some(name)) if cause.trace != 0 => shared_frame(object, kind, name, || {
                let cause = cause.traceparent();
                line(kind, cause.as_deref(), object, |out| full.write(object, out))
            }),
            _ => shared_frame(object, kind, &self.name, || self.make(kind, object)),
        }
    }

    fn make(&self, kind: &str, object: &Arc<StoredObject>) -> Bytes {
        match &self.form {
            WatchForm::Full(full) => line(kind, None, object, |out| full.write(object, out)),
            WatchForm::Partial(version) => line(kind, None, object, |out| write_partial(object, version, out)),
            WatchForm::Table(table) => line(kind, None, object, |out| table.write_single(object, self.first_table, out)),
            WatchForm::Message(form) => protobuf::watch_event(kind, &form.enveloped(object)).into(),
        }
    }

    fn bookmark(&mut self, revision: Revision, initial_end: bool) -> Bytes {
        let mut metadata = json!({"creationTimestamp": null});
        if initial_end {
            metadata["annotations"] = json!({"k8s.io/initial-events-end": "true"});
        }
        let encoded = format!("{{\"kind\":\"{}\",\"apiVersion\":\"{}\",\"metadata\":{metadata}}}", self.target.resource.kind, self.api_version);
        let object = StoredObject::new(encoded.into(), revision).expect("a bookmark has the store's form");
        let object = Arc::new(object);
        let frame = match &self.form {
            WatchForm::Table(table) if initial_end => {
                line("BOOKMARK", None, &object, |out| table.of_initial_end().write_single(&object, self.first_table, out))
            }
            _ => self.make("BOOKMARK", &object),
        };
        self.first_table = false;
        frame
    }

    /// An ERROR frame. A watcher that was too slow is not told: its stream ends and it resumes.
    pub fn error(&self, status: &Status) -> Option<Bytes> {
        if matches!(status.code, 429 | 503 | 504) {
            return None;
        }
        let message = self.is_message().then(|| protobuf::document(&status.to_json())).flatten();
        Some(match message {
            Some(message) => protobuf::watch_event("ERROR", &message).into(),
            None => format!("{{\"type\":\"ERROR\",\"object\":{}}}\n", status.to_text()).into(),
        })
    }
}

/// A frame of JSON; with what caused the event where that is asked for.
fn line(kind: &str, cause: Option<&str>, object: &StoredObject, write: impl FnOnce(&mut Vec<u8>)) -> Bytes {
    let mut out = Vec::with_capacity(object.encoded_length() + 96 + cause.map_or(0, |cause| cause.len() + 11));
    out.extend_from_slice(b"{\"type\":\"");
    out.extend_from_slice(kind.as_bytes());
    if let Some(cause) = cause {
        out.extend_from_slice(b"\",\"cause\":\"");
        out.extend_from_slice(cause.as_bytes());
    }
    out.extend_from_slice(b"\",\"object\":");
    write(&mut out);
    out.extend_from_slice(b"}\n");
    out.into()
}

/// A remembered frame.
struct SharedFrame {
    object: Arc<StoredObject>,
    kind: String,
    name: String,
    frame: Bytes,
}

/// Frames remembered per worker thread, by revision; a power of two.
const SHARED_FRAMES: usize = 128;
/// Longer frames share a few slots at the end.
const SHORT_FRAME: usize = 16 * 1024;
const LONG_FRAMES: usize = 4;

thread_local! {
    static SHARED: RefCell<[Option<SharedFrame>; SHARED_FRAMES + LONG_FRAMES]> = const { RefCell::new([const { None }; SHARED_FRAMES + LONG_FRAMES]) };
}

/// The frame of a version of an object, made once per worker for all watchers that see it about the same time.
fn shared_frame(object: &Arc<StoredObject>, kind: &str, name: &str, make: impl FnOnce() -> Bytes) -> Bytes {
    SHARED.with_borrow_mut(|slots| {
        // Forms of one revision do not push each other out.
        let at = usize::try_from(object.revision.0).unwrap_or(0).wrapping_add(name.len());
        let (short, long) = (at % SHARED_FRAMES, SHARED_FRAMES + at % LONG_FRAMES);
        for slot in [short, long] {
            if let Some(known) = &slots[slot]
                && Arc::ptr_eq(&known.object, object)
                && known.kind == kind
                && known.name == name
            {
                return known.frame.clone();
            }
        }
        let frame = make();
        let slot = if frame.len() <= SHORT_FRAME { short } else { long };
        slots[slot] = Some(SharedFrame { object: object.clone(), kind: kind.into(), name: name.into(), frame: frame.clone() });
        frame
    })
}
