//! What is answered, and how long questions stay. Pure.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use jiff::Timestamp;
use k8s_openapi::{
    api::resource::{
        v1::{ResourceClaim, ResourceSlice},
        v1alpha3::{PoolStatus, ResourcePoolStatusRequest, ResourcePoolStatusRequestStatus},
    },
    apimachinery::pkg::apis::meta::v1::{Condition, Time},
};

use crate::devices::results;

/// How long a request stays that was answered (`completedRequestTTL`), and one that was not (`pendingRequestTTL`).
pub const ANSWERED: Duration = Duration::from_secs(60 * 60);
const PENDING: Duration = Duration::from_secs(24 * 60 * 60);
/// How long drivers have to publish the rest of their pools before these are told to be incomplete.
const PATIENCE: Duration = Duration::from_secs(2);
/// What is wrong with a pool takes no more bytes.
const LONGEST_ERROR: usize = 256;
/// Unless the request says otherwise.
const MOST_POOLS: usize = 100;

/// What is done about a request.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// It is looked at again after this time.
    Wait(Duration),
    Tell(ResourcePoolStatusRequestStatus),
    Remove,
}

/// Slices of the driver that is asked about, and claims that have devices of it.
pub type Known = (Vec<Arc<ResourceSlice>>, Vec<Arc<ResourceClaim>>);

/// Plans for a request; what is `known` is asked for where it is not answered yet.
pub fn plan(request: &ResourcePoolStatusRequest, known: &dyn Fn() -> Known, now: Timestamp) -> Action {
    let age = |since: Timestamp| Duration::try_from(now.duration_since(since)).unwrap_or_default();
    let created = request.metadata.creation_timestamp.as_ref().map_or(now, |time| time.0);
    let (since, stay) = match &request.status {
        Some(status) => (answered_at(status).unwrap_or(created), ANSWERED),
        None => (created, PENDING),
    };
    let left = stay.saturating_sub(age(since));
    if left.is_zero() {
        return Action::Remove;
    }
    if request.status.is_some() {
        return Action::Wait(left);
    }
    let (slices, claims) = known();
    let pools = pools(request, &slices, &claims);
    let time_to_publish = PATIENCE.saturating_sub(age(created));
    if !time_to_publish.is_zero() && pools.iter().any(|pool| pool.validation_error.is_some()) {
        return Action::Wait(time_to_publish);
    }
    Action::Tell(status(request, pools, now))
}

fn answered_at(status: &ResourcePoolStatusRequestStatus) -> Option<Timestamp> {
    let mut conditions = status.conditions.iter().flatten();
    let answered = conditions.find(|condition| matches!(condition.type_.as_str(), "Complete" | "Failed"))?;
    Some(answered.last_transition_time.0)
}

fn status(request: &ResourcePoolStatusRequest, mut pools: Vec<PoolStatus>, now: Timestamp) -> ResourcePoolStatusRequestStatus {
    let most = request.spec.limit.map_or(MOST_POOLS, |limit| usize::try_from(limit).unwrap_or(0));
    let pool_count = number(pools.len());
    pools.truncate(most);
    let incomplete = pools.iter().filter(|pool| pool.validation_error.is_some()).count();
    let mut message = format!("Calculated status for {} pools", pools.len());
    if incomplete > 0 {
        message += &format!(" ({incomplete} incomplete)");
    }
    let complete = Condition {
        type_: "Complete".to_owned(),
        status: "True".to_owned(),
        reason: "CalculationComplete".to_owned(),
        message,
        observed_generation: None,
        last_transition_time: Time(now),
    };
    ResourcePoolStatusRequestStatus { conditions: Some(vec![complete]), pool_count, pools: Some(pools).filter(|pools| !pools.is_empty()) }
}

/// The pools that are asked about, by their names.
fn pools(request: &ResourcePoolStatusRequest, slices: &[Arc<ResourceSlice>], claims: &[Arc<ResourceClaim>]) -> Vec<PoolStatus> {
    let driver = request.spec.driver.as_str();
    let wanted = request.spec.pool_name.as_deref().filter(|name| !name.is_empty());
    let mut of_pools: BTreeMap<&str, Vec<&ResourceSlice>> = BTreeMap::new();
    for slice in slices.iter().filter(|slice| slice.spec.driver == driver) {
        let name = slice.spec.pool.name.as_str();
        if wanted.is_none_or(|wanted| wanted == name) {
            of_pools.entry(name).or_default().push(slice);
        }
    }
    let mut allocated: HashMap<&str, usize> = HashMap::new();
    for result in claims.iter().flat_map(|claim| results(claim)).filter(|result| result.driver == driver) {
        *allocated.entry(result.pool.as_str()).or_default() += 1;
    }
    of_pools.into_iter().map(|(name, slices)| pool(driver, name, &slices, allocated.get(name).copied().unwrap_or(0))).collect()
}

/// A pool by its newest slices.
fn pool(driver: &str, name: &str, slices: &[&ResourceSlice], allocated: usize) -> PoolStatus {
    let generation = slices.iter().map(|slice| slice.spec.pool.generation).max().unwrap_or(0);
    let newest: Vec<&ResourceSlice> = slices.iter().copied().filter(|slice| slice.spec.pool.generation == generation).collect();
    let node_of = |slice: &ResourceSlice| slice.spec.node_name.clone().filter(|node| !node.is_empty());
    let first = newest.first().copied();
    let node_name = first.and_then(node_of).filter(|node| newest.iter().all(|slice| slice.spec.node_name.as_ref() == Some(node)));
    let known = PoolStatus { driver: driver.to_owned(), pool_name: name.to_owned(), generation, node_name, ..PoolStatus::default() };
    let expected = first.map_or(0, |slice| slice.spec.pool.resource_slice_count);
    if i64::try_from(newest.len()).is_ok_and(|found| found < expected) {
        let mut error = format!("pool {driver}/{name} is incomplete: observed {}/{expected} slices at generation {generation}", newest.len());
        error.truncate(error.floor_char_boundary(LONGEST_ERROR));
        return PoolStatus { validation_error: Some(error), ..known };
    }
    let total: usize = newest.iter().map(|slice| slice.spec.devices.as_ref().map_or(0, Vec::len)).sum();
    PoolStatus {
        resource_slice_count: Some(number(newest.len())),
        total_devices: Some(number(total)),
        allocated_devices: Some(number(allocated)),
        available_devices: Some(number(total.saturating_sub(allocated))),
        // As upstream: neither taints nor conditions are looked at.
        unavailable_devices: Some(0),
        ..known
    }
}

fn number(count: usize) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}
