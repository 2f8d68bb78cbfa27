//! Fetches what the explanations look at.

use std::collections::BTreeMap;

use anyhow::Result;
use jiff::Timestamp;
use serde_json::Value;
use troupe_api::http::streaming::escaped;

use super::{
    generic::ObjectFacts,
    network_policy::PolicyFacts,
    pod::{self, Facts},
    report::Report,
    service::ServiceFacts,
    storage::ClaimFacts,
    tree::{self, items, text},
    workload::{self, DeploymentFacts, NamespaceFacts},
};
use crate::{actors, lookup, remote::Remote};

/// Lines shown of a crashed container's log.
const LOG_LINES: usize = 5;
/// Pods of a workload that are explained.
const PODS: usize = 3;

/// What explains a pod.
pub async fn pod(remote: &Remote, pod: Value) -> Result<Facts> {
    let meta = &pod["metadata"];
    let (namespace, name) = (text(&meta["namespace"]).to_owned(), text(&meta["name"]).to_owned());
    let mut facts = Facts { events: events(remote, &namespace, text(&meta["uid"])).await?, now: Timestamp::now(), ..Facts::default() };
    let node = text(&pod["spec"]["nodeName"]);
    if node.is_empty() {
        facts.nodes = all(remote, "/api/v1/nodes").await?;
        // Pods that have ended hold nothing.
        let selector = "spec.nodeName!=,status.phase!=Succeeded,status.phase!=Failed";
        facts.tenants = all(remote, &format!("/api/v1/pods?fieldSelector={}", escaped(selector))).await?;
        facts.namespaces = all(remote, "/api/v1/namespaces").await?;
        facts.budgets = all(remote, "/apis/policy/v1/poddisruptionbudgets").await?;
    } else {
        facts.node = optional(remote, &format!("/api/v1/nodes/{node}")).await?;
        facts.worker = worker(remote, &namespace, &name, text(&meta["uid"])).await;
    }
    for claim in items(&pod["spec"]["volumes"]).map(|volume| text(&volume["persistentVolumeClaim"]["claimName"])).filter(|claim| !claim.is_empty()) {
        let path = format!("/api/v1/namespaces/{namespace}/persistentvolumeclaims/{claim}");
        facts.claims.insert(claim.to_owned(), optional(remote, &path).await?);
    }
    facts.policies = all(remote, &policies_path(&namespace)).await?;
    facts.logs = logs(remote, &pod, &namespace, &name).await;
    facts.pod = pod;
    Ok(facts)
}

async fn events(remote: &Remote, namespace: &str, uid: &str) -> Result<Vec<Value>> {
    events_of(remote, namespace, &format!("involvedObject.uid={uid}")).await
}

async fn events_of(remote: &Remote, namespace: &str, selector: &str) -> Result<Vec<Value>> {
    all(remote, &format!("/api/v1/namespaces/{namespace}/events?fieldSelector={}", escaped(selector))).await
}

/// The items of a list.
async fn all(remote: &Remote, path: &str) -> Result<Vec<Value>> {
    Ok(items(&remote.get_json(path).await?["items"]).cloned().collect())
}

/// An object, or null where there is none.
async fn optional(remote: &Remote, path: &str) -> Result<Value> {
    let (code, body) = remote.get(path).await?;
    Ok(if code == 200 { serde_json::from_slice(&body)? } else { Value::Null })
}

/// What the pod's worker says of itself; null where the server cannot tell.
async fn worker(remote: &Remote, namespace: &str, name: &str, uid: &str) -> Value {
    let path = format!("kubelet/pods/{namespace}/{name}/{uid}");
    let actors = actors::all(remote).await.unwrap_or_default();
    actors.iter().find(|actor| actor["path"] == path.as_str()).map(|actor| actor["status"].clone()).unwrap_or_default()
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

/// What explains a Deployment.
pub async fn deployment(remote: &Remote, deployment: Value) -> Result<DeploymentFacts> {
    let meta = &deployment["metadata"];
    let (namespace, uid) = (text(&meta["namespace"]).to_owned(), text(&meta["uid"]).to_owned());
    let sets = all(remote, &format!("/apis/apps/v1/namespaces/{namespace}/replicasets")).await?;
    let revision = |set: &&Value| text(&set["metadata"]["annotations"]["deployment.kubernetes.io/revision"]).parse::<u64>().unwrap_or(0);
    let newest = sets.iter().filter(|set| owned(set, &uid)).max_by_key(revision).cloned().unwrap_or_default();
    let mut facts = DeploymentFacts { deployment, replica_set: newest, ..DeploymentFacts::default() };
    let set_uid = text(&facts.replica_set["metadata"]["uid"]).to_owned();
    if !set_uid.is_empty() {
        facts.events = events(remote, &namespace, &set_uid).await?;
        facts.pods = unwell(remote, &namespace, &set_uid).await?;
    }
    Ok(facts)
}

fn owned(object: &Value, uid: &str) -> bool {
    items(&object["metadata"]["ownerReferences"]).any(|owner| owner["uid"] == uid)
}

/// Explanations of an owner's pods that are not as they should be; of the first few.
async fn unwell(remote: &Remote, namespace: &str, uid: &str) -> Result<Vec<Report>> {
    let mut told = Vec::new();
    let well = |one: &Value| tree::is_true(one, "Ready") || one["status"]["phase"] == "Succeeded";
    for one in all(remote, &format!("/api/v1/namespaces/{namespace}/pods")).await? {
        if owned(&one, uid) && !well(&one) && told.len() < PODS {
            told.push(pod::explain(&pod(remote, one).await?));
        }
    }
    Ok(told)
}

/// What explains a namespace.
pub async fn namespace(remote: &Remote, namespace: Value) -> Result<NamespaceFacts> {
    let name = text(&namespace["metadata"]["name"]).to_owned();
    let told = tree::condition(&namespace, "NamespaceContentRemaining").filter(|condition| condition["status"] == "True");
    let mut remaining = Vec::new();
    for word in told.map(|condition| workload::resources_in(text(&condition["message"]))).unwrap_or_default() {
        // One that is not served any more cannot be looked at.
        let Ok(resource) = lookup::find(remote, &word).await else { continue };
        remaining.push((word, all(remote, &resource.collection(&name)).await.unwrap_or_default()));
    }
    Ok(NamespaceFacts { namespace, remaining })
}

/// What explains a claim.
pub async fn claim(remote: &Remote, claim: Value) -> Result<ClaimFacts> {
    let (meta, class) = (&claim["metadata"], text(&claim["spec"]["storageClassName"]));
    let (namespace, name) = (text(&meta["namespace"]), text(&meta["name"]));
    let class = if class.is_empty() { Value::Null } else { optional(remote, &format!("/apis/storage.k8s.io/v1/storageclasses/{class}")).await? };
    let mounts = |pod: &Value| {
        items(&pod["spec"]["volumes"]).any(|volume| {
            let made = || volume["ephemeral"].is_object() && format!("{}-{}", text(&pod["metadata"]["name"]), text(&volume["name"])) == name;
            volume["persistentVolumeClaim"]["claimName"] == name || made()
        })
    };
    let pods = all(remote, &format!("/api/v1/namespaces/{namespace}/pods")).await?;
    Ok(ClaimFacts {
        events: events(remote, namespace, text(&meta["uid"])).await?,
        volumes: all(remote, "/api/v1/persistentvolumes").await?,
        class,
        pods: pods.iter().filter(|pod| mounts(pod)).map(|pod| text(&pod["metadata"]["name"]).to_owned()).collect(),
        claim,
    })
}

/// What explains a Service.
pub async fn service(remote: &Remote, service: Value) -> Result<ServiceFacts> {
    let (namespace, name) = (text(&service["metadata"]["namespace"]), text(&service["metadata"]["name"]));
    let selector = escaped(&format!("kubernetes.io/service-name={name}"));
    let slices = format!("/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices?labelSelector={selector}");
    let pods = format!("/api/v1/namespaces/{namespace}/pods");
    let events = events(remote, namespace, text(&service["metadata"]["uid"])).await?;
    Ok(ServiceFacts { pods: all(remote, &pods).await?, slices: all(remote, &slices).await?, events, service })
}

/// What explains a network policy.
pub async fn network_policy(remote: &Remote, policy: Value) -> Result<PolicyFacts> {
    let namespace = text(&policy["metadata"]["namespace"]);
    Ok(PolicyFacts { pods: all(remote, &format!("/api/v1/namespaces/{namespace}/pods")).await?, policy })
}

fn policies_path(namespace: &str) -> String {
    format!("/apis/networking.k8s.io/v1/namespaces/{namespace}/networkpolicies")
}

/// What can be known of any other object.
pub async fn object(remote: &Remote, kind: &str, object: Value) -> Result<ObjectFacts> {
    let meta = &object["metadata"];
    let (namespace, name, uid) = (text(&meta["namespace"]), text(&meta["name"]), text(&meta["uid"]));
    // Events about what lives in no namespace are written to the default one. Kubelets name their node for its UID, controllers its UID.
    let place = if namespace.is_empty() { "default" } else { namespace };
    let pods = if namespace.is_empty() { Vec::new() } else { unwell(remote, namespace, uid).await? };
    let selector = if kind == "Node" { format!("involvedObject.kind=Node,involvedObject.name={name}") } else { format!("involvedObject.uid={uid}") };
    let mut events = events_of(remote, place, &selector).await?;
    events.retain(|event| kind != "Node" || ["", name, uid].contains(&text(&event["involvedObject"]["uid"])));
    Ok(ObjectFacts { events, kind: kind.to_owned(), pods, object, now: Timestamp::now() })
}
