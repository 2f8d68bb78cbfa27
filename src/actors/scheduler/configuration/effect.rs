//! Settings that mean nothing to this scheduler are refused, unless they say what it does in any case.

use serde_json::{Value, json};

/// What upstream takes for nothing said.
fn is_unset(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::Bool(is) => !is,
        _ => false,
    }
}

/// Refuses what would have no effect.
///
/// # Errors
/// Naming the first such field.
pub fn check(configuration: &Value) -> Result<(), String> {
    let election = &configuration["leaderElection"];
    let elected = [
        ("leaseDuration", json!("15s")),
        ("renewDeadline", json!("10s")),
        ("retryPeriod", json!("2s")),
        ("resourceLock", json!("leases")),
        ("resourceName", json!("kube-scheduler")),
        ("resourceNamespace", json!("kube-system")),
    ];
    for (field, fixed) in elected {
        if !is_unset(&election[field]) && election[field] != fixed {
            return Err(format!("leaderElection.{field} has no effect: it is always {fixed}"));
        }
    }
    if election["leaderElect"] == false {
        return Err("leaderElection.leaderElect has no effect: the scheduler always stands for election".into());
    }
    let connection = &configuration["clientConnection"];
    for field in ["kubeconfig", "acceptContentTypes", "contentType", "qps", "burst"] {
        if !is_unset(&connection[field]) {
            return Err(format!("clientConnection.{field} has no effect: the daemon's own options say how it reaches the API server"));
        }
    }
    for field in ["enableProfiling", "enableContentionProfiling"] {
        if configuration[field] == true {
            return Err(format!("{field} has no effect: there is no profiling here"));
        }
    }
    Ok(())
}
