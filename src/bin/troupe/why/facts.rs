//! Fetches what the explanations look at.

use std::collections::BTreeMap;

use anyhow::Result;
use jiff::Timestamp;
use serde_json::Value;
use troupe_actors::scheduler::DEFAULT_SCHEDULER;
use troupe_api_server::http::streaming::escaped;

use super::{
    generic::ObjectFacts,
    network_policy::PolicyFacts,
    pod::{self, Facts},
    pod_group::{self, Gang, GroupFacts},
    report::Report,
    resource_claim::{self, DeviceClaim, PodClaim},
    service::ServiceFacts,
    storage::ClaimFacts,
    tree::{self, items, text},
    workload::{self, DeploymentFacts, NamespaceFacts},
};
use crate::{actors, lookup, remote::Remote, up::doors};

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
        let group = text(&pod["spec"]["schedulingGroup"]["podGroupName"]);
        facts.scheduler = scheduler(remote, text(&pod["spec"]["schedulerName"])).await;
        facts.gang = if group.is_empty() { None } else { Some(gang(remote, &namespace, group).await?) };
    } else {
        facts.node = optional(remote, &format!("/api/v1/nodes/{node}")).await?;
        facts.worker = worker(remote, &namespace, &name, text(&meta["uid"])).await;
    }
    facts.explained = explained(remote, &namespace, &name).await;
    for claim in items(&pod["spec"]["volumes"]).map(|volume| text(&volume["persistentVolumeClaim"]["claimName"])).filter(|claim| !claim.is_empty()) {
        let path = format!("/api/v1/namespaces/{namespace}/persistentvolumeclaims/{claim}");
        facts.claims.insert(claim.to_owned(), optional(remote, &path).await?);
    }
    facts.resource_claims = resource_claims(remote, &namespace, &pod).await?;
    facts.policies = all(remote, &policies_path(&namespace)).await?;
    facts.logs = logs(remote, &pod, &namespace, &name).await;
    facts.pod = pod;
    Ok(facts)
}

/// A group with its pods.
async fn gang(remote: &Remote, namespace: &str, name: &str) -> Result<Gang> {
    let group = optional(remote, &format!("/apis/scheduling.k8s.io/v1alpha2/namespaces/{namespace}/podgroups/{name}")).await?;
    let mut pods = all(remote, &format!("/api/v1/namespaces/{namespace}/pods")).await?;
    pods.retain(|pod| pod["spec"]["schedulingGroup"]["podGroupName"] == name && !has_ended(pod));
    Ok(Gang { name: name.to_owned(), group, pods })
}

fn has_ended(pod: &Value) -> bool {
    ["Succeeded", "Failed"].contains(&text(&pod["status"]["phase"]))
}

/// What explains a PodGroup.
pub async fn pod_group(remote: &Remote, group: Value) -> Result<GroupFacts> {
    let meta = &group["metadata"];
    let (namespace, uid) = (text(&meta["namespace"]), text(&meta["uid"]));
    let gang = gang(remote, namespace, text(&meta["name"])).await?;
    let mut unwell = Vec::new();
    for one in gang.pods.iter().filter(|one| pod_group::is_unwell(one)).take(PODS) {
        // What the group waits for is told once.
        let facts = Facts { gang: None, ..pod(remote, one.clone()).await? };
        unwell.push(pod::explain(&facts));
    }
    let events = events(remote, namespace, uid).await?;
    Ok(GroupFacts { gang: Gang { group, ..gang }, events, unwell, now: Timestamp::now() })
}

const DEVICES: &str = "/apis/resource.k8s.io/v1";

/// The claims of devices that a pod names.
async fn resource_claims(remote: &Remote, namespace: &str, pod: &Value) -> Result<Vec<PodClaim>> {
    let mut claims = Vec::new();
    for (name, made, template) in resource_claim::named_by(pod) {
        if made.is_empty() {
            let path = format!("{DEVICES}/namespaces/{namespace}/resourceclaimtemplates/{template}");
            let has_template = !optional(remote, &path).await?.is_null();
            claims.push(PodClaim::Unmade { name: name.to_owned(), template: template.to_owned(), has_template });
            continue;
        }
        let claim = optional(remote, &format!("{DEVICES}/namespaces/{namespace}/resourceclaims/{made}")).await?;
        claims.push(if claim.is_null() {
            PodClaim::Missing { name: made.to_owned() }
        } else {
            PodClaim::Found(device_claim(remote, claim, vec![text(&pod["metadata"]["name"]).to_owned()]).await?)
        });
    }
    Ok(claims)
}

/// What explains a ResourceClaim.
pub async fn resource_claim(remote: &Remote, claim: Value) -> Result<DeviceClaim> {
    let (namespace, name) = (text(&claim["metadata"]["namespace"]), text(&claim["metadata"]["name"]));
    let pods = all(remote, &format!("/api/v1/namespaces/{namespace}/pods")).await?;
    let uses = |pod: &&Value| !has_ended(pod) && resource_claim::named_by(pod).iter().any(|(_, made, _)| *made == name);
    let users = pods.iter().filter(uses).map(|pod| text(&pod["metadata"]["name"]).to_owned()).collect();
    device_claim(remote, claim, users).await
}

async fn device_claim(remote: &Remote, claim: Value, users: Vec<String>) -> Result<DeviceClaim> {
    let meta = &claim["metadata"];
    let mut facts = DeviceClaim {
        events: events(remote, text(&meta["namespace"]), text(&meta["uid"])).await?,
        users,
        now: Timestamp::now(),
        ..DeviceClaim::default()
    };
    if !claim["status"]["allocation"].is_object() {
        for class in resource_claim::classes(&claim) {
            if optional(remote, &format!("{DEVICES}/deviceclasses/{class}")).await?.is_null() {
                facts.missing_classes.push(class.to_owned());
            }
        }
        // Who may not read slices learns the rest.
        let slices = all(remote, &format!("{DEVICES}/resourceslices")).await.unwrap_or_default();
        facts.offered = slices.iter().map(|slice| items(&slice["spec"]["devices"]).count()).sum();
    }
    Ok(DeviceClaim { claim, ..facts })
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

/// What the scheduler of this name tells of its profile; null where the server cannot tell.
async fn scheduler(remote: &Remote, name: &str) -> Value {
    let name = if name.is_empty() { DEFAULT_SCHEDULER } else { name };
    let actors = actors::all(remote).await.unwrap_or_default();
    let mut schedulers = actors.iter().filter(|actor| actor["path"] == "scheduler");
    let told = schedulers.find(|actor| actor["status"]["synced"] == true && actor["status"]["profiles"][name].is_object());
    told.map(|actor| actor["status"]["profiles"][name].clone()).unwrap_or_default()
}

/// What the scheduler says about a pod, with a node or without; null where it says nothing, or the server cannot tell.
async fn explained(remote: &Remote, namespace: &str, name: &str) -> Value {
    let path = format!("{}?path=scheduler&about={}", doors::ASK, escaped(&format!("{namespace}/{name}")));
    let told = remote.get_json(&path).await.unwrap_or_default();
    items(&told["answers"]).next().cloned().unwrap_or_default()
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
