//! What the runtime has of all pods, by two cheap calls.

use std::collections::BTreeMap;

use troupe_cri::{
    Runtime,
    names::PodIdentity,
    proto::{ContainerFilter, PodSandboxFilter},
    runtime::CriResult,
};

/// All pods at the runtime, with the states of what they consist of, by id.
pub type Listing = BTreeMap<PodIdentity, BTreeMap<String, i32>>;

/// Lists all pods at the runtime.
pub async fn list(runtime: &dyn Runtime) -> CriResult<Listing> {
    let sandboxes = runtime.list_pod_sandboxes(PodSandboxFilter::default()).await?;
    let containers = runtime.list_containers(ContainerFilter::default()).await?;
    let mut listing = Listing::new();
    let things = sandboxes.into_iter().map(|sandbox| (sandbox.labels, sandbox.id, sandbox.state));
    let things = things.chain(containers.into_iter().map(|container| (container.labels, container.id, container.state)));
    for (labels, id, state) in things {
        if let Some(pod) = PodIdentity::from_labels(|name| labels.get(name)) {
            listing.entry(pod).or_default().insert(id, state);
        }
    }
    Ok(listing)
}
