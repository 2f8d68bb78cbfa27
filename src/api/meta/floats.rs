//! Floats as Go writes them: in JSON (`encoding/json`), and in its shortest text (`strconv.FormatFloat` with `'g'`), which its YAML has.

use std::io;

use serde::Serialize;
use serde_json::ser::{Formatter, Serializer};

/// A finite float as JSON: with an exponent below 1e-6 and from 1e21 on.
pub fn json(float: f64) -> String {
    let size = float.abs();
    if size == 0.0 || (1e-6..1e21).contains(&size) {
        return float.to_string();
    }
    let scientific = format!("{float:e}");
    match scientific.split_once('e') {
        Some((digits, exponent)) if !exponent.starts_with('-') => format!("{digits}e+{exponent}"),
        _ => scientific,
    }
}

/// The shortest text of a finite float: with an exponent below 1e-4 and from 1e6 on.
pub fn shortest(float: f64) -> String {
    with_exponent(&format!("{float:e}")).unwrap_or_else(|| float.to_string())
}

/// The same of single precision.
pub fn shortest_single(float: f32) -> String {
    with_exponent(&format!("{float:e}")).unwrap_or_else(|| float.to_string())
}

/// Rust's scientific notation as Go's; `None` where Go writes no exponent.
fn with_exponent(scientific: &str) -> Option<String> {
    let (digits, exponent) = scientific.split_once('e')?;
    let exponent: i32 = exponent.parse().ok()?;
    let sign = if exponent < 0 { '-' } else { '+' };
    (!(-4..6).contains(&exponent)).then(|| format!("{digits}e{sign}{:02}", exponent.abs()))
}

/// Appends a value as JSON.
///
/// # Errors
/// When it does not encode, as maps do whose keys are no texts.
pub fn write_json(out: &mut Vec<u8>, value: &(impl Serialize + ?Sized)) -> serde_json::Result<()> {
    value.serialize(&mut Serializer::with_formatter(out, GoFloats))
}

/// JSON without spaces, with floats as Go's.
struct GoFloats;

impl Formatter for GoFloats {
    fn write_f64<W>(&mut self, writer: &mut W, value: f64) -> io::Result<()>
    where
        W: ?Sized + io::Write,
    {
        writer.write_all(json(value).as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn floats_read_as_gos() {
        for (float, in_json, short) in [
            (5.0, "5", "5"),
            (-0.5, "-0.5", "-0.5"),
            (0.000_001, "0.000001", "1e-06"),
            (1.5e-7, "1.5e-7", "1.5e-07"),
            (1_234_567.5, "1234567.5", "1.2345675e+06"),
            (1e16, "10000000000000000", "1e+16"),
            (1e20, "100000000000000000000", "1e+20"),
            (-18_446_744_073_709_551_616.0, "-18446744073709552000", "-1.8446744073709552e+19"),
            (1e21, "1e+21", "1e+21"),
            (1.25e300, "1.25e+300", "1.25e+300"),
        ] {
            assert_eq!((json(float), shortest(float)), (in_json.to_owned(), short.to_owned()));
        }
        assert_eq!(shortest_single(0.1), "0.1");
    }

    #[test]
    fn trees_are_written_with_them() {
        let mut out = b"x".to_vec();
        write_json(&mut out, &json!({"a": [1e20, 2.0, 3, "1e20"]})).expect("encodes");
        assert_eq!(out, br#"x{"a":[100000000000000000000,2,3,"1e20"]}"#);
    }
}
