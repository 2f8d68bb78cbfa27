//! What upstream's apiextensions controllers do, beside every API server: names of custom resource definitions are accepted or refused,
//! resources are established once they are served, and a definition that is deleted goes after its objects.
//!
//! In: the cache of definitions and the live table. Out: statuses, deletions of objects, the end of a finalizer. [`plan`] is pure.

mod finalize;
mod plan;

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use serde_json::{Value, json};
use troupe_api::{
    aside,
    meta::{Cause, Object, ObjectKey, Revision},
    resources::definitions::definition::Definition,
    service::{ApiReply, Target},
    status::Status,
    stored::StoredObject,
};

pub(super) use self::plan::Conditions;
use self::plan::{Names, Taken};
use super::{
    cache::{ResourceCache, Snapshot},
    server_client::ServerClient,
    table::definitions,
    write::Change,
    writer::Writer,
};
use crate::runtime::host::{Unit, UnitContext};

/// When a definition whose resource is not served yet is looked at again.
const SOON: Duration = Duration::from_millis(5);
/// When one that could not be written is tried again.
const AGAIN: Duration = Duration::from_millis(500);

/// The unit at `apiserver/definitions`.
pub struct Definitions {
    client: ServerClient,
    cache: Option<Arc<ResourceCache>>,
}

impl Definitions {
    pub fn new(client: ServerClient) -> Self {
        let name = definitions();
        let cache = client.row(&name.group, &name.resource).and_then(|row| client.cache(&row));
        Definitions { client, cache }
    }
}

impl Unit for Definitions {
    fn started(&mut self, cx: &mut UnitContext<'_, Self>) {
        let Some(cache) = &self.cache else { return };
        cx.spawn(follow(self.client.clone(), cache.clone()));
        cx.spawn(finalize::follow(self.client.clone(), cache.clone()));
    }

    fn observe(&self) -> Value {
        json!({"definitions": self.cache.as_ref().map_or(0, |cache| cache.load().objects.len())})
    }
}

/// Keeps the statuses, one definition after the other: which names are taken must not change meanwhile.
async fn follow(client: ServerClient, cache: Arc<ResourceCache>) {
    let mut before = Arc::new(Snapshot::default());
    let mut open: BTreeSet<Arc<str>> = BTreeSet::new();
    let mut names = AcceptedNames::default();
    loop {
        let seen = cache.applied.get();
        let now = cache.load();
        open.extend(concerned(&before, &now));
        before = now;
        let mut wait = None;
        for name in std::mem::take(&mut open) {
            if let Some(after) = settle(&client, &cache, &mut names, &name).await {
                open.insert(name);
                wait = Some(wait.map_or(after, |wait: Duration| wait.min(after)));
            }
        }
        let changed = cache.applied.reached(seen.next());
        match wait {
            None => changed.await,
            Some(wait) => _ = tokio::time::timeout(wait, changed).await,
        }
    }
}

/// The accepted names of definitions at the revision at which they were read.
#[derive(Default)]
struct AcceptedNames(HashMap<Arc<str>, (Revision, Names)>);

impl AcceptedNames {
    /// What the definitions of a group but one have.
    fn taken(&mut self, snapshot: &Snapshot, group: &str, but: &str) -> Taken {
        let mut taken = Taken::default();
        for definition in snapshot.objects.values().filter(|other| &*other.key.name != but && group_of(&other.key.name) == group) {
            let known = self.0.get(&definition.key.name).filter(|(revision, _)| *revision == definition.revision);
            if known.is_none() {
                self.0.insert(definition.key.name.clone(), (definition.revision, Names::of(&accepted(definition))));
            }
            if let Some((_, names)) = self.0.get(&definition.key.name) {
                taken.add(names);
            }
        }
        taken
    }
}

fn accepted(definition: &StoredObject) -> Value {
    Definition::read(definition).map(|definition| definition.accepted_names()).unwrap_or_default()
}

/// The definitions that changed; where names may have become free, all of their group.
fn concerned(before: &Snapshot, now: &Snapshot) -> BTreeSet<Arc<str>> {
    let mut names = BTreeSet::new();
    for change in before.changes_to(now) {
        if let Some(new) = &change.new {
            names.insert(new.key.name.clone());
        }
        let frees = |old: &StoredObject| match &change.new {
            None => true,
            Some(new) => Some(accepted(old)).filter(|names| !names.is_null()).is_some_and(|names| names != accepted(new)),
        };
        if let Some(old) = change.old.as_ref().filter(|old| frees(old)) {
            let group = group_of(&old.key.name).to_owned();
            names.extend(now.objects.keys().filter(|key| group_of(&key.name) == group).map(|key| key.name.clone()));
        }
    }
    names
}

/// A definition is named by plural and group.
fn group_of(name: &str) -> &str {
    name.split_once('.').map_or("", |(_, group)| group)
}

/// Brings one definition's status up to date; says when to look again.
async fn settle(client: &ServerClient, cache: &ResourceCache, names: &mut AcceptedNames, name: &Arc<str>) -> Option<Duration> {
    let snapshot = cache.load();
    let stored = snapshot.objects.get(&ObjectKey::cluster(name.clone()))?;
    let decoded = stored.clone();
    let definition = aside::compute(stored.encoded_length(), move || decoded.to_object()).await;
    let group = group_of(name);
    let taken = names.taken(&snapshot, group, name);
    let served = client.row(group, definition.str(&["spec", "names", "plural"])).is_some_and(|row| row.is_custom());
    let waits = !served && !definition.is_terminating();
    match plan::status(&definition, &taken, served, client.clock.now()) {
        None => (waits && is_accepted(&definition)).then_some(SOON),
        Some(status) => {
            let mut new = definition;
            new.set(&["status"], status);
            match write(client, stored, new).await {
                // It comes back as a change.
                Ok(_) => None,
                Err(status) if status.is_conflict() || status.is_not_found() => None,
                Err(error) => {
                    tracing::warn!(definition = %name, %error, "cannot write the status of a definition, will retry");
                    Some(AGAIN)
                }
            }
        }
    }
}

/// Whether its names are its own while nobody serves it yet. One that no version of is served never is.
fn is_accepted(definition: &Object) -> bool {
    let true_of = |kind: &str| definition.list(&["status", "conditions"]).iter().any(|one| one["type"] == kind && one["status"] == "True");
    let any_served = definition.list(&["spec", "versions"]).iter().any(|version| version["served"] == true);
    true_of("NamesAccepted") && !true_of("Established") && any_served
}

/// Writes the status of a definition, on the version it was made of.
async fn write(client: &ServerClient, stored: &StoredObject, mut new: Object) -> Result<ApiReply, Status> {
    let name = definitions();
    let resource = client.row(&name.group, &name.resource).ok_or_else(Status::page_not_found)?;
    new.set(&["metadata", "resourceVersion"], stored.revision.to_string());
    let version = resource.storage.version.clone();
    let target = Target { resource, version, namespace: "".into(), name: stored.key.name.clone(), subresource: "status".into() };
    client.path.update(&Writer::server(target, Cause::default()), Change::Put(new), Vec::new()).await
}
