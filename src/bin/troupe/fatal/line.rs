//! A line put together without allocating, as a signal handler needs it: time, pid, words.

use jiff::civil::Date;

/// As much as fits.
const SPACE: usize = 1000;

/// A line in the making. What does not fit is left out.
pub(super) struct Line {
    bytes: [u8; SPACE],
    length: usize,
}

impl Line {
    /// One that begins with the time and the pid of this process.
    pub(super) fn begin() -> Self {
        let mut line = Line { bytes: [0; SPACE], length: 0 };
        line.time(now());
        line.text(" pid ");
        line.number(u64::from(std::process::id()));
        line.text(": ");
        line
    }

    /// All of it, with its end.
    pub(super) fn bytes(&self) -> &[u8] {
        // `byte` leaves room for the end of the line.
        let end = self.length + 1;
        debug_assert!(end <= SPACE);
        &self.bytes[..end]
    }

    pub(super) fn byte(&mut self, byte: u8) {
        if self.length + 2 <= SPACE {
            self.bytes[self.length] = byte;
            self.length += 1;
            self.bytes[self.length] = b'\n';
        }
    }

    pub(super) fn text(&mut self, text: &str) {
        text.bytes().for_each(|byte| self.byte(byte));
    }

    pub(super) fn number(&mut self, number: u64) {
        self.digits(number, 10, 1);
    }

    pub(super) fn address(&mut self, address: usize) {
        self.text("0x");
        self.digits(address as u64, 16, 1);
    }

    /// In a base of at most 16, with leading zeros up to a width.
    fn digits(&mut self, mut number: u64, base: u64, width: usize) {
        let mut digits = [0_u8; 20];
        let mut count = 0;
        while (number > 0 || count < width) && count < digits.len() {
            digits[count] = b"0123456789abcdef"[usize::try_from(number % base).unwrap_or(0)];
            number /= base;
            count += 1;
        }
        digits[..count].iter().rev().for_each(|digit| self.byte(*digit));
    }

    /// Seconds since 1970 as `2026-11-29T09:00:00Z`.
    fn time(&mut self, seconds: i64) {
        let (days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400).unsigned_abs());
        let (year, month, day) = date(days);
        for (number, width, end) in
            [(year, 4, b'-'), (month, 2, b'-'), (day, 2, b'T'), (second / 3600, 2, b':'), (second / 60 % 60, 2, b':'), (second % 60, 2, b'Z')]
        {
            self.digits(number, 10, width);
            self.byte(end);
        }
    }
}

/// The date so many days after 1970 began.
fn date(days: i64) -> (u64, u64, u64) {
    let first = Date::constant(1970, 1, 1);
    let day =
        i32::try_from(days).ok().and_then(|days| first.checked_add(jiff::SignedDuration::from_hours(i64::from(days) * 24)).ok()).unwrap_or(first);
    (day.year().unsigned_abs().into(), day.month().unsigned_abs().into(), day.day().unsigned_abs().into())
}

fn now() -> i64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the kernel fills in the time, which lives as long as the call.
    unsafe { libc::clock_gettime(libc::CLOCK_REALTIME, &raw mut time) };
    time.tv_sec
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(fill: impl FnOnce(&mut Line)) -> String {
        let mut line = Line { bytes: [0; SPACE], length: 0 };
        fill(&mut line);
        String::from_utf8_lossy(line.bytes()).into_owned()
    }

    #[test]
    fn times_numbers_and_addresses_are_written_as_people_read_them() {
        assert_eq!(text(|line| line.time(1_764_406_805)), "2025-11-29T09:00:05Z\n");
        assert_eq!(text(|line| line.time(951_782_400)), "2000-02-29T00:00:00Z\n");
        assert_eq!(text(|line| line.number(0)), "0\n");
        assert_eq!(text(|line| line.address(0xdead_beef)), "0xdeadbeef\n");
    }

    #[test]
    fn a_line_that_is_too_long_still_ends() {
        let long = text(|line| line.text(&"x".repeat(5000)));
        assert!(long.len() == SPACE && long.ends_with("x\n"));
        let begun = Line::begin();
        let begun = String::from_utf8_lossy(begun.bytes()).into_owned();
        assert!(begun.contains(&format!("Z pid {}: ", std::process::id())), "{begun}");
    }
}
