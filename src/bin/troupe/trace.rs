//! `troupe trace KIND/NAME`: the causal chain of an object, from the API write to what came of it.

use anyhow::{Result, bail};
use clap::Args;
use serde_json::Value;

use crate::{config::Config, lookup, remote::Remote, up::doors};

/// What `troupe trace` shows.
#[derive(Debug, Args)]
pub struct TraceArgs {
    /// The object, such as pod/web-1 or deployment/web
    object: String,
    /// Its namespace
    #[arg(long, short, default_value = "default")]
    namespace: String,
    /// The steps as JSON
    #[arg(long)]
    json: bool,
}

/// Prints the chain.
pub async fn run(config: &Config, arguments: &TraceArgs) -> Result<()> {
    let (kind, name) = lookup::split(&arguments.object)?;
    let remote = Remote::open(&config.kubeconfig)?;
    let resource = lookup::find(&remote, kind).await?;
    let namespace = if resource.namespaced { arguments.namespace.as_str() } else { "" };
    let resource = resource.group_resource();
    let steps = remote.get_json(&format!("{}?resource={resource}&namespace={namespace}&name={name}", doors::TRACE)).await?;
    let steps = steps.as_array().cloned().unwrap_or_default();
    if steps.is_empty() {
        bail!("nothing is recorded about {kind}/{name} any more (or yet)");
    }
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&steps)?);
        return Ok(());
    }
    println!("{:>10}  {:>9}  {:>9}  STEP", "AT", "WAITED", "TOOK");
    for step in &steps {
        println!("{:>10}  {:>9}  {:>9}  {}", time(&step["atUs"]), time(&step["waitedUs"]), time(&step["handledUs"]), describe(step));
    }
    Ok(())
}

fn describe(step: &Value) -> String {
    let text = |field: &str| step[field].as_str().unwrap_or("");
    let (from, to) = (short(text("from")), short(text("to")));
    let mut line = if from.is_empty() || from == "outside" { to.to_owned() } else { format!("{from} → {to}") };
    line.push_str(&format!("  {}", text("message")));
    if !text("object").is_empty() {
        line.push_str(&format!("  because of {}", text("object")));
    }
    if !text("produced").is_empty() {
        line.push_str(&format!("  wrote {}", text("produced")));
    }
    if !matches!(text("outcome"), "" | "done") {
        line.push_str(&format!("  {}", text("outcome").to_uppercase()));
    }
    line
}

/// An actor's path without the uid that may end it.
fn short(path: &str) -> &str {
    match path.rsplit_once('/') {
        Some((start, end)) if end.len() == 36 && end.matches('-').count() == 4 => start,
        _ => path,
    }
}

fn time(value: &Value) -> String {
    let us = value.as_u64().unwrap_or(0);
    if us < 10_000 { format!("{us} µs") } else { format!("{:.1} ms", us as f64 / 1000.0) }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_step_reads_from_sender_to_receiver_without_uids() {
        let step = json!({"from": "kubelet/pods/default/web/9cb956bc-0cee-472d-a84d-94810a8a0571", "to": "containerd", "message": "StartContainer",
            "object": "pods default/web@7", "outcome": "failed"});
        assert_eq!(describe(&step), "kubelet/pods/default/web → containerd  StartContainer  because of pods default/web@7  FAILED");
        assert_eq!(describe(&json!({"from": "outside", "to": "apiserver/pods", "message": "Commit", "outcome": "done"})), "apiserver/pods  Commit");
    }
}
