//! Namespace: empties a namespace that is being deleted, then lets it go. Pods end first: what they need, and what holds them to rules,
//! such as network policies, stays until the last one is gone.

use futures::{StreamExt, future::join_all, stream};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::{
    api::core::v1::{Namespace, NamespaceCondition, Pod},
    apimachinery::pkg::apis::meta::v1::Time,
};
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use troupe_api::{
    meta::{Object, ObjectKey},
    resources::Resource,
    service::{DeleteOptions, ListOptions, Operation, Propagation, ReplyBody, Target, Verb},
    status::Status,
};

use super::writes::is_gone;
use crate::{
    pod_phase::is_finished,
    runtime::{
        cache::{Cache, Caches},
        controller::{Backoff, Controller, Outcome, ReconcileContext, ReconcileError, Watches},
    },
};

const FINALIZER: &str = "kubernetes";
/// While something is left, the namespace is looked at again after this time.
const AGAIN: Duration = Duration::from_millis(500);
/// After this time, where nothing but extension servers that fail hold it.
const LATER: Duration = Duration::from_secs(5);
/// How long the extension server of a group is waited for in one look.
const PATIENCE: Duration = Duration::from_secs(5);
/// Resources of a group that an extension server is asked for at once.
const AT_ONCE: usize = 10;
/// A condition names no more finalizers than this: every object may have others.
const MOST_FINALIZERS_TOLD: usize = 50;

/// Bytes of a condition's message: extension servers say how many resources there are, and why they fail.
const LONGEST_MESSAGE: usize = 4096;

/// Neither terminating nor on its way to it.
pub fn is_active(namespace: &Namespace) -> bool {
    let phase = namespace.status.as_ref().and_then(|status| status.phase.as_deref());
    phase.unwrap_or("Active") == "Active" && namespace.metadata.deletion_timestamp.is_none()
}

/// See the module.
pub struct NamespaceController {
    namespaces: Cache<Namespace>,
}

impl NamespaceController {
    pub fn new(caches: &Caches) -> Self {
        NamespaceController { namespaces: caches.cache() }
    }
}

/// What is left of one resource in the namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Remaining {
    /// `pods`, `deployments.apps`
    resource: String,
    objects: usize,
    /// Finalizers that hold objects, with how many each.
    finalizers: BTreeMap<String, usize>,
    error: Option<String>,
    /// What is said where objects are left that nothing holds any more.
    unexpected: Option<String>,
}

/// A namespace that is emptied, and when it was deleted.
#[derive(Clone, Copy)]
struct Emptied<'a> {
    name: &'a str,
    deleted: Timestamp,
}

impl Remaining {
    fn none(resource: String) -> Self {
        Remaining { resource, objects: 0, finalizers: BTreeMap::new(), error: None, unexpected: None }
    }

    /// How much is left, in upstream's words, where the name of the core group, which is empty, has its dot, too.
    fn count(&self) -> String {
        let dot = if self.resource.contains('.') { "" } else { "." };
        format!("{}{dot} has {} resource instances", self.resource, self.objects)
    }
}

fn is_empty(remaining: &[Remaining]) -> bool {
    remaining.iter().all(|resource| resource.objects == 0 && resource.error.is_none())
}

/// How long until the next look, from what is left here and elsewhere.
fn pause(ours: &[Remaining], elsewhere: &[Remaining]) -> Duration {
    let fails = elsewhere.iter().any(|resource| resource.error.is_some());
    if fails && is_empty(ours) { LATER } else { AGAIN }
}

/// What cannot be discovered, in the words of upstream's client; nothing if all can be.
fn undiscovered(stale: &[String]) -> Option<String> {
    let each: Vec<String> = stale.iter().map(|version| format!("{version}: stale GroupVersion discovery: {version}")).collect();
    let why = format!("unable to retrieve the complete list of server APIs: {}", each.join(", "));
    (!stale.is_empty()).then(|| format!("Discovery failed for some groups, {} failing: {why}", stale.len()))
}

/// What finalizers hold, in words; no more of them than people read.
fn held_by(remaining: &[Remaining]) -> Vec<String> {
    let mut held: BTreeMap<&str, usize> = BTreeMap::new();
    for (finalizer, count) in remaining.iter().flat_map(|r| &r.finalizers) {
        *held.entry(finalizer).or_default() += count;
    }
    let more = held.len().saturating_sub(MOST_FINALIZERS_TOLD);
    let told = held.into_iter().take(MOST_FINALIZERS_TOLD).map(|(finalizer, count)| format!("{finalizer} in {count} resource instances"));
    told.chain((more > 0).then(|| format!("{more} more finalizers"))).collect()
}

/// The message, cut where it is too long to keep in a status.
fn shortened(mut message: String) -> String {
    const END: &str = " ...";
    if message.len() > LONGEST_MESSAGE {
        message.truncate(message.floor_char_boundary(LONGEST_MESSAGE - END.len()));
        message.push_str(END);
    }
    message
}

/// The conditions that tell people what a terminating namespace waits for.
fn conditions(remaining: &[Remaining], stale: &[String], now: Timestamp) -> Vec<NamespaceCondition> {
    let undiscovered = undiscovered(stale);
    let mut failed: Vec<&str> = remaining.iter().filter_map(|r| r.error.as_deref().or(r.unexpected.as_deref())).collect();
    failed.sort_unstable();
    let content: Vec<String> = remaining.iter().filter(|r| r.objects > 0).map(|r| r.count()).collect();
    let held = held_by(remaining);
    let condition = |kind: &str, bad: bool, reasons: [&str; 2], message: String| NamespaceCondition {
        type_: kind.into(),
        status: if bad { "True" } else { "False" }.into(),
        reason: Some(reasons[usize::from(!bad)].into()),
        message: Some(shortened(message)),
        last_transition_time: Some(Time(now)),
    };
    let text = |bad: bool, worse: String, fine: &str| if bad { worse } else { fine.to_owned() };
    vec![
        condition(
            "NamespaceDeletionDiscoveryFailure",
            undiscovered.is_some(),
            ["DiscoveryFailed", "ResourcesDiscovered"],
            undiscovered.unwrap_or_else(|| "All resources successfully discovered".into()),
        ),
        condition(
            "NamespaceDeletionGroupVersionParsingFailure",
            false,
            ["GroupVersionParsingFailed", "ParsedGroupVersions"],
            "All legacy kube types successfully parsed".into(),
        ),
        condition(
            "NamespaceDeletionContentFailure",
            !failed.is_empty(),
            ["ContentDeletionFailed", "ContentDeleted"],
            text(
                !failed.is_empty(),
                format!("Failed to delete all resource types, {} remaining: {}", failed.len(), failed.join(", ")),
                "All content successfully deleted, may be waiting on finalization",
            ),
        ),
        condition(
            "NamespaceContentRemaining",
            !content.is_empty(),
            ["SomeResourcesRemain", "ContentRemoved"],
            text(!content.is_empty(), format!("Some resources are remaining: {}", content.join(", ")), "All content successfully removed"),
        ),
        condition(
            "NamespaceFinalizersRemaining",
            !held.is_empty(),
            ["SomeFinalizersRemain", "ContentHasNoFinalizers"],
            text(
                !held.is_empty(),
                format!("Some content in the namespace has finalizers remaining: {}", held.join(", ")),
                "All content-preserving finalizers finished",
            ),
        ),
    ]
}

/// The new conditions, with the transition times of those that did not change.
fn merged(before: &[NamespaceCondition], mut now: Vec<NamespaceCondition>) -> Vec<NamespaceCondition> {
    for condition in &mut now {
        if let Some(known) = before.iter().find(|known| known.type_ == condition.type_ && known.status == condition.status) {
            condition.last_transition_time = known.last_transition_time.clone();
        }
    }
    now
}

fn is_pods(resource: &Resource) -> bool {
    resource.group.is_empty() && &*resource.plural == "pods"
}

/// Whether one of these pods may still be ending, in a namespace that was deleted so long ago.
fn may_be_ending(pods: &ReplyBody, ago: SignedDuration) -> bool {
    let ReplyBody::List(list) = pods else { return false };
    list.items.iter().filter_map(|item| item.typed_once::<Pod>().ok()).any(|pod| {
        let grace = pod.spec.as_ref().and_then(|spec| spec.termination_grace_period_seconds).unwrap_or(0);
        !is_finished(&pod) && SignedDuration::from_secs(grace) > ago
    })
}

/// What upstream says of objects that are left and should not be.
fn unexpected(target: &Target) -> String {
    let Target { resource, version, namespace, .. } = target;
    format!("unexpected items still remain in namespace: {namespace} for gvr: {}/{version}, Resource={}", resource.group, resource.plural)
}

async fn empty_resource(resource: Arc<Resource>, namespace: Emptied<'_>, cx: &ReconcileContext) -> Remaining {
    let mut remaining = Remaining::none(resource.group_resource().to_string());
    let version = resource.metadata_version();
    let target = Target { resource, version, namespace: namespace.name.into(), name: "".into(), subresource: "".into() };
    let list = |target: Target| cx.client().call(target, Operation::List(ListOptions::default()));
    let result: Result<(), Status> = async {
        let listed = list(target.clone()).await?;
        if count(&listed.body, &mut remaining) == 0 {
            return Ok(());
        }
        let delete = DeleteOptions { propagation: Some(Propagation::Background), ..DeleteOptions::default() };
        if target.resource.verbs.contains(&Verb::DeleteCollection) {
            let operation = Operation::DeleteCollection { delete, list: ListOptions::default() };
            cx.client().call(target.clone(), operation).await?;
        } else {
            delete_each(&listed.body, &target, &delete, cx).await?;
        }
        count(&list(target.clone()).await?.body, &mut remaining);
        let ending = || is_pods(&target.resource) && may_be_ending(&listed.body, cx.now().duration_since(namespace.deleted));
        if remaining.objects > 0 && remaining.finalizers.is_empty() && !ending() {
            remaining.unexpected = Some(unexpected(&target));
        }
        Ok(())
    }
    .await;
    remaining.error = result.err().map(|status| status.message);
    remaining
}

/// Empties what extension servers have, each group by itself: one that hangs holds up no other.
async fn empty_elsewhere(rows: Vec<Arc<Resource>>, namespace: Emptied<'_>, cx: &ReconcileContext) -> Vec<Remaining> {
    let mut groups: BTreeMap<Arc<str>, Vec<_>> = BTreeMap::new();
    for row in rows {
        let name = row.group_resource().to_string();
        groups.entry(row.group.clone()).or_default().push((name, empty_resource(row, namespace, cx)));
    }
    join_all(groups.into_values().map(in_time)).await.into_iter().flatten().collect()
}

/// Empties the resources of a group, few at once, in the order of their names. What is not done in time has failed.
async fn in_time<F: Future<Output = Remaining>>(group: Vec<(String, F)>) -> Vec<Remaining> {
    let until = tokio::time::Instant::now() + PATIENCE;
    let empty = move |(resource, emptying): (String, F)| async move {
        if tokio::time::Instant::now() >= until {
            return late(resource);
        }
        tokio::time::timeout_at(until, emptying).await.unwrap_or_else(|_| late(resource))
    };
    let mut remaining: Vec<Remaining> = stream::iter(group).map(empty).buffer_unordered(AT_ONCE).collect().await;
    remaining.sort_by(|one, other| one.resource.cmp(&other.resource));
    remaining
}

/// What is known of a resource whose server did not answer in time.
fn late(resource: String) -> Remaining {
    let error = format!("{resource} was not answered for in time");
    Remaining { error: Some(error), ..Remaining::none(resource) }
}

/// Deletes object by object what cannot be deleted together.
async fn delete_each(body: &ReplyBody, target: &Target, options: &DeleteOptions, cx: &ReconcileContext) -> Result<(), Status> {
    let ReplyBody::List(list) = body else { return Ok(()) };
    for item in &list.items {
        let one = Target { name: item.key.name.clone(), ..target.clone() };
        match cx.client().call(one, Operation::Delete(options.clone())).await {
            Err(status) if !is_gone(&status) => return Err(status),
            _ => {}
        }
    }
    Ok(())
}

fn count(body: &ReplyBody, remaining: &mut Remaining) -> usize {
    let ReplyBody::List(list) = body else { return 0 };
    remaining.objects = list.items.len();
    remaining.finalizers.clear();
    for finalizer in list.items.iter().flat_map(|item| &item.meta().finalizers) {
        *remaining.finalizers.entry(finalizer.to_string()).or_default() += 1;
    }
    remaining.objects
}

impl NamespaceController {
    /// Status first: it keeps new content out; then content, then the finalizer.
    async fn terminate(&self, namespace: &Namespace, name: &str, cx: &ReconcileContext) -> Result<Outcome, ReconcileError> {
        let api = cx.client().all::<Namespace>();
        let mut current = namespace.clone();
        if current.status.as_ref().and_then(|status| status.phase.as_deref()) != Some("Terminating") {
            current.status.get_or_insert_default().phase = Some("Terminating".into());
            let written = api.update_status(&current).await?;
            cx.wrote(&self.namespaces, &*written);
            current = (*written).clone();
        }
        let finalizers = current.spec.as_ref().and_then(|spec| spec.finalizers.clone()).unwrap_or_default();
        if !finalizers.iter().any(|finalizer| finalizer == FINALIZER) {
            return Ok(Outcome::Done);
        }
        let registry = cx.client().service().registry();
        let can = |row: &Resource, verb: Verb| row.verbs.contains(&verb);
        let holds = |row: &&Arc<Resource>| row.namespaced && can(row, Verb::List) && (can(row, Verb::DeleteCollection) || can(row, Verb::Delete));
        let stale = registry.stale();
        // Events are served in two groups over the same objects.
        let own = |row: &&Arc<Resource>| row.group == row.storage_group;
        let rows = registry.reachable().filter(holds).filter(own).cloned();
        let (elsewhere, ours): (Vec<_>, Vec<_>) = rows.partition(|row| row.is_elsewhere);
        let (pods, others): (Vec<_>, Vec<_>) = ours.into_iter().partition(|row| is_pods(row));
        let deleted = current.metadata.deletion_timestamp.as_ref().map_or_else(|| cx.now(), |time| time.0);
        let emptied = Emptied { name, deleted };
        let empty = |rows: Vec<Arc<Resource>>| join_all(rows.into_iter().map(|row| empty_resource(row, emptied, cx)));
        let (mut remaining, mut again) = (empty(pods).await, AGAIN);
        if is_empty(&remaining) {
            remaining = empty(others).await;
            let elsewhere = empty_elsewhere(elsewhere, emptied, cx).await;
            again = pause(&remaining, &elsewhere);
            remaining.extend(elsewhere);
        }
        // What cannot be discovered may hold something that must not outlive the namespace.
        if is_empty(&remaining) && stale.is_empty() {
            finalize(&current, &finalizers, cx).await?;
            return Ok(Outcome::Done);
        }
        let before = current.status.as_ref().and_then(|status| status.conditions.clone()).unwrap_or_default();
        let conditions = merged(&before, conditions(&remaining, &stale, cx.now()));
        if conditions != before {
            current.status.get_or_insert_default().conditions = Some(conditions);
            let written = api.update_status(&current).await?;
            cx.wrote(&self.namespaces, &*written);
        }
        Ok(Outcome::RequeueAfter(again))
    }
}

async fn finalize(namespace: &Namespace, finalizers: &[String], cx: &ReconcileContext) -> Result<(), ReconcileError> {
    let mut updated = namespace.clone();
    updated.spec.get_or_insert_default().finalizers = Some(finalizers.iter().filter(|finalizer| *finalizer != FINALIZER).cloned().collect());
    let value = serde_json::to_value(&updated).map_err(|error| ReconcileError::Other(error.to_string()))?;
    let body = Object::from_value(value).ok_or_else(|| ReconcileError::Other("a namespace is an object".into()))?;
    let name = namespace.metadata.name.clone().unwrap_or_default();
    match cx.client().all::<Namespace>().update_raw(&name, "finalize", body).await {
        Err(status) if !is_gone(&status) => Err(status.into()),
        _ => Ok(()),
    }
}

impl Controller for NamespaceController {
    const NAME: &'static str = "namespace";
    const BACKOFF: Backoff = Backoff::new(5, 60);

    fn watches(&self, watches: &mut Watches<'_>) {
        watches.primary::<Namespace>();
    }

    async fn reconcile(&self, key: &ObjectKey, cx: &ReconcileContext) -> Result<Outcome, ReconcileError> {
        match self.namespaces.get(key) {
            Some(namespace) if namespace.object.metadata.deletion_timestamp.is_some() => self.terminate(&namespace.object, &key.name, cx).await,
            _ => Ok(Outcome::Done),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_say_what_is_left_and_what_holds_it() {
        let pods = Remaining { objects: 2, finalizers: BTreeMap::from([("x/y".into(), 1)]), ..left("pods", None) };
        let found = conditions(&[pods], &["example.com/v1".to_owned()], Timestamp::UNIX_EPOCH);
        let of =
            |kind: &str| found.iter().find(|c| c.type_ == kind).map(|c| (c.status.clone(), c.message.clone().unwrap_or_default())).expect("there");
        assert_eq!(of("NamespaceContentRemaining"), ("True".into(), "Some resources are remaining: pods. has 2 resource instances".into()));
        assert_eq!(of("NamespaceFinalizersRemaining").1, "Some content in the namespace has finalizers remaining: x/y in 1 resource instances");
        assert_eq!(of("NamespaceDeletionContentFailure").0, "False");
        let why = "unable to retrieve the complete list of server APIs: example.com/v1: stale GroupVersion discovery: example.com/v1";
        let failed = format!("Discovery failed for some groups, 1 failing: {why}");
        assert_eq!(of("NamespaceDeletionDiscoveryFailure"), ("True".into(), failed));
    }

    #[test]
    fn what_is_left_and_should_not_be_counts_as_a_failure_and_the_messages_are_in_order() {
        let failed = |remaining: &[Remaining]| {
            let found = conditions(remaining, &[], Timestamp::UNIX_EPOCH);
            let found = found.into_iter().find(|condition| condition.type_ == "NamespaceDeletionContentFailure").expect("there");
            (found.status, found.message.unwrap_or_default())
        };
        let pods = Remaining { objects: 1, unexpected: Some("unexpected items".into()), ..left("pods", None) };
        let told = "Failed to delete all resource types, 2 remaining: refused, unexpected items";
        assert_eq!(failed(&[pods, left("a", Some("refused"))]), ("True".to_owned(), told.to_owned()));
        assert_eq!(failed(&[Remaining { objects: 1, ..left("pods", None) }]).0, "False");
    }

    #[test]
    fn messages_of_many_failing_resources_are_cut_short() {
        let failing = |at: usize| Remaining { objects: 1, ..left(&format!("r{at}.example.com"), Some(&"é".repeat(300))) };
        let stale: Vec<String> = (0..1000).map(|at| format!("g{at}.example.com/v1")).collect();
        let found = conditions(&(0..1000).map(failing).collect::<Vec<_>>(), &stale, Timestamp::UNIX_EPOCH);
        let lengths: Vec<usize> = found.iter().map(|condition| condition.message.as_ref().map_or(0, String::len)).collect();
        assert!(lengths.iter().all(|length| *length <= LONGEST_MESSAGE), "{lengths:?}");
        let cut = found.iter().filter(|condition| condition.message.as_ref().is_some_and(|message| message.ends_with(" ...")));
        assert_eq!(cut.count(), 3);
    }

    fn left(resource: &str, error: Option<&str>) -> Remaining {
        Remaining { error: error.map(str::to_owned), ..Remaining::none(resource.to_owned()) }
    }

    #[tokio::test(start_paused = true)]
    async fn an_extension_server_that_hangs_is_given_up_and_the_rest_of_its_answers_count() {
        let emptying = |name: &'static str, hangs: bool| async move {
            if hangs {
                std::future::pending::<()>().await;
            }
            left(name, None)
        };
        let begun = tokio::time::Instant::now();
        let names = ["b.example.com", "a.example.com"];
        let group: Vec<_> = names.into_iter().map(|name| (name.to_owned(), emptying(name, name == names[0]))).collect();
        let found = in_time(group).await;
        assert_eq!(found, [left(names[1], None), left(names[0], Some("b.example.com was not answered for in time"))]);
        assert!(begun.elapsed() < PATIENCE * 2);
    }

    #[test]
    fn only_extension_servers_that_fail_make_a_namespace_wait_for_longer() {
        let (fine, failing) = ([left("a", None)], [left("b", Some("refused"))]);
        assert_eq!((pause(&fine, &failing), pause(&failing, &failing), pause(&fine, &fine)), (LATER, AGAIN, AGAIN));
    }
}
