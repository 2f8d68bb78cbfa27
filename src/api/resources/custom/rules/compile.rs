//! From a schema as it was written to its rules.

use serde_json::Value;

use super::{Bounds, Junctors, Rules, Types};
use crate::{
    pattern::Kept,
    resources::tree::{at, flag, is_empty, items, text},
    schema::ListType,
};

impl Rules {
    /// The rules that an OpenAPI v3 schema states.
    pub fn new(schema: &Value) -> Self {
        let kept = Kept::default();
        let mut root = compile(schema, &kept);
        root.heaviest_pattern = kept.heaviest();
        // What every object has is judged by the server's own rules.
        root.properties = root.properties.into_iter().filter(|(name, _)| !matches!(&**name, "apiVersion" | "kind")).collect();
        root.embedded = false;
        root
    }
}

fn compile(schema: &Value, kept: &Kept) -> Rules {
    let inner = |name: &str| Some(at(schema, &[name])).filter(|inner| inner.is_object()).map(|inner| Box::new(compile(inner, kept)));
    let mut properties: Vec<(Box<str>, Rules)> =
        at(schema, &["properties"]).as_object().into_iter().flatten().map(|(name, inner)| (name.as_str().into(), compile(inner, kept))).collect();
    properties.sort_by(|a, b| a.0.cmp(&b.0));
    let types = if flag(schema, &["x-kubernetes-int-or-string"]) {
        Types::of("integer").with(Types::of("string"))
    } else {
        Types::of(text(schema, &["type"]))
    };
    let (values, items_rules, junctors) = (inner("additionalProperties"), inner("items"), junctors(schema, kept));
    let below = properties.iter().map(|(_, rules)| rules).chain(values.as_deref()).chain(items_rules.as_deref());
    let alternatives = below.map(|rules| rules.alternatives).sum::<usize>() + junctors.as_ref().map_or(0, |junctors| junctors.count());
    Rules {
        types,
        nullable: flag(schema, &["nullable"]),
        embedded: flag(schema, &["x-kubernetes-embedded-resource"]),
        required: items(schema, &["required"]).iter().filter_map(Value::as_str).map(Box::from).collect(),
        properties: properties.into(),
        values,
        items: items_rules,
        list: list_type(schema),
        bounds: Bounds::new(schema, kept).map(Box::new),
        junctors,
        alternatives,
        heaviest_pattern: 0,
    }
}

impl Junctors {
    /// The schemas in them, with those below.
    fn count(&self) -> usize {
        [&self.all, &self.any, &self.one].into_iter().flatten().chain(&self.not).map(|rules| 1 + rules.size()).sum()
    }
}

impl Rules {
    /// The schemas below this one.
    fn size(&self) -> usize {
        let below = self.properties.iter().map(|(_, rules)| rules).chain(self.values.as_deref()).chain(self.items.as_deref());
        below.map(|rules| 1 + rules.size()).sum::<usize>() + self.junctors.as_ref().map_or(0, |junctors| junctors.count())
    }
}

fn list_type(schema: &Value) -> ListType {
    match text(schema, &["x-kubernetes-list-type"]) {
        "set" => ListType::Set,
        "map" => ListType::Map(items(schema, &["x-kubernetes-list-map-keys"]).iter().filter_map(Value::as_str).map(Box::from).collect()),
        _ => ListType::Atomic,
    }
}

fn junctors(schema: &Value, kept: &Kept) -> Option<Box<Junctors>> {
    if ["allOf", "anyOf", "oneOf", "not"].iter().all(|name| is_empty(schema, &[name]) && !at(schema, &[name]).is_object()) {
        return None;
    }
    let listed = |name: &str| items(schema, &[name]).iter().map(|inner| compile(inner, kept)).collect();
    let not = Some(at(schema, &["not"])).filter(|inner| inner.is_object()).map(|inner| compile(inner, kept));
    Some(Box::new(Junctors { all: listed("allOf"), any: listed("anyOf"), one: listed("oneOf"), not }))
}
