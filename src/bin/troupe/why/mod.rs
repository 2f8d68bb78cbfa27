//! `troupe why KIND/NAME`: why an object is not what it should be, in plain words. It only reads the API, and asks the
//! pod's worker what it is at. Fetching is in [`facts`], explaining in pure functions.

mod containers;
mod facts;
mod generic;
mod network_policy;
mod obstacles;
mod placement;
mod pod;
mod quarantine;
mod report;
mod scheduling;
mod service;
mod storage;
mod terminating;
#[cfg(test)]
mod tests;
mod tree;
mod workload;

use anyhow::Result;
use clap::Args;

use self::tree::text;
use crate::{actors, config::Config, lookup, remote::Remote};

/// What `troupe why` explains.
#[derive(Debug, Args)]
pub struct WhyArgs {
    /// The object, such as pod/web-1, deployment/web, service/web, networkpolicy/deny, pvc/data, node/one or namespace/shop
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
    let object = remote.get_json(&resource.path(&arguments.namespace, name)).await?;
    let meta = &object["metadata"];
    let listed = actors::all(&remote).await.unwrap_or_default();
    let aside = quarantine::reasons(&listed, &resource.kind, text(&meta["namespace"]), text(&meta["name"]));
    let report = match (resource.kind.as_str(), resource.root.as_str()) {
        ("Pod", "/api/v1") => pod::explain(&facts::pod(&remote, object).await?),
        ("Deployment", _) => workload::deployment(&facts::deployment(&remote, object).await?),
        ("Namespace", _) => workload::namespace(&facts::namespace(&remote, object).await?),
        ("PersistentVolumeClaim", _) => storage::claim(&facts::claim(&remote, object).await?),
        ("NetworkPolicy", _) => network_policy::explain(&facts::network_policy(&remote, object).await?),
        ("Service", "/api/v1") => service::explain(&facts::service(&remote, object).await?),
        (kind, _) => generic::explain(&facts::object(&remote, kind, object).await?),
    };
    let report = quarantine::prefixed(report, aside);
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        print!("{}", report.text());
    }
    Ok(())
}
