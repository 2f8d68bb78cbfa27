//! Frames of bodies that nobody has read yet.
//!
//! Windows bound their bytes. What a frame takes beside its bytes they do not: an empty one costs its sender nine bytes, no window, and us
//! ten times as much until somebody reads it. So frames are counted as they come in and as they are taken.

use std::{
    cell::RefCell,
    collections::BTreeMap,
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::Notify,
};

/// Frames that may lie unread on a connection, of all its streams: those of a whole window have 256 bytes each then.
pub const MOST: usize = 4096;

const PREFACE: usize = 24;
const HEAD: usize = 9;
const DATA: u8 = 0;
const HEADERS: u8 = 1;

/// The frames that lie unread on one connection.
#[derive(Debug, Default)]
pub struct Unread {
    streams: RefCell<Streams>,
    exceeded: Notify,
}

#[derive(Debug, Default)]
struct Streams {
    /// By their numbers.
    open: BTreeMap<u32, Stream>,
    newest: u32,
    /// Of all streams.
    frames: usize,
    is_exceeded: bool,
}

#[derive(Debug, Default)]
struct Stream {
    frames: usize,
    is_accepted: bool,
}

impl Unread {
    /// Resolves once there are too many.
    pub async fn exceeded(&self) {
        self.exceeded.notified().await;
    }

    /// A request has begun. Streams that came before it and were not accepted will never be.
    pub fn accepted(self: &Rc<Self>, stream: u32) -> Reader {
        let mut streams = self.streams.borrow_mut();
        let refused: Vec<u32> = streams.open.range(..stream).filter(|(_, stream)| !stream.is_accepted).map(|(number, _)| *number).collect();
        refused.into_iter().for_each(|number| streams.close(number));
        if let Some(stream) = streams.open.get_mut(&stream) {
            stream.is_accepted = true;
        }
        Reader { unread: self.clone(), stream }
    }

    fn came(&self, kind: u8, number: u32) {
        let streams = &mut *self.streams.borrow_mut();
        match kind {
            HEADERS if number > streams.newest => {
                streams.newest = number;
                streams.open.insert(number, Stream::default());
            }
            DATA => {
                // What comes for a stream that is over is passed over.
                let Some(stream) = streams.open.get_mut(&number) else { return };
                stream.frames += 1;
                streams.frames += 1;
            }
            _ => return,
        }
        if streams.frames + streams.open.len() > MOST && !streams.is_exceeded {
            streams.is_exceeded = true;
            self.exceeded.notify_one();
        }
    }
}

impl Streams {
    fn close(&mut self, number: u32) {
        self.frames -= self.open.remove(&number).map_or(0, |stream| stream.frames);
    }
}

/// Takes frames of one body; when dropped, what is left of it is gone.
#[derive(Debug)]
pub struct Reader {
    unread: Rc<Unread>,
    stream: u32,
}

impl Reader {
    /// A frame was taken.
    pub fn took(&self) {
        let streams = &mut *self.unread.streams.borrow_mut();
        if let Some(stream) = streams.open.get_mut(&self.stream).filter(|stream| stream.frames > 0) {
            stream.frames -= 1;
            streams.frames -= 1;
        }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.unread.streams.borrow_mut().close(self.stream);
    }
}

/// The transport of a connection, whose frames are counted. It reads no more once there are too many unread.
#[derive(Debug)]
pub struct Counted<T> {
    io: T,
    unread: Rc<Unread>,
    head: [u8; HEAD],
    /// Bytes of the head that have come.
    known: usize,
    /// Bytes before the next head.
    skip: usize,
}

impl<T> Counted<T> {
    pub fn new(io: T, unread: Rc<Unread>) -> Self {
        Counted { io, unread, head: [0; HEAD], known: 0, skip: PREFACE }
    }

    fn look(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let skipped = self.skip.min(bytes.len());
            self.skip -= skipped;
            bytes = &bytes[skipped..];
            let taken = (HEAD - self.known).min(bytes.len());
            self.head[self.known..self.known + taken].copy_from_slice(&bytes[..taken]);
            self.known += taken;
            bytes = &bytes[taken..];
            if self.known == HEAD {
                let [l0, l1, l2, kind, _, s0, s1, s2, s3] = self.head;
                self.known = 0;
                self.skip = usize::from(l0) << 16 | usize::from(l1) << 8 | usize::from(l2);
                self.unread.came(kind, u32::from_be_bytes([s0 & 0x7f, s1, s2, s3]));
            }
        }
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Counted<T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.unread.streams.borrow().is_exceeded {
            // The connection is about to be closed, which needs no reading.
            return Poll::Pending;
        }
        let before = out.filled().len();
        std::task::ready!(Pin::new(&mut self.io).poll_read(cx, out))?;
        self.look(&out.filled()[before..]);
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Counted<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }

    fn poll_write_vectored(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, stream: u32, length: usize) -> Vec<u8> {
        let mut bytes = (u32::try_from(length).expect("short") << 8 | u32::from(kind)).to_be_bytes().to_vec();
        bytes.push(0);
        bytes.extend(stream.to_be_bytes());
        bytes.extend(vec![7; length]);
        bytes
    }

    /// Shows bytes in pieces of all sizes.
    fn show(counted: &mut Counted<()>, bytes: &[u8]) {
        let (mut at, mut size) = (0, 1);
        while at < bytes.len() {
            let end = bytes.len().min(at + size);
            counted.look(&bytes[at..end]);
            (at, size) = (end, size % 23 + 1);
        }
    }

    fn counts(unread: &Unread) -> (usize, usize, bool) {
        let streams = unread.streams.borrow();
        (streams.open.len(), streams.frames, streams.is_exceeded)
    }

    #[test]
    fn frames_count_until_they_are_taken_or_their_stream_ends() {
        let unread = Rc::new(Unread::default());
        let mut counted = Counted::new((), unread.clone());
        show(&mut counted, &[b'p'; PREFACE]);
        show(&mut counted, &[frame(4, 0, 30), frame(HEADERS, 1, 40), frame(DATA, 1, 0), frame(DATA, 1, 1000), frame(6, 0, 8)].concat());
        let one = unread.accepted(1);
        assert_eq!(counts(&unread), (1, 2, false));
        one.took();
        assert_eq!(counts(&unread), (1, 1, false));
        // 3 was refused: 5 comes after it.
        show(&mut counted, &[frame(HEADERS, 3, 1), frame(DATA, 3, 5), frame(HEADERS, 5, 1), frame(DATA, 5, 0)].concat());
        let five = unread.accepted(5);
        assert_eq!(counts(&unread), (2, 2, false));
        drop(one);
        show(&mut counted, &[frame(DATA, 1, 0), frame(DATA, 3, 0)].concat());
        assert_eq!(counts(&unread), (1, 1, false));
        for _ in 0..MOST {
            show(&mut counted, &frame(DATA, 5, 0));
        }
        assert!(counts(&unread).2);
        drop(five);
        assert_eq!(counts(&unread).1, 0);
    }

    #[tokio::test]
    async fn a_reader_that_keeps_up_may_be_sent_frames_without_end() {
        let unread = Rc::new(Unread::default());
        let mut counted = Counted::new((), unread.clone());
        show(&mut counted, &[vec![b'p'; PREFACE], frame(HEADERS, 1, 0)].concat());
        let reader = unread.accepted(1);
        for _ in 0..10 * MOST {
            show(&mut counted, &frame(DATA, 1, 0));
            reader.took();
        }
        assert!(!counts(&unread).2);
        for _ in 0..MOST {
            show(&mut counted, &frame(DATA, 1, 0));
        }
        tokio::time::timeout(std::time::Duration::from_secs(5), unread.exceeded()).await.expect("it is told");
    }
}
