//! Points in time and durations, as texts and numbers.

use jiff::{
    Timestamp,
    civil::Date,
    tz::{Offset, TimeZone},
};

use super::Time;
use crate::meta::rfc3339;

pub const HOUR: i64 = 3_600_000_000_000;

pub const MINUTE: i64 = 60_000_000_000;

pub const SECOND: i64 = 1_000_000_000;

/// Whether a time is between the years 1 and 9999.
pub fn is_within(time: &Timestamp) -> bool {
    (-62_135_596_800..=253_402_300_799).contains(&time.as_second())
}

/// A duration as Go reads it (`1h2m3.5s`), in nanoseconds.
///
/// # Errors
/// It is none.
pub fn duration(text: &str) -> Result<i64, String> {
    let fault = || format!("time: invalid duration {text:?}");
    let (negative, mut rest) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    if rest == "0" {
        return Ok(0);
    }
    if rest.is_empty() {
        return Err(fault());
    }
    let mut total: i128 = 0;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(rest.len());
        let (number, after) = rest.split_at(end);
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if whole.is_empty() && fraction.is_empty() || fraction.contains('.') || whole.len() > 19 {
            return Err(fault());
        }
        if after.is_empty() {
            return Err(format!("time: missing unit in duration {text:?}"));
        }
        let unit_end = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let (unit, next) = after.split_at(unit_end);
        let factor: i128 = match unit {
            "ns" => 1,
            "us" | "µs" | "μs" => 1_000,
            "ms" => 1_000_000,
            "s" => i128::from(SECOND),
            "m" => i128::from(MINUTE),
            "h" => i128::from(HOUR),
            _ => return Err(format!("time: unknown unit {unit:?} in duration {text:?}")),
        };
        let whole: i128 = if whole.is_empty() { 0 } else { whole.parse().map_err(|_| fault())? };
        let fraction = &fraction[..fraction.len().min(18)];
        let part: i128 = if fraction.is_empty() { 0 } else { fraction.parse().map_err(|_| fault())? };
        total += whole * factor + part * factor / 10_i128.pow(u32::try_from(fraction.len()).unwrap_or(0));
        rest = next;
    }
    i64::try_from(if negative { -total } else { total }).map_err(|_| fault())
}

/// A duration as schemas have it: Go's, or a number with a longer unit.
///
/// # Errors
/// It is none.
pub fn schema_duration(text: &str) -> Result<i64, String> {
    const UNITS: [(&str, i64); 8] = [
        ("nano", 1),
        ("micro", 1_000),
        ("milli", 1_000_000),
        ("sec", SECOND),
        ("min", MINUTE),
        ("hour", HOUR),
        ("day", 24 * HOUR),
        ("week", 168 * HOUR),
    ];
    const SHORT: [(&str, i64); 12] = [
        ("ns", 1),
        ("us", 1_000),
        ("µs", 1_000),
        ("ms", 1_000_000),
        ("s", SECOND),
        ("m", MINUTE),
        ("h", HOUR),
        ("hr", HOUR),
        ("d", 24 * HOUR),
        ("w", 168 * HOUR),
        ("wk", 168 * HOUR),
        ("μs", 1_000),
    ];
    if let Ok(nanos) = duration(text) {
        return Ok(nanos);
    }
    let fault = || format!("unable to parse {text} as duration");
    let (mut rest, mut total, mut found) = (text, 0_i64, false);
    while let Some(at) = rest.find(|c: char| c.is_ascii_digit()) {
        let digits = &rest[at..];
        let end = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
        let number: i64 = digits[..end].parse().map_err(|_| fault())?;
        let after = digits[end..].trim_start();
        let unit_end = after.find(|c: char| !c.is_alphabetic()).unwrap_or(after.len());
        let unit = after[..unit_end].to_lowercase();
        let long = UNITS.iter().find(|(name, _)| unit.starts_with(name));
        if let Some((_, factor)) = SHORT.iter().find(|(name, _)| *name == unit).or(long) {
            total = number.checked_mul(*factor).and_then(|part| total.checked_add(part)).ok_or_else(fault)?;
            found = true;
        }
        rest = &after[unit_end..];
    }
    if found { Ok(total) } else { Err(fault()) }
}

/// A point in time of RFC 3339. One of the last day of the year 9999 is the last moment that there is.
///
/// # Errors
/// It is none.
pub fn timestamp(text: &str) -> Result<Time, String> {
    let fault = || format!("parsing time {text:?}");
    let is_strict = text.len() >= 20
        && text.is_ascii()
        && text.as_bytes()[10] == b'T'
        && (text.ends_with('Z') || matches!(text.as_bytes()[text.len() - 6], b'+' | b'-') && text.as_bytes()[text.len() - 3] == b':');
    let last = rfc3339::within_range(text);
    let at: Timestamp = last.as_deref().unwrap_or(text).parse().ok().filter(|_| is_strict).filter(is_within).ok_or_else(fault)?;
    Ok(Time { at, offset: if text.ends_with('Z') { 0 } else { offset(&text[text.len() - 6..]).ok_or_else(fault)? } })
}

/// Seconds since 1970.
///
/// # Errors
/// It is beyond the years 1 to 9999.
pub fn from_seconds(seconds: i64) -> Result<Time, String> {
    let at = Timestamp::from_second(seconds).ok().filter(is_within).ok_or("timestamp overflow")?;
    Ok(Time { at, offset: 0 })
}

/// A date, or a point in time, as schemas have it.
///
/// # Errors
/// It is none.
pub fn schema_time(text: &str) -> Result<Time, String> {
    let fault = || format!("parsing time {text:?}");
    if text.len() == 10 {
        let date: Date = text.parse().map_err(|_| fault())?;
        let at = date.to_zoned(TimeZone::UTC).map_err(|_| fault())?.timestamp();
        return Ok(Time { at, offset: 0 });
    }
    timestamp(&text.to_uppercase()).or_else(|_| {
        // Without a colon in the offset, or with a blank instead of the letter.
        let at: Timestamp = text.parse().ok().filter(is_within).ok_or_else(fault)?;
        Ok(Time { at, offset: 0 })
    })
}

/// `+01:00` in seconds.
pub fn offset(text: &str) -> Option<i32> {
    let (sign, rest) = match text.as_bytes().first()? {
        b'-' => (-1, &text[1..]),
        b'+' => (1, &text[1..]),
        _ => (1, text),
    };
    let (hours, minutes) = rest.split_once(':')?;
    let (hours, minutes): (i32, i32) = (hours.parse().ok()?, minutes.parse().ok()?);
    ((0..24).contains(&hours) && (0..60).contains(&minutes)).then_some(sign * (hours * 3600 + minutes * 60))
}

/// `3723.004s`
pub fn seconds(nanos: i64) -> String {
    let (whole, part) = (nanos.unsigned_abs() / 1_000_000_000, nanos.unsigned_abs() % 1_000_000_000);
    let sign = if nanos < 0 { "-" } else { "" };
    let fraction = format!("{part:09}");
    let fraction = fraction.trim_end_matches('0');
    if fraction.is_empty() { format!("{sign}{whole}s") } else { format!("{sign}{whole}.{fraction}s") }
}

/// RFC 3339 with the offset in which it was written.
pub fn shown(time: Time) -> String {
    if time.offset == 0 {
        return time.at.to_string();
    }
    let Ok(offset) = Offset::from_seconds(time.offset) else { return time.at.to_string() };
    time.at.display_with_offset(offset).to_string()
}
