//! OpenAPI v2 documents of other servers: what concerns one group and version is kept of them, and added to the document of all. Pure.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
};

use bytes::Bytes;
use serde::{
    Deserialize, Deserializer,
    de::{self, MapAccess, Visitor},
};
use serde_json::{Map, Value, json, value::RawValue};
use troupe_api::{meta::limits::Meter, schema::decode::parse_json};

const REFERENCE: &str = "#/definitions/";
const PARAMETER: &str = "#/parameters/";
/// What is kept of one version's document, in bytes.
const LONGEST_KEPT: usize = 4 << 20;
/// Paths that a document names, and definitions.
const MOST_ENTRIES: usize = 50_000;

/// A document whose parts are not looked at yet: what a server tells in few bytes may be large in memory.
#[derive(Deserialize)]
struct Document<'a> {
    #[serde(borrow)]
    paths: Entries<'a>,
    #[serde(borrow, default)]
    definitions: Entries<'a>,
    #[serde(borrow, default)]
    parameters: Entries<'a>,
}

#[derive(Default)]
struct Entries<'a>(HashMap<String, &'a RawValue>);

impl<'de: 'a, 'a> Deserialize<'de> for Entries<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(EntriesVisitor).map(Entries)
    }
}

struct EntriesVisitor;

impl<'de> Visitor<'de> for EntriesVisitor {
    type Value = HashMap<String, &'de RawValue>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(HashMap::new())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Self::Value, A::Error> {
        let mut found = HashMap::new();
        while let Some((name, value)) = fields.next_entry::<String, &'de RawValue>()? {
            found.insert(name, value);
            if found.len() > MOST_ENTRIES {
                return Err(de::Error::custom(format_args!("more than {MOST_ENTRIES} paths or definitions")));
            }
        }
        Ok(found)
    }
}

/// Reads parts of a document, up to what is kept of one.
struct Reader {
    left: usize,
    meter: Meter,
}

impl Reader {
    fn read(&mut self, part: &RawValue) -> Result<Value, String> {
        let text = part.get();
        self.left = self.left.checked_sub(text.len()).ok_or_else(|| format!("the document of this version has more than {LONGEST_KEPT} bytes"))?;
        parse_json(text.as_bytes(), &mut self.meter).map(|raw| raw.into_value()).map_err(|error| error.to_string())
    }
}

/// A document with only the paths below `prefix` (such as `/apis/example.com/v1/`) and the definitions that these need.
///
/// # Errors
/// When it is no JSON object, or what is needed is too much.
pub fn cut(document: &[u8], prefix: &str) -> Result<Bytes, String> {
    let Document { paths: Entries(found), definitions: Entries(known), parameters: Entries(shared) } =
        serde_json::from_slice(document).map_err(|error| error.to_string())?;
    let whole = prefix.trim_end_matches('/');
    let mut reader = Reader { left: LONGEST_KEPT, meter: Meter::new(LONGEST_KEPT) };
    let (mut paths, mut definitions, mut open) = (Map::new(), Map::new(), Vec::new());
    for (path, item) in found.into_iter().filter(|(path, _)| path.starts_with(prefix) || path == whole) {
        let mut item = reader.read(item)?;
        inline(&mut item, &shared, &mut reader)?;
        references(&item, &mut open);
        paths.insert(path, item);
    }
    while let Some(name) = open.pop() {
        let Some(definition) = known.get(&name).filter(|_| !definitions.contains_key(&name)) else { continue };
        let definition = reader.read(definition)?;
        references(&definition, &mut open);
        definitions.insert(name, definition);
    }
    Ok(json!({"paths": paths, "definitions": definitions}).to_string().into())
}

/// Puts parameters that stand once in a document where they are referred to. Each is read anew, so that it counts each time.
fn inline(item: &mut Value, shared: &HashMap<String, &RawValue>, reader: &mut Reader) -> Result<(), String> {
    for (name, part) in item.as_object_mut().into_iter().flatten() {
        let parameters = if name == "parameters" { Some(part) } else { part.get_mut("parameters") };
        for parameter in parameters.and_then(Value::as_array_mut).into_iter().flatten() {
            let target = parameter["$ref"].as_str().and_then(|target| target.strip_prefix(PARAMETER));
            if let Some(found) = target.and_then(|name| shared.get(name)) {
                *parameter = reader.read(found)?;
            }
        }
    }
    Ok(())
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
    fn what_is_large_in_memory_is_not_read_where_nobody_needs_it_and_refused_where_somebody_does() {
        let bomb = format!("[{}{{}}]", "{},".repeat(1 << 20));
        let unneeded = format!(r#"{{"swagger": "2.0", "x-more": {bomb}, "paths": {{"/apis/a/v1/as": {{}}}}, "definitions": {{"b": {bomb}}}}}"#);
        let kept: Value = serde_json::from_slice(&cut(unneeded.as_bytes(), "/apis/a/v1/").expect("is cut")).expect("JSON");
        assert_eq!(kept, json!({"paths": {"/apis/a/v1/as": {}}, "definitions": {}}));
        let needed = format!(r##"{{"paths": {{"/apis/a/v1/as": {{"$ref": "#/definitions/b"}}}}, "definitions": {{"b": {bomb}}}}}"##);
        assert!(cut(needed.as_bytes(), "/apis/a/v1/").expect_err("is too large").contains("too large in memory"));
        let long = format!(r#"{{"paths": {{"/apis/a/v1/as": {{"description": "{}"}}}}}}"#, "x".repeat(LONGEST_KEPT));
        assert!(cut(long.as_bytes(), "/apis/a/v1/").expect_err("is too long").contains("more than"));
        let paths: Vec<String> = (0..=MOST_ENTRIES).map(|at| format!(r#""/{at}":{{}}"#)).collect();
        assert!(cut(format!(r#"{{"paths": {{{}}}}}"#, paths.join(",")).as_bytes(), "/apis/").is_err());
    }

    #[test]
    fn shared_parameters_stand_where_they_are_taken() {
        let [pretty, limit] = ["pretty", "limit"].map(|name| json!({"name": name, "in": "query", "type": "string"}));
        let references = json!([{"$ref": "#/parameters/pretty-1"}, {"$ref": "#/parameters/gone"}, limit]);
        let document = json!({
            "paths": {"/apis/a/v1/as": {"parameters": references, "get": {"parameters": references}}}, "parameters": {"pretty-1": pretty},
        });
        let kept: Value = serde_json::from_slice(&cut(document.to_string().as_bytes(), "/apis/a/v1/").expect("is cut")).expect("JSON");
        let item = &kept["paths"]["/apis/a/v1/as"];
        assert_eq!(item["parameters"], json!([pretty, {"$ref": "#/parameters/gone"}, limit]));
        assert_eq!(item["get"]["parameters"], item["parameters"]);
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
