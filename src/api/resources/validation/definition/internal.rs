//! The form in which definitions are judged: what all versions share stands beside them, once.

use serde_json::Value;

use crate::resources::tree::{at, is_empty, items};

/// Fields of versions, and where they stand when all versions have the same.
const SHARED: [(&str, &str); 4] = [
    ("subresources", "subresources"),
    ("schema", "validation"),
    ("additionalPrinterColumns", "additionalPrinterColumns"),
    ("selectableFields", "selectableFields"),
];

/// The spec of a definition in that form.
pub(super) fn spec(spec: &Value) -> Value {
    let mut inner = spec.clone();
    conversion(&mut inner);
    let versions = items(spec, &["versions"]);
    let Some(first) = versions.first() else { return inner };
    inner["version"] = at(first, &["name"]).clone();
    for (field, place) in SHARED {
        if versions.iter().all(|version| is_same(version, first, field)) {
            inner[place] = at(first, &[field]).clone();
            for version in inner["versions"].as_array_mut().into_iter().flatten().filter_map(Value::as_object_mut) {
                version.remove(field);
            }
        }
    }
    inner
}

fn is_same(version: &Value, first: &Value, field: &str) -> bool {
    at(version, &[field]) == at(first, &[field]) || is_list(field) && is_empty(version, &[field]) && is_empty(first, &[field])
}

fn is_list(field: &str) -> bool {
    matches!(field, "additionalPrinterColumns" | "selectableFields")
}

/// The webhook's parts stand in the conversion itself.
fn conversion(inner: &mut Value) {
    let Some(conversion) = inner.get_mut("conversion").and_then(Value::as_object_mut) else { return };
    let webhook = conversion.remove("webhook").unwrap_or_default();
    for (field, place) in [("clientConfig", "webhookClientConfig"), ("conversionReviewVersions", "conversionReviewVersions")] {
        conversion.insert(place.to_owned(), at(&webhook, &[field]).clone());
    }
}
