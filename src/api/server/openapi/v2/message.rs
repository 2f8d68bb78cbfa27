//! The document as the protobuf message of gnostic's `openapi.v2.Document`.

use serde_json::{Map, Value};
use troupe_api::wire::{put_bytes, put_message, put_number};

/// The media type.
pub const MEDIA_TYPE: &str = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";

/// Encodes a v2 document.
pub fn message(document: &Value) -> Vec<u8> {
    let (mut out, fields) = (Vec::with_capacity(1 << 20), Fields(document));
    fields.text("swagger", 1, &mut out);
    fields.inner("info", 2, &mut out, |info, out| {
        info.text("title", 1, out);
        info.text("version", 2, out);
    });
    fields.inner("paths", 8, &mut out, |paths, out| paths.named(2, out, path_item));
    fields.inner("definitions", 9, &mut out, |definitions, out| definitions.named(1, out, schema));
    fields.inner("parameters", 10, &mut out, |parameters, out| parameters.named(1, out, parameter));
    fields.each("security", 12, &mut out, |requirement, out| requirement.named(1, out, |_, _| {}));
    fields.inner("securityDefinitions", 13, &mut out, |definitions, out| {
        // Tokens are an `apiKey`, the second kind of security.
        definitions.named(1, out, |definition, out| put_message(2, out, |out| api_key(definition, out)));
    });
    out
}

fn api_key(definition: Fields<'_>, out: &mut Vec<u8>) {
    definition.text("type", 1, out);
    definition.text("name", 2, out);
    definition.text("in", 3, out);
    definition.text("description", 4, out);
}

fn path_item(item: Fields<'_>, out: &mut Vec<u8>) {
    for (method, number) in [("get", 2), ("put", 3), ("post", 4), ("delete", 5), ("options", 6), ("head", 7), ("patch", 8)] {
        item.inner(method, number, out, operation);
    }
    item.each("parameters", 9, out, taken);
}

fn operation(operation: Fields<'_>, out: &mut Vec<u8>) {
    operation.texts("tags", 1, out);
    operation.text("description", 3, out);
    operation.text("operationId", 5, out);
    operation.texts("produces", 6, out);
    operation.texts("consumes", 7, out);
    operation.each("parameters", 8, out, taken);
    operation.inner("responses", 9, out, |responses, out| {
        responses.named(1, out, |response, out| put_message(1, out, |out| self::response(response, out)))
    });
    operation.texts("schemes", 10, out);
    operation.extensions(13, out);
}

fn response(response: Fields<'_>, out: &mut Vec<u8>) {
    response.text("description", 1, out);
    response.inner("schema", 2, out, |schema, out| put_message(1, out, |out| self::schema(schema, out)));
}

/// A parameter or a reference to one.
fn taken(taken: Fields<'_>, out: &mut Vec<u8>) {
    if taken.get("$ref").is_string() {
        return put_message(2, out, |out| taken.text("$ref", 1, out));
    }
    put_message(1, out, |out| parameter(taken, out));
}

/// A parameter in the messages that say where it stands: body, query or path.
fn parameter(parameter: Fields<'_>, out: &mut Vec<u8>) {
    match parameter.get("in").as_str() {
        Some("body") => put_message(1, out, |out| {
            parameter.text("description", 1, out);
            parameter.text("name", 2, out);
            parameter.text("in", 3, out);
            parameter.flag("required", 4, out);
            parameter.inner("schema", 5, out, schema);
        }),
        Some("path") => put_message(2, out, |out| put_message(4, out, |out| simple_parameter(parameter, 5, out))),
        _ => put_message(2, out, |out| put_message(3, out, |out| simple_parameter(parameter, 6, out))),
    }
}

/// `first` is the number of the type; the fields behind it follow in the same order for every place.
fn simple_parameter(parameter: Fields<'_>, first: u32, out: &mut Vec<u8>) {
    parameter.flag("required", 1, out);
    parameter.text("in", 2, out);
    parameter.text("description", 3, out);
    parameter.text("name", 4, out);
    parameter.text("type", first, out);
    parameter.text("format", first + 1, out);
    parameter.flag("uniqueItems", first + 14, out);
}

fn schema(schema: Fields<'_>, out: &mut Vec<u8>) {
    schema.text("$ref", 1, out);
    schema.text("format", 2, out);
    schema.text("description", 4, out);
    schema.texts("required", 19, out);
    for value in schema.get("enum").as_array().into_iter().flatten() {
        put_message(20, out, |out| yaml(value, out));
    }
    schema.inner("additionalProperties", 21, out, |item, out| put_message(1, out, |out| self::schema(item, out)));
    if let Some(name) = schema.get("type").as_str() {
        put_message(22, out, |out| put_bytes(1, name.as_bytes(), out));
    }
    schema.inner("items", 23, out, |item, out| put_message(1, out, |out| self::schema(item, out)));
    schema.inner("properties", 25, out, |properties, out| properties.named(1, out, self::schema));
    schema.extensions(31, out);
}

/// Any value, as YAML.
fn yaml(value: &Value, out: &mut Vec<u8>) {
    put_bytes(2, value.to_string().as_bytes(), out);
}

/// The fields of a JSON object on their way into a message.
#[derive(Clone, Copy)]
struct Fields<'a>(&'a Value);

impl<'a> Fields<'a> {
    fn get(self, name: &str) -> &'a Value {
        self.0.get(name).unwrap_or(&Value::Null)
    }

    fn entries(self) -> impl Iterator<Item = (&'a String, &'a Value)> {
        self.0.as_object().into_iter().flat_map(Map::iter)
    }

    fn text(self, name: &str, number: u32, out: &mut Vec<u8>) {
        if let Some(text) = self.get(name).as_str() {
            put_bytes(number, text.as_bytes(), out);
        }
    }

    fn texts(self, name: &str, number: u32, out: &mut Vec<u8>) {
        self.get(name).as_array().into_iter().flatten().filter_map(Value::as_str).for_each(|text| put_bytes(number, text.as_bytes(), out));
    }

    fn flag(self, name: &str, number: u32, out: &mut Vec<u8>) {
        if self.get(name) == &Value::Bool(true) {
            put_number(number, 1, out);
        }
    }

    fn inner(self, name: &str, number: u32, out: &mut Vec<u8>, write: impl FnOnce(Fields<'a>, &mut Vec<u8>)) {
        let value = self.get(name);
        if value.is_object() {
            put_message(number, out, |out| write(Fields(value), out));
        }
    }

    fn each(self, name: &str, number: u32, out: &mut Vec<u8>, write: impl Fn(Fields<'a>, &mut Vec<u8>)) {
        self.get(name).as_array().into_iter().flatten().for_each(|item| put_message(number, out, |out| write(Fields(item), out)));
    }

    /// A map, as a list of names with their values.
    fn named(self, number: u32, out: &mut Vec<u8>, write: impl Fn(Fields<'a>, &mut Vec<u8>)) {
        for (name, value) in self.entries() {
            put_message(number, out, |out| {
                put_bytes(1, name.as_bytes(), out);
                put_message(2, out, |out| write(Fields(value), out));
            });
        }
    }

    /// The fields that begin with `x-`, each as YAML.
    fn extensions(self, number: u32, out: &mut Vec<u8>) {
        for (name, value) in self.entries().filter(|(name, _)| name.starts_with("x-")) {
            put_message(number, out, |out| {
                put_bytes(1, name.as_bytes(), out);
                put_message(2, out, |out| yaml(value, out));
            });
        }
    }
}
