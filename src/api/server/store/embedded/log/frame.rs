//! The form of what lies in a segment. Pure.
//!
//! A frame is `length u32, batch u32, checksum u64, payload`, integers big-endian. The length is the payload's; `batch` is
//! where the first frame lies that was made durable together with this one; the checksum is xxh3 of the payload, seeded
//! with the segment's salt, the frame's place, and the two numbers before it. So nothing that a client stores can pass
//! for a frame. Payloads: `C, revision u64, record`, `H, revision u64, superseded u64, record`, `M, compacted u64`.

use troupe_api::meta::Revision;
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// What a frame has before its payload, in bytes.
pub const HEAD: usize = 16;
/// Longer than any payload.
const MAX_PAYLOAD: usize = 256 << 20;
const CHANGE: u8 = b'C';
const HISTORY: u8 = b'H';
const COMPACTED: u8 = b'M';

/// What a frame says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry<'a> {
    Change {
        revision: Revision,
        /// Where the record was carried forward as history: the revision that ended it.
        superseded: Option<Revision>,
        record: &'a [u8],
    },
    /// All up to this revision is compacted.
    Compacted(Revision),
}

/// The numbers of a frame.
#[derive(Clone, Copy, Debug)]
pub struct FrameHead {
    /// Of the payload, in bytes.
    pub length: usize,
    /// Where its batch begins.
    pub batch: u64,
    checksum: u64,
}

impl Entry<'_> {
    /// Appends the payload.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Entry::Change { revision, superseded: None, record } => {
                out.push(CHANGE);
                out.extend(revision.0.to_be_bytes());
                out.extend_from_slice(record);
            }
            Entry::Change { revision, superseded: Some(superseded), record } => {
                out.push(HISTORY);
                out.extend(revision.0.to_be_bytes());
                out.extend(superseded.0.to_be_bytes());
                out.extend_from_slice(record);
            }
            Entry::Compacted(revision) => {
                out.push(COMPACTED);
                out.extend(revision.0.to_be_bytes());
            }
        }
    }
}

impl<'a> Entry<'a> {
    /// `None` for bytes that are no payload.
    pub fn decode(payload: &'a [u8]) -> Option<Self> {
        let (kind, rest) = payload.split_first()?;
        let (revision, rest) = revision(rest)?;
        match *kind {
            CHANGE => Some(Entry::Change { revision, superseded: None, record: rest }),
            HISTORY => {
                let (superseded, record) = self::revision(rest)?;
                Some(Entry::Change { revision, superseded: Some(superseded), record })
            }
            COMPACTED if rest.is_empty() => Some(Entry::Compacted(revision)),
            _ => None,
        }
    }
}

fn revision(bytes: &[u8]) -> Option<(Revision, &[u8])> {
    let (number, rest) = bytes.split_first_chunk()?;
    Some((Revision(u64::from_be_bytes(*number)), rest))
}

/// Appends a frame that will lie at `at`, in a batch that begins at `batch`.
///
/// # Panics
/// When the payload is longer than a quarter of a GiB, or the places pass 4 GiB: writers keep far below.
pub fn write(out: &mut Vec<u8>, salt: u64, at: u64, batch: u64, payload: &[u8]) {
    assert!(payload.len() <= MAX_PAYLOAD, "a record of {} bytes", payload.len());
    let length = u32::try_from(payload.len()).expect("bounded above");
    let batch = u32::try_from(batch).expect("a segment is smaller than 4 GiB");
    out.extend(length.to_be_bytes());
    out.extend(batch.to_be_bytes());
    out.extend(checksum(salt, at, length, batch, payload).to_be_bytes());
    out.extend_from_slice(payload);
}

/// Reads the numbers of the frame that lies at `at`; `None` where they cannot be a frame's.
pub fn head(bytes: &[u8; HEAD], at: u64) -> Option<FrameHead> {
    let number = |at: usize| u32::from_be_bytes(bytes[at..at + 4].try_into().expect("four bytes"));
    let checksum = u64::from_be_bytes(bytes[8..].try_into().expect("eight bytes"));
    let head = FrameHead { length: number(0) as usize, batch: number(4).into(), checksum };
    (head.length > 0 && head.length <= MAX_PAYLOAD && head.batch <= at).then_some(head)
}

impl FrameHead {
    /// Whether this is the payload that was written.
    pub fn fits(&self, salt: u64, at: u64, payload: &[u8]) -> bool {
        let numbers = u32::try_from(self.length).ok().zip(u32::try_from(self.batch).ok());
        numbers.is_some_and(|(length, batch)| payload.len() == self.length && checksum(salt, at, length, batch, payload) == self.checksum)
    }
}

fn checksum(salt: u64, at: u64, length: u32, batch: u32, payload: &[u8]) -> u64 {
    let numbers = u64::from(length) << 32 | u64::from(batch);
    // Spreads the place over all bits, so that it and the numbers do not cancel out.
    let place = at.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    xxh3_64_with_seed(payload, salt ^ numbers ^ place)
}
