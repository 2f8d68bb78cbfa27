//! From records to the text that was asked for. Pure.

use jiff::Timestamp;
use troupe_api_server::http::streaming::{LogOptions, LogStream};

use super::format::{nine_digits, parse};

/// Selects and prints records of one log.
#[derive(Clone, Debug)]
pub struct Printer {
    since: Option<Timestamp>,
    timestamps: bool,
    stream: LogStream,
    bytes_left: u64,
    /// Of a bounded tail; records that appear later do not count.
    records_left: u64,
    at_line_start: bool,
}

impl Printer {
    pub fn new(options: &LogOptions, now: Timestamp) -> Self {
        let unsigned = |number: Option<i64>| number.and_then(|number| u64::try_from(number).ok());
        Printer {
            since: options.since(now),
            timestamps: options.timestamps,
            stream: options.stream,
            bytes_left: unsigned(options.limit_bytes).unwrap_or(u64::MAX),
            records_left: unsigned(options.tail_lines).filter(|_| !options.follow).unwrap_or(u64::MAX),
            at_line_start: true,
        }
    }

    /// Nothing more will be printed.
    pub fn is_done(&self) -> bool {
        self.bytes_left == 0 || self.records_left == 0
    }

    /// Prints one record, if it is wanted, at the end of `out`. What is no record is skipped.
    pub fn print(&mut self, record: &[u8], out: &mut Vec<u8>) {
        if self.is_done() {
            return;
        }
        let Some(line) = parse(record) else {
            tracing::debug!(record = %String::from_utf8_lossy(record), "no CRI log line");
            return;
        };
        let old = self.since.is_some_and(|since| line.time < since);
        let other = matches!((self.stream, line.stderr), (LogStream::Stdout, true) | (LogStream::Stderr, false));
        if !old && !other {
            if self.timestamps && self.at_line_start {
                self.put(nine_digits(line.time_text).as_bytes(), out);
                self.put(b" ", out);
            }
            self.put(line.text, out);
        }
        self.records_left = self.records_left.saturating_sub(1);
        self.at_line_start = line.text.last().is_none_or(|byte| *byte == b'\n');
    }

    fn put(&mut self, text: &[u8], out: &mut Vec<u8>) {
        let fits = usize::try_from(self.bytes_left).unwrap_or(usize::MAX).min(text.len());
        out.extend_from_slice(&text[..fits]);
        self.bytes_left -= fits as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: [&str; 4] = [
        "2026-01-01T00:00:01.5Z stdout F one\n",
        "2026-01-01T00:00:02Z stdout P tw\n",
        "2026-01-01T00:00:03Z stdout F o\n",
        "2026-01-01T00:00:04Z stderr F oops\n",
    ];

    fn printed(query: &str) -> String {
        let options = LogOptions::parse(query, "p").expect("valid");
        let now = "2026-01-01T00:00:05Z".parse().expect("a time");
        let mut printer = Printer::new(&options, now);
        let mut out = Vec::new();
        for record in LOG {
            printer.print(record.as_bytes(), &mut out);
        }
        String::from_utf8(out).expect("text")
    }

    #[test]
    fn partial_lines_join_and_times_stand_at_line_starts_only() {
        assert_eq!(printed(""), "one\ntwo\noops\n");
        assert_eq!(
            printed("timestamps=true"),
            "2026-01-01T00:00:01.500000000Z one\n2026-01-01T00:00:02.000000000Z two\n2026-01-01T00:00:04.000000000Z oops\n"
        );
    }

    #[test]
    fn time_size_and_stream_select() {
        assert_eq!(printed("sinceSeconds=1"), "oops\n");
        assert_eq!(printed("sinceTime=2026-01-01T00:00:02Z"), "two\noops\n");
        assert_eq!(printed("limitBytes=6"), "one\ntw");
        assert_eq!(printed("stream=Stderr"), "oops\n");
        assert_eq!(printed("tailLines=1"), "one\n");
    }
}
