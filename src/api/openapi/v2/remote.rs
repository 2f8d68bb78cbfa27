//! OpenAPI v2 documents of other servers: what concerns one group and version is kept of them, and added to the document of all. Pure.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use bytes::Bytes;
use serde_json::{Map, Value, json};

const REFERENCE: &str = "#/definitions/";

/// A document with only the paths below `prefix` (such as `/apis/example.com/v1/`) and the definitions that these need.
///
/// # Errors
/// When it is no JSON object.
pub fn cut(document: &[u8], prefix: &str) -> Result<Bytes, String> {
    let mut document: Value = serde_json::from_slice(document).map_err(|error| error.to_string())?;
    let fields = document.as_object_mut().ok_or("no JSON object")?;
    let Some(Value::Object(mut paths)) = fields.remove("paths") else { return Err("it names no paths".into()) };
    let whole = prefix.trim_end_matches('/');
    paths.retain(|path, _| path.starts_with(prefix) || path == whole);
    let definitions = match fields.remove("definitions") {
        Some(Value::Object(definitions)) => definitions,
        _ => Map::new(),
    };
    let mut wanted = BTreeSet::new();
    let mut open: Vec<String> = Vec::new();
    paths.values().for_each(|item| references(item, &mut open));
    while let Some(name) = open.pop() {
        if wanted.contains(&name) {
            continue;
        }
        if let Some(definition) = definitions.get(&name) {
            references(definition, &mut open);
        }
        wanted.insert(name);
    }
    let mut definitions = definitions;
    definitions.retain(|name, _| wanted.contains(name));
    Ok(json!({"paths": paths, "definitions": definitions}).to_string().into())
}

/// Adds such a document to that of all. Definitions of one name that say something else get another name; paths that are there stay.
pub fn add(document: &[u8], paths: &mut Map<String, Value>, definitions: &mut Map<String, Value>) {
    // It was made here.
    let Ok(Value::Object(mut fields)) = serde_json::from_slice(document) else { return };
    let mut renamed = HashMap::new();
    let found = match fields.remove("definitions") {
        Some(Value::Object(found)) => found,
        _ => Map::new(),
    };
    for (name, definition) in &found {
        if definitions.get(name).is_some_and(|known| !says_the_same(known, definition)) {
            let free = (2..).map(|number| format!("{name}_v{number}")).find(|free| !definitions.contains_key(free) && !found.contains_key(free));
            renamed.extend(free.map(|free| (name.clone(), free)));
        }
    }
    for (name, mut definition) in found {
        rename(&mut definition, &renamed);
        let name = renamed.get(&name).cloned().unwrap_or(name);
        definitions.entry(name).or_insert(definition);
    }
    if let Some(Value::Object(found)) = fields.remove("paths") {
        for (path, mut item) in found {
            rename(&mut item, &renamed);
            paths.entry(path).or_insert(item);
        }
    }
}

/// Whether two definitions have the same fields of the same types; what is said of them in words, and by extensions, does not count.
fn says_the_same(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Object(one), Value::Object(other)) => {
            let counts = |(name, _): &(&String, &Value)| !matches!(&***name, "description" | "default") && !name.starts_with("x-");
            let (one, other): (BTreeMap<_, _>, BTreeMap<_, _>) = (one.iter().filter(counts).collect(), other.iter().filter(counts).collect());
            one.len() == other.len() && one.iter().all(|(name, value)| other.get(name).is_some_and(|other| says_the_same(value, other)))
        }
        (Value::Array(one), Value::Array(other)) => one.len() == other.len() && one.iter().zip(other).all(|(one, other)| says_the_same(one, other)),
        _ => one == other,
    }
}

/// The definitions that are named in a value. Documents nest no deeper than the decoder lets them.
fn references(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                match (&**name, value) {
                    ("$ref", Value::String(target)) => found.extend(target.strip_prefix(REFERENCE).map(str::to_owned)),
                    _ => references(value, found),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| references(item, found)),
        _ => {}
    }
}

fn rename(value: &mut Value, names: &HashMap<String, String>) {
    if names.is_empty() {
        return;
    }
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                if let ("$ref", Value::String(target)) = (&**name, &mut *value) {
                    if let Some(new) = target.strip_prefix(REFERENCE).and_then(|target| names.get(target)) {
                        *target = format!("{REFERENCE}{new}");
                    }
                    continue;
                }
                rename(value, names);
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| rename(item, names)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document() -> Value {
        json!({"swagger": "2.0", "paths": {
            "/apis/example.com/v1/": {"get": {"responses": {"200": {"schema": {"$ref": "#/definitions/a.List"}}}}},
            "/apis/example.com/v1/as": {"get": {}}, "/apis/example.com/v1beta1/as": {"get": {"schema": {"$ref": "#/definitions/b"}}}, "/version/": {},
        }, "definitions": {
            "a.List": {"properties": {"items": {"type": "array", "items": {"$ref": "#/definitions/a"}}}},
            "a": {"description": "one", "properties": {"self": {"$ref": "#/definitions/a"}}}, "b": {},
        }})
    }

    #[test]
    fn a_document_is_cut_down_to_one_version_and_what_it_needs() {
        let kept = cut(document().to_string().as_bytes(), "/apis/example.com/v1/").expect("a document");
        let kept: Value = serde_json::from_slice(&kept).expect("JSON");
        let names = |field: &str| kept[field].as_object().expect("fields").keys().cloned().collect::<Vec<_>>();
        assert_eq!(names("paths"), ["/apis/example.com/v1/", "/apis/example.com/v1/as"]);
        assert_eq!(names("definitions"), ["a", "a.List"]);
        assert!(cut(b"[]", "/apis/").is_err() && cut(b"{}", "/apis/").is_err());
    }

    #[test]
    fn definitions_that_say_something_else_are_renamed_wherever_they_are_named() {
        let kept = cut(document().to_string().as_bytes(), "/apis/example.com/v1/").expect("a document");
        let mut same = Map::from_iter([("a".to_owned(), json!({"description": "another", "properties": {"self": {"$ref": "#/definitions/a"}}}))]);
        add(&kept, &mut Map::new(), &mut same);
        assert_eq!(same.keys().collect::<Vec<_>>(), ["a", "a.List"]);
        let mut other = Map::from_iter([("a".to_owned(), json!({"properties": {"more": {"type": "string"}}})), ("a_v2".to_owned(), json!({}))]);
        let mut paths = Map::from_iter([("/apis/example.com/v1/as".to_owned(), json!("kept"))]);
        add(&kept, &mut paths, &mut other);
        assert_eq!(other["a.List"]["properties"]["items"]["items"]["$ref"], "#/definitions/a_v3");
        assert_eq!(other["a_v3"]["properties"]["self"]["$ref"], "#/definitions/a_v3");
        assert_eq!(paths["/apis/example.com/v1/as"], "kept");
    }
}
