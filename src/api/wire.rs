//! The wire: fields of messages, read and written.

use crate::meta::limits::Excess;

/// One field of a message on the wire.
pub enum Wire<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

/// Bytes that are no protobuf message of the expected type.
#[derive(Debug, thiserror::Error)]
#[error("the protobuf message is malformed")]
pub struct Malformed;

impl From<Excess> for Malformed {
    /// The meter remembers what was exceeded.
    fn from(_: Excess) -> Self {
        Malformed
    }
}

/// Reads fields off a message.
pub struct Reader<'a>(pub &'a [u8]);

impl<'a> Reader<'a> {
    pub fn varint(&mut self) -> Result<u64, Malformed> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let (byte, rest) = self.0.split_first().ok_or(Malformed)?;
            self.0 = rest;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(Malformed)
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(Malformed)?;
        self.0 = rest;
        Ok(taken)
    }

    /// The next field with its number; `None` at the end.
    pub fn field(&mut self) -> Result<Option<(u32, Wire<'a>)>, Malformed> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let tag = self.varint()?;
        let wire = match tag & 7 {
            0 => Wire::Number(self.varint()?),
            1 => Wire::Number(u64::from_le_bytes(self.take(8)?.try_into().map_err(|_| Malformed)?)),
            2 => {
                let length = usize::try_from(self.varint()?).map_err(|_| Malformed)?;
                Wire::Bytes(self.take(length)?)
            }
            5 => Wire::Number(u64::from(u32::from_le_bytes(self.take(4)?.try_into().map_err(|_| Malformed)?))),
            _ => return Err(Malformed),
        };
        Ok(Some((u32::try_from(tag >> 3).map_err(|_| Malformed)?, wire)))
    }
}

impl<'a> Wire<'a> {
    pub fn bytes(&self) -> Result<&'a [u8], Malformed> {
        match self {
            Wire::Bytes(bytes) => Ok(bytes),
            Wire::Number(_) => Err(Malformed),
        }
    }

    pub fn text(&self) -> Result<&'a str, Malformed> {
        std::str::from_utf8(self.bytes()?).map_err(|_| Malformed)
    }

    pub fn number(&self) -> Result<u64, Malformed> {
        match self {
            Wire::Number(number) => Ok(*number),
            Wire::Bytes(_) => Err(Malformed),
        }
    }
}

/// Appends a varint.
pub fn put_varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// The bytes that a varint takes.
pub fn varint_size(value: u64) -> usize {
    let bits = 64 - (value | 1).leading_zeros() as usize;
    bits.div_ceil(7)
}

/// Appends a length-delimited field.
pub fn put_bytes(number: u32, bytes: &[u8], out: &mut Vec<u8>) {
    put_varint(u64::from(number << 3 | 2), out);
    put_varint(bytes.len() as u64, out);
    out.extend_from_slice(bytes);
}

/// Appends a number.
pub fn put_number(number: u32, value: u64, out: &mut Vec<u8>) {
    put_varint(u64::from(number << 3), out);
    put_varint(value, out);
}

/// Appends a double.
pub fn put_double(number: u32, value: f64, out: &mut Vec<u8>) {
    put_varint(u64::from(number << 3 | 1), out);
    out.extend_from_slice(&value.to_le_bytes());
}

/// Appends a field whose content `write` appends.
pub fn put_message(number: u32, out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    put_varint(u64::from(number << 3 | 2), out);
    // Most messages are short: room for one byte of length is left, longer ones are moved.
    out.push(0);
    let begins = out.len();
    write(out);
    let length = out.len() - begins;
    let more = varint_size(length as u64) - 1;
    if more > 0 {
        out.resize(out.len() + more, 0);
        out.copy_within(begins..begins + length, begins + more);
    }
    let mut rest = length;
    for at in 0..=more {
        let last = if at == more { 0 } else { 0x80 };
        out[begins - 1 + at] = (rest & 0x7f) as u8 | last;
        rest >>= 7;
    }
}
