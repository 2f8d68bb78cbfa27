//! Numbers that are written down, without their suffix.

use super::Issue;

/// `None` if it is too large.
pub(super) fn int(digits: &str, negative: bool) -> Option<i64> {
    let (digits, radix) = digits.strip_prefix("0x").map_or((digits, 10), |digits| (digits, 16));
    i64::from_str_radix(&format!("{}{digits}", if negative { "-" } else { "" }), radix).ok()
}

/// `None` if it is too large.
pub(super) fn unsigned(digits: &str) -> Option<u64> {
    let (digits, radix) = digits.strip_prefix("0x").map_or((digits, 10), |digits| (digits, 16));
    u64::from_str_radix(digits, radix).ok()
}

/// # Errors
/// It is too large.
pub(super) fn double(digits: &str, at: usize) -> Result<f64, Issue> {
    digits.parse().ok().filter(|number: &f64| number.is_finite()).ok_or_else(|| Issue::new(at, "Syntax error: invalid double literal"))
}
