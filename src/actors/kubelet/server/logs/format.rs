//! One line of a CRI log: `2026-10-06T00:17:09.669794202Z stdout F text`.

use std::borrow::Cow;

use jiff::Timestamp;

/// A parsed line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line<'a> {
    pub time: Timestamp,
    /// The time as the runtime wrote it.
    pub time_text: &'a str,
    pub stderr: bool,
    /// With the newline, unless the line goes on in the next record.
    pub text: &'a [u8],
}

/// Parses one record, with or without its newline at the end. `None` for anything that is no CRI log line.
pub fn parse(record: &[u8]) -> Option<Line<'_>> {
    let (time_text, rest) = cut(record)?;
    let time_text = std::str::from_utf8(time_text).ok()?;
    let time = time_text.parse().ok()?;
    let (stream, rest) = cut(rest)?;
    let stderr = match stream {
        b"stdout" => false,
        b"stderr" => true,
        _ => return None,
    };
    let (tags, text) = cut(rest)?;
    let partial = tags.split(|byte| *byte == b':').next() == Some(b"P");
    let text = if partial { text.strip_suffix(b"\n").unwrap_or(text) } else { text };
    Some(Line { time, time_text, stderr, text })
}

fn cut(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let at = bytes.iter().position(|byte| *byte == b' ')?;
    Some((&bytes[..at], &bytes[at + 1..]))
}

/// The time with nine digits of fraction, in the zone it was written in.
pub fn nine_digits(time: &str) -> Cow<'_, str> {
    let zone = time.find(['Z', '+']).or_else(|| time.rfind('-').filter(|at| *at > 10)).unwrap_or(time.len());
    let (clock, zone) = time.split_at(zone);
    let (seconds, fraction) = clock.split_once('.').unwrap_or((clock, ""));
    if fraction.len() == 9 {
        return Cow::Borrowed(time);
    }
    Cow::Owned(format!("{seconds}.{:0<9.9}{zone}", fraction))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_and_partial_lines_parse() {
        let line = parse(b"2016-10-06T00:17:09.669794202Z stderr F log content 1\n").expect("a line");
        assert!(line.stderr);
        assert_eq!(line.text, b"log content 1\n");
        let line = parse(b"2016-10-06T00:17:09.6Z stdout P:x part\n").expect("a line");
        assert_eq!((line.stderr, line.text), (false, &b"part"[..]));
        assert_eq!(parse(b"2016-10-06T00:17:09Z stdout F \n").expect("a line").text, b"\n");
        assert!(parse(b"").is_none() && parse(b"x stdout F y").is_none() && parse(b"2016-10-06T00:17:09Z stdin F y").is_none());
    }

    #[test]
    fn times_show_nine_digits_in_their_zone() {
        assert_eq!(nine_digits("2016-10-06T00:17:09.6Z"), "2016-10-06T00:17:09.600000000Z");
        assert_eq!(nine_digits("2016-10-06T00:17:09Z"), "2016-10-06T00:17:09.000000000Z");
        assert_eq!(nine_digits("2016-10-06T00:17:09.12-07:00"), "2016-10-06T00:17:09.120000000-07:00");
        assert_eq!(nine_digits("2016-10-06T00:17:09.123456789+02:00"), "2016-10-06T00:17:09.123456789+02:00");
    }
}
