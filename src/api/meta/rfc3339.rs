//! Times that clients write, read as Go's `time.Parse` reads them: it takes no other spellings, and says in these words what it does not take.
//! They are of the years 0 to 9999 in UTC. That is a day more than a [`Timestamp`] can be; who computes with one has the last moment there is.

use jiff::{
    SignedDuration, Timestamp,
    civil::{Date, DateTime},
    tz::Offset,
};

const TIME: &str = "2006-01-02T15:04:05Z07:00";
const MICRO_TIME: &str = "2006-01-02T15:04:05.000000Z07:00";
const MICROS: &str = ".000000";
/// No more bytes of a text are told: it may be as long as a body.
const LONGEST: usize = 1 << 10;

/// Go's zero time, which its encoders write as null.
pub const ZERO: DateTime = DateTime::constant(1, 1, 1, 0, 0, 0, 0);
const EPOCH: DateTime = DateTime::constant(1970, 1, 1, 0, 0, 0, 0);
/// All years that can be written have fewer seconds.
const MOST_SECONDS: u64 = 1 << 40;

/// A `metav1.Time` in UTC.
///
/// # Errors
/// What is wrong, in Go's words.
pub fn read_time(text: &str) -> Result<DateTime, String> {
    Reader { rest: text }.read(false).map_err(|fault| fault.told(text, TIME))
}

/// A `metav1.MicroTime` in UTC, which has six digits after the point.
///
/// # Errors
/// What is wrong, in Go's words.
pub fn read_micro_time(text: &str) -> Result<DateTime, String> {
    Reader { rest: text }.read(true).map_err(|fault| fault.told(text, MICRO_TIME))
}

/// A time in UTC as a `metav1.Time`: whole seconds, the rest is cut off.
pub fn written_time(time: DateTime) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// A time in UTC as a `metav1.MicroTime`: six digits after the point.
pub fn written_micro_time(time: DateTime) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string()
}

/// The moment of a time in UTC, or the last or first one that there is.
pub fn saturated(time: DateTime) -> Timestamp {
    Offset::UTC.to_timestamp(time).unwrap_or(if time.year() > 0 { Timestamp::MAX } else { Timestamp::MIN })
}

/// The text of the last moment that there is where `text` is a time beyond it.
pub fn within_range(text: &str) -> Option<String> {
    let time = text.starts_with("9999-12-3").then(|| read_time(text).ok()).flatten()?;
    Offset::UTC.to_timestamp(time).is_err().then(|| written_time(Offset::UTC.to_datetime(Timestamp::MAX)))
}

/// Seconds since 1970 and nanoseconds of a text that is a time.
pub fn unix(text: &str) -> Option<(i64, i32)> {
    let since = read_time(text).ok()?.duration_since(EPOCH);
    Some((since.as_secs(), since.subsec_nanos()))
}

/// The time in UTC that is so many seconds and nanoseconds after 1970; `None` where nobody can write it.
pub fn of_unix(seconds: i64, nanos: i32) -> Option<DateTime> {
    if seconds.unsigned_abs() > MOST_SECONDS || nanos.unsigned_abs() > 999_999_999 {
        return None;
    }
    EPOCH.checked_add(SignedDuration::new(seconds, nanos)).ok().filter(|time| time.year() >= 0)
}

/// What is wrong with a time.
enum Fault<'a> {
    /// What stands where this element of the layout belongs.
    Element(&'a str, &'static str),
    /// What is out of range.
    Range(&'static str),
    /// What follows the time.
    Extra(&'a str),
}

impl Fault<'_> {
    fn told(&self, text: &str, layout: &str) -> String {
        let text = quoted(text);
        match self {
            Fault::Element(rest, element) => format!("parsing time {text} as \"{layout}\": cannot parse {} as \"{element}\"", quoted(rest)),
            Fault::Range(what) => format!("parsing time {text}: {what} out of range"),
            Fault::Extra(rest) => format!("parsing time {text}: extra text: {}", quoted(rest)),
        }
    }
}

struct Reader<'a> {
    rest: &'a str,
}

impl<'a> Reader<'a> {
    fn read(mut self, micro: bool) -> Result<DateTime, Fault<'a>> {
        let year = self.number(4, "2006")?;
        self.literal("-")?;
        let month = self.within(2, "01", 1..=12, "month")?;
        self.literal("-")?;
        let day = self.number(2, "02")?;
        self.literal("T")?;
        // Go takes hours of one digit.
        let digits = if self.digits().min(2) == 1 { 1 } else { 2 };
        let hour = self.within(digits, "15", 0..=23, "hour")?;
        self.literal(":")?;
        let minute = self.within(2, "04", 0..=59, "minute")?;
        self.literal(":")?;
        let second = self.within(2, "05", 0..=59, "second")?;
        let nanos = if micro { self.micros()? } else { self.fraction() };
        let offset = self.offset()?;
        if !self.rest.is_empty() {
            return Err(Fault::Extra(self.rest));
        }
        let small = |number: i32| i8::try_from(number).unwrap_or(i8::MAX);
        let no_day = || Fault::Range("day");
        let date = Date::new(i16::try_from(year).unwrap_or(i16::MAX), small(month), small(day)).map_err(|_| no_day())?;
        let there = date.at(small(hour), small(minute), small(second), nanos);
        let time = there.checked_sub(SignedDuration::from_secs(offset.into())).map_err(|_| no_day())?;
        // Years before the year 0 are written in another form, which would not be read again, as is the year 10000.
        if time.year() < 0 { Err(no_day()) } else { Ok(time) }
    }

    fn literal(&mut self, wanted: &'static str) -> Result<(), Fault<'a>> {
        self.rest = self.rest.strip_prefix(wanted).ok_or(Fault::Element(self.rest, wanted))?;
        Ok(())
    }

    /// How many digits come next.
    fn digits(&self) -> usize {
        self.rest.bytes().take_while(u8::is_ascii_digit).count()
    }

    fn number(&mut self, digits: usize, element: &'static str) -> Result<i32, Fault<'a>> {
        let fault = Fault::Element(self.rest, element);
        if self.digits() < digits {
            return Err(fault);
        }
        let (number, rest) = self.rest.split_at(digits);
        self.rest = rest;
        number.parse().map_err(|_| fault)
    }

    fn within(&mut self, digits: usize, element: &'static str, range: std::ops::RangeInclusive<i32>, name: &'static str) -> Result<i32, Fault<'a>> {
        let number = self.number(digits, element)?;
        if range.contains(&number) { Ok(number) } else { Err(Fault::Range(name)) }
    }

    /// The nanoseconds of exactly six digits after the point.
    fn micros(&mut self) -> Result<i32, Fault<'a>> {
        let whole = self.rest;
        let fault = || Fault::Element(whole, MICROS);
        self.rest = whole.strip_prefix(['.', ',']).ok_or_else(fault)?;
        let micros = self.number(6, MICROS).map_err(|_| fault())?;
        Ok(micros * 1000)
    }

    /// The nanoseconds of any number of digits after the point, if there is one.
    fn fraction(&mut self) -> i32 {
        let Some(fraction) = self.rest.strip_prefix(['.', ',']) else { return 0 };
        let digits = Reader { rest: fraction }.digits();
        if digits == 0 {
            return 0;
        }
        let (fraction, rest) = fraction.split_at(digits);
        self.rest = rest;
        let nanos: String = fraction.chars().chain("000000000".chars()).take(9).collect();
        nanos.parse().unwrap_or_default()
    }

    /// The seconds that the zone is ahead of UTC.
    fn offset(&mut self) -> Result<i32, Fault<'a>> {
        const ELEMENT: &str = "Z07:00";
        if let Some(rest) = self.rest.strip_prefix('Z') {
            self.rest = rest;
            return Ok(0);
        }
        let whole = self.rest;
        let fault = || Fault::Element(whole, ELEMENT);
        let sign = match whole.bytes().next() {
            Some(b'+') => 1,
            Some(b'-') => -1,
            _ => return Err(fault()),
        };
        self.rest = &whole[1..];
        let hour = self.within(2, ELEMENT, 0..=24, "time zone offset hour").map_err(|error| error.or_whole(whole, ELEMENT))?;
        self.literal(":").map_err(|_| fault())?;
        let minute = self.within(2, ELEMENT, 0..=60, "time zone offset minute").map_err(|error| error.or_whole(whole, ELEMENT))?;
        Ok(sign * (hour * 60 + minute) * 60)
    }
}

impl<'a> Fault<'a> {
    /// The same of an element that began earlier.
    fn or_whole(self, whole: &'a str, element: &'static str) -> Self {
        match self {
            Fault::Element(..) => Fault::Element(whole, element),
            other => other,
        }
    }
}

/// As Go's `time` package quotes: other characters than printable ASCII by their bytes. Of a long text, how it begins.
fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for byte in text.bytes().take(LONGEST) {
        match byte {
            b'"' | b'\\' => quoted.extend(['\\', char::from(byte)]),
            b' '..=b'~' | 0x7f => quoted.push(char::from(byte)),
            _ => quoted.push_str(&format!("\\x{byte:02x}")),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_go_reads_them() {
        let at = |text: &str| text.trim_end_matches('Z').parse::<DateTime>().expect("a time");
        for (text, same) in [
            ("2024-01-02T03:04:05Z", "2024-01-02T03:04:05Z"),
            ("2024-01-02T3:04:05Z", "2024-01-02T03:04:05Z"),
            ("2024-01-02T03:04:05.1Z", "2024-01-02T03:04:05.1Z"),
            ("2024-01-02T03:04:05,5Z", "2024-01-02T03:04:05.5Z"),
            ("2024-01-02T03:04:05.123456789123Z", "2024-01-02T03:04:05.123456789Z"),
            ("2024-01-02T03:04:05+02:00", "2024-01-02T01:04:05Z"),
            ("2024-01-02T03:04:05-24:60", "2024-01-03T04:04:05Z"),
            ("9999-12-31T23:59:59.999999999Z", "9999-12-31T23:59:59.999999999Z"),
            ("9999-12-31T22:59:59-01:00", "9999-12-31T23:59:59Z"),
            ("0000-01-01T00:00:00Z", "0000-01-01T00:00:00Z"),
        ] {
            assert_eq!(read_time(text), Ok(at(same)), "{text}");
        }
        assert_eq!(read_micro_time("2024-01-02T03:04:05.123456+02:00"), Ok(at("2024-01-02T01:04:05.123456Z")));
    }

    #[test]
    fn times_of_the_last_day_are_written_as_they_were_read() {
        let last = read_time("9999-12-31T23:59:59.1234567Z").expect("a time");
        assert_eq!((written_time(last).as_str(), written_micro_time(last).as_str()), ("9999-12-31T23:59:59Z", "9999-12-31T23:59:59.123456Z"));
        assert_eq!((saturated(last), saturated(EPOCH)), (Timestamp::MAX, Timestamp::UNIX_EPOCH));
        assert_eq!(within_range("9999-12-31T23:59:59Z").as_deref(), Some("9999-12-30T22:00:00Z"));
        assert_eq!((within_range("9999-12-30T21:00:00Z"), within_range("9999-12-3x")), (None, None));
        let (seconds, nanos) = unix("9999-12-31T23:59:59.5Z").expect("a time");
        assert_eq!((seconds, nanos), (253_402_300_799, 500_000_000));
        assert_eq!(of_unix(seconds, 0).map(written_time).as_deref(), Some("9999-12-31T23:59:59Z"));
        for (seconds, nanos) in [(seconds + 1, 0), (i64::MAX, i32::MAX), (i64::MIN, i32::MIN), (0, 1_000_000_000), (-62_167_219_201, 0)] {
            assert_eq!(of_unix(seconds, nanos), None, "{seconds}");
        }
    }

    #[test]
    fn what_is_no_time_is_told_in_gos_words() {
        for (text, why) in [
            ("", r#" as "2006-01-02T15:04:05Z07:00": cannot parse "" as "2006""#),
            ("2024-1-02T03:04:05Z", r#" as "2006-01-02T15:04:05Z07:00": cannot parse "1-02T03:04:05Z" as "01""#),
            ("20240102T030405Z", r#" as "2006-01-02T15:04:05Z07:00": cannot parse "0102T030405Z" as "-""#),
            ("2024-01-02", r#" as "2006-01-02T15:04:05Z07:00": cannot parse "" as "T""#),
            ("2024-01-02 03:04:05Z", r#" as "2006-01-02T15:04:05Z07:00": cannot parse " 03:04:05Z" as "T""#),
            ("2024-01-02T03:04:05", r#" as "2006-01-02T15:04:05Z07:00": cannot parse "" as "Z07:00""#),
            ("2024-01-02T03:04:05+0200", r#" as "2006-01-02T15:04:05Z07:00": cannot parse "+0200" as "Z07:00""#),
            ("2024-13-02T03:04:05Z", ": month out of range"),
            ("0000-01-01T00:00:00+01:00", ": day out of range"),
            ("9999-12-31T23:59:59-01:00", ": day out of range"),
            ("2024-01-02t03:04:05Z", r#" as "2006-01-02T15:04:05Z07:00": cannot parse "t03:04:05Z" as "T""#),
            ("2024-01-02T03:04:05z", r#" as "2006-01-02T15:04:05Z07:00": cannot parse "z" as "Z07:00""#),
            ("2024-02-30T03:04:05Z", ": day out of range"),
            ("2024-02-30T25:04:05Z", ": hour out of range"),
            ("2024-01-02T03:04:60Z", ": second out of range"),
            ("2024-01-02T03:04:05+25:00", ": time zone offset hour out of range"),
            ("2024-01-02T03:04:05+01:99", ": time zone offset minute out of range"),
            ("2024-01-02T03:04:05Z[UTC]", r#": extra text: "[UTC]""#),
        ] {
            assert_eq!(read_time(text), Err(format!("parsing time \"{text}\"{why}")));
        }
        for (text, rest, element) in [
            ("2024-01-02T03:04:05Z", "Z", ".000000"),
            ("2024-01-02T03:04:05.1Z", ".1Z", ".000000"),
            ("2024-01-02T03:04:05.123456789Z", "789Z", "Z07:00"),
            ("2024-01-02T03:04:05.123+00:00", ".123+00:00", ".000000"),
        ] {
            let why = format!("parsing time \"{text}\" as \"2006-01-02T15:04:05.000000Z07:00\": cannot parse \"{rest}\" as \"{element}\"");
            assert_eq!(read_micro_time(text), Err(why));
        }
        assert!(read_time(&"é".repeat(100_000)).expect_err("no time").len() < 10 * LONGEST);
        assert!(read_time("a\"b\\é").expect_err("no time").starts_with(r#"parsing time "a\"b\\\xc3\xa9" as"#));
    }
}
