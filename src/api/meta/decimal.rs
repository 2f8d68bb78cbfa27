//! Integers as people write them: no leading zeros, no plus sign, no other base.

/// What is wrong with `text` as such an integer of 64 bits, in upstream's words; empty where it is one.
pub fn faults(text: &str) -> Vec<String> {
    let mut faults = Vec::new();
    if text.is_empty() {
        faults.push("must be non-empty".to_owned());
    } else if !is_canonical(text) {
        faults.push("must be a valid decimal integer in canonical form".to_owned());
    }
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        faults.push(format!("strconv.ParseInt: parsing {text:?}: invalid syntax"));
    } else if text.parse::<i64>().is_err() {
        faults.push(format!("strconv.ParseInt: parsing {text:?}: value out of range"));
    }
    faults
}

/// The integer that `text` is, if it is one.
pub fn parse(text: &str) -> Option<i64> {
    text.parse().ok().filter(|_| is_canonical(text))
}

fn is_canonical(text: &str) -> bool {
    let digits = text.strip_prefix('-').unwrap_or(text);
    text == "0" || (!digits.is_empty() && !digits.starts_with('0') && digits.bytes().all(|byte| byte.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_are_written_in_one_way() {
        for (text, number) in [("0", 0), ("7", 7), ("-70", -70), ("9223372036854775807", i64::MAX), ("-9223372036854775808", i64::MIN)] {
            assert_eq!((parse(text), faults(text)), (Some(number), vec![]));
        }
        let canonical = "must be a valid decimal integer in canonical form";
        let syntax = |text: &str| format!("strconv.ParseInt: parsing {text:?}: invalid syntax");
        for text in ["007", "+5", "-0", "00"] {
            assert_eq!((parse(text), faults(text)), (None, vec![canonical.to_owned()]), "{text}");
        }
        for text in ["-", "1.5", "a", " 1", "1_0"] {
            assert_eq!((parse(text), faults(text)), (None, vec![canonical.to_owned(), syntax(text)]), "{text}");
        }
        assert_eq!((parse(""), faults("")), (None, vec!["must be non-empty".to_owned(), syntax("")]));
        let large = "9223372036854775808";
        assert_eq!((parse(large), faults(large)), (None, vec![format!("strconv.ParseInt: parsing {large:?}: value out of range")]));
    }
}
