//! `troupe why KIND/NAME`: why an object is not what it should be, in plain words. It only reads the API, and asks the
//! pod's worker what it is at. Fetching is here, explaining in pure functions.

mod containers;
mod placement;
mod pod;
mod report;
mod terminating;
#[cfg(test)]
mod tests;
mod tree;
mod workload;

use std::collections::BTreeMap;

use anyhow::{Result, bail};
use clap::Args;
use jiff::Timestamp;
use serde_json::Value;

use self::{
    tree::{items, text},
    workload::DeploymentFacts,
};
use crate::{config::Config, lookup, remote::Remote, up::doors};

/// Lines shown of a crashed container's log.
const LOG_LINES: usize = 5;
/// Pods of a Deployment that are explained.
const PODS: usize = 3;

/// What `troupe why` explains.
#[derive(Debug, Args)]
pub struct WhyArgs {
    /// The object: pod/NAME, deployment/NAME or namespace/NAME
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
    let report = match resource.kind.as_str() {
        "Pod" => pod::explain(&pod_facts(&remote, object).await?),
        "Deployment" => workload::deployment(&deployment_facts(&remote, object).await?),
        "Namespace" => workload::namespace(&object),
        other => bail!("troupe why explains pods, deployments and namespaces, not a {other}; troupe trace shows what happened to it"),
    };
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        print!("{}", report.text());
    }
    Ok(())
}

async fn pod_facts(remote: &Remote, pod: Value) -> Result<pod::Facts> {
    let meta = &pod["metadata"];
    let (namespace, name) = (text(&meta["namespace"]).to_owned(), text(&meta["name"]).to_owned());
    let mut facts = pod::Facts { events: events(remote, &namespace, text(&meta["uid"])).await?, now: Timestamp::now(), ..pod::Facts::default() };
    let node = text(&pod["spec"]["nodeName"]);
    if node.is_empty() {
        facts.nodes = items(&remote.get_json("/api/v1/nodes").await?["items"]).cloned().collect();
    } else {
        facts.node = optional(remote, &format!("/api/v1/nodes/{node}")).await?;
        facts.worker = worker(remote, &namespace, &name, text(&meta["uid"])).await;
    }
    for claim in items(&pod["spec"]["volumes"]).map(|volume| text(&volume["persistentVolumeClaim"]["claimName"])).filter(|claim| !claim.is_empty()) {
        let path = format!("/api/v1/namespaces/{namespace}/persistentvolumeclaims/{claim}");
        facts.claims.insert(claim.to_owned(), optional(remote, &path).await?);
    }
    facts.logs = logs(remote, &pod, &namespace, &name).await;
    facts.pod = pod;
    Ok(facts)
}

async fn events(remote: &Remote, namespace: &str, uid: &str) -> Result<Vec<Value>> {
    let list = remote.get_json(&format!("/api/v1/namespaces/{namespace}/events?fieldSelector=involvedObject.uid%3D{uid}")).await?;
    Ok(items(&list["items"]).cloned().collect())
}

/// An object, or null where there is none.
async fn optional(remote: &Remote, path: &str) -> Result<Value> {
    let (code, body) = remote.get(path).await?;
    Ok(if code == 200 { serde_json::from_slice(&body)? } else { Value::Null })
}

/// What the pod's worker says of itself; null where the server cannot tell.
async fn worker(remote: &Remote, namespace: &str, name: &str, uid: &str) -> Value {
    let path = format!("kubelet/pods/{namespace}/{name}/{uid}");
    let actors = remote.get_json(doors::ACTORS).await.unwrap_or_default();
    let found = items(&actors).find(|actor| actor["path"] == path.as_str()).map(|actor| actor["status"].clone());
    found.unwrap_or_default()
}

/// The ends of the logs of containers that failed.
async fn logs(remote: &Remote, pod: &Value, namespace: &str, name: &str) -> BTreeMap<String, Vec<String>> {
    let mut logs = BTreeMap::new();
    let statuses = items(&pod["status"]["initContainerStatuses"]).chain(items(&pod["status"]["containerStatuses"]));
    for status in statuses {
        let (container, state) = (text(&status["name"]), &status["state"]);
        let previous = state["waiting"].is_object() && status["lastState"]["terminated"].is_object();
        let failed = state["terminated"]["exitCode"].as_i64().is_some_and(|code| code != 0);
        if !previous && !failed {
            continue;
        }
        // A waiting container's newest instance is the one that crashed.
        let path = format!("/api/v1/namespaces/{namespace}/pods/{name}/log?container={container}&tailLines={LOG_LINES}");
        if let Ok((200, body)) = remote.get(&path).await {
            logs.insert(container.to_owned(), String::from_utf8_lossy(&body).lines().map(str::to_owned).collect());
        }
    }
    logs
}

async fn deployment_facts(remote: &Remote, deployment: Value) -> Result<DeploymentFacts> {
    let meta = &deployment["metadata"];
    let (namespace, uid) = (text(&meta["namespace"]).to_owned(), text(&meta["uid"]).to_owned());
    let owned = |object: &Value, uid: &str| items(&object["metadata"]["ownerReferences"]).any(|owner| owner["uid"] == uid);
    let sets = remote.get_json(&format!("/apis/apps/v1/namespaces/{namespace}/replicasets")).await?;
    let revision = |set: &&Value| text(&set["metadata"]["annotations"]["deployment.kubernetes.io/revision"]).parse::<u64>().unwrap_or(0);
    let newest = items(&sets["items"]).filter(|set| owned(set, &uid)).max_by_key(revision).cloned().unwrap_or_default();
    let mut facts = DeploymentFacts { deployment, replica_set: newest, ..DeploymentFacts::default() };
    let set_uid = text(&facts.replica_set["metadata"]["uid"]).to_owned();
    if set_uid.is_empty() {
        return Ok(facts);
    }
    facts.events = events(remote, &namespace, &set_uid).await?;
    let pods = remote.get_json(&format!("/api/v1/namespaces/{namespace}/pods")).await?;
    let unwell = items(&pods["items"]).filter(|pod| owned(pod, &set_uid) && !tree::is_true(pod, "Ready"));
    for pod in unwell.take(PODS) {
        facts.pods.push(pod::explain(&pod_facts(remote, pod.clone()).await?));
    }
    Ok(facts)
}
