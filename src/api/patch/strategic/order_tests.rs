//! The order of merged lists against a slow reference: each list of a few items with each patch of a few.

use serde_json::json;

use super::*;
use crate::{meta::GroupVersionKind, schema::Schemas};

/// What tells items apart: their name, or themselves.
fn identity(item: &Value) -> &Value {
    item.get("name").unwrap_or(item)
}

fn place(list: &[Value], item: &Value) -> Option<usize> {
    list.iter().position(|other| identity(other) == identity(item))
}

/// As the proposal on preserving order has it: what `order` names comes in its order, the rest in that of `live`; then each of
/// the rest goes, from where the last went, before the first that `live` has behind it.
fn in_order(items: Vec<Value>, order: &[Value], live: &[Value]) -> Vec<Value> {
    let (mut all, mut rest): (Vec<Value>, Vec<Value>) = items.into_iter().partition(|item| place(order, item).is_some());
    all.sort_by_key(|item| place(order, item));
    rest.sort_by_key(|item| place(live, item));
    let mut from = 0;
    for item in rest {
        let is_behind = |other: &Value| matches!((place(live, &item), place(live, other)), (Some(own), Some(others)) if own < others);
        let at = (from..all.len()).find(|at| is_behind(&all[*at])).unwrap_or(all.len());
        all.insert(at, item);
        from = at + 1;
    }
    all
}

/// What a list of maps with a `name` and an `image` is after a patch.
fn of_maps(live: &[Value], patch: &[Value], order: Option<&[Value]>) -> Vec<Value> {
    let told: Vec<Value> = patch.iter().filter(|item| item.get(PATCH).is_none()).cloned().collect();
    if live.is_empty() {
        return order.map_or(told.clone(), |order| in_order(told, order, &[]));
    }
    let has =
        |directive: &str, name: Option<&Value>| patch.iter().any(|item| item[PATCH] == directive && name.is_none_or(|name| &item["name"] == name));
    let replaced = has("replace", None);
    let kept: Vec<Value> = live.iter().filter(|item| !has("delete", Some(&item["name"]))).cloned().collect();
    let gone = if replaced { 0 } else { live.len() - kept.len() };
    let (kept, told) = if replaced { (told, Vec::new()) } else { (kept, told) };
    let mut merged = kept.clone();
    for item in &told {
        match place(&merged, item) {
            Some(at) => merged[at]["image"] = item["image"].clone(),
            None => merged.push(item.clone()),
        }
    }
    // Where items were deleted, as many new ones count as having been there, at the end.
    let live: Vec<Value> = merged.iter().take(kept.len() + gone).cloned().collect();
    let merged = in_order(merged, &told, &kept);
    order.map_or(merged.clone(), |order| in_order(merged, order, &live))
}

/// What a list of scalars is after a patch.
fn of_scalars(live: &[Value], patch: &[Value], order: Option<&[Value]>) -> Vec<Value> {
    let mut union: Vec<Value> = live.to_vec();
    union.extend(patch.iter().cloned());
    if !live.is_empty() {
        union = union.iter().enumerate().filter(|(at, item)| place(&union, item) == Some(*at)).map(|(_, item)| item.clone()).collect();
        union = in_order(union, patch, live);
    }
    order.map_or(union.clone(), |order| in_order(union, order, live))
}

/// All lists of at most so many of these, repetitions among them.
fn lists(of: &[Value], length: usize) -> Vec<Vec<Value>> {
    let mut all = vec![Vec::new()];
    let mut last = 0;
    for _ in 0..length {
        let end = all.len();
        for at in last..end {
            for item in of {
                let longer = all[at].iter().chain([item]).cloned().collect();
                all.push(longer);
            }
        }
        last = end;
    }
    all
}

fn is_unique(list: &[Value]) -> bool {
    list.iter().enumerate().all(|(at, item)| place(list, item) == Some(at))
}

/// Orders that go with a patch: none, that of its items, and with the other items of before in front, behind and in between. Of
/// maps they name the keys alone.
fn orders(live: &[Value], patch: &[Value]) -> Vec<Option<Vec<Value>>> {
    let named: Vec<Value> = patch.iter().filter(|item| item.get(PATCH).is_none()).cloned().collect();
    if !is_unique(&named) {
        return vec![None];
    }
    let others: Vec<Value> = live.iter().rev().filter(|item| place(patch, item).is_none()).cloned().collect();
    let first = others.iter().chain(&named).cloned().collect();
    let behind = named.iter().chain(&others).cloned().collect();
    let between = named.iter().take(1).chain(&others).chain(named.iter().skip(1)).cloned().collect();
    let bare = |item: &Value| item.get("name").map_or_else(|| item.clone(), |name| json!({"name": name}));
    let all: [Vec<Value>; 4] = [named, first, behind, between];
    let told = all.iter().filter(|order| !order.is_empty()).map(|order| Some(order.iter().map(bare).collect()));
    [None].into_iter().chain(told).collect()
}

/// Compares the field `name` of `part`, a field of pods, with the reference; returns how many cases there were.
fn compare(
    (part, name): (&str, &str),
    lives: &[Vec<Value>],
    patches: &[Vec<Value>],
    reference: impl Fn(&[Value], &[Value], Option<&[Value]>) -> Vec<Value>,
) -> usize {
    let schema = Schemas::builtin().get(&GroupVersionKind::new("", "v1", "Pod")).expect("a built-in kind");
    let node = schema.root.child(part).expect("a field of pods");
    let mut cases = 0;
    for live in lives {
        let original = if live.is_empty() { json!({}) } else { json!({ name: live }) };
        for patch in patches {
            for order in orders(live, patch) {
                let mut whole = json!({ name: patch });
                if let Some(order) = &order {
                    whole[format!("{ELEMENT_ORDER}{name}")] = json!(order);
                }
                let got = apply(original.clone(), whole.clone(), node).expect("applies");
                assert_eq!(got[name], json!(reference(live, patch, order.as_deref())), "{original} patched with {whole}");
                cases += 1;
            }
        }
    }
    cases
}

#[test]
fn lists_of_maps_come_in_the_order_of_the_reference() {
    let item = |name: &str, image: &str| json!({"name": name, "image": image});
    let delete = |name: &str| json!({"name": name, PATCH: "delete"});
    let old = ["a", "b", "c"].map(|name| item(name, "old"));
    let steps =
        [item("a", "new"), item("c", "new"), item("d", "new"), item("e", "new"), delete("a"), delete("b"), delete("d"), json!({PATCH: "replace"})];
    let lives: Vec<Vec<Value>> = lists(&old, 3).into_iter().filter(|live| is_unique(live)).collect();
    let cases = compare(("spec", "containers"), &lives, &lists(&steps, 3), of_maps);
    assert!(cases > 20_000, "{cases}");
}

#[test]
fn lists_of_scalars_come_in_the_order_of_the_reference() {
    let scalars = |names: &[&str]| names.iter().map(|name| json!(name)).collect::<Vec<_>>();
    let cases = compare(("metadata", "finalizers"), &lists(&scalars(&["a", "b", "c"]), 3), &lists(&scalars(&["a", "c", "d", "e"]), 3), of_scalars);
    assert!(cases > 5_000, "{cases}");
}

/// The field `name` of `part` of a pod after a patch, items by their names: such as begin with `-` are deleted.
fn after((part, name, key): (&str, &str, Option<&str>), live: &str, patch: &str, order: Option<&str>) -> String {
    let item = |text: &str| key.map_or_else(|| json!(text), |key| json!({ key: text }));
    let listed = |text: &str| text.split_whitespace().map(item).collect::<Vec<_>>();
    let (mut items, mut unwanted) = (Vec::new(), Vec::new());
    for text in patch.split_whitespace() {
        match (text.strip_prefix('-'), key) {
            (Some(gone), Some(key)) => items.push(json!({key: gone, PATCH: "delete"})),
            (Some(gone), None) => unwanted.push(json!(gone)),
            (None, _) => items.push(item(text)),
        }
    }
    let mut whole = json!({});
    if !items.is_empty() {
        whole[name] = json!(items);
    }
    if !unwanted.is_empty() {
        whole[format!("{DELETE_PRIMITIVES}{name}")] = json!(unwanted);
    }
    if let Some(order) = order {
        whole[format!("{ELEMENT_ORDER}{name}")] = json!(listed(order));
    }
    let schema = Schemas::builtin().get(&GroupVersionKind::new("", "v1", "Pod")).expect("a built-in kind");
    let node = schema.root.child(part).expect("a field of pods");
    let got = apply(json!({ name: listed(live) }), whole, node).expect("applies");
    let text = |item: &Value| key.map_or(item, |key| &item[key]).as_str().expect("a name").to_owned();
    got[name].as_array().expect("a list").iter().map(text).collect::<Vec<_>>().join(" ")
}

/// What upstream makes of these, worked out by its code.
#[test]
fn conditions_come_in_upstreams_order() {
    for (live, patch, order, right) in [
        // Without an order, what is there keeps its place, and what is new comes in front of what the patch does not name.
        ("a b c", "b", None, "a b c"),
        ("a b c", "a c", None, "a b c"),
        ("a b c", "d", None, "d a b c"),
        ("a b c", "c d", None, "a b c d"),
        ("a b c", "d c", None, "d a b c"),
        ("a b c", "c a", None, "b c a"),
        ("a b c", "e d", None, "e d a b c"),
        ("a b c", "-b", None, "a c"),
        ("a b c", "-a d", None, "d b c"),
        ("a b c", "-a a", None, "a b c"),
        // An order says where what is new comes.
        ("a b c", "d", Some("a b c d"), "a b c d"),
        ("a b c", "d", Some("d c"), "d a b c"),
        ("a b c", "d", Some("a d"), "a d b c"),
        ("a b c", "", Some("c a"), "b c a"),
        ("a b c", "b", Some("c b"), "a c b"),
        ("a b c", "-b d", Some("a c d"), "a c d"),
        ("a b c", "d -a", Some("d c"), "b d c"),
        ("", "b a", Some("b a"), "b a"),
    ] {
        assert_eq!(after(("status", "conditions", Some("type")), live, patch, order), right, "{live:?} patched with {patch:?} in order {order:?}");
    }
}

#[test]
fn finalizers_come_in_upstreams_order() {
    for (live, patch, order, right) in [
        ("a b", "c", None, "c a b"),
        ("a b", "b c", None, "a b c"),
        ("a b", "c a", None, "c a b"),
        ("a b c", "c a", None, "b c a"),
        ("a b", "-a", None, "b"),
        ("a b", "c", Some("a b c"), "a b c"),
        ("a b", "c", Some("a c"), "a c b"),
        ("a b", "", Some("b a"), "b a"),
        ("a b", "c -a", Some("c b"), "c b"),
    ] {
        assert_eq!(after(("metadata", "finalizers", None), live, patch, order), right, "{live:?} patched with {patch:?} in order {order:?}");
    }
}
