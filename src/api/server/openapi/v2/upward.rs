//! OpenAPI v2 in the words of v3, for servers that have no v3 documents. What v2 cannot say is lost already. Pure.

use serde_json::{Map, Value, json};
use troupe_api::meta::limits::{OBJECT, tree_cost};

use super::object;

/// Copies of schemas, which stand once for all media types in v2, as their trees cost.
const COPIES: usize = 16 << 20;

/// The v3 document of a v2 document.
///
/// # Errors
/// When it is no JSON object.
pub fn convert(document: &[u8]) -> Result<Vec<u8>, String> {
    let document: Value = serde_json::from_slice(document).map_err(|error| error.to_string())?;
    let mut fields = object(document);
    let schemas: Map<_, _> = object(fields.remove("definitions").unwrap_or_default()).into_iter().map(|(name, one)| (name, schema(one))).collect();
    let mut room = COPIES;
    let paths: Map<_, _> =
        object(fields.remove("paths").unwrap_or_default()).into_iter().map(|(path, item)| (path, path_item(item, &mut room))).collect();
    let info = json!({"title": "Kubernetes", "version": "unversioned"});
    let made = json!({"openapi": "3.0.0", "info": info, "paths": paths, "components": {"schemas": schemas}});
    serde_json::to_vec(&made).map_err(|error| error.to_string())
}

/// References lead elsewhere, and stand alone beside what is said of them.
fn schema(value: Value) -> Value {
    match value {
        Value::Object(fields) => {
            let fields: Map<_, _> = fields
                .into_iter()
                .map(|(name, value)| match (&*name, value) {
                    ("$ref", Value::String(target)) => (name, target.replace("#/definitions/", "#/components/schemas/").into()),
                    (_, value) => (name, schema(value)),
                })
                .collect();
            fields.into()
        }
        Value::Array(items) => items.into_iter().map(schema).collect(),
        value => value,
    }
}

fn path_item(item: Value, room: &mut usize) -> Value {
    let convert = |(name, value): (String, Value)| match (&*name, value) {
        ("parameters", Value::Array(parameters)) => (name, parameters.into_iter().map(parameter).collect()),
        (_, value @ Value::Object(_)) => (name, operation(value, room)),
        (_, value) => (name, value),
    };
    object(item).into_iter().map(convert).collect::<Map<_, _>>().into()
}

/// The type of a parameter stands in its schema.
fn parameter(value: Value) -> Value {
    const OWN: [&str; 6] = ["name", "in", "description", "required", "schema", "$ref"];
    let (mut own, mut rest) = (Map::new(), Map::new());
    for (name, value) in object(value) {
        if OWN.contains(&&*name) || name.starts_with("x-") {
            own.insert(name, value)
        } else {
            rest.insert(name, value)
        };
    }
    if !rest.is_empty() {
        own.insert("schema".into(), schema(rest.into()));
    }
    own.into()
}

fn operation(value: Value, room: &mut usize) -> Value {
    let mut fields = object(value);
    let media_types = |list: Option<Value>| -> Vec<String> {
        let list = list.and_then(|list| list.as_array().cloned()).unwrap_or_default();
        list.iter().filter_map(Value::as_str).map(str::to_owned).collect()
    };
    let (consumes, produces) = (media_types(fields.remove("consumes")), media_types(fields.remove("produces")));
    let parameters = fields.remove("parameters").and_then(|parameters| parameters.as_array().cloned()).unwrap_or_default();
    let (bodies, others): (Vec<_>, Vec<_>) = parameters.into_iter().partition(|parameter| parameter["in"] == "body");
    if !others.is_empty() {
        fields.insert("parameters".into(), others.into_iter().map(parameter).collect());
    }
    if let Some(mut body) = bodies.into_iter().next() {
        let content = content(&consumes, schema(body["schema"].take()), room);
        fields.insert("requestBody".into(), json!({"content": content, "required": body["required"] == true}));
    }
    let responses = object(fields.remove("responses").unwrap_or_default());
    let responses: Map<_, _> = responses
        .into_iter()
        .map(|(code, response)| {
            let mut response = Value::Object(object(response));
            let mut made = json!({"description": response["description"].take()});
            if response["schema"].is_object() {
                made["content"] = content(&produces, schema(response["schema"].take()), room).into();
            }
            (code, made)
        })
        .collect();
    fields.insert("responses".into(), responses.into());
    fields.into()
}

/// The same schema for each media type; for the first of them where there is no room for more.
fn content(media_types: &[String], schema: Value, room: &mut usize) -> Map<String, Value> {
    let any = ["*/*".to_owned()];
    let media_types = if media_types.is_empty() { &any[..] } else { media_types };
    let cost = OBJECT + tree_cost(&schema);
    let copies = (media_types.len() - 1).min(*room / cost);
    *room -= copies * cost;
    media_types[..=copies].iter().map(|media_type| (media_type.clone(), json!({"schema": schema}))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_responses_and_references_stand_where_v3_has_them() {
        let reference = json!({"$ref": "#/definitions/a"});
        let document = json!({"definitions": {"a": {"properties": {"b": reference}}}, "paths": {"/as": {
            "parameters": [{"name": "pretty", "in": "query", "type": "string", "uniqueItems": true}],
            "post": {"consumes": ["application/json"], "produces": ["application/json", "application/yaml"],
                "parameters": [{"name": "body", "in": "body", "required": true, "schema": reference}],
                "responses": {"200": {"description": "OK", "schema": reference}, "401": {"description": "Unauthorized"}}},
        }}});
        let made: Value = serde_json::from_slice(&convert(document.to_string().as_bytes()).expect("a document")).expect("JSON");
        let new = json!({"$ref": "#/components/schemas/a"});
        assert_eq!(made["components"]["schemas"]["a"]["properties"]["b"], new);
        let item = &made["paths"]["/as"];
        assert_eq!(item["parameters"][0]["schema"], json!({"type": "string", "uniqueItems": true}));
        let post = &item["post"];
        assert_eq!(post["requestBody"], json!({"required": true, "content": {"application/json": {"schema": new}}}));
        assert_eq!(post["responses"]["200"]["content"]["application/yaml"]["schema"], new);
        assert_eq!(post["responses"]["401"], json!({"description": "Unauthorized"}));
        assert!(post.get("parameters").is_none() && post.get("consumes").is_none());
    }

    #[test]
    fn what_is_none_of_its_kind_breaks_nothing() {
        for odd in [json!(5), json!("x"), json!([1]), Value::Null] {
            let operation = json!({"parameters": [odd], "responses": {"200": odd}, "consumes": odd});
            let document =
                json!({"definitions": {"a": odd}, "paths": {"/as": {"get": operation, "parameters": [odd]}, "/bs": odd, "/cs": {"get": odd}}});
            let made: Value = serde_json::from_slice(&convert(document.to_string().as_bytes()).expect("a document")).expect("JSON");
            assert!(made["paths"]["/as"]["get"]["responses"]["200"].is_object(), "{made}");
        }
    }

    #[test]
    fn media_types_without_number_make_no_schemas_without_number() {
        let media_types: Vec<String> = (0..100_000).map(|at| format!("a/{at}")).collect();
        let large: Map<String, Value> = (0..1000).map(|at| (format!("p{at}"), json!({"type": "string"}))).collect();
        let body = json!({"name": "body", "in": "body", "schema": {"properties": large}});
        let document = json!({"paths": {"/as": {"post": {"consumes": media_types, "parameters": [body], "responses": {}}}}}).to_string();
        let made = convert(document.as_bytes()).expect("a document");
        assert!(made.len() < 4 << 20, "{}", made.len());
        let made: Value = serde_json::from_slice(&made).expect("JSON");
        assert!(made["paths"]["/as"]["post"]["requestBody"]["content"]["a/0"].is_object());
    }
}
