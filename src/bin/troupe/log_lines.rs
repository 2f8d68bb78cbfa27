//! Lines of the daemon's log. What pods and clients wrote is quoted in them, so none is longer than it needs to be.

use std::io::{self, Write};

/// Bytes of a line.
const LONGEST: usize = 8 << 10;

/// A place for log lines, each written in one go.
#[derive(Debug)]
pub struct Lines<W>(pub W);

impl<W: Write> Write for Lines<W> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if line.len() <= LONGEST {
            self.0.write_all(line)?;
            return Ok(line.len());
        }
        let mut end = LONGEST;
        // Not within a character.
        while end > 0 && line[end] & 0xc0 == 0x80 {
            end -= 1;
        }
        let mut cut = line[..end].to_vec();
        cut.extend_from_slice(format!("… ({} bytes)\n", line.len()).as_bytes());
        self.0.write_all(&cut)?;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(line: &str) -> String {
        let mut out = Vec::new();
        Lines(&mut out).write_all(line.as_bytes()).expect("writes");
        String::from_utf8(out).expect("is text")
    }

    #[test]
    fn a_long_line_is_cut_at_a_character() {
        assert_eq!(written("short\n"), "short\n");
        let long = written(&"é".repeat(1 << 20));
        assert!(long.len() < LONGEST + 40 && long.ends_with("é… (2097152 bytes)\n"), "{}", long.len());
        assert!(written(&format!("x{}", "é".repeat(1 << 20))).ends_with("é… (2097153 bytes)\n"));
    }
}
