//! Blocks of PEM (RFC 7468), as Go's `encoding/pem` finds them: what is no whole block is passed over. Pure.

use base64::{Engine, prelude::BASE64_STANDARD};

const BEGIN: &str = "-----BEGIN ";
const END: &str = "-----END ";
const DASHES: &str = "-----";

/// A block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PemBlock {
    /// What it says that it is, such as `CERTIFICATE`.
    pub label: String,
    /// Whether headers (RFC 1421) stand before its contents.
    pub has_headers: bool,
    pub contents: Vec<u8>,
}

/// The blocks of a text, in order.
pub fn pem_blocks(text: &str) -> Vec<PemBlock> {
    let mut blocks = Vec::new();
    let mut open: Option<Open<'_>> = None;
    for line in text.lines().map(str::trim_end) {
        if let Some(rest) = line.strip_prefix(BEGIN) {
            // Of several beginnings in a row the last one counts.
            open = rest.strip_suffix(DASHES).map(Open::new);
        } else if let Some(rest) = line.strip_prefix(END) {
            blocks.extend(open.take().filter(|open| rest.strip_suffix(DASHES) == Some(open.label)).and_then(Open::close));
        } else if let Some(open) = &mut open {
            open.add(line);
        }
    }
    blocks
}

/// A block whose end was not seen yet.
struct Open<'a> {
    label: &'a str,
    has_headers: bool,
    encoded: String,
}

impl<'a> Open<'a> {
    fn new(label: &'a str) -> Self {
        Open { label, has_headers: false, encoded: String::new() }
    }

    fn add(&mut self, line: &str) {
        if self.encoded.is_empty() && line.contains(':') {
            self.has_headers = true;
        } else {
            self.encoded.extend(line.chars().filter(|character| !character.is_ascii_whitespace()));
        }
    }

    /// Nothing where the contents are not base64.
    fn close(self) -> Option<PemBlock> {
        let contents = BASE64_STANDARD.decode(&self.encoded).ok()?;
        Some(PemBlock { label: self.label.to_owned(), has_headers: self.has_headers, contents })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::certificates::pem;

    fn labels(text: &str) -> Vec<String> {
        pem_blocks(text).into_iter().map(|block| block.label).collect()
    }

    #[test]
    fn what_is_written_is_read_whatever_stands_between() {
        let (one, two) = (pem("CERTIFICATE", &[7; 100]), pem("KEY", b""));
        let text = format!("subject: one\n{one}\n# and\r\n{}", two.replace('\n', " \r\n"));
        let read = pem_blocks(&text);
        let block = |label: &str, contents: &[u8]| PemBlock { label: label.into(), has_headers: false, contents: contents.to_vec() };
        assert_eq!(read, [block("CERTIFICATE", &[7; 100]), block("KEY", b"")]);
    }

    #[test]
    fn headers_are_told_and_not_taken_for_contents() {
        let read = pem_blocks("-----BEGIN A-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: x\n\nAQID\n-----END A-----");
        assert_eq!(read, [PemBlock { label: "A".into(), has_headers: true, contents: vec![1, 2, 3] }]);
    }

    #[test]
    fn what_is_no_whole_block_is_passed_over() {
        for text in [
            "",
            "AQID",
            "-----BEGIN A-----\nAQID\n",
            "AQID\n-----END A-----\n",
            "-----BEGIN A-----\nAQID\n-----END B-----\n",
            "-----BEGIN A-----\n%%\n-----END A-----\n",
            "-----BEGIN A\nAQID\n-----END A-----\n",
            " -----BEGIN A-----\nAQID\n-----END A-----\n",
        ] {
            assert_eq!(labels(text), Vec::<String>::new(), "{text:?}");
            assert_eq!(labels(&format!("{text}\n{}", pem("C", b"x"))), ["C"], "{text:?}");
        }
    }
}
