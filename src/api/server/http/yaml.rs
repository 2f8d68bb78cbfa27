//! YAML replies, made from their JSON.
//!
//! A document is made as a whole. A list, of whatever length, is made item by item: a tree takes many times the memory of its text.

use serde_json::Value;
use troupe_api::schema::to_yaml;

/// A document.
pub fn document(json: &[u8]) -> Vec<u8> {
    let value: Value = serde_json::from_slice(json).unwrap_or(Value::Null);
    text(&value)
}

/// The beginning of a list, from the JSON up to the `[` of its items; what follows begins with a line end.
pub fn list_head(json: &[u8]) -> Vec<u8> {
    let whole = [json, b"]}"].concat();
    let mut value: Value = serde_json::from_slice(&whole).unwrap_or(Value::Null);
    let fields = value.as_object_mut();
    let items = fields.and_then(|fields| ["items", "rows"].into_iter().find(|name| fields.remove(*name).is_some())).unwrap_or("items");
    let mut out = text(&value);
    out.extend_from_slice(items.as_bytes());
    out.push(b':');
    out
}

/// An item, behind the head and others.
pub fn list_item(json: &[u8], out: &mut Vec<u8>) {
    let value: Value = serde_json::from_slice(json).unwrap_or(Value::Null);
    // A list within an object is not indented.
    out.extend(text(&Value::Array(vec![value])));
}

/// What follows the head of a list.
pub fn list_end(is_empty: bool) -> &'static [u8] {
    if is_empty { b" []\n" } else { b"" }
}

fn text(value: &Value) -> Vec<u8> {
    to_yaml(value).into_bytes()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn parsed(yaml: &[u8]) -> Value {
        serde_norway::from_slice(yaml).expect("is YAML")
    }

    #[test]
    fn a_list_made_piece_by_piece_is_the_list() {
        let head = br#"{"kind":"ConfigMapList","apiVersion":"v1","metadata":{"resourceVersion":"7"},"items":["#;
        let items = [json!({"data": {"a": "x\ny\n- z", "b": "", "c": "'"}, "l": [[1], {}]}), json!({}), json!({"n": null})];
        let mut out = list_head(head);
        for (at, item) in items.iter().enumerate() {
            if at == 0 {
                out.push(b'\n');
            }
            list_item(item.to_string().as_bytes(), &mut out);
        }
        out.extend(list_end(false));
        let want = json!({"kind": "ConfigMapList", "apiVersion": "v1", "metadata": {"resourceVersion": "7"}, "items": items});
        assert_eq!(parsed(&out), want);
    }

    #[test]
    fn a_list_without_items_says_so() {
        let mut out = list_head(br#"{"kind":"Table","columnDefinitions":[{"name":"a"}],"rows":["#);
        out.extend(list_end(true));
        assert_eq!(parsed(&out), json!({"kind": "Table", "columnDefinitions": [{"name": "a"}], "rows": []}));
    }
}
