//! Frames on their way in.

use std::io;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt};

const FIN: u8 = 1;
/// Servers send data in pieces of 32 KiB.
const LONGEST_FRAME: usize = 4 << 20;

/// One frame, as far as a client needs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// The server took a stream.
    Reply {
        stream: u32,
        fin: bool,
    },
    Data {
        stream: u32,
        data: Bytes,
        fin: bool,
    },
    Reset {
        stream: u32,
    },
    Ping {
        id: u32,
    },
    /// The server closes the connection.
    GoAway,
    /// Settings, windows, headers.
    Other,
}

/// Reads frames from a connection.
#[derive(Debug)]
pub struct FrameReader<R> {
    input: R,
    buffer: BytesMut,
}

impl<R: AsyncRead + Unpin> FrameReader<R> {
    pub fn new(input: R) -> Self {
        FrameReader { input, buffer: BytesMut::with_capacity(64 << 10) }
    }

    /// The next frame; `None` at the end of the connection. Not cancel-safe across connections, safe within one.
    ///
    /// # Errors
    /// When the connection breaks or does not speak SPDY.
    pub async fn next(&mut self) -> io::Result<Option<Frame>> {
        loop {
            if let Some(frame) = take_frame(&mut self.buffer)? {
                return Ok(Some(frame));
            }
            if self.input.read_buf(&mut self.buffer).await? == 0 {
                return Ok(None);
            }
        }
    }
}

/// Takes a whole frame off the front of `buffer`.
fn take_frame(buffer: &mut BytesMut) -> io::Result<Option<Frame>> {
    let Some(head) = buffer.first_chunk::<8>().copied() else { return Ok(None) };
    let length = u32::from_be_bytes([0, head[5], head[6], head[7]]) as usize;
    if length > LONGEST_FRAME {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "a SPDY frame is too long"));
    }
    if buffer.len() < 8 + length {
        buffer.reserve(8 + length - buffer.len());
        return Ok(None);
    }
    let payload = buffer.split_to(8 + length).freeze().slice(8..);
    let first = u32::from_be_bytes([head[0], head[1], head[2], head[3]]);
    let fin = head[4] & FIN != 0;
    if first & 0x8000_0000 == 0 {
        return Ok(Some(Frame::Data { stream: first, data: payload, fin }));
    }
    if first >> 16 != 0x8003 {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "not SPDY version 3"));
    }
    let number = payload.first_chunk::<4>().map_or(0, |bytes| u32::from_be_bytes(*bytes));
    let frame = match first & 0xffff {
        2 => Frame::Reply { stream: number & 0x7fff_ffff, fin },
        3 => Frame::Reset { stream: number & 0x7fff_ffff },
        6 => Frame::Ping { id: number },
        7 => Frame::GoAway,
        _ => Frame::Other,
    };
    Ok(Some(frame))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn frames_are_read_however_they_are_cut() {
        let bytes = [
            &[0x80, 3, 0, 2, 0, 0, 0, 6, 0, 0, 0, 1, 9, 9][..],
            &[0, 0, 0, 3, 1, 0, 0, 2, b'h', b'i'],
            &[0x80, 3, 0, 4, 0, 0, 0, 4, 0, 0, 0, 0],
            &[0x80, 3, 0, 6, 0, 0, 0, 4, 0, 0, 0, 7],
            &[0x80, 3, 0, 3, 0, 0, 0, 8, 0, 0, 0, 5, 0, 0, 0, 1],
            &[0x80, 3, 0, 7, 0, 0, 0, 8, 0, 0, 0, 5, 0, 0, 0, 0],
        ]
        .concat();
        let (mut client, server) = tokio::io::duplex(3);
        tokio::spawn(async move { tokio::io::AsyncWriteExt::write_all(&mut client, &bytes).await });
        let mut reader = FrameReader::new(server);
        let mut frames = Vec::new();
        while let Some(frame) = reader.next().await.expect("well formed") {
            frames.push(frame);
        }
        let data = Frame::Data { stream: 3, data: Bytes::from_static(b"hi"), fin: true };
        let reply = Frame::Reply { stream: 1, fin: false };
        assert_eq!(frames, [reply, data, Frame::Other, Frame::Ping { id: 7 }, Frame::Reset { stream: 5 }, Frame::GoAway]);
    }
}
