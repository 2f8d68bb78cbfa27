//! What a component is: since when it runs, of which version, and where else it answers. Pure.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{Facts, head};

pub const DEPRECATED: &str = "This version of the statusz endpoint is deprecated. Please use a newer version.";
/// What is there for clients, not for who looks for an error.
const NOT_LISTED: [&str; 5] = ["/apis", "/api", "/openid", "/openapi", "/.well-known"];

/// The object's own fields.
pub fn fields(facts: &Facts, now: Timestamp) -> Value {
    json!({
        "startTime": facts.started.to_string(),
        "uptimeSeconds": uptime(facts, now),
        "goVersion": facts.version.go_version,
        "binaryVersion": binary_version(facts),
        "emulationVersion": emulation_version(facts),
        "paths": folders(&facts.paths),
    })
}

pub fn text(facts: &Facts, now: Timestamp, delimiter: &str) -> String {
    let up = uptime(facts, now);
    let lines = [
        ("Started", facts.started.strftime("%a %b %e %H:%M:%S UTC %Y").to_string()),
        ("Up", format!("{} hr {:02} min {:02} sec", up / 3600, up / 60 % 60, up % 60)),
        ("Go version", facts.version.go_version.clone()),
        ("Binary version", binary_version(facts).to_owned()),
        ("Emulation version", emulation_version(facts)),
        ("Paths", folders(&facts.paths).into_iter().collect::<Vec<_>>().join(" ")),
    ];
    let lines = lines.map(|(name, value)| format!("{name}{delimiter} {value}\n"));
    format!("{}\n{}", head(facts.name, "statusz"), lines.concat())
}

fn uptime(facts: &Facts, now: Timestamp) -> i64 {
    now.as_second().saturating_sub(facts.started.as_second()).max(0)
}

fn binary_version(facts: &Facts) -> &str {
    facts.version.git_version.trim_start_matches('v')
}

fn emulation_version(facts: &Facts) -> String {
    format!("{}.{}", facts.version.emulation_major, facts.version.emulation_minor)
}

/// The first parts of paths.
fn folders(paths: &[String]) -> BTreeSet<String> {
    let first = |path: &String| Some(format!("/{}", path.split('/').nth(1).filter(|first| !first.is_empty())?));
    paths.iter().filter_map(first).filter(|folder| !NOT_LISTED.contains(&folder.as_str())).collect()
}
