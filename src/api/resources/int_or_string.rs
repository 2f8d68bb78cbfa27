//! `IntOrString` values: a number, or a percentage of a total.

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde_json::Value;

/// Where a percentage of a total falls between two integers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rounding {
    Up,
    Down,
}

/// The integer that `value` means for `total`, at most the largest there is; `None` where it is neither a number nor a percentage.
pub fn scaled(value: &IntOrString, total: i32, rounding: Rounding) -> Option<i32> {
    match value {
        IntOrString::Int(number) => Some(*number),
        IntOrString::String(text) => scaled_percent(text, total, rounding),
    }
}

/// The integer that a JSON value (a number or a percentage string) means for `total`.
pub fn scaled_value(value: &Value, total: i32, rounding: Rounding) -> Option<i32> {
    match value {
        Value::Number(number) => i32::try_from(number.as_i64()?).ok(),
        Value::String(text) => scaled_percent(text, total, rounding),
        _ => None,
    }
}

/// The number of a percentage string such as `25%`.
pub fn percent(text: &str) -> Option<i32> {
    let digits = text.strip_suffix('%')?;
    (!digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit())).then(|| digits.parse().ok())?
}

/// The text of a value as printers and messages show it.
pub fn display(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn scaled_percent(text: &str, total: i32, rounding: Rounding) -> Option<i32> {
    let product = i64::from(percent(text)?) * i64::from(total);
    let result = match rounding {
        Rounding::Up => (product + 99).div_euclid(100),
        Rounding::Down => product.div_euclid(100),
    };
    Some(i32::try_from(result).unwrap_or(if result < 0 { i32::MIN } else { i32::MAX }))
}

/// The surge and unavailability that a rolling update may use for `replicas`. As upstream: surge rounds up,
/// unavailability down, and where both come to 0 one pod may be unavailable, so that an update makes progress.
pub fn rolling_update_bounds(max_surge: &IntOrString, max_unavailable: &IntOrString, replicas: i32) -> Option<(i32, i32)> {
    let surge = scaled(max_surge, replicas, Rounding::Up)?;
    let unavailable = scaled(max_unavailable, replicas, Rounding::Down)?;
    Some(if surge == 0 && unavailable == 0 { (0, 1) } else { (surge, unavailable) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentages_round_up_for_surge_and_down_for_unavailability() {
        let quarter = IntOrString::String("25%".into());
        assert_eq!(scaled(&quarter, 10, Rounding::Up), Some(3));
        assert_eq!(scaled(&quarter, 10, Rounding::Down), Some(2));
        assert_eq!(scaled(&IntOrString::Int(4), 10, Rounding::Up), Some(4));
        assert_eq!(scaled(&IntOrString::String("x".into()), 10, Rounding::Up), None);
        assert_eq!(scaled_value(&"100%".into(), 7, Rounding::Down), Some(7));
        assert_eq!(scaled(&IntOrString::String("200%".into()), i32::MAX, Rounding::Up), Some(i32::MAX), "as much as can be counted");
    }

    #[test]
    fn a_rolling_update_can_always_make_progress() {
        let zero = IntOrString::Int(0);
        assert_eq!(rolling_update_bounds(&zero, &IntOrString::String("10%".into()), 3), Some((0, 1)));
        assert_eq!(rolling_update_bounds(&IntOrString::String("25%".into()), &IntOrString::String("25%".into()), 1), Some((1, 0)));
    }
}
