//! Reading resource quantities.

/// The value of a quantity in thousandths, rounded up; `None` when it is no quantity.
pub fn milli(text: &str) -> Option<i128> {
    let text = text.trim();
    let end = text.find(|c: char| !(c.is_ascii_digit() || matches!(c, '.' | '+' | '-'))).unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    let (number, factor) = (number, factor(suffix)?);
    let (negative, digits) = match number.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, number.strip_prefix('+').unwrap_or(number)),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    if (whole.is_empty() && fraction.is_empty()) || fraction.len() > 18 {
        return None;
    }
    let scale = 10_i128.pow(u32::try_from(fraction.len()).ok()?);
    let mantissa = format!("{whole}{fraction}").parse::<i128>().ok()?;
    let (numerator, denominator) = factor;
    let top = mantissa.checked_mul(numerator)?.checked_mul(1000)?;
    let bottom = denominator.checked_mul(scale)?;
    let rounded = top / bottom + i128::from(top % bottom != 0);
    Some(if negative { -rounded } else { rounded })
}

/// The value of a quantity in whole units, rounded up; 0 when it is no quantity.
pub fn value(text: &str) -> i64 {
    let milli = milli(text).unwrap_or(0);
    i64::try_from(milli / 1000 + i128::from(milli % 1000 > 0)).unwrap_or(i64::MAX)
}

/// The value in thousandths that fits an i64; 0 when it is no quantity.
pub fn milli_value(text: &str) -> i64 {
    i64::try_from(milli(text).unwrap_or(0)).unwrap_or(i64::MAX)
}

/// A suffix as a fraction.
fn factor(suffix: &str) -> Option<(i128, i128)> {
    const K: i128 = 1000;
    Some(match suffix {
        "" => (1, 1),
        "n" => (1, K * K * K),
        "u" => (1, K * K),
        "m" => (1, K),
        "k" => (K, 1),
        "M" => (K.pow(2), 1),
        "G" => (K.pow(3), 1),
        "T" => (K.pow(4), 1),
        "P" => (K.pow(5), 1),
        "E" => (K.pow(6), 1),
        "Ki" => (1 << 10, 1),
        "Mi" => (1 << 20, 1),
        "Gi" => (1 << 30, 1),
        "Ti" => (1 << 40, 1),
        "Pi" => (1 << 50, 1),
        "Ei" => (1 << 60, 1),
        exponent => {
            let power: i32 = exponent.strip_prefix(['e', 'E'])?.parse().ok()?;
            let size = 10_i128.checked_pow(power.unsigned_abs())?;
            if power >= 0 { (size, 1) } else { (1, size) }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_read_in_every_notation() {
        let cases =
            [("100m", 100), ("1", 1000), ("1.5", 1500), ("0.0001", 1), ("2k", 2_000_000), ("1Ki", 1_024_000), ("1e3", 1_000_000), ("-1", -1000)];
        for (text, want) in cases {
            assert_eq!(milli(text), Some(want), "{text}");
        }
        assert_eq!(milli("x"), None);
        assert_eq!(value("128Mi"), 128 << 20);
        assert_eq!(value("1500m"), 2);
    }
}
