//! API services of what this server answers itself: one for each version of the built-in groups, and of the groups that custom resource
//! definitions make. What upstream's autoregister and crdregistration controllers do.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use serde_json::{Value, json};
use troupe_api::{
    meta::{Cause, Object},
    resources::{
        definitions::definition::Definition,
        priorities::{self, Priority},
        tree::text,
    },
    service::{Body, DeleteOptions},
    status::Status,
    stored::StoredObject,
};
use troupe_api_server::aggregation::{ApiServiceSpec, description::api_services};

use super::{
    super::{
        cache::{ResourceCache, Snapshot},
        table::definitions,
        write::Change,
        writer::Writer,
    },
    Parts, target,
};
use crate::runtime::host::{Unit, UnitContext};

const LABEL: &str = "kube-aggregator.kubernetes.io/automanaged";
/// What failed is tried again after this time.
const AGAIN: Duration = Duration::from_secs(1);

/// How an API service is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keeping {
    /// When the server starts; after that people may change or remove it.
    OnStart,
    Always,
}

impl Keeping {
    fn label(self) -> &'static str {
        match self {
            Keeping::OnStart => "onstart",
            Keeping::Always => "true",
        }
    }

    fn of(object: &Object) -> Option<Self> {
        let label = object.get(&["metadata", "labels"]).map(|labels| text(labels, &[LABEL]));
        [Keeping::OnStart, Keeping::Always].into_iter().find(|keeping| label == Some(keeping.label()))
    }
}

/// An API service that should be there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    pub group: Arc<str>,
    pub version: Arc<str>,
    pub priority: Priority,
    pub keeping: Keeping,
}

impl Wanted {
    /// Of a version of a built-in group.
    pub fn builtin(group: &Arc<str>, version: &Arc<str>) -> Option<Self> {
        let priority = priorities::builtin(group, version)?;
        Some(Wanted { group: group.clone(), version: version.clone(), priority, keeping: Keeping::OnStart })
    }

    fn custom(group: &Arc<str>, version: &Arc<str>) -> Self {
        Wanted { group: group.clone(), version: version.clone(), priority: Priority::CUSTOM, keeping: Keeping::Always }
    }

    pub fn name(&self) -> String {
        format!("{}.{}", self.version, self.group)
    }

    /// Whether another server may answer for the group although it is built in.
    fn yields(&self) -> bool {
        &*self.group == "metrics.k8s.io"
    }

    fn spec(&self) -> Value {
        let Priority { group, version } = self.priority;
        let mut spec = json!({"version": *self.version, "groupPriorityMinimum": group, "versionPriority": version});
        if !self.group.is_empty() {
            spec["group"] = json!(*self.group);
        }
        spec
    }

    pub fn object(&self) -> Value {
        let metadata = json!({"name": self.name(), "labels": {LABEL: self.keeping.label()}});
        json!({"apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService", "metadata": metadata, "spec": self.spec()})
    }
}

/// An API service that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Current {
    uid: String,
    keeping: Option<Keeping>,
    spec: ApiServiceSpec,
    /// It was there when the server started.
    is_old: bool,
}

impl Current {
    fn says(&self, wanted: &Wanted) -> bool {
        let spec = &self.spec;
        spec.service.is_none() && spec.group == wanted.group && spec.version == wanted.version && spec.priority == wanted.priority
    }
}

/// What has to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Nothing,
    Create,
    Update,
    Delete,
}

/// Upstream's table of what is wanted and what is there; `done` says whether it was brought about before. Pure.
fn step(wanted: Option<&Wanted>, current: Option<&Current>, done: bool) -> Step {
    if done && wanted.is_some_and(|wanted| wanted.keeping == Keeping::OnStart) {
        return Step::Nothing;
    }
    let Some(current) = current else { return if wanted.is_some() { Step::Create } else { Step::Nothing } };
    match (current.keeping, wanted) {
        (None, _) => Step::Nothing,
        (Some(Keeping::OnStart), _) if !current.is_old || done => Step::Nothing,
        // Somebody else's server has taken the group over.
        (Some(Keeping::OnStart), Some(wanted)) if wanted.yields() && current.spec.service.is_some() => Step::Nothing,
        (_, None) => Step::Delete,
        (_, Some(wanted)) if current.says(wanted) => Step::Nothing,
        _ => Step::Update,
    }
}

/// The unit at `apiserver/api-service-registration`.
pub struct Registration {
    parts: Arc<Parts>,
}

impl Registration {
    pub fn new(parts: Arc<Parts>) -> Self {
        Registration { parts }
    }
}

impl Unit for Registration {
    fn started(&mut self, cx: &mut UnitContext<'_, Self>) {
        let cache = |name: troupe_api::meta::GroupResource| {
            self.parts.listers.row(&name.group, &name.resource).and_then(|row| self.parts.listers.cache(&row).ok())
        };
        let (Some(definitions), Some(services)) = (cache(definitions()), cache(api_services())) else { return };
        cx.spawn(follow(self.parts.clone(), definitions, services));
    }
}

/// What there is and what should be, as far as it was looked at.
#[derive(Default)]
struct Table {
    definitions: Arc<Snapshot>,
    services: Arc<Snapshot>,
    /// The versions that each definition serves.
    served: BTreeMap<Arc<str>, Vec<Wanted>>,
    /// By name, with how many definitions want it.
    wanted: BTreeMap<String, (Wanted, usize)>,
    current: BTreeMap<String, Current>,
    done: BTreeSet<String>,
    open: BTreeSet<String>,
}

async fn follow(parts: Arc<Parts>, definitions: Arc<ResourceCache>, services: Arc<ResourceCache>) {
    let mut table = Table::default();
    for row in parts.listers.registry.load().rows().iter().filter(|row| !row.is_custom()) {
        for wanted in row.served.iter().filter_map(|served| Wanted::builtin(&row.group, &served.version)) {
            table.want(wanted);
        }
    }
    let mut is_start = true;
    loop {
        let (seen, of_services) = (definitions.applied.get(), services.applied.get());
        table.take_definitions(definitions.load());
        table.take_services(services.load(), is_start);
        is_start = false;
        for name in std::mem::take(&mut table.open) {
            match table.settle(&parts, &name).await {
                Ok(()) => drop(table.done.insert(name)),
                Err(error) => {
                    tracing::debug!(service = name, %error, "an API service is not registered yet, will retry");
                    table.open.insert(name);
                }
            }
        }
        let changed = async {
            tokio::select! {
                biased;
                () = definitions.applied.reached(seen.next()) => {}
                () = services.applied.reached(of_services.next()) => {}
            }
        };
        match table.open.is_empty() {
            true => changed.await,
            false => _ = tokio::time::timeout(AGAIN, changed).await,
        }
    }
}

impl Table {
    fn want(&mut self, wanted: Wanted) {
        let name = wanted.name();
        self.open.insert(name.clone());
        self.wanted.entry(name).or_insert((wanted, 0)).1 += 1;
    }

    fn unwant(&mut self, wanted: &Wanted) {
        let name = wanted.name();
        if let Some((_, count)) = self.wanted.get_mut(&name) {
            *count -= 1;
            if *count == 0 {
                self.wanted.remove(&name);
            }
        }
        self.open.insert(name);
    }

    fn take_definitions(&mut self, now: Arc<Snapshot>) {
        let changes = self.definitions.changes_to(&now);
        self.definitions = now;
        for change in changes {
            let Some(name) = change.new.as_ref().or(change.old.as_ref()).map(|object| object.key.name.clone()) else { continue };
            let served = change.new.as_deref().map(served).unwrap_or_default();
            let before = self.served.insert(name.clone(), served.clone()).unwrap_or_default();
            if before == served {
                continue;
            }
            served.into_iter().for_each(|wanted| self.want(wanted));
            before.iter().for_each(|wanted| self.unwant(wanted));
            if change.new.is_none() {
                self.served.remove(&name);
            }
        }
    }

    fn take_services(&mut self, now: Arc<Snapshot>, is_start: bool) {
        let changes = self.services.changes_to(&now);
        self.services = now;
        for change in changes {
            let Some(name) = change.new.as_ref().or(change.old.as_ref()).map(|object| object.key.name.to_string()) else { continue };
            let was_old = self.current.remove(&name).is_some_and(|current| current.is_old);
            if let Some(new) = &change.new {
                let object = new.to_object();
                let (uid, keeping, spec) = (object.uid().to_owned(), Keeping::of(&object), ApiServiceSpec::of(&object));
                let current = Current { uid, keeping, spec, is_old: is_start || was_old };
                self.current.insert(name.clone(), current);
            }
            self.open.insert(name);
        }
    }

    /// Brings one about.
    async fn settle(&self, parts: &Parts, name: &str) -> Result<(), Status> {
        let wanted = self.wanted.get(name).map(|(wanted, _)| wanted);
        let step = step(wanted, self.current.get(name), self.done.contains(name));
        let Some(target) = target(parts, name, "") else { return Ok(()) };
        let outcome = match (step, wanted) {
            (Step::Create, Some(wanted)) => {
                let object = Object::from_value(wanted.object()).ok_or_else(|| Status::internal("an API service is an object"))?;
                parts.path.create(&Writer::server(target, Cause::default()), Body::Tree(object)).await.map(drop)
            }
            (Step::Update, Some(wanted)) => {
                let spec = wanted.spec();
                let change = Change::Transform(Arc::new(move |current| {
                    let mut new = current.clone();
                    new.set(&["spec"], spec.clone());
                    Ok(new)
                }));
                parts.path.update(&Writer::server(target, Cause::default()), change, Vec::new()).await.map(drop)
            }
            (Step::Delete, _) => {
                let uid = self.current.get(name).map(|current| current.uid.clone());
                parts
                    .path
                    .delete(&Writer::server(target, Cause::default()), &DeleteOptions { precondition_uid: uid, ..DeleteOptions::default() })
                    .await
                    .map(drop)
            }
            _ => Ok(()),
        };
        match outcome {
            // It comes back as a change.
            Err(status) if status.is_already_exists() || status.is_not_found() || status.is_conflict() => Ok(()),
            other => other,
        }
    }
}

/// What a definition serves.
fn served(definition: &StoredObject) -> Vec<Wanted> {
    let Some(definition) = Definition::read(definition) else { return Vec::new() };
    let (group, versions) = definition.served_versions();
    versions.iter().map(|version| Wanted::builtin(&group, version).unwrap_or_else(|| Wanted::custom(&group, version))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(keeping: Keeping) -> Wanted {
        Wanted { keeping, ..Wanted::custom(&"example.com".into(), &"v1".into()) }
    }

    fn current(keeping: Option<Keeping>, is_old: bool, service: bool) -> Current {
        let mut object = wanted(Keeping::Always).object();
        if service {
            object["spec"]["service"] = json!({"namespace": "n", "name": "s"});
        }
        Current { uid: "u".into(), keeping, spec: ApiServiceSpec::of(&Object::from_value(object).expect("an object")), is_old }
    }

    #[test]
    fn what_is_always_kept_comes_changes_and_goes_with_what_is_served() {
        let always = wanted(Keeping::Always);
        assert_eq!(step(Some(&always), None, true), Step::Create);
        assert_eq!(step(Some(&always), Some(&current(Some(Keeping::Always), false, false)), true), Step::Nothing);
        assert_eq!(step(Some(&always), Some(&current(Some(Keeping::Always), false, true)), true), Step::Update);
        assert_eq!(step(None, Some(&current(Some(Keeping::Always), false, false)), true), Step::Delete);
        assert_eq!(step(None, None, false), Step::Nothing);
    }

    #[test]
    fn what_people_manage_is_left_alone() {
        for wanted in [None, Some(&wanted(Keeping::Always)), Some(&wanted(Keeping::OnStart))] {
            assert_eq!(step(wanted, Some(&current(None, true, true)), false), Step::Nothing);
        }
    }

    #[test]
    fn what_is_kept_on_start_is_put_right_once() {
        let on_start = wanted(Keeping::OnStart);
        let changed = |is_old| current(Some(Keeping::OnStart), is_old, true);
        assert_eq!(step(Some(&on_start), None, false), Step::Create);
        assert_eq!(step(Some(&on_start), None, true), Step::Nothing, "people may remove it");
        assert_eq!(step(Some(&on_start), Some(&changed(true)), false), Step::Update);
        assert_eq!(step(Some(&on_start), Some(&changed(true)), true), Step::Nothing);
        assert_eq!(step(Some(&on_start), Some(&changed(false)), false), Step::Nothing);
        assert_eq!(step(None, Some(&changed(true)), false), Step::Delete, "its group is not built in any more");
    }
}
