//! Frames on their way out, as bytes.

const SYN_STREAM: u16 = 1;
const PING: u16 = 6;
const FIN: u8 = 1;
/// What a stored deflate block holds at most.
const STORED_MAX: usize = 0xffff;

/// Encodes the frames of one connection; header blocks share one zlib stream.
#[derive(Debug, Default)]
pub struct Writer {
    headers_begun: bool,
}

impl Writer {
    /// A frame that opens a stream. Header names are lower case.
    pub fn syn_stream(&mut self, stream: u32, headers: &[(&str, &str)]) -> Vec<u8> {
        let mut payload = Vec::new();
        payload.extend_from_slice(&stream.to_be_bytes());
        // Associated with no other stream; highest priority; no credential slot.
        payload.extend_from_slice(&[0; 6]);
        self.header_block(headers, &mut payload);
        control(SYN_STREAM, 0, &payload)
    }

    fn header_block(&mut self, headers: &[(&str, &str)], out: &mut Vec<u8>) {
        let mut block = Vec::new();
        let length = |text: &[u8]| u32::try_from(text.len()).expect("headers are short").to_be_bytes();
        block.extend_from_slice(&u32::try_from(headers.len()).expect("headers are few").to_be_bytes());
        for text in headers.iter().flat_map(|(name, value)| [name.as_bytes(), value.as_bytes()]) {
            block.extend_from_slice(&length(text));
            block.extend_from_slice(text);
        }
        if !std::mem::replace(&mut self.headers_begun, true) {
            // Deflate, 32 KiB window, no dictionary.
            out.extend_from_slice(&[0x78, 0x01]);
        }
        // An empty stored block makes readers hand out what they have.
        for part in block.chunks(STORED_MAX).chain([&[][..]]) {
            let length = u16::try_from(part.len()).expect("chunks fit a stored block");
            out.push(0);
            out.extend_from_slice(&length.to_le_bytes());
            out.extend_from_slice(&(!length).to_le_bytes());
            out.extend_from_slice(part);
        }
    }

    /// The head of a data frame of `length` bytes, at most 2^24 - 1; `fin` half-closes the stream.
    pub fn data_head(stream: u32, length: usize, fin: bool) -> [u8; 8] {
        let length = u32::try_from(length).expect("messages are bounded");
        head(stream, if fin { FIN } else { 0 }, length)
    }

    /// The answer to a ping.
    pub fn pong(id: u32) -> Vec<u8> {
        control(PING, 0, &id.to_be_bytes())
    }
}

fn control(kind: u16, flags: u8, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("control frames are short");
    let mut frame = head(0x8003_0000 | u32::from(kind), flags, length).to_vec();
    frame.extend_from_slice(payload);
    frame
}

fn head(first: u32, flags: u8, length: u32) -> [u8; 8] {
    let mut head = [0; 8];
    head[..4].copy_from_slice(&first.to_be_bytes());
    head[4..].copy_from_slice(&length.to_be_bytes());
    head[4] = flags;
    head
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn header_blocks_of_one_connection_inflate_as_one_stream() {
        let mut writer = Writer::default();
        let first = writer.syn_stream(1, &[("streamtype", "error")]);
        let second = writer.syn_stream(3, &[("streamtype", "stdin")]);
        assert_eq!(first[..4], [0x80, 3, 0, 1]);
        assert_eq!(usize::from(first[7]), first.len() - 8);
        let mut joined = first[18..].to_vec();
        joined.extend_from_slice(&second[18..]);
        let mut plain = Vec::new();
        // The stream has no end: what inflates before that is what counts.
        let _ = flate2::read::ZlibDecoder::new(&joined[..]).read_to_end(&mut plain);
        let block = |value: &str| [&[0, 0, 0, 1, 0, 0, 0, 10][..], b"streamtype", &[0, 0, 0, 5], value.as_bytes()].concat();
        assert_eq!(plain, [block("error"), block("stdin")].concat());
    }

    #[test]
    fn data_carries_its_length_and_end() {
        assert_eq!(Writer::data_head(5, 0x01_02_03, true), [0, 0, 0, 5, 1, 1, 2, 3]);
        assert_eq!(Writer::pong(2), [0x80, 3, 0, 6, 0, 0, 0, 4, 0, 0, 0, 2]);
    }
}
