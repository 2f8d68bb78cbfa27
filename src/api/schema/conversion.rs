//! Values of the wrong type in an object that a strategic merge patch made, in upstream's words: it decodes no JSON there
//! but converts a tree to a Go type, which takes other values and fails with other texts.

use serde_json::{Number, Value};

use super::{
    node::{Kind, Node},
    raw::Raw,
};
use crate::meta::floats;

/// An integer out of a number: one with a fraction of nothing is one as well.
pub(super) fn integer(number: &Number) -> Option<i64> {
    let float = number.as_f64().filter(|float| float.fract() == 0.0 && float.abs() < 2f64.powi(53));
    // Within 53 bits nothing is cut off.
    number.as_i64().or(float.map(|float| float as i64))
}

/// Why `raw` cannot become what `node` says.
pub(super) fn mismatch(node: &Node, raw: &Raw) -> String {
    let given = kind_of(raw);
    let wanted = match &node.kind {
        Kind::Struct(_) => return format!("cannot restore struct from: {given}"),
        Kind::Map(_) => return format!("cannot restore map from {given}"),
        Kind::List(_) | Kind::Bytes => return format!("cannot restore slice from {given}"),
        Kind::Int32 => "int32",
        Kind::Int64 => "int64",
        Kind::Double => "float64",
        Kind::Bool => "bool",
        _ => "string",
    };
    // Go converts between numbers, and makes a character of an integer: that is where it says what cannot be.
    let related = match raw {
        Raw::Number(number) => wanted.starts_with("int") || (wanted == "string" && number.is_i64()),
        _ => false,
    };
    if related { format!("cannot convert {given} to {wanted}") } else { format!("unrecognized type: {wanted}") }
}

fn kind_of(raw: &Raw) -> &'static str {
    match raw {
        Raw::Null => "invalid",
        Raw::Bool(_) => "bool",
        Raw::Number(number) if number.is_i64() => "int64",
        Raw::Number(_) => "float64",
        Raw::String(_) => "string",
        Raw::List(_) => "slice",
        Raw::Object(_) => "map",
    }
}

/// A tree as Go prints it (`%+v`).
pub fn printed(value: &Value) -> String {
    let mut text = String::new();
    print(value, &mut text);
    text
}

fn print(value: &Value, text: &mut String) {
    match value {
        Value::Null => text.push_str("<nil>"),
        Value::Bool(flag) => text.push_str(if *flag { "true" } else { "false" }),
        Value::Number(number) => text.push_str(&printed_number(number)),
        Value::String(string) => text.push_str(string),
        Value::Array(items) => {
            text.push('[');
            for (at, item) in items.iter().enumerate() {
                text.push_str(if at == 0 { "" } else { " " });
                print(item, text);
            }
            text.push(']');
        }
        Value::Object(fields) => {
            text.push_str("map[");
            for (at, (name, value)) in fields.iter().enumerate() {
                text.push_str(if at == 0 { "" } else { " " });
                text.push_str(name);
                text.push(':');
                print(value, text);
            }
            text.push(']');
        }
    }
}

fn printed_number(number: &Number) -> String {
    let float = match (number.as_i64(), number.as_f64()) {
        (None, Some(float)) => float,
        _ => return number.to_string(),
    };
    floats::shortest(float)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn trees_print_as_in_go() {
        let tree = json!({"b": [1, "x y", {"c": null}], "a": true, "f": 2.5, "whole": 3.0, "big": 1234567.5, "small": 0.00001, "int": 1234567});
        assert_eq!(printed(&tree), "map[a:true b:[1 x y map[c:<nil>]] big:1.2345675e+06 f:2.5 int:1234567 small:1e-05 whole:3]");
        assert_eq!(printed(&json!({})), "map[]");
    }

    #[test]
    fn only_whole_numbers_are_integers() {
        let read = |text: &str| integer(&text.parse().expect("a number"));
        assert_eq!([read("7"), read("-2.0"), read("2.5"), read("1e300")], [Some(7), Some(-2), None, None]);
    }
}
