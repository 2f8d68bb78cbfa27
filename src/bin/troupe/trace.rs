//! `troupe trace KIND/NAME`: the causal chain of an object, from the API write to what came of it.

use anyhow::{Context, Result, bail};
use clap::Args;
use serde_json::Value;

use crate::{config::Config, remote::Remote, up::doors};

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
    let (kind, name) = arguments.object.split_once('/').with_context(|| format!("{} is not of the form KIND/NAME", arguments.object))?;
    let remote = Remote::open(&config.kubeconfig)?;
    let (resource, namespaced) = find_resource(&remote, kind).await?;
    let namespace = if namespaced { arguments.namespace.as_str() } else { "" };
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
    let mut line =
        if text("from").is_empty() || text("from") == "outside" { text("to").to_owned() } else { format!("{} → {}", text("from"), text("to")) };
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

fn time(value: &Value) -> String {
    let us = value.as_u64().unwrap_or(0);
    if us < 10_000 { format!("{us} µs") } else { format!("{:.1} ms", us as f64 / 1000.0) }
}

/// The resource behind a kind, plural, singular or short name, as `plural.group`, and whether it is namespaced.
async fn find_resource(remote: &Remote, word: &str) -> Result<(String, bool)> {
    let groups = remote.get_json("/apis").await?;
    let mut paths = vec!["/api/v1".to_owned()];
    let preferred = groups["groups"].as_array().into_iter().flatten().filter_map(|group| group["preferredVersion"]["groupVersion"].as_str());
    paths.extend(preferred.map(|version| format!("/apis/{version}")));
    let wanted = word.to_lowercase();
    for path in paths {
        let list = remote.get_json(&path).await?;
        for resource in list["resources"].as_array().into_iter().flatten() {
            let is = |field: &str| resource[field].as_str().is_some_and(|text| text.to_lowercase() == wanted);
            let short = resource["shortNames"].as_array().into_iter().flatten().any(|name| name.as_str() == Some(&wanted));
            let plural = resource["name"].as_str().unwrap_or("");
            if plural.contains('/') || !(is("name") || is("singularName") || is("kind") || short) {
                continue;
            }
            let group = path.strip_prefix("/apis/").and_then(|gv| gv.split('/').next());
            let name = group.map_or_else(|| plural.to_owned(), |group| format!("{plural}.{group}"));
            return Ok((name, resource["namespaced"] == true));
        }
    }
    bail!("the server knows no resource called {word}")
}
