//! Which actors have set an object aside because work on it failed again and again. Pure.

use serde_json::Value;

use super::{
    report::{Reason, Report},
    tree::text,
};

/// One reason for each actor that has set the object aside, from what the directory tells of all actors.
pub fn reasons(actors: &[Value], kind: &str, namespace: &str, name: &str) -> Vec<Reason> {
    let key = if namespace.is_empty() { name.to_owned() } else { format!("{namespace}/{name}") };
    let own = match kind {
        "Pod" => format!("kubelet/pods/{key}/"),
        "Service" => format!("proxy/services/{key}"),
        _ => String::new(),
    };
    let mut reasons = Vec::new();
    for actor in actors {
        let path = text(&actor["path"]);
        let status = &actor["status"];
        let told = if status["kind"] == kind { &status["quarantined"][&key] } else { &Value::Null };
        let whole = actor["state"] == "quarantined" && !own.is_empty() && path.starts_with(&own);
        let why = if whole { text(&actor["lastFailure"]) } else { text(told) };
        if whole || told.is_string() {
            let reason = Reason::new(format!("{path} has set it aside, because it failed on it again and again: {why}"));
            reasons.push(reason.hint("it is tried every five minutes, and at once when the object changes or troupe restarts"));
        }
    }
    reasons
}

/// Puts reasons at the head of a report.
pub fn prefixed(mut report: Report, reasons: Vec<Reason>) -> Report {
    if let (false, Some(state)) = (reasons.is_empty(), report.state.strip_suffix(": nothing is wrong")) {
        report.state = state.to_owned();
    }
    report.reasons.splice(0..0, reasons);
    report
}
