//! Documents as text, with keys in the order that upstream's servers write them in: fields of a struct as kube-openapi declares them
//! (`pkg/spec3` and `pkg/validation/spec`), extensions behind them, names in maps sorted. Pure.
//!
//! A tree has all keys sorted. Which order they have follows from where they stand, so that no second tree is made of it.

use serde_json::{Map, Value};

use troupe_api::meta::floats;

/// What stands at a place of a document. A list has the form of its items.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Nobody's struct: keys are sorted.
    Any,
    /// A document of OpenAPI v3.
    Document,
    Info,
    Paths,
    PathItem,
    Operation,
    Parameter,
    RequestBody,
    Responses,
    Response,
    Content,
    MediaType,
    Components,
    SecuritySchemes,
    SecurityScheme,
    Schemas,
    Schema,
    /// Group, version and kind of an operation.
    Kind,
    /// `x-kubernetes-validations`
    Rules,
    /// A document of OpenAPI v2.
    Swagger,
    SwaggerPaths,
    SwaggerPathItem,
    SwaggerOperation,
    SwaggerParameters,
    SwaggerParameter,
    SwaggerResponses,
    SwaggerResponse,
    SwaggerSchemas,
    SwaggerSchema,
    SwaggerSecurityDefinitions,
    SwaggerSecurityScheme,
}

impl Form {
    /// The fields of a struct in their order, with the forms of their values; none of a map.
    fn fields(self) -> &'static [(&'static str, Form)] {
        match self {
            Form::Document => &[
                ("openapi", Form::Any),
                ("info", Form::Info),
                ("paths", Form::Paths),
                ("servers", Form::Any),
                ("components", Form::Components),
                ("security", Form::Any),
                ("externalDocs", Form::Any),
            ],
            Form::Info => &[
                ("description", Form::Any),
                ("title", Form::Any),
                ("termsOfService", Form::Any),
                ("contact", Form::Any),
                ("license", Form::Any),
                ("version", Form::Any),
            ],
            Form::PathItem => &[
                ("$ref", Form::Any),
                ("summary", Form::Any),
                ("description", Form::Any),
                ("get", Form::Operation),
                ("put", Form::Operation),
                ("post", Form::Operation),
                ("delete", Form::Operation),
                ("options", Form::Operation),
                ("head", Form::Operation),
                ("patch", Form::Operation),
                ("trace", Form::Operation),
                ("servers", Form::Any),
                ("parameters", Form::Parameter),
            ],
            Form::Operation => &[
                ("tags", Form::Any),
                ("summary", Form::Any),
                ("description", Form::Any),
                ("externalDocs", Form::Any),
                ("operationId", Form::Any),
                ("parameters", Form::Parameter),
                ("requestBody", Form::RequestBody),
                ("responses", Form::Responses),
                ("deprecated", Form::Any),
                ("security", Form::Any),
                ("servers", Form::Any),
                ("x-kubernetes-action", Form::Any),
                ("x-kubernetes-group-version-kind", Form::Kind),
            ],
            Form::Parameter => &[
                ("$ref", Form::Any),
                ("name", Form::Any),
                ("in", Form::Any),
                ("description", Form::Any),
                ("required", Form::Any),
                ("deprecated", Form::Any),
                ("allowEmptyValue", Form::Any),
                ("style", Form::Any),
                ("explode", Form::Any),
                ("allowReserved", Form::Any),
                ("schema", Form::Schema),
                ("content", Form::Content),
                ("example", Form::Any),
                ("examples", Form::Any),
            ],
            Form::RequestBody => &[("$ref", Form::Any), ("description", Form::Any), ("content", Form::Content), ("required", Form::Any)],
            Form::Responses => &[("default", Form::Response)],
            Form::Response => {
                &[("$ref", Form::Any), ("description", Form::Any), ("headers", Form::Any), ("content", Form::Content), ("links", Form::Any)]
            }
            Form::MediaType => &[("schema", Form::Schema), ("example", Form::Any), ("examples", Form::Any), ("encoding", Form::Any)],
            Form::Components => &[
                ("schemas", Form::Schemas),
                ("securitySchemes", Form::SecuritySchemes),
                ("responses", Form::Any),
                ("parameters", Form::Any),
                ("examples", Form::Any),
                ("requestBodies", Form::Any),
                ("links", Form::Any),
                ("headers", Form::Any),
            ],
            Form::SecurityScheme => &[
                ("$ref", Form::Any),
                ("type", Form::Any),
                ("description", Form::Any),
                ("name", Form::Any),
                ("in", Form::Any),
                ("scheme", Form::Any),
                ("bearerFormat", Form::Any),
                ("flows", Form::Any),
                ("openIdConnectUrl", Form::Any),
            ],
            Form::Schema => SCHEMA,
            Form::Kind => &[("group", Form::Any), ("version", Form::Any), ("kind", Form::Any)],
            Form::Rules => &[
                ("rule", Form::Any),
                ("message", Form::Any),
                ("messageExpression", Form::Any),
                ("reason", Form::Any),
                ("fieldPath", Form::Any),
                ("optionalOldSelf", Form::Any),
            ],
            _ => self.fields_of_swagger(),
        }
    }

    /// The same of what only documents of OpenAPI v2 have.
    fn fields_of_swagger(self) -> &'static [(&'static str, Form)] {
        match self {
            Form::Swagger => &[
                ("id", Form::Any),
                ("consumes", Form::Any),
                ("produces", Form::Any),
                ("schemes", Form::Any),
                ("swagger", Form::Any),
                ("info", Form::Info),
                ("host", Form::Any),
                ("basePath", Form::Any),
                ("paths", Form::SwaggerPaths),
                ("definitions", Form::SwaggerSchemas),
                ("parameters", Form::SwaggerParameters),
                ("responses", Form::SwaggerResponses),
                ("securityDefinitions", Form::SwaggerSecurityDefinitions),
                ("security", Form::Any),
                ("tags", Form::Any),
                ("externalDocs", Form::Any),
            ],
            Form::SwaggerPathItem => &[
                ("$ref", Form::Any),
                ("get", Form::SwaggerOperation),
                ("put", Form::SwaggerOperation),
                ("post", Form::SwaggerOperation),
                ("delete", Form::SwaggerOperation),
                ("options", Form::SwaggerOperation),
                ("head", Form::SwaggerOperation),
                ("patch", Form::SwaggerOperation),
                ("parameters", Form::SwaggerParameter),
            ],
            Form::SwaggerOperation => &[
                ("description", Form::Any),
                ("consumes", Form::Any),
                ("produces", Form::Any),
                ("schemes", Form::Any),
                ("tags", Form::Any),
                ("summary", Form::Any),
                ("externalDocs", Form::Any),
                ("operationId", Form::Any),
                ("deprecated", Form::Any),
                ("security", Form::Any),
                ("parameters", Form::SwaggerParameter),
                ("responses", Form::SwaggerResponses),
            ],
            Form::SwaggerParameter => SWAGGER_PARAMETER,
            Form::SwaggerResponses => &[("default", Form::SwaggerResponse)],
            Form::SwaggerResponse => {
                &[("$ref", Form::Any), ("description", Form::Any), ("schema", Form::SwaggerSchema), ("headers", Form::Any), ("examples", Form::Any)]
            }
            Form::SwaggerSchema => SWAGGER_SCHEMA,
            Form::SwaggerSecurityScheme => &[
                ("description", Form::Any),
                ("type", Form::Any),
                ("name", Form::Any),
                ("in", Form::Any),
                ("flow", Form::Any),
                ("authorizationUrl", Form::Any),
                ("tokenUrl", Form::Any),
                ("scopes", Form::Any),
            ],
            _ => &[],
        }
    }

    /// The form of what stands behind the fields: what a map holds, and extensions.
    fn others(self) -> Form {
        match self {
            Form::Paths => Form::PathItem,
            Form::Responses => Form::Response,
            Form::Content => Form::MediaType,
            Form::SecuritySchemes => Form::SecurityScheme,
            Form::Schemas => Form::Schema,
            Form::SwaggerPaths => Form::SwaggerPathItem,
            Form::SwaggerParameters => Form::SwaggerParameter,
            Form::SwaggerResponses => Form::SwaggerResponse,
            Form::SwaggerSchemas => Form::SwaggerSchema,
            Form::SwaggerSecurityDefinitions => Form::SwaggerSecurityScheme,
            _ => Form::Any,
        }
    }

    /// The form of a field behind the others.
    fn other(self, name: &str) -> Form {
        if self == Form::Schema && name == "x-kubernetes-validations" { Form::Rules } else { self.others() }
    }
}

/// The fields of a schema; `$of` and `$map` are the forms of schemas within it and of maps to such.
macro_rules! schema_fields {
    ($of:expr, $map:expr) => {
        &[
            ("id", Form::Any),
            ("description", Form::Any),
            ("type", Form::Any),
            ("nullable", Form::Any),
            ("format", Form::Any),
            ("title", Form::Any),
            ("default", Form::Any),
            ("maximum", Form::Any),
            ("exclusiveMaximum", Form::Any),
            ("minimum", Form::Any),
            ("exclusiveMinimum", Form::Any),
            ("maxLength", Form::Any),
            ("minLength", Form::Any),
            ("pattern", Form::Any),
            ("maxItems", Form::Any),
            ("minItems", Form::Any),
            ("uniqueItems", Form::Any),
            ("multipleOf", Form::Any),
            ("enum", Form::Any),
            ("maxProperties", Form::Any),
            ("minProperties", Form::Any),
            ("required", Form::Any),
            ("items", $of),
            ("allOf", $of),
            ("oneOf", $of),
            ("anyOf", $of),
            ("not", $of),
            ("properties", $map),
            ("additionalProperties", $of),
            ("patternProperties", $map),
            ("dependencies", $map),
            ("additionalItems", $of),
            ("definitions", $map),
            ("discriminator", Form::Any),
            ("readOnly", Form::Any),
            ("externalDocs", Form::Any),
            ("example", Form::Any),
            ("$schema", Form::Any),
            ("$ref", Form::Any),
        ]
    };
}

const SCHEMA: &[(&str, Form)] = schema_fields!(Form::Schema, Form::Schemas);
const SWAGGER_SCHEMA: &[(&str, Form)] = schema_fields!(Form::SwaggerSchema, Form::SwaggerSchemas);

const SWAGGER_PARAMETER: &[(&str, Form)] = &[
    ("maximum", Form::Any),
    ("exclusiveMaximum", Form::Any),
    ("minimum", Form::Any),
    ("exclusiveMinimum", Form::Any),
    ("maxLength", Form::Any),
    ("minLength", Form::Any),
    ("pattern", Form::Any),
    ("maxItems", Form::Any),
    ("minItems", Form::Any),
    ("uniqueItems", Form::Any),
    ("multipleOf", Form::Any),
    ("enum", Form::Any),
    ("type", Form::Any),
    ("nullable", Form::Any),
    ("format", Form::Any),
    ("items", Form::Any),
    ("collectionFormat", Form::Any),
    ("default", Form::Any),
    ("example", Form::Any),
    ("description", Form::Any),
    ("name", Form::Any),
    ("in", Form::Any),
    ("required", Form::Any),
    ("schema", Form::SwaggerSchema),
    ("allowEmptyValue", Form::Any),
    ("$ref", Form::Any),
];

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
    let known = form.fields();
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
