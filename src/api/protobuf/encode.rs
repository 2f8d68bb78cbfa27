//! JSON trees as protobuf messages, in the order and with the zero values that Go's generated code writes.

use std::borrow::Cow;

use base64::{Engine, prelude::BASE64_STANDARD};
use serde_json::{Map, Value};

use super::union::Union;
use crate::{
    meta::rfc3339,
    schema::{Field, Kind, Node, Schemas, Struct},
    wire::{put_bytes, put_double, put_message, put_number},
};

const META: &str = "apimachinery.pkg.apis.meta.v1";

/// Appends an object of `definition`.
pub fn object(definition: &Struct, object: &Map<String, Value>, out: &mut Vec<u8>) {
    fields(definition, definition.wire_order(), 0, object, out);
}

/// Appends the metadata of a list as the field that it is.
pub fn list_meta(metadata: &Value, out: &mut Vec<u8>) {
    metadata_field("ListMeta", metadata, out);
}

/// Appends the message of a `PartialObjectMetadata`.
pub fn partial(metadata: &Value, out: &mut Vec<u8>) {
    metadata_field("ObjectMeta", metadata, out);
}

fn metadata_field(name: &str, metadata: &Value, out: &mut Vec<u8>) {
    let definition = Schemas::builtin().definition(&format!("{META}.{name}")).expect("the tables hold metadata");
    put_message(1, out, |out| object(&definition, metadata.as_object().unwrap_or(&Map::new()), out));
}

/// Appends the fields at `order`; `depth` numbers of theirs belong to the messages around, which JSON has inline.
fn fields(definition: &Struct, order: &[usize], depth: usize, object: &Map<String, Value>, out: &mut Vec<u8>) {
    let mut rest = order;
    while let Some(first) = rest.first() {
        let field = &definition.fields()[*first];
        let number = field.numbers[depth];
        if field.numbers.len() == depth + 1 {
            put_field(definition, field, number, object.get(&*field.name), out);
            rest = &rest[1..];
            continue;
        }
        let inside = |at: &&usize| {
            let numbers = &definition.fields()[**at].numbers;
            numbers.len() > depth + 1 && numbers[depth] == number
        };
        let (inner, outer) = rest.split_at(rest.iter().take_while(inside).count());
        put_message(number, out, |out| fields(definition, inner, depth + 1, object, out));
        rest = outer;
    }
}

fn put_field(definition: &Struct, field: &Field, number: u32, value: Option<&Value>, out: &mut Vec<u8>) {
    let union = Union::of(definition, field);
    let value = value.filter(|value| !value.is_null());
    match (&field.node.kind, value) {
        (Kind::List(item), Some(Value::Array(items))) if is_wrapped(definition, field) => put_items_message(number, item, items, out),
        (Kind::List(item), Some(Value::Array(items))) => items.iter().for_each(|value| put(number, item, None, Some(value), out)),
        (Kind::Map(item), Some(Value::Object(entries))) => {
            for (key, value) in entries {
                put_message(number, out, |out| {
                    put_bytes(1, key.as_bytes(), out);
                    put(2, item, union, Some(value), out);
                });
            }
        }
        (Kind::List(_) | Kind::Map(_), _) => {}
        (_, None) if field.pointer => {}
        (_, value) => put(number, &field.node, union, value, out),
    }
}

/// A list that Go has a named type for, which is a message of its own.
fn is_wrapped(definition: &Struct, field: &Field) -> bool {
    &*field.name == "verbs" && &*definition.name == "APIResource"
}

fn put_items_message(number: u32, item: &Node, items: &[Value], out: &mut Vec<u8>) {
    put_message(number, out, |out| items.iter().for_each(|value| put(1, item, None, Some(value), out)));
}

/// Appends one value; what is absent stands as its type's zero.
fn put(number: u32, node: &Node, union: Option<Union>, value: Option<&Value>, out: &mut Vec<u8>) {
    let text = || value.and_then(Value::as_str).unwrap_or_default();
    match &node.kind {
        Kind::String => put_bytes(number, text().as_bytes(), out),
        // Go tells nil from empty.
        Kind::Bytes if value.is_none() => {}
        Kind::Bytes => put_bytes(number, &BASE64_STANDARD.decode(text()).unwrap_or_default(), out),
        Kind::Int32 | Kind::Int64 => put_number(number, integer(value), out),
        Kind::Bool => put_number(number, u64::from(value.and_then(Value::as_bool).unwrap_or_default()), out),
        Kind::Double => put_double(number, value.and_then(Value::as_f64).unwrap_or_default(), out),
        Kind::IntOrString => put_message(number, out, |out| int_or_string(value, out)),
        Kind::Quantity => put_message(number, out, |out| put_bytes(1, quantity(value).as_bytes(), out)),
        Kind::Time => put_message(number, out, |out| time(text(), |_| 0, out)),
        Kind::MicroTime => put_message(number, out, |out| time(text(), |nanos| nanos - nanos % 1000, out)),
        Kind::Duration => put_message(number, out, |out| put_number(1, crate::expressions::go_duration(text()).unwrap_or(0).cast_unsigned(), out)),
        Kind::Any => put_message(number, out, |out| any(union, value, out)),
        Kind::Struct(definition) => {
            let empty = Map::new();
            put_message(number, out, |out| object(definition.get(), value.and_then(Value::as_object).unwrap_or(&empty), out));
        }
        // A list in a map (`userInfo.extra`) is wrapped in a message.
        Kind::List(item) => put_items_message(number, item, value.and_then(Value::as_array).map_or(&[], Vec::as_slice), out),
        Kind::Map(_) => {}
    }
}

/// Negative numbers go out in two's complement.
fn integer(value: Option<&Value>) -> u64 {
    value.and_then(|value| value.as_i64().map(i64::cast_unsigned).or_else(|| value.as_u64())).unwrap_or_default()
}

fn int_or_string(value: Option<&Value>, out: &mut Vec<u8>) {
    let text = value.and_then(Value::as_str);
    put_number(1, u64::from(text.is_some()), out);
    put_number(2, integer(value), out);
    put_bytes(3, text.unwrap_or_default().as_bytes(), out);
}

fn quantity(value: Option<&Value>) -> Cow<'_, str> {
    match value {
        Some(Value::String(text)) => text.as_str().into(),
        Some(Value::Number(number)) => number.to_string().into(),
        _ => "0".into(),
    }
}

/// Go's zero time is an empty message.
fn time(text: &str, nanos: impl FnOnce(i64) -> i64, out: &mut Vec<u8>) {
    let Some((seconds, fraction)) = rfc3339::unix(text) else { return };
    put_number(1, seconds.cast_unsigned(), out);
    put_number(2, nanos(i64::from(fraction)).cast_unsigned(), out);
}

fn any(union: Option<Union>, value: Option<&Value>, out: &mut Vec<u8>) {
    match (union, value) {
        (_, None) => {}
        (Some(union), Some(value)) => union.write(value, out, object),
        (None, Some(value)) => put_bytes(1, value.to_string().as_bytes(), out),
    }
}
