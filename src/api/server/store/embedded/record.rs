//! The form of a record in the log: one change. Its revision stands before it.
//!
//! `version u8, kind u8, create revision u64, expiry u64, key length u32, key, value`, integers big-endian.

use bytes::Bytes;
use troupe_api::meta::Revision;

const VERSION: u8 = 1;
const PUT: u8 = 1;
const DELETE: u8 = 2;
const HEAD: usize = 22;

/// A change as it lies in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    pub key: Bytes,
    /// `None` for a deletion.
    pub value: Option<Bytes>,
    /// The revision that made the key; 0 for a deletion.
    pub create_revision: Revision,
    /// When it expires, in milliseconds since the Unix epoch.
    pub expiry: Option<u64>,
}

impl Record {
    pub fn encode(&self) -> Vec<u8> {
        let value = self.value.as_deref().unwrap_or_default();
        let mut out = Vec::with_capacity(self.bytes());
        out.extend([VERSION, if self.value.is_some() { PUT } else { DELETE }]);
        out.extend(self.create_revision.0.to_be_bytes());
        out.extend(self.expiry.unwrap_or(0).to_be_bytes());
        let key_length = u32::try_from(self.key.len()).expect("a key is shorter than 4 GiB");
        out.extend(key_length.to_be_bytes());
        out.extend_from_slice(&self.key);
        out.extend_from_slice(value);
        out
    }

    /// Its length when it is encoded, in bytes.
    pub fn bytes(&self) -> usize {
        HEAD + self.key.len() + self.value.as_deref().map_or(0, <[u8]>::len)
    }

    /// The key in an encoded record; `None` for bytes that are none.
    pub fn key_of(bytes: &[u8]) -> Option<&[u8]> {
        let (head, rest) = bytes.split_at_checked(HEAD)?;
        let length = u32::from_be_bytes(head[18..22].try_into().expect("four bytes of the head")) as usize;
        rest.get(..length)
    }

    /// `None` for bytes that are no record.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (head, rest) = bytes.split_at_checked(HEAD)?;
        let number = |at: usize| head[at..at + 8].try_into().map(u64::from_be_bytes).expect("eight bytes of the head");
        let key_length = u32::from_be_bytes(head[18..22].try_into().expect("four bytes of the head")) as usize;
        let (key, value) = rest.split_at_checked(key_length)?;
        let value = match (head[0], head[1]) {
            (VERSION, PUT) => Some(Bytes::copy_from_slice(value)),
            (VERSION, DELETE) if value.is_empty() => None,
            _ => return None,
        };
        let expiry = Some(number(10)).filter(|expiry| *expiry > 0);
        Some(Record { key: Bytes::copy_from_slice(key), value, create_revision: Revision(number(2)), expiry })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_survive_the_round_trip_and_damage_is_noticed() {
        let put = Record { key: "/registry/a".into(), value: Some("v".into()), create_revision: Revision(7), expiry: Some(99) };
        let delete = Record { value: None, expiry: None, create_revision: Revision::ZERO, ..put.clone() };
        for record in [put, delete] {
            let bytes = record.encode();
            assert_eq!(Record::key_of(&bytes), Some(&b"/registry/a"[..]));
            assert_eq!(Record::decode(&bytes), Some(record));
            assert_eq!(Record::decode(&bytes[..HEAD + 3]), None);
        }
        assert_eq!(Record::decode(b""), None);
    }
}
