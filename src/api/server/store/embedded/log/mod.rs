//! The log on disk: segment files that are appended to, and dropped whole from the oldest on.
//!
//! [`Log::open`] reads what there is, [`Log::append`] makes a batch durable with one fdatasync, [`Log::mend`] takes back
//! what a full disk cut short, [`Log::drop_oldest`] gives disk back. A [`Place`] is where a record lies; whoever holds
//! one can read it, whatever becomes of the segment. Nothing is ever changed in place, and segments go in the order in which
//! they came: so no deletion goes before the values that it deletes.

mod frame;
mod scan;
mod segment;
#[cfg(test)]
pub mod steps;
#[cfg(test)]
mod tests;

#[cfg(test)]
pub use self::tests::Places;
use std::{
    collections::VecDeque,
    fs::{self, File},
    io,
    os::unix::fs::{DirBuilderExt, FileExt},
    path::{Path, PathBuf},
    sync::Arc,
};

use thiserror::Error;

pub use self::{
    frame::Entry,
    scan::Scanner,
    segment::{Marks, Place, Segment},
};

/// Why the log cannot be read.
#[derive(Debug, Error)]
pub enum LogError {
    #[error("the log's file {path} cannot be used")]
    Io {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{path}, byte {at}: {what}")]
    Damaged { path: PathBuf, at: u64, what: String },
}

impl LogError {
    fn io(path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| LogError::Io { path: path.to_owned(), source }
    }

    fn damaged(path: &Path, at: u64, what: impl Into<String>) -> Self {
        LogError::Damaged { path: path.to_owned(), at, what: what.into() }
    }
}

/// What opening a log tells, in this order.
pub enum Item<'a> {
    /// How far all is compacted, and how far the store had come when the newest segment was made; once, before all entries. What ended
    /// before has to be left out then: what ended it may be gone.
    Marks(Marks),
    Entry(Place, Entry<'a>),
}

/// Entries that become durable together.
#[derive(Default)]
pub struct Batch {
    payloads: Vec<u8>,
    ends: Vec<usize>,
}

impl Batch {
    pub fn push(&mut self, entry: &Entry<'_>) {
        entry.encode(&mut self.payloads);
        self.ends.push(self.payloads.len());
    }

    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }
}

/// The log, open for its one writer.
pub struct Log {
    path: PathBuf,
    directory: File,
    segment_bytes: u64,
    /// Oldest first, with the bytes of each. The last one is appended to; its bytes are those that are durable.
    segments: VecDeque<(Arc<Segment>, u64)>,
    /// Behind the durable bytes lies what a failed write has left.
    is_torn: bool,
    buffer: Vec<u8>,
}

impl Log {
    /// Opens the log in the directory `path`, which is made where there is none, and tells what it holds. What a write that was
    /// never finished left at its end is cut off. A new segment is begun behind `segment_bytes`.
    ///
    /// # Errors
    /// When it cannot be read, is damaged, or `take` does not take an entry; nothing has been changed then.
    pub fn open(path: &Path, segment_bytes: u64, mut take: impl FnMut(Item<'_>) -> Result<(), String>) -> Result<Self, LogError> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(LogError::io(path))?;
        let directory = File::open(path).map_err(LogError::io(path))?;
        let found = find(path)?;
        if let Some(newest) = found.back() {
            let marks = newest_marks(newest)?;
            take(Item::Marks(marks)).map_err(|what| LogError::damaged(&newest.path, 0, what))?;
        }
        let mut segments = VecDeque::with_capacity(found.len());
        let last = found.len().saturating_sub(1);
        for (n, segment) in found.into_iter().enumerate() {
            let length = read_segment(&segment, n == last, &mut take)?;
            segments.push_back((segment, length));
        }
        let mut log = Log { path: path.to_owned(), directory, segment_bytes, segments, is_torn: false, buffer: Vec::new() };
        log.settle_end()?;
        Ok(log)
    }

    /// Whether it has no segment yet.
    pub fn is_new(&self) -> bool {
        self.segments.is_empty()
    }

    /// Begins a segment, durably.
    ///
    /// # Errors
    /// When the disk does not take it.
    pub fn begin_segment(&mut self, marks: Marks) -> io::Result<()> {
        let number = self.segments.back().map_or(1, |(segment, _)| segment.number + 1);
        let segment = Segment::create(&self.path, number, marks)?;
        // Where this fails an empty segment may stay; the next attempt replaces it.
        self.directory.sync_all()?;
        step();
        self.segments.push_back((Arc::new(segment), segment::HEAD as u64));
        Ok(())
    }

    /// Bytes in all segments.
    pub fn bytes(&self) -> u64 {
        self.segments.iter().map(|(_, length)| length).sum()
    }

    /// Makes a batch durable and says where its entries lie. `marks` is how far the store had come before.
    ///
    /// # Errors
    /// When the disk does not take it. Then nothing is taken before [`Log::mend`], which undoes what there is of it.
    pub fn append(&mut self, batch: &Batch, marks: Marks) -> io::Result<Vec<Place>> {
        self.mend()?;
        if self.segments.back().is_none_or(|(_, length)| *length >= self.segment_bytes) {
            self.begin_segment(marks)?;
        }
        let (segment, length) = self.segments.back_mut().expect("begun above");
        let begin = *length;
        self.buffer.clear();
        let mut places = Vec::with_capacity(batch.ends.len());
        let mut from = 0;
        for end in &batch.ends {
            let at = begin + self.buffer.len() as u64;
            frame::write(&mut self.buffer, segment.salt, at, begin, &batch.payloads[from..*end]);
            places.push(segment.place(at, frame::HEAD + end - from));
            from = *end;
        }
        self.is_torn = true;
        step();
        segment.file.write_all_at(&self.buffer, begin)?;
        step();
        segment.file.sync_data()?;
        step();
        self.is_torn = false;
        *length += self.buffer.len() as u64;
        // A large batch is rare, and its memory is not kept.
        if self.buffer.capacity() > 1 << 20 {
            self.buffer = Vec::new();
        }
        Ok(places)
    }

    /// Takes back what a failed write has left, durably: it did not happen.
    ///
    /// # Errors
    /// When the disk does not let it.
    pub fn mend(&mut self) -> io::Result<()> {
        if self.is_torn
            && let Some((segment, length)) = self.segments.back()
        {
            segment.file.set_len(*length)?;
            segment.file.sync_all()?;
        }
        self.is_torn = false;
        Ok(())
    }

    /// The oldest segment and its bytes, unless it is the one that is appended to.
    pub fn oldest(&self) -> Option<(&Arc<Segment>, u64)> {
        let (segment, length) = self.segments.front().filter(|_| self.segments.len() > 1)?;
        Some((segment, *length))
    }

    /// Removes the oldest segment, durably: a later one never goes before an earlier one. Who holds places in it can read them on.
    ///
    /// # Errors
    /// When it cannot be removed.
    pub fn drop_oldest(&mut self) -> io::Result<()> {
        if self.segments.len() > 1
            && let Some((segment, _)) = self.segments.front()
        {
            step();
            match fs::remove_file(&segment.path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            step();
            self.directory.sync_all()?;
            step();
            self.segments.pop_front();
        }
        Ok(())
    }

    /// Cuts the last segment behind its last whole frame, and makes durable what a process that was killed may only have written.
    fn settle_end(&mut self) -> Result<(), LogError> {
        let Some((segment, length)) = self.segments.back() else { return Ok(()) };
        let (path, file) = (segment.path.clone(), &segment.file);
        let found = file.metadata().map_err(LogError::io(&path))?.len();
        if found > *length {
            tracing::warn!(path = %path.display(), at = length, bytes = found - length, "a write was never finished and is cut off");
            self.is_torn = true;
        } else {
            file.sync_data().map_err(LogError::io(&path))?;
        }
        self.directory.sync_all().map_err(LogError::io(&self.path))?;
        self.mend().map_err(LogError::io(&path))
    }
}

/// A moment in which the crash test may kill the process.
#[cfg(not(test))]
const fn step() {}

#[cfg(test)]
use steps::step;

/// The segments in a directory, oldest first. What was to become one is removed.
fn find(path: &Path) -> Result<VecDeque<Arc<Segment>>, LogError> {
    let mut numbers = Vec::new();
    for entry in fs::read_dir(path).map_err(LogError::io(path))? {
        let name = entry.map_err(LogError::io(path))?.file_name();
        let Some(name) = name.to_str() else { continue };
        if segment::is_draft(name) {
            let draft = path.join(name);
            fs::remove_file(&draft).map_err(LogError::io(&draft))?;
        } else if let Some(number) = segment::number_of(name) {
            numbers.push((number, path.join(name)));
        }
    }
    numbers.sort_unstable();
    for pair in numbers.windows(2) {
        if pair[1].0 != pair[0].0 + 1 {
            return Err(LogError::damaged(&pair[1].1, 0, format!("the segment before it, number {}, is missing", pair[1].0 - 1)));
        }
    }
    numbers.into_iter().map(|(number, path)| Segment::open(path, number).map(Arc::new)).collect()
}

/// How far the store had come, by the newest segment.
fn newest_marks(segment: &Arc<Segment>) -> Result<Marks, LogError> {
    let mut marks = segment.marks;
    let mut note = |item: Item<'_>| {
        if let Item::Entry(_, Entry::Compacted(revision)) = item {
            marks.compacted = marks.compacted.max(revision);
        }
        Ok(())
    };
    read_segment(segment, true, &mut note)?;
    Ok(marks)
}

/// Tells what a segment holds and gives the bytes that are whole.
fn read_segment(segment: &Arc<Segment>, is_last: bool, take: &mut impl FnMut(Item<'_>) -> Result<(), String>) -> Result<u64, LogError> {
    let end = segment.file.metadata().map_err(LogError::io(&segment.path))?.len();
    let mut scanner = Scanner::new(segment.clone(), end);
    loop {
        let at = scanner.at();
        let error = match scanner.next() {
            Ok(Some((place, entry))) => {
                take(Item::Entry(place, entry)).map_err(|what| LogError::damaged(&segment.path, at, what))?;
                continue;
            }
            Ok(None) => return Ok(end),
            Err(error) => error,
        };
        let is_torn = matches!(error, LogError::Damaged { .. }) && is_last && scanner.at() == at && !scanner.is_followed()?;
        return if is_torn { Ok(at) } else { Err(error) };
    }
}
