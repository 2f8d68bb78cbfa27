//! What a client sends over a WebSocket (RFC 6455, section 5), piece by piece as it comes.
//!
//! A client says how long a frame is and may take its time to send it. So no frame is ever held: of data at most a piece,
//! of a control frame at most the 125 bytes that it may have.

use std::io;

use actix_web::{FromRequest, HttpRequest, HttpResponse, dev, web};
use actix_ws::Session;
use bytes::{Bytes, BytesMut};
use futures::{Stream, StreamExt};
use troupe_api::status::Status;

/// Data that is passed on at one time.
const LONGEST: usize = 32 << 10;
/// What a control frame may hold.
const LONGEST_CONTROL: u64 = 125;

const CONTINUATION: u8 = 0;
pub const TEXT: u8 = 1;
pub const BINARY: u8 = 2;
pub const CLOSE: u8 = 8;
const PING: u8 = 9;
pub const PONG: u8 = 10;

/// Accepts a WebSocket with the protocol that was chosen, if any: the reply, where messages to the client go, and what comes from it.
///
/// # Errors
/// 400 when the handshake is malformed.
pub async fn accept(request: &HttpRequest, payload: dev::Payload, protocol: Option<&str>) -> Result<(HttpResponse, Session, Pieces), Status> {
    // What comes is read here.
    let nothing = web::Payload::from_request(request, &mut dev::Payload::None).await.map_err(Status::internal)?;
    let accepted = actix_ws::handle_with_protocols(request, nothing, &Vec::from_iter(protocol));
    let (response, session, _) = accepted.map_err(|error| Status::bad_request(error.to_string()))?;
    Ok((response, session, Pieces::new(payload)))
}

/// What came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// A part of a message.
    Data {
        /// It is the message's first.
        begins: bool,
        text: bool,
        data: Bytes,
    },
    Ping(Bytes),
    Pong,
    /// The client is done.
    Close,
}

/// The frame whose data is being read.
#[derive(Clone, Copy, Debug)]
struct Open {
    left: u64,
    mask: u32,
    /// Nothing of its message was given out yet.
    begins: bool,
}

/// The head of a frame.
struct Head {
    fin: bool,
    opcode: u8,
    length: u64,
    mask: u32,
}

/// Reads a client's frames.
pub struct Pieces<S = dev::Payload> {
    source: S,
    buffer: BytesMut,
    open: Option<Open>,
    /// The message that goes on in a later frame: whether it is text.
    unfinished: Option<bool>,
    text: bool,
}

impl<S, E> Pieces<S>
where
    S: Stream<Item = Result<Bytes, E>> + Unpin,
    E: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    pub fn new(source: S) -> Self {
        Pieces { source, buffer: BytesMut::new(), open: None, unfinished: None, text: false }
    }

    /// The next piece; `None` at the end of the connection.
    ///
    /// # Errors
    /// When the connection breaks, or what comes is no frame of a client's.
    pub async fn next(&mut self) -> io::Result<Option<Piece>> {
        loop {
            if let Some(open) = self.open {
                return self.data(open).await;
            }
            let Some(head) = self.head().await? else { return Ok(None) };
            match head.opcode {
                CONTINUATION | TEXT | BINARY => self.begin(&head)?,
                CLOSE | PING | PONG => return self.control(&head).await,
                _ => return Err(malformed("a frame of an unknown kind")),
            }
        }
    }

    fn begin(&mut self, head: &Head) -> io::Result<()> {
        let begins = head.opcode != CONTINUATION;
        self.text = match (self.unfinished, begins) {
            (None, true) => head.opcode == TEXT,
            (Some(text), false) => text,
            _ => return Err(malformed("a message begins within another, or goes on without one")),
        };
        self.unfinished = (!head.fin).then_some(self.text);
        self.open = Some(Open { left: head.length, mask: head.mask, begins });
        Ok(())
    }

    async fn data(&mut self, open: Open) -> io::Result<Option<Piece>> {
        if open.left > 0 && self.buffer.is_empty() && !self.fill().await? {
            return Ok(None);
        }
        let wanted = usize::try_from(open.left).unwrap_or(usize::MAX).min(LONGEST);
        let mut data = self.buffer.split_to(wanted.min(self.buffer.len()));
        let mask = unmask(&mut data, open.mask);
        let left = open.left - data.len() as u64;
        self.open = (left > 0).then_some(Open { left, mask, begins: false });
        Ok(Some(Piece::Data { begins: open.begins, text: self.text, data: data.freeze() }))
    }

    async fn control(&mut self, head: &Head) -> io::Result<Option<Piece>> {
        if head.length > LONGEST_CONTROL || !head.fin {
            return Err(malformed("a control frame is too long, or in parts"));
        }
        let length = usize::try_from(head.length).map_err(io::Error::other)?;
        if !self.have(length).await? {
            return Ok(None);
        }
        let mut data = self.buffer.split_to(length);
        unmask(&mut data, head.mask);
        Ok(Some(match head.opcode {
            PING => Piece::Ping(data.freeze()),
            PONG => Piece::Pong,
            _ => Piece::Close,
        }))
    }

    /// The head of the next frame.
    async fn head(&mut self) -> io::Result<Option<Head>> {
        if !self.have(2).await? {
            return Ok(None);
        }
        let (first, second) = (self.buffer[0], self.buffer[1]);
        if first & 0x70 != 0 || second & 0x80 == 0 {
            return Err(malformed("a frame has reserved bits, or no mask"));
        }
        let extended = match second & 0x7f {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        if !self.have(2 + extended + 4).await? {
            return Ok(None);
        }
        let bytes = self.buffer.split_to(2 + extended + 4);
        let number = |bytes: &[u8]| bytes.iter().fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
        let length = if extended == 0 { u64::from(second & 0x7f) } else { number(&bytes[2..2 + extended]) };
        let mask = u32::from_be_bytes(bytes[2 + extended..].try_into().map_err(io::Error::other)?);
        Ok(Some(Head { fin: first & 0x80 != 0, opcode: first & 0x0f, length, mask }))
    }

    /// Waits for so many bytes; `false` when the connection ends before.
    async fn have(&mut self, length: usize) -> io::Result<bool> {
        while self.buffer.len() < length {
            if !self.fill().await? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    async fn fill(&mut self) -> io::Result<bool> {
        match self.source.next().await {
            Some(bytes) => {
                self.buffer.extend_from_slice(&bytes.map_err(io::Error::other)?);
                Ok(true)
            }
            None => Ok(false),
        }
    }
}

/// Takes the mask off; the mask that goes on behind.
fn unmask(data: &mut [u8], mask: u32) -> u32 {
    let bytes = mask.to_be_bytes();
    for (byte, mask) in data.iter_mut().zip(bytes.iter().cycle()) {
        *byte ^= mask;
    }
    mask.rotate_left(u32::try_from(data.len() % 4 * 8).unwrap_or(0))
}

fn malformed(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

#[cfg(test)]
mod tests {
    use futures::stream;
    use proptest::prelude::*;

    use super::*;

    /// A masked frame.
    fn frame(first: u8, data: &[u8]) -> Vec<u8> {
        let mut out = vec![first];
        match data.len() {
            short if short < 126 => out.push(0x80 | short as u8),
            middle if middle < 1 << 16 => out.extend([&[0x80 | 126], &(middle as u16).to_be_bytes()[..]].concat()),
            long => out.extend([&[0x80 | 127], &(long as u64).to_be_bytes()[..]].concat()),
        }
        out.extend([1, 2, 3, 4]);
        out.extend(data.iter().zip([1, 2, 3, 4].iter().cycle()).map(|(byte, mask)| byte ^ mask));
        out
    }

    async fn read(chunks: Vec<Vec<u8>>) -> io::Result<Vec<Piece>> {
        let source = stream::iter(chunks.into_iter().map(|chunk| Ok::<_, io::Error>(Bytes::from(chunk))));
        let mut pieces = Pieces::new(source);
        let mut all = Vec::new();
        while let Some(piece) = pieces.next().await? {
            all.push(piece);
        }
        Ok(all)
    }

    /// All data of messages, each with whether it is text.
    fn messages(pieces: &[Piece]) -> Vec<(bool, Vec<u8>)> {
        let mut all: Vec<(bool, Vec<u8>)> = Vec::new();
        for piece in pieces {
            let Piece::Data { begins, text, data } = piece else { continue };
            if *begins {
                all.push((*text, Vec::new()));
            }
            all.last_mut().expect("begun").1.extend_from_slice(data);
        }
        all
    }

    proptest! {
        #[test]
        fn messages_arrive_whole_however_they_are_cut(data in prop::collection::vec(any::<u8>(), 0..80_000), at in 0_usize..80_000, cut in 1_usize..9_000) {
            let (first, second) = data.split_at(at.min(data.len()));
            let sent = [frame(0x02, first), frame(0x89, b"ping"), frame(0x80, second), frame(0x81, b"text"), frame(0x88, b"")].concat();
            let chunks = sent.chunks(cut).map(<[u8]>::to_vec).collect();
            let pieces = futures::executor::block_on(read(chunks)).expect("well formed");
            prop_assert_eq!(messages(&pieces), vec![(false, data), (true, b"text".to_vec())]);
            prop_assert!(pieces.contains(&Piece::Ping(Bytes::from_static(b"ping"))));
            prop_assert_eq!(pieces.last(), Some(&Piece::Close));
            let too_long = pieces.iter().any(|piece| matches!(piece, Piece::Data { data, .. } if data.len() > LONGEST));
            prop_assert!(!too_long);
        }
    }

    #[tokio::test]
    async fn a_frame_without_an_end_is_given_out_as_it_comes() {
        let mut head = vec![0x82, 0xff];
        head.extend((1_u64 << 62).to_be_bytes());
        head.extend([0, 0, 0, 0]);
        let pieces = read(vec![head, vec![7; 100_000]]).await.expect("well formed");
        assert_eq!(messages(&pieces), [(false, vec![7; 100_000])]);
        assert_eq!(pieces.len(), 4);
    }

    #[tokio::test]
    async fn what_is_no_frame_of_a_clients_is_refused() {
        let unmasked = vec![0x82, 0x01, 7];
        let long_ping = frame(0x89, &[0; 126]);
        let within = [frame(0x02, b"a"), frame(0x02, b"b")].concat();
        for sent in [unmasked, long_ping, within, frame(0x80, b"a"), frame(0x83, b"a"), frame(0xc2, b"a"), frame(0x09, b"a")] {
            assert_eq!(read(vec![sent.clone()]).await.expect_err("is malformed").kind(), io::ErrorKind::InvalidData, "{sent:?}");
        }
        assert_eq!(read(vec![vec![0x82]]).await.expect("ends"), []);
    }
}
