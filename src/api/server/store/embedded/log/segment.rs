//! A segment: a file of frames behind a head, and places in it that readers hold.
//!
//! The head is `magic, format u32, number u64, current revision u64, compacted revision u64, salt u64, checksum u64`. It is
//! on disk before the file has its name. Its revisions are those of the moment when it was made, so they outlive
//! the records that said so in earlier segments.

use std::{
    fs::{self, File},
    io::{self, Write},
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use troupe_api::meta::Revision;
use xxhash_rust::xxh3::xxh3_64;

use super::{LogError, frame, frame::Entry, step};

/// The format of segments.
const FORMAT: u32 = 1;
const MAGIC: &[u8; 16] = b"troupe-segment\n\0";
/// Where the frames begin.
pub const HEAD: usize = 16 + 4 + 4 * 8 + 8;
const SUFFIX: &str = ".log";
const DRAFT_SUFFIX: &str = ".new";

/// How far the store had come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Marks {
    pub current: Revision,
    pub compacted: Revision,
}

/// A file of the log. It stays readable for those who hold it when it has been removed.
#[derive(Debug)]
pub struct Segment {
    pub number: u64,
    pub marks: Marks,
    pub path: PathBuf,
    pub(super) file: File,
    pub(super) salt: u64,
    /// Bytes of frames that somebody still needs.
    needed: AtomicU64,
}

/// Where a frame lies.
#[derive(Clone, Debug)]
pub struct Place {
    segment: Arc<Segment>,
    offset: u32,
    /// Of the frame, in bytes.
    length: u32,
}

impl Segment {
    /// Makes a new one, durable up to its name in the directory, which the caller syncs.
    ///
    /// # Errors
    /// When the disk does not take it; nothing of it is left then but perhaps a draft.
    pub fn create(directory: &Path, number: u64, marks: Marks) -> io::Result<Self> {
        let draft = directory.join(format!("{number:016}{DRAFT_SUFFIX}"));
        let path = directory.join(format!("{number:016}{SUFFIX}"));
        let salt = rand::random();
        let mut file = File::options().read(true).write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
        step();
        let written = file.write_all(&encode_head(number, marks, salt)).and_then(|()| file.sync_all());
        step();
        if let Err(error) = written.and_then(|()| fs::rename(&draft, &path)) {
            // It would be removed when the log is opened next.
            let _ = fs::remove_file(&draft);
            return Err(error);
        }
        step();
        Ok(Segment { number, marks, path, file, salt, needed: AtomicU64::new(0) })
    }

    /// Opens the one in a file.
    ///
    /// # Errors
    /// When it cannot be read, or its head is damaged.
    pub fn open(path: PathBuf, number: u64) -> Result<Self, LogError> {
        let file = File::options().read(true).write(true).open(&path).map_err(LogError::io(&path))?;
        let mut head = [0; HEAD];
        let damaged = || LogError::damaged(&path, 0, "the head of the segment does not match its checksum");
        match file.read_exact_at(&mut head, 0) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Err(damaged()),
            read => read.map_err(LogError::io(&path))?,
        }
        let (found, marks, salt) = decode_head(&head).ok_or_else(damaged)?;
        if found != number {
            return Err(LogError::damaged(&path, 0, "the segment says that it is another one"));
        }
        Ok(Segment { number, marks, path, file, salt, needed: AtomicU64::new(0) })
    }

    /// The bytes of frames that are needed.
    pub fn needed(&self) -> u64 {
        self.needed.load(Ordering::Relaxed)
    }

    pub(super) fn place(self: &Arc<Self>, offset: u64, length: usize) -> Place {
        let number = |number: u64| u32::try_from(number).expect("a segment is smaller than 4 GiB");
        Place { segment: self.clone(), offset: number(offset), length: number(length as u64) }
    }
}

/// The number of the segment that a file's name tells; the others are none.
pub fn number_of(name: &str) -> Option<u64> {
    name.strip_suffix(SUFFIX).filter(|digits| digits.len() == 16)?.parse().ok()
}

/// Whether a file was meant to become a segment.
pub fn is_draft(name: &str) -> bool {
    name.strip_suffix(DRAFT_SUFFIX).is_some_and(|digits| digits.len() == 16 && digits.bytes().all(|byte| byte.is_ascii_digit()))
}

fn encode_head(number: u64, marks: Marks, salt: u64) -> [u8; HEAD] {
    let mut out = [0; HEAD];
    out[..16].copy_from_slice(MAGIC);
    out[16..20].copy_from_slice(&FORMAT.to_be_bytes());
    for (n, number) in [number, marks.current.0, marks.compacted.0, salt].into_iter().enumerate() {
        out[20 + 8 * n..28 + 8 * n].copy_from_slice(&number.to_be_bytes());
    }
    let checksum = xxh3_64(&out[..HEAD - 8]);
    out[HEAD - 8..].copy_from_slice(&checksum.to_be_bytes());
    out
}

fn decode_head(head: &[u8; HEAD]) -> Option<(u64, Marks, u64)> {
    let number = |at: usize| head[at..at + 8].try_into().map(u64::from_be_bytes).expect("eight bytes of the head");
    let fits = head.starts_with(MAGIC) && head[16..20] == FORMAT.to_be_bytes() && number(HEAD - 8) == xxh3_64(&head[..HEAD - 8]);
    fits.then(|| (number(20), Marks { current: Revision(number(28)), compacted: Revision(number(36)) }, number(44)))
}

impl Place {
    /// The record that lies there, given to `take`. Blocks on the disk.
    ///
    /// # Errors
    /// When it cannot be read or is damaged.
    pub fn read<T>(&self, take: impl FnOnce(&[u8]) -> Option<T>) -> Result<T, LogError> {
        let Segment { path, file, salt, .. } = &*self.segment;
        let at = u64::from(self.offset);
        let mut bytes = vec![0; self.length as usize];
        file.read_exact_at(&mut bytes, at).map_err(LogError::io(path))?;
        let payload = bytes.split_first_chunk().and_then(|(head, payload)| {
            let head = frame::head(head, at)?;
            head.fits(*salt, at, payload).then_some(payload)
        });
        let record = match payload.and_then(Entry::decode) {
            Some(Entry::Change { record, .. }) => take(record),
            _ => None,
        };
        record.ok_or_else(|| LogError::damaged(path, at, "a record does not match its checksum"))
    }

    /// The frame's length in bytes.
    pub fn length(&self) -> u64 {
        self.length.into()
    }

    /// Somebody needs the frame from now on.
    pub fn need(&self) {
        self.segment.needed.fetch_add(self.length(), Ordering::Relaxed);
    }

    /// Nobody needs it any more.
    pub fn let_go(&self) {
        self.segment.needed.fetch_sub(self.length(), Ordering::Relaxed);
    }
}

impl PartialEq for Place {
    fn eq(&self, other: &Self) -> bool {
        (self.segment.number, self.offset) == (other.segment.number, other.offset)
    }
}

impl Eq for Place {}
