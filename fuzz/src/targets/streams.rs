//! Streams: frames of SPDY and of WebSockets, backups.

use std::io;

use bytes::Bytes;
use futures::stream;
use troupe_api_server::{
    http::fuzzing::{Frame, FrameReader, Piece, Pieces},
    store::backup,
};

use super::at_once;
use crate::budget;

/// What a server may allow itself before a stream says anything: its first buffer.
const FIRST_BUFFER: usize = 64 << 10;

pub fn spdy(data: &[u8]) {
    let mut carried = 0;
    budget::hold(data.len() + FIRST_BUFFER, || {
        let mut frames = FrameReader::new(data);
        while let Ok(Some(frame)) = at_once(frames.next()) {
            if let Frame::Data { data, .. } = frame {
                carried += data.len();
            }
        }
    });
    assert!(carried <= data.len(), "frames carry more than there was");
}

/// As the API server reads them, from clients.
pub fn websocket(data: &[u8]) {
    let mut carried = 0;
    budget::hold(data.len(), || {
        let source = stream::iter([Ok::<_, io::Error>(Bytes::copy_from_slice(data))]);
        let mut pieces = Pieces::new(source);
        while let Ok(Some(piece)) = at_once(pieces.next()) {
            if let Piece::Data { data, .. } = piece {
                carried += data.len();
            }
        }
    });
    assert!(carried <= data.len(), "frames carry more than there was");
}

pub fn backup(data: &[u8]) {
    let _ = budget::hold(data.len(), || backup::verify(data));
}
