//! A watch as it comes over HTTP: lines become items.

use std::sync::Arc;

use bytes::BytesMut;
use futures::{StreamExt, stream};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use troupe_api::{
    meta::ObjectVersion,
    service::{Target, WatchItem, WatchStream},
    status::Status,
};

use super::document::Decoder;

/// A longer line is no event.
const LINE_MAX: usize = 32 * 1024 * 1024;

/// A watch in progress.
struct Lines<L> {
    body: Incoming,
    buffer: BytesMut,
    /// So far no line end is in the buffer's beginning.
    searched: usize,
    decoder: Decoder,
    /// The resource as causes name it.
    resource: Arc<str>,
    /// Keeps what the watch needs, such as its place on a connection.
    _lease: L,
}

/// The items of a reply's body. The stream ends where the server ends it in good order.
pub fn items<L: Send + 'static>(body: Incoming, lease: L, target: &Target) -> WatchStream {
    let resource = target.resource.group_resource().to_string().into();
    let lines = Lines { body, buffer: BytesMut::new(), searched: 0, decoder: Decoder::new(target), resource, _lease: lease };
    let next = |lines: Option<Lines<L>>| async move {
        let mut lines = lines?;
        let item = lines.next().await?;
        let rest = if matches!(item, WatchItem::End(_)) { None } else { Some(lines) };
        Some((item, rest))
    };
    stream::unfold(Some(lines), next).boxed()
}

impl<L> Lines<L> {
    async fn next(&mut self) -> Option<WatchItem> {
        loop {
            if let Some(at) = self.buffer[self.searched..].iter().position(|byte| *byte == b'\n') {
                let line = self.buffer.split_to(self.searched + at + 1);
                self.searched = 0;
                if line.len() > 1 {
                    return Some(self.item(&line));
                }
                continue;
            }
            self.searched = self.buffer.len();
            if self.searched > LINE_MAX {
                return Some(WatchItem::End(Status::internal("an event of the watch is too long")));
            }
            match self.body.frame().await? {
                Ok(frame) => {
                    if let Ok(data) = frame.into_data() {
                        self.buffer.extend_from_slice(&data);
                    }
                }
                Err(error) => return Some(WatchItem::End(Status::unavailable(format!("the watch broke off: {error}")))),
            }
        }
    }

    /// The item of a line. Its cause is the very version it tells of, in the trace of who wrote it where the server tells that:
    /// by either the traces of both sides are joined.
    fn item(&self, line: &[u8]) -> WatchItem {
        match self.decoder.frame(line) {
            Ok(WatchItem::Event { event, object, cause }) => {
                let version = ObjectVersion { resource: self.resource.clone(), key: object.key.clone(), revision: object.revision };
                WatchItem::Event { event, object, cause: cause.with_object(Arc::new(version)) }
            }
            Ok(item) => item,
            Err(status) => WatchItem::End(status),
        }
    }
}
