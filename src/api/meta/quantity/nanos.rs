//! Quantities compared by value: `500m`, `1Gi`, `1e3`.

use std::num::IntErrorKind;

/// How many digits after the point count.
const FINEST: usize = 18;

/// A quantity in billionths, or `None` where the text is no quantity. Finer parts round up, as the API does.
pub fn nanos(text: &str) -> Option<i128> {
    let (number, suffix) = split(text)?;
    let (mantissa, fraction) = number;
    let (numerator, denominator) = scale(suffix)?;
    // What is finer than anybody can use is cut off, what is larger than can be counted stays at the largest number.
    let fraction = fraction.get(..fraction.len().min(FINEST))?;
    let digits = u32::try_from(fraction.len()).ok()?;
    let joined = integer(&format!("{}{}", mantissa.trim_start_matches('+'), fraction))?;
    let above = joined.saturating_mul(numerator).saturating_mul(1_000_000_000);
    let below = denominator.saturating_mul(10_i128.checked_pow(digits)?);
    let down = above.div_euclid(below);
    Some(if above.rem_euclid(below) == 0 { down } else { down + 1 })
}

/// An integer; one that is too large for its type is the largest of its sign.
fn integer(text: &str) -> Option<i128> {
    match text.parse() {
        Ok(number) => Some(number),
        Err(error) => match error.kind() {
            IntErrorKind::PosOverflow => Some(i128::MAX),
            IntErrorKind::NegOverflow => Some(i128::MIN),
            _ => None,
        },
    }
}

/// The value of a JSON quantity (a string, or a bare number).
pub fn value_nanos(value: &serde_json::Value) -> Option<i128> {
    match value {
        serde_json::Value::String(text) => nanos(text),
        serde_json::Value::Number(number) => nanos(&number.to_string()),
        _ => None,
    }
}

/// The shortest usual form of an amount in billionths: `500m`, `3`, or with `binary` also `1Gi`.
pub fn canonical(nanos: i128, binary: bool) -> String {
    const UNIT: i128 = 1_000_000_000;
    if nanos == 0 {
        return "0".to_owned();
    }
    if nanos % UNIT != 0 {
        return match nanos {
            milli if milli % 1_000_000 == 0 => format!("{}m", milli / 1_000_000),
            micro if micro % 1_000 == 0 => format!("{}u", micro / 1_000),
            nano => format!("{nano}n"),
        };
    }
    let (mut whole, step, suffixes) = if binary {
        (nanos / UNIT, 1024, ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"])
    } else {
        (nanos / UNIT, 1000, ["", "k", "M", "G", "T", "P", "E"])
    };
    let mut at = 0;
    while whole % step == 0 && at + 1 < suffixes.len() {
        whole /= step;
        at += 1;
    }
    format!("{whole}{}", suffixes[at])
}

/// Splits into (integer digits, fraction digits) and suffix.
fn split(text: &str) -> Option<((&str, &str), &str)> {
    let text = text.trim();
    let end = text.find(|c: char| !(c.is_ascii_digit() || c == '.' || c == '+' || c == '-')).unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    (number.bytes().any(|b| b.is_ascii_digit())).then_some(((whole, fraction), suffix))
}

fn scale(suffix: &str) -> Option<(i128, i128)> {
    Some(match suffix {
        "" => (1, 1),
        "n" => (1, 1_000_000_000),
        "u" => (1, 1_000_000),
        "m" => (1, 1_000),
        "k" => (1_000, 1),
        "M" => (1_000_000, 1),
        "G" => (1_000_000_000, 1),
        "T" => (1_000_000_000_000, 1),
        "P" => (1_000_000_000_000_000, 1),
        "E" => (1_000_000_000_000_000_000, 1),
        "Ki" => (1 << 10, 1),
        "Mi" => (1 << 20, 1),
        "Gi" => (1 << 30, 1),
        "Ti" => (1 << 40, 1),
        "Pi" => (1 << 50, 1),
        "Ei" => (1 << 60, 1),
        exponent => return exponential(exponent),
    })
}

fn exponential(suffix: &str) -> Option<(i128, i128)> {
    let exponent: i32 = suffix.strip_prefix(['e', 'E'])?.parse().ok()?;
    let power = 10_i128.checked_pow(exponent.unsigned_abs()).unwrap_or(i128::MAX);
    Some(if exponent < 0 { (1, power) } else { (power, 1) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_compare_by_value_whatever_their_suffix() {
        assert_eq!(nanos("1"), Some(1_000_000_000));
        assert_eq!(nanos("500m"), Some(500_000_000));
        assert_eq!(nanos("0.5"), nanos("500m"));
        assert_eq!(nanos("1Gi"), nanos("1024Mi"));
        assert_eq!(nanos("1e3"), nanos("1k"));
        assert_eq!(nanos("-1"), Some(-1_000_000_000));
        assert_eq!(nanos("banana"), None);
        assert_eq!(nanos("1Qi"), None);
    }

    #[test]
    fn amounts_beyond_all_counting_stay_comparable() {
        assert_eq!(nanos(&"9".repeat(60)), Some(i128::MAX));
        assert_eq!(nanos(&format!("-{}", "9".repeat(60))), Some(i128::MIN));
        assert_eq!(nanos("1e99"), Some(i128::MAX));
        assert_eq!(nanos("0e99"), Some(0));
        assert_eq!(nanos("1e-99"), Some(1), "finer parts round up");
        assert_eq!(nanos(&format!("0.{}", "1".repeat(60))), nanos("0.111111112"));
    }

    #[test]
    fn amounts_take_their_largest_whole_unit() {
        assert_eq!(canonical(1_500_000_000, false), "1500m");
        assert_eq!(canonical(2_000_000_000_000, false), "2k");
        assert_eq!(nanos("1536Mi").map(|n| canonical(n, true)).as_deref(), Some("1536Mi"));
        assert_eq!(canonical(0, true), "0");
    }
}
