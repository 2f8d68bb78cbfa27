//! `resource.Quantity`: fixed-point numbers with SI, binary or exponent suffixes, in upstream's canonical form.

mod nanos;

use std::{
    cmp::Ordering,
    fmt,
    ops::{AddAssign, SubAssign},
    str::FromStr,
};

pub use nanos::{canonical, nanos, value_nanos};

/// Nano units in one whole.
const NANO: i128 = 1_000_000_000;

/// An amount such as `100m`, `1.5Gi` or `12e6`, exact to nano units. Equality and order look at the amount only.
#[derive(Clone, Copy, Debug, Default)]
pub struct Quantity {
    nano: i128,
    format: QuantityFormat,
}

/// Which suffixes a quantity is written with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum QuantityFormat {
    /// `12e6`
    DecimalExponent,
    /// `12Mi`
    BinarySi,
    /// `12M`
    #[default]
    DecimalSi,
}

/// Why a text is no quantity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QuantityError {
    #[error("quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'")]
    Format,
    #[error("unable to parse numeric part of quantity")]
    Number,
    #[error("unable to parse quantity's suffix")]
    Suffix,
}

/// How a suffix scales: by a power of ten or of two.
#[derive(Clone, Copy)]
enum Scale {
    Ten(i32),
    Two(u32),
}

const DECIMAL: [(&str, i32); 10] = [("n", -9), ("u", -6), ("m", -3), ("", 0), ("k", 3), ("M", 6), ("G", 9), ("T", 12), ("P", 15), ("E", 18)];
const BINARY: [&str; 7] = ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];

fn suffix_scale(suffix: &str) -> Option<(Scale, QuantityFormat)> {
    if let Some((_, exponent)) = DECIMAL.iter().find(|(name, _)| *name == suffix) {
        return Some((Scale::Ten(*exponent), QuantityFormat::DecimalSi));
    }
    if let Some(power) = BINARY.iter().skip(1).position(|name| *name == suffix) {
        return Some((Scale::Two(10 * (u32::try_from(power).ok()? + 1)), QuantityFormat::BinarySi));
    }
    let exponent = suffix.strip_prefix(['e', 'E'])?;
    Some((Scale::Ten(exponent.parse().ok()?), QuantityFormat::DecimalExponent))
}

/// `digits * 10^exponent` in nano units, rounded away from zero, saturating.
fn scale_by_ten(digits: i128, exponent: i32) -> i128 {
    let shift = exponent.saturating_add(9);
    match u32::try_from(shift) {
        Ok(up) => 10_i128.checked_pow(up).and_then(|factor| digits.checked_mul(factor)).unwrap_or(if digits == 0 { 0 } else { i128::MAX }),
        Err(_) => 10_i128.checked_pow(shift.unsigned_abs()).map_or(i128::from(digits > 0), |divisor| ceil_div(digits, divisor)),
    }
}

/// Division that rounds away from zero.
fn ceil_div(amount: i128, divisor: i128) -> i128 {
    amount / divisor + if amount % divisor == 0 { 0 } else { amount.signum() }
}

impl Quantity {
    /// Parses any form that upstream accepts.
    pub fn parse(text: &str) -> Result<Self, QuantityError> {
        let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
        let number_end = unsigned.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(unsigned.len());
        let (number, suffix) = unsigned.split_at(number_end);
        let letters_end = suffix.find(|c| !"eEinumkKMGTP".contains(c)).unwrap_or(suffix.len());
        let exponent = suffix[letters_end..].strip_prefix(['-', '+']).unwrap_or(&suffix[letters_end..]);
        if number.is_empty() || !exponent.bytes().all(|byte| byte.is_ascii_digit()) || number.matches('.').count() > 1 {
            return Err(QuantityError::Format);
        }
        let (scale, format) = suffix_scale(suffix).ok_or(QuantityError::Suffix)?;
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if whole.is_empty() && fraction.is_empty() {
            return Err(QuantityError::Number);
        }
        let digits = format!("0{whole}{fraction}").parse::<i128>().map_err(|_| QuantityError::Number)?;
        let places = i32::try_from(fraction.len()).map_err(|_| QuantityError::Number)?;
        let amount = match scale {
            Scale::Ten(exponent) => scale_by_ten(digits, exponent.saturating_sub(places)),
            Scale::Two(power) => {
                let shifted = digits.checked_mul(1_i128 << power).ok_or(QuantityError::Number)?;
                scale_by_ten(shifted, -places).min(i128::from(i64::MAX) * NANO)
            }
        };
        let format = if format == QuantityFormat::BinarySi && amount < NANO && amount > 0 { QuantityFormat::DecimalSi } else { format };
        Ok(Quantity { nano: if text.starts_with('-') { -amount } else { amount }, format })
    }

    /// A whole amount.
    pub fn from_value(value: i64) -> Self {
        Quantity { nano: i128::from(value) * NANO, format: QuantityFormat::DecimalSi }
    }

    /// A whole number of bytes, written with binary suffixes.
    pub fn from_bytes(bytes: i64) -> Self {
        Quantity { nano: i128::from(bytes) * NANO, format: QuantityFormat::BinarySi }
    }

    /// An amount in thousandths.
    pub fn from_milli(milli: i64) -> Self {
        Quantity { nano: i128::from(milli) * 1_000_000, format: QuantityFormat::DecimalSi }
    }

    /// The amount in whole units, rounded away from zero, saturating.
    pub fn value(&self) -> i64 {
        saturate(ceil_div(self.nano, NANO))
    }

    /// The amount in thousandths, rounded away from zero, saturating.
    pub fn milli_value(&self) -> i64 {
        saturate(ceil_div(self.nano, 1_000_000))
    }

    pub fn as_f64(&self) -> f64 {
        self.nano as f64 / NANO as f64
    }

    /// Whether the amount has no parts of units.
    pub fn is_whole(&self) -> bool {
        self.nano % NANO == 0
    }

    /// Whether the amount has no parts of thousandths.
    pub fn is_of_thousandths(&self) -> bool {
        self.nano % 1_000_000 == 0
    }

    /// The amount rounded away from zero to thousandths.
    pub fn in_thousandths(self) -> Self {
        Quantity { nano: ceil_div(self.nano, 1_000_000).saturating_mul(1_000_000), ..self }
    }

    pub fn is_zero(&self) -> bool {
        self.nano == 0
    }

    /// -1, 0 or 1.
    pub fn sign(&self) -> i32 {
        match self.nano.cmp(&0) {
            Ordering::Less => -1,
            Ordering::Equal => 0,
            Ordering::Greater => 1,
        }
    }

    pub fn format(&self) -> QuantityFormat {
        self.format
    }

    fn adopt_format(&mut self, other: &Quantity) {
        if self.is_zero() {
            self.format = other.format;
        }
    }
}

fn saturate(amount: i128) -> i64 {
    i64::try_from(amount).unwrap_or(if amount < 0 { i64::MIN } else { i64::MAX })
}

impl AddAssign for Quantity {
    fn add_assign(&mut self, other: Self) {
        self.adopt_format(&other);
        self.nano = self.nano.saturating_add(other.nano);
    }
}

impl SubAssign for Quantity {
    fn sub_assign(&mut self, other: Self) {
        self.adopt_format(&other);
        self.nano = self.nano.saturating_sub(other.nano);
    }
}

impl PartialEq for Quantity {
    fn eq(&self, other: &Self) -> bool {
        self.nano == other.nano
    }
}

impl Eq for Quantity {}

impl PartialOrd for Quantity {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Quantity {
    fn cmp(&self, other: &Self) -> Ordering {
        self.nano.cmp(&other.nano)
    }
}

impl FromStr for Quantity {
    type Err = QuantityError;

    fn from_str(text: &str) -> Result<Self, QuantityError> {
        Quantity::parse(text)
    }
}

impl fmt::Display for Quantity {
    /// The canonical form: no fraction, the largest suffix that keeps it exact.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.nano == 0 {
            return f.write_str("0");
        }
        let whole = self.nano / NANO;
        if self.format == QuantityFormat::BinarySi && self.nano % NANO == 0 && whole.abs() >= 1024 {
            let (mut amount, mut power) = (whole, 0);
            while amount % 1024 == 0 && power + 1 < BINARY.len() {
                amount /= 1024;
                power += 1;
            }
            return write!(f, "{amount}{}", BINARY[power]);
        }
        let (mut amount, mut exponent) = (self.nano, -9);
        while amount % 1000 == 0 && (exponent < 18 || self.format == QuantityFormat::DecimalExponent) {
            amount /= 1000;
            exponent += 3;
        }
        if self.format == QuantityFormat::DecimalExponent {
            return if exponent == 0 { write!(f, "{amount}") } else { write!(f, "{amount}e{exponent}") };
        }
        let suffix = DECIMAL.iter().find(|(_, power)| *power == exponent).map_or("", |(suffix, _)| suffix);
        write!(f, "{amount}{suffix}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn canonical(text: &str) -> String {
        Quantity::parse(text).expect(text).to_string()
    }

    #[test]
    fn quantities_are_written_in_canonical_form() {
        for (text, want) in [
            ("1000m", "1"),
            ("0.5", "500m"),
            ("1.5", "1500m"),
            ("100m", "100m"),
            ("1500000", "1500k"),
            ("1024Mi", "1Gi"),
            ("1000Mi", "1000Mi"),
            ("1.5Gi", "1536Mi"),
            ("0.5Ki", "512"),
            ("512Ki", "512Ki"),
            ("0.1Mi", "104857600m"),
            ("12e6", "12e6"),
            ("1200e4", "12e6"),
            ("0", "0"),
            ("0Gi", "0"),
            ("0.1n", "1n"),
            ("-1.5", "-1500m"),
            ("1E", "1E"),
            ("8Ei", "9223372036854775807"),
            ("1.", "1"),
            (".5", "500m"),
        ] {
            assert_eq!(canonical(text), want, "{text}");
            assert_eq!(canonical(want), want, "{want} is stable");
        }
    }

    #[test]
    fn malformed_quantities_are_refused_with_their_cause() {
        assert_eq!(Quantity::parse(""), Err(QuantityError::Format));
        assert_eq!(Quantity::parse("abc"), Err(QuantityError::Format));
        assert_eq!(Quantity::parse("1x"), Err(QuantityError::Format));
        assert_eq!(Quantity::parse("1ki"), Err(QuantityError::Suffix));
        assert_eq!(Quantity::parse("1MM"), Err(QuantityError::Suffix));
    }

    #[test]
    fn amounts_add_compare_and_round_up() {
        let mut sum = Quantity::default();
        sum += Quantity::parse("1Gi").expect("parses");
        sum += Quantity::parse("512Mi").expect("parses");
        assert_eq!(sum.to_string(), "1536Mi");
        sum -= Quantity::parse("1536Mi").expect("parses");
        assert!(sum.is_zero());
        assert_eq!(Quantity::parse("100m").expect("parses").milli_value(), 100);
        assert_eq!(Quantity::parse("100m").expect("parses").value(), 1);
        assert!(Quantity::parse("1Ki").expect("parses") > Quantity::parse("1k").expect("parses"));
        assert_eq!(Quantity::parse("1000m"), Quantity::parse("1"));
    }
}
