//! `troupe trace KIND/NAME`: the causal chain of an object through all processes, from the API write to what came of it.

use std::collections::BTreeSet;

use anyhow::{Result, bail};
use clap::Args;
use serde_json::Value;

use crate::{config::Config, lookup, remote::Remote, up::doors};

/// Steps shown of an object that much happens to.
const SHOWN: usize = 400;

/// What `troupe trace` shows.
#[derive(Debug, Args)]
pub struct TraceArgs {
    /// The object, such as pod/web-1 or deployment/web
    object: String,
    /// Its namespace
    #[arg(long, short, default_value = "default")]
    namespace: String,
    /// All steps that are known, not the newest few hundred alone
    #[arg(long)]
    all: bool,
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
    let answer = remote.get_json(&format!("{}?resource={resource}&namespace={namespace}&name={name}", doors::TRACE)).await?;
    for silent in answer["silent"].as_array().into_iter().flatten() {
        eprintln!("{} does not answer, its steps are missing: {}", silent["process"].as_str().unwrap_or("?"), silent["why"].as_str().unwrap_or("?"));
    }
    let steps = answer["steps"].as_array().cloned().unwrap_or_default();
    if steps.is_empty() {
        bail!("nothing is recorded about {kind}/{name} any more (or yet)");
    }
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&steps)?);
    } else {
        let left_out = if arguments.all { 0 } else { steps.len().saturating_sub(SHOWN) };
        if left_out > 0 {
            eprintln!("{left_out} earlier steps are left out; --all shows them");
        }
        print!("{}", table(&steps[left_out..]));
    }
    Ok(())
}

/// One line a step; the process only where there are several.
fn table(steps: &[Value]) -> String {
    let processes: BTreeSet<&str> = steps.iter().filter_map(|step| step["process"].as_str()).collect();
    let width = if processes.len() > 1 { processes.iter().map(|name| name.len()).max().unwrap_or(0).max(7) + 2 } else { 0 };
    let place = |name: &str| if width == 0 { String::new() } else { format!("{name:<width$}") };
    let mut out = format!("{:>10}  {:>9}  {:>9}  {}STEP\n", "AT", "WAITED", "TOOK", place("PROCESS"));
    let first = steps.first().and_then(|step| step["atUs"].as_i64()).unwrap_or(0);
    for step in steps {
        let at = u64::try_from(step["atUs"].as_i64().unwrap_or(first) - first).unwrap_or(0);
        let (waited, took) = (time(step["waitedUs"].as_u64().unwrap_or(0)), time(step["handledUs"].as_u64().unwrap_or(0)));
        out.push_str(&format!("{:>10}  {waited:>9}  {took:>9}  {}{}\n", time(at), place(step["process"].as_str().unwrap_or("")), describe(step)));
    }
    out
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

fn time(us: u64) -> String {
    match us {
        0..10_000 => format!("{us} µs"),
        10_000..10_000_000 => format!("{:.1} ms", us as f64 / 1e3),
        _ => format!("{:.1} s", us as f64 / 1e6),
    }
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

    #[test]
    fn the_process_is_told_where_there_are_several() {
        let step =
            |process: &str, at: i64| json!({"process": process, "atUs": at, "handledUs": 20_000, "from": "outside", "to": "x", "message": "M"});
        let alone = table(&[step("up@one", 5), step("up@one", 12)]);
        assert!(!alone.contains("up@one") && alone.contains("7 µs") && alone.contains("20.0 ms"), "{alone}");
        let several = table(&[step("control-plane@one", 5), step("node@two", 12_000_005)]);
        assert!(several.contains("PROCESS") && several.contains("node@two") && several.contains("12.0 s"), "{several}");
    }
}
