//! What stands around objects on the wire: `runtime.Unknown`, items of lists, events of watches.

use super::MAGIC;
use crate::wire::{Reader, Wire, put_bytes, put_varint, varint_size};

/// What follows the content in a `runtime.Unknown`: empty contentEncoding and contentType.
pub const UNKNOWN_TAIL: &[u8] = &[0x1a, 0, 0x22, 0];

/// The field of a list that holds an item.
const ITEM: u32 = 2;

/// All of an enveloped object before its content, of which `length` bytes and [`UNKNOWN_TAIL`] follow.
pub fn unknown_head(api_version: &str, kind: &str, length: usize) -> Vec<u8> {
    let mut type_meta = Vec::with_capacity(64);
    put_bytes(1, api_version.as_bytes(), &mut type_meta);
    put_bytes(2, kind.as_bytes(), &mut type_meta);
    let mut out = Vec::with_capacity(96);
    out.extend_from_slice(MAGIC);
    put_bytes(1, &type_meta, &mut out);
    out.push(2 << 3 | 2);
    put_varint(length as u64, &mut out);
    out
}

/// An object's message in its envelope.
pub fn unknown(api_version: &str, kind: &str, message: &[u8]) -> Vec<u8> {
    let mut out = unknown_head(api_version, kind, message.len());
    out.reserve_exact(message.len() + UNKNOWN_TAIL.len());
    out.extend_from_slice(message);
    out.extend_from_slice(UNKNOWN_TAIL);
    out
}

/// Appends what stands before an item of `length` bytes in a list.
pub fn item_head(length: usize, out: &mut Vec<u8>) {
    out.push((ITEM << 3 | 2) as u8);
    put_varint(length as u64, out);
}

/// The bytes that an item of `length` bytes takes in a list.
pub fn item_size(length: usize) -> usize {
    1 + varint_size(length as u64) + length
}

/// The frame of an event in a watch: a length in four bytes, then a `WatchEvent` around an enveloped object.
pub fn watch_event(event: &str, object: &[u8]) -> Vec<u8> {
    let object_size = item_size(object.len());
    let size = item_size(event.len()) + item_size(object_size);
    let mut out = Vec::with_capacity(4 + size);
    out.extend_from_slice(&u32::try_from(size).unwrap_or(u32::MAX).to_be_bytes());
    put_bytes(1, event.as_bytes(), &mut out);
    item_head(object_size, &mut out);
    put_bytes(1, object, &mut out);
    out
}

/// The metadata field, with tag and length, of an object's message: it is the first one of every kind.
pub fn metadata_of(message: &[u8]) -> &[u8] {
    let mut reader = Reader(message);
    match reader.field() {
        Ok(Some((1, Wire::Bytes(_)))) => &message[..message.len() - reader.0.len()],
        _ => &[],
    }
}
