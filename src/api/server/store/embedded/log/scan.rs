//! Reading a segment from its beginning, a window at a time; and what damage in it means.

use std::{os::unix::fs::FileExt, sync::Arc};

use super::{
    LogError,
    frame::{self, Entry},
    segment::{self, Place, Segment},
};

/// Bytes read at once, unless a frame is longer.
const WINDOW: usize = 256 << 10;

/// Goes through the frames of a segment.
pub struct Scanner {
    segment: Arc<Segment>,
    at: u64,
    end: u64,
    window: Vec<u8>,
    window_at: u64,
}

impl Scanner {
    /// Begins behind the head of a segment whose frames end at `end`.
    pub fn new(segment: Arc<Segment>, end: u64) -> Self {
        Scanner { segment, at: segment::HEAD as u64, end, window: Vec::new(), window_at: 0 }
    }

    /// Where the next frame is expected.
    pub fn at(&self) -> u64 {
        self.at
    }

    /// The next frame and where it lies; `None` behind the last.
    ///
    /// # Errors
    /// When the file cannot be read, or no frame lies there: the scanner stays before it.
    pub fn next(&mut self) -> Result<Option<(Place, Entry<'_>)>, LogError> {
        if self.at == self.end {
            return Ok(None);
        }
        let at = self.at;
        let Some(length) = self.frame_length()? else {
            return Err(LogError::damaged(&self.segment.path, at, "a record does not match its checksum"));
        };
        self.at += length as u64;
        let place = self.segment.place(at, length);
        let begin = self.in_window(at);
        let payload = &self.window[begin + frame::HEAD..begin + length];
        let entry = Entry::decode(payload).ok_or_else(|| LogError::damaged(&self.segment.path, at, "a record is of no kind that is known"))?;
        Ok(Some((place, entry)))
    }

    /// The length of the whole frame that lies here, which is in the window then; `None` where none does.
    fn frame_length(&mut self) -> Result<Option<usize>, LogError> {
        let at = self.at;
        let Some(bytes) = self.bytes(frame::HEAD)? else { return Ok(None) };
        let head: &[u8; frame::HEAD] = bytes.try_into().expect("as long as asked for");
        let Some(head) = frame::head(head, at) else { return Ok(None) };
        let salt = self.segment.salt;
        let length = frame::HEAD + head.length;
        let Some(bytes) = self.bytes(length)? else { return Ok(None) };
        Ok(head.fits(salt, at, &bytes[frame::HEAD..]).then_some(length))
    }

    /// So many bytes from here; `None` where the segment ends before.
    fn bytes(&mut self, length: usize) -> Result<Option<&[u8]>, LogError> {
        let left = self.end - self.at;
        if length as u64 > left {
            return Ok(None);
        }
        let covered = (self.window_at + self.window.len() as u64).saturating_sub(self.at);
        if self.window_at > self.at || covered < length as u64 {
            let wanted = usize::try_from(left).map_or(WINDOW, |left| left.min(WINDOW)).max(length);
            self.window.resize(wanted, 0);
            self.window_at = self.at;
            if let Err(error) = self.segment.file.read_exact_at(&mut self.window, self.at) {
                self.window.clear();
                return Err(LogError::io(&self.segment.path)(error));
            }
        }
        let begin = self.in_window(self.at);
        Ok(Some(&self.window[begin..begin + length]))
    }

    fn in_window(&self, at: u64) -> usize {
        usize::try_from(at - self.window_at).expect("within the window")
    }

    /// Whether a batch begins behind the frame that is expected here. Then that was durable once, since batches are made
    /// durable one after the other. If none does, whatever lies here is of a write that was never finished.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn is_followed(&self) -> Result<bool, LogError> {
        let rest = usize::try_from(self.end - self.at).expect("a segment is smaller than 4 GiB");
        let mut tail = vec![0; rest];
        self.segment.file.read_exact_at(&mut tail, self.at).map_err(LogError::io(&self.segment.path))?;
        let begins_batch = |skipped: usize| {
            let at = self.at + skipped as u64;
            let (head, rest) = tail[skipped..].split_first_chunk()?;
            let head = frame::head(head, at).filter(|head| head.batch == at)?;
            head.fits(self.segment.salt, at, rest.get(..head.length)?).then_some(())
        };
        Ok((1..rest).any(|skipped| begins_batch(skipped).is_some()))
    }
}
