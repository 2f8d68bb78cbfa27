//! Where the last lines of a file begin.

use std::io::{self, Read, Seek, SeekFrom};

const BLOCK: u64 = 64 << 10;

/// The offset of the last `lines` lines.
///
/// # Errors
/// When the file cannot be read.
pub fn tail_start(file: &mut (impl Read + Seek), lines: u64) -> io::Result<u64> {
    let mut end = file.seek(SeekFrom::End(0))?;
    let mut newlines = 0;
    let mut block = Vec::new();
    if lines == 0 {
        return Ok(end);
    }
    while end > 0 {
        let start = end.saturating_sub(BLOCK);
        file.seek(SeekFrom::Start(start))?;
        block.clear();
        file.by_ref().take(end - start).read_to_end(&mut block)?;
        for (at, _) in block.iter().enumerate().rev().filter(|(_, byte)| **byte == b'\n') {
            newlines += 1;
            if newlines > lines {
                return Ok(start + at as u64 + 1);
            }
        }
        end = start;
    }
    Ok(0)
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    #[test]
    fn the_last_lines_are_found_across_blocks() {
        let start = |text: &str, lines| tail_start(&mut Cursor::new(text.as_bytes()), lines).expect("reads");
        assert_eq!(start("a\nb\nc\n", 1), 4);
        assert_eq!(start("a\nb\nc\n", 3), 0);
        assert_eq!(start("a\nb\nc\n", 9), 0);
        assert_eq!(start("a\nb\nc\n", 0), 6);
        assert_eq!(start("", 3), 0);
        let long = "x".repeat(100_000);
        let text = format!("first\n{long}\n{long}\n");
        assert_eq!(start(&text, 2), 6);
    }
}
