//! Documents as text, with keys in the order that upstream's servers write them in: fields of a struct as kube-openapi declares them
//! (`pkg/spec3` and `pkg/validation/spec`), extensions behind them, names in maps sorted. Pure.
//!
//! A tree has all keys sorted. Which order they have follows from where they stand, so that no second tree is made of it.

mod fields;
mod form;

use serde_json::{Map, Value};
use troupe_api::meta::floats;

pub use self::form::Form;

/// A value of a form as JSON.
pub fn bytes(value: &Value, form: Form) -> Vec<u8> {
    let mut out = Vec::new();
    write(value, form, &mut out);
    out
}

fn write(value: &Value, form: Form, out: &mut Vec<u8>) {
    match value {
        Value::Object(fields) => object(fields, form, out),
        Value::Array(items) => {
            out.push(b'[');
            for (at, item) in items.iter().enumerate() {
                if at > 0 {
                    out.push(b',');
                }
                write(item, form, out);
            }
            out.push(b']');
        }
        Value::String(text) => string(text, out),
        scalar => floats::write_json(out, scalar).expect("null, a flag or a number is JSON"),
    }
}

fn object(fields: &Map<String, Value>, form: Form, out: &mut Vec<u8>) {
    let known = fields::of(form);
    let mut entries: Vec<(usize, &String, &Value)> =
        fields.iter().map(|(name, value)| (known.iter().position(|(known, _)| known == name).unwrap_or(known.len()), name, value)).collect();
    // Those that stand nowhere in the order stay sorted.
    entries.sort_by_key(|(place, ..)| *place);
    out.push(b'{');
    for (at, (place, name, value)) in entries.into_iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        string(name, out);
        out.push(b':');
        let form = known.get(place).map_or_else(|| form.other(name), |(_, form)| *form);
        write(value, form, out);
    }
    out.push(b'}');
}

/// A text as Go's `encoding/json` has it, safe within HTML.
fn string(text: &str, out: &mut Vec<u8>) {
    const ESCAPED: [char; 5] = ['<', '>', '&', '\u{2028}', '\u{2029}'];
    let start = out.len();
    floats::write_json(out, text).expect("text is JSON");
    if !text.contains(ESCAPED) {
        return;
    }
    let plain = out.split_off(start);
    for part in String::from_utf8_lossy(&plain).split_inclusive(ESCAPED) {
        match part.chars().next_back().filter(|last| ESCAPED.contains(last)) {
            Some(last) => {
                out.extend_from_slice(&part.as_bytes()[..part.len() - last.len_utf8()]);
                out.extend_from_slice(format!("\\u{:04x}", u32::from(last)).as_bytes());
            }
            None => out.extend_from_slice(part.as_bytes()),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn text(value: &Value, form: Form) -> String {
        String::from_utf8(bytes(value, form)).expect("is UTF-8")
    }

    #[test]
    fn fields_stand_as_they_are_declared_extensions_behind_them_and_names_sorted() {
        let schema = json!({
            "x-kubernetes-list-type": "atomic", "type": "object", "required": ["b"], "description": "A thing.", "default": {"b": 1, "a": 2},
            "properties": {"type": {"type": "string", "description": "A field."}, "b": {"items": {"type": "string", "default": ""}, "type": "array"}},
            "x-a": {"type": 1, "description": 2},
        });
        let written = r#"{"description":"A thing.","type":"object","default":{"a":2,"b":1},"required":["b"],"properties":{"b":{"type":"array","items":{"type":"string","default":""}},"type":{"description":"A field.","type":"string"}},"x-a":{"description":2,"type":1},"x-kubernetes-list-type":"atomic"}"#;
        assert_eq!(text(&schema, Form::Schema), written);
        let responses = json!({"401": {"description": "Unauthorized"}, "200": {"content": {"b": {}, "a": {}}, "description": "OK"}, "default": {}});
        let written = r#"{"default":{},"200":{"description":"OK","content":{"a":{},"b":{}}},"401":{"description":"Unauthorized"}}"#;
        assert_eq!(text(&responses, Form::Responses), written);
    }

    #[test]
    fn a_parameter_of_v2_begins_with_what_values_must_be_like() {
        let parameter = json!({"in": "query", "name": "pretty", "description": "Prints <nicely> & long.", "type": "string", "uniqueItems": true});
        let written = r#"{"uniqueItems":true,"type":"string","description":"Prints \u003cnicely\u003e \u0026 long.","name":"pretty","in":"query"}"#;
        assert_eq!(text(&parameter, Form::SwaggerParameter), written);
    }

    #[test]
    fn texts_and_numbers_read_as_gos() {
        let value = json!({"<": "a\u{2028}\"b\"\n", "large": 1e21, "none": null, "whole": 2.0});
        assert_eq!(text(&value, Form::Any), r#"{"\u003c":"a\u2028\"b\"\n","large":1e+21,"none":null,"whole":2}"#);
        let tree: Value = serde_json::from_slice(&bytes(&value, Form::Any)).expect("JSON");
        assert_eq!(tree["<"], value["<"]);
    }
}
