//! Upstream's wording of what checks find.

use std::collections::BTreeSet;

/// `"a", "b"`
pub fn quoted<'a>(items: impl IntoIterator<Item = &'a str>) -> String {
    items.into_iter().map(|item| format!("\"{item}\"")).collect::<Vec<_>>().join(", ")
}

/// `quoted`, in order and each once.
pub fn quoted_set(items: &BTreeSet<&str>) -> String {
    quoted(items.iter().copied())
}

pub fn plural<'a>(one: &'a str, many: &'a str, count: usize) -> &'a str {
    if count == 1 { one } else { many }
}

/// `container "a"`, `containers "a", "b"`
pub fn containers(names: &[&str]) -> String {
    format!("{} {}", plural("container", "containers", names.len()), quoted(names.iter().copied()))
}

/// `pod and containers "a", "b"`: who sets what is forbidden; `None` where nobody does.
pub fn setters(pod: bool, names: &[&str]) -> Option<String> {
    match (pod, names) {
        (false, []) => None,
        (true, []) => Some("pod".to_owned()),
        (true, names) => Some(format!("pod and {}", containers(names))),
        (false, names) => Some(containers(names)),
    }
}
