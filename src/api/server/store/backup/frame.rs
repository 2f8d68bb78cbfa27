//! The form of a backup: `troupe-backup\n`, then frames.
//!
//! A frame is `length u32, kind u8, payload, crc32 u32`; integers are big-endian, the length is the payload's, the
//! checksum is of all before it. Kinds: `H` the head, as JSON; `R` a record, `create revision u64, mod revision u64, key
//! length u32, key, value`; `E` the end, `records u64, SHA-256 of every byte before this frame`.

use std::io::{self, Read, Write};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use troupe_api::meta::Revision;

use super::BackupError;
use crate::store::KeyValue;

/// The format this code writes, and the newest it reads.
pub const FORMAT: u32 = 1;
const MAGIC: &[u8] = b"troupe-backup\n";
const HEAD: u8 = b'H';
const RECORD: u8 = b'R';
const END: u8 = b'E';
/// Longer than any record: etcd takes a few megabytes at most, we no more than 3.
const MAX_PAYLOAD: u32 = 64 << 20;

/// What a backup is of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    pub format: u32,
    /// The revision that the whole backup is at.
    pub revision: Revision,
    /// When, in RFC 3339.
    pub taken: String,
    /// The version of the program that wrote it.
    pub version: String,
}

/// A part of a backup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    Head(Head),
    Record(KeyValue),
    End { records: u64, digest: [u8; 32] },
}

/// Appends a frame.
pub fn write_frame(out: &mut Vec<u8>, frame: &Frame) {
    let begin = out.len();
    out.extend([0; 4]);
    match frame {
        Frame::Head(head) => {
            out.push(HEAD);
            serde_json::to_writer(&mut *out, head).expect("plain data encodes");
        }
        Frame::Record(kv) => {
            out.push(RECORD);
            out.extend(kv.create_revision.0.to_be_bytes());
            out.extend(kv.mod_revision.0.to_be_bytes());
            out.extend(u32::try_from(kv.key.len()).expect("a key is shorter than 4 GiB").to_be_bytes());
            out.extend_from_slice(&kv.key);
            out.extend_from_slice(&kv.value);
        }
        Frame::End { records, digest } => {
            out.push(END);
            out.extend(records.to_be_bytes());
            out.extend(digest);
        }
    }
    let length = u32::try_from(out.len() - begin - 5).expect("a value is shorter than 4 GiB");
    out[begin..begin + 4].copy_from_slice(&length.to_be_bytes());
    let sum = crc32fast::hash(&out[begin..]);
    out.extend(sum.to_be_bytes());
}

/// Reads a frame; `None` where the input ends before it. `at` is where it begins, for messages.
pub fn read_frame(input: &mut impl Read, at: u64, raw: &mut Vec<u8>) -> Result<Option<Frame>, BackupError> {
    let damaged = |what| BackupError::Damaged { at, what };
    raw.clear();
    let got = input.by_ref().take(5).read_to_end(raw)?;
    if got == 0 {
        return Ok(None);
    }
    let cut = || BackupError::Truncated { records: 0 };
    let head = raw.get(..5).ok_or_else(cut)?;
    let length = u32::from_be_bytes(head[..4].try_into().expect("four bytes"));
    if length > MAX_PAYLOAD {
        return Err(damaged("a record is impossibly long"));
    }
    let rest = u64::from(length) + 4;
    if (input.by_ref().take(rest).read_to_end(raw)? as u64) < rest {
        return Err(cut());
    }
    let (body, sum) = raw.split_at(raw.len() - 4);
    if crc32fast::hash(body).to_be_bytes() != *sum {
        return Err(damaged("a checksum does not match"));
    }
    decode(body[4], &body[5..]).map(Some).ok_or_else(|| damaged("a record does not decode"))
}

fn decode(kind: u8, payload: &[u8]) -> Option<Frame> {
    let number = |at: usize| payload.get(at..at + 8)?.try_into().ok().map(u64::from_be_bytes);
    match kind {
        HEAD => serde_json::from_slice(payload).ok().map(Frame::Head),
        RECORD => {
            let length = u32::from_be_bytes(payload.get(16..20)?.try_into().ok()?) as usize;
            let (key, value) = payload.get(20..)?.split_at_checked(length)?;
            let (key, value) = (Bytes::copy_from_slice(key), Bytes::copy_from_slice(value));
            Some(Frame::Record(KeyValue { key, value, create_revision: Revision(number(0)?), mod_revision: Revision(number(8)?) }))
        }
        END => Some(Frame::End { records: number(0)?, digest: payload.get(8..)?.try_into().ok()? }),
        _ => None,
    }
}

/// Writes a backup.
pub struct BackupWriter<W> {
    out: W,
    digest: Sha256,
    records: u64,
    buffer: Vec<u8>,
}

impl<W: Write> BackupWriter<W> {
    /// Begins a backup.
    ///
    /// # Errors
    /// When `out` does not take it.
    pub fn new(out: W, head: Head) -> io::Result<Self> {
        let mut writer = BackupWriter { out, digest: Sha256::new(), records: 0, buffer: MAGIC.to_vec() };
        write_frame(&mut writer.buffer, &Frame::Head(head));
        writer.flush_buffer()?;
        Ok(writer)
    }

    /// Adds a record.
    ///
    /// # Errors
    /// When `out` does not take it.
    pub fn record(&mut self, kv: KeyValue) -> io::Result<()> {
        self.records += 1;
        write_frame(&mut self.buffer, &Frame::Record(kv));
        self.flush_buffer()
    }

    /// Ends it; returns where it went and how many records it has.
    ///
    /// # Errors
    /// When `out` does not take it.
    pub fn finish(mut self) -> io::Result<(W, u64)> {
        let digest = self.digest.clone().finalize().into();
        write_frame(&mut self.buffer, &Frame::End { records: self.records, digest });
        self.flush_buffer()?;
        self.out.flush()?;
        Ok((self.out, self.records))
    }

    fn flush_buffer(&mut self) -> io::Result<()> {
        self.digest.update(&self.buffer);
        self.out.write_all(&self.buffer)?;
        self.buffer.clear();
        Ok(())
    }
}

/// Reads a backup record by record. The end is checked when it is reached; [`verify`] checks all beforehand.
pub struct BackupReader<R> {
    input: R,
    head: Head,
    digest: Sha256,
    records: u64,
    at: u64,
    raw: Vec<u8>,
    ended: bool,
}

impl<R: Read> BackupReader<R> {
    /// Reads the head.
    ///
    /// # Errors
    /// When it is no backup, or of a newer format.
    pub fn new(mut input: R) -> Result<Self, BackupError> {
        let mut raw = Vec::new();
        input.by_ref().take(MAGIC.len() as u64).read_to_end(&mut raw)?;
        if raw != MAGIC {
            return Err(BackupError::Foreign);
        }
        let mut digest = Sha256::new();
        digest.update(&raw);
        let at = raw.len() as u64;
        let Some(Frame::Head(head)) = read_frame(&mut input, at, &mut raw)? else { return Err(BackupError::Foreign) };
        if head.format > FORMAT {
            return Err(BackupError::NewerFormat { found: head.format });
        }
        digest.update(&raw);
        let at = at + raw.len() as u64;
        Ok(BackupReader { input, head, digest, records: 0, at, raw, ended: false })
    }

    /// What the backup is of.
    pub fn head(&self) -> &Head {
        &self.head
    }

    /// The next record; `None` at the end, which has been checked then.
    ///
    /// # Errors
    /// When the backup is damaged or breaks off.
    pub fn next_record(&mut self) -> Result<Option<KeyValue>, BackupError> {
        if self.ended {
            return Ok(None);
        }
        let cut = BackupError::Truncated { records: self.records };
        let frame = match read_frame(&mut self.input, self.at, &mut self.raw) {
            Ok(Some(frame)) => frame,
            Ok(None) | Err(BackupError::Truncated { .. }) => return Err(cut),
            Err(error) => return Err(error),
        };
        let damaged = |what| BackupError::Damaged { at: self.at, what };
        match frame {
            Frame::Record(kv) => {
                self.digest.update(&self.raw);
                self.at += self.raw.len() as u64;
                self.records += 1;
                Ok(Some(kv))
            }
            Frame::End { records, digest } => {
                if records != self.records || digest != <[u8; 32]>::from(self.digest.clone().finalize()) {
                    return Err(damaged("records are missing or were exchanged"));
                }
                self.ended = true;
                Ok(None)
            }
            Frame::Head(_) => Err(damaged("a second head")),
        }
    }
}

/// Reads a backup to its end; returns its head and how many records it has.
///
/// # Errors
/// When it is damaged, breaks off, or is of a newer format.
pub fn verify(input: impl Read) -> Result<(Head, u64), BackupError> {
    let mut reader = BackupReader::new(input)?;
    while reader.next_record()?.is_some() {}
    Ok((reader.head, reader.records))
}
