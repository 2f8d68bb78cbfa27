//! `troupe why KIND/NAME`: why an object is not what it should be, in plain words. It only reads the API, and asks the
//! pod's worker what it is at. Fetching is in [`facts`], explaining in pure functions.

mod containers;
mod denials;
mod device_search;
mod facts;
mod generic;
mod network_policy;
mod obstacles;
mod placement;
mod pod;
mod pod_group;
mod quarantine;
mod ranking;
mod refusals;
mod report;
mod resource_claim;
mod scheduling;
mod service;
mod storage;
mod terminating;
#[cfg(test)]
mod tests;
mod tree;
mod warnings;
mod workload;

use anyhow::{Context, Result, bail};
use clap::Args;
use jiff::Timestamp;
use serde_json::Value;

use self::{refusals::Asked, report::Report, tree::text};
use crate::{actors, config::Config, lookup, remote::Remote};

/// What `troupe why` explains.
#[derive(Debug, Args)]
pub struct WhyArgs {
    /// The object, such as pod/web-1, deployment/web, service/web, networkpolicy/deny, pvc/data, podgroup/train, node/one or namespace/shop
    object: String,
    /// Its namespace
    #[arg(long, short, default_value = "default")]
    namespace: String,
    /// The answer as JSON
    #[arg(long)]
    json: bool,
}

/// Prints the explanation.
pub async fn run(config: &Config, arguments: &WhyArgs) -> Result<()> {
    let (kind, name) = lookup::split(&arguments.object)?;
    let remote = Remote::open(&config.kubeconfig)?;
    let resource = lookup::find(&remote, kind).await?;
    let listed = actors::all(&remote).await.unwrap_or_default();
    let asked = Asked { kind: &resource.kind, namespace: if resource.namespaced { &arguments.namespace } else { "" }, name, exists: false };
    let report = match object(&remote, &resource.path(&arguments.namespace, name)).await? {
        Ok(object) => present(&remote, &resource, Asked { exists: true, ..asked }, object, &listed).await?,
        Err(missing) => absent(asked, &listed, missing)?,
    };
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        print!("{}", report.text());
    }
    Ok(())
}

/// The object, or what the server says where there is none.
async fn object(remote: &Remote, path: &str) -> Result<Result<Value, String>> {
    let (code, body) = remote.get(path).await?;
    let value: Value = serde_json::from_slice(&body).with_context(|| format!("{path} answered {code} and no JSON"))?;
    let message = value["message"].as_str().unwrap_or("the server refused");
    match code {
        404 => Ok(Err(message.to_owned())),
        code if code >= 400 => bail!("{message}"),
        _ => Ok(Ok(value)),
    }
}

/// Why there is no such object: somebody wanted it, and a webhook did not.
fn absent(asked: Asked<'_>, listed: &[Value], missing: String) -> Result<Report> {
    let reasons = refusals::reasons(listed, asked, false, Timestamp::now());
    let place = if asked.namespace.is_empty() { asked.name.to_owned() } else { format!("{}/{}", asked.namespace, asked.name) };
    let object = format!("{} {place}", asked.kind.to_lowercase());
    if reasons.is_empty() {
        bail!(missing);
    }
    Ok(Report { object, state: "does not exist".into(), reasons, ..Report::default() })
}

async fn present(remote: &Remote, resource: &lookup::Resource, asked: Asked<'_>, object: Value, listed: &[Value]) -> Result<Report> {
    let meta = &object["metadata"];
    let mut aside = quarantine::reasons(listed, &resource.kind, text(&meta["namespace"]), text(&meta["name"]));
    aside.extend(refusals::reasons(listed, asked, meta["deletionTimestamp"].is_string(), Timestamp::now()));
    let report = match (resource.kind.as_str(), resource.root.as_str()) {
        ("Pod", "/api/v1") => pod::explain(&facts::pod(remote, object).await?),
        ("Deployment", _) => workload::deployment(&facts::deployment(remote, object).await?),
        ("Namespace", _) => workload::namespace(&facts::namespace(remote, object).await?),
        ("PersistentVolumeClaim", _) => storage::claim(&facts::claim(remote, object).await?),
        ("NetworkPolicy", _) => network_policy::explain(&facts::network_policy(remote, object).await?),
        ("Service", "/api/v1") => service::explain(&facts::service(remote, object).await?),
        ("PodGroup", root) if root.starts_with("/apis/scheduling.k8s.io/") => pod_group::explain(&facts::pod_group(remote, object).await?),
        ("ResourceClaim", root) if root.starts_with("/apis/resource.k8s.io/") => {
            resource_claim::explain(&facts::resource_claim(remote, object).await?)
        }
        (kind, _) => generic::explain(&facts::object(remote, kind, object).await?),
    };
    Ok(quarantine::prefixed(report, aside))
}
