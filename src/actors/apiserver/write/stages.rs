//! What each stage of a write does; [`path`](super::path) has them in their order.

use std::sync::Arc;

use serde_json::Value;
use troupe_api::{
    meta::{Object, Revision},
    resources::Resource,
    service::ReplyBody,
    status::{FieldError, Reason, Status},
    stored::StoredObject,
};
use troupe_api_server::admission::{Attributes, Operation, OperationOptions};

use super::{WritePath, metadata, names};
use crate::apiserver::{commit::CommitError, objects, writer::Writer};

impl WritePath {
    /// What admission is told of a create or, with an old object, an update.
    pub(super) fn attributes<'a>(&'a self, writer: &'a Writer, old: Option<&'a Object>) -> Attributes<'a> {
        let options = match old {
            None => OperationOptions::Create(&writer.options),
            Some(_) => OperationOptions::Update(&writer.options),
        };
        self.admission.attributes(writer, options).with_old(old)
    }

    /// Own: who owns the fields of a new object. The status that preparation makes is nobody's; one that is written
    /// like any other field is its writer's.
    pub(super) async fn own_new(&self, writer: &Writer, new: &mut Object) -> Result<(), Status> {
        let mut owned = new.clone();
        let target = &writer.target;
        if !target.resource.is_custom() || target.served().subresource("status").is_some() {
            owned.remove(&["status"]);
        }
        self.track(writer, None, &mut owned).await?;
        match owned.remove(&["metadata", "managedFields"]) {
            Some(managed) => new.set(&["metadata", "managedFields"], managed),
            // What was sent counts for nothing where it cannot be read.
            None => drop(new.remove(&["metadata", "managedFields"])),
        }
        Ok(())
    }

    /// Mutate.
    pub(super) async fn mutate(&self, writer: &Writer, new: &mut Object, old: Option<&Object>) -> Result<(), Status> {
        self.admission.mutate(self.attributes(writer, old).with_object(new)).await
    }

    /// Prepare a new object: its name, made of `base` unless mutation gave it one, and its identity.
    pub(super) fn prepare_new(&self, writer: &Writer, new: &mut Object, base: Option<&str>, warnings: &mut Vec<String>) -> Result<(), Status> {
        let target = &writer.target;
        names::settle_namespace(target, new)?;
        if let (Some(base), "") = (base, new.name()) {
            new.set(&["metadata", "name"], names::generate(base, &mut self.system.rng()));
        }
        if !target.name.is_empty() {
            names::check_update(target, new)?;
        }
        warnings.extend(metadata::dedup_owners(new));
        let strategy = &*target.served().strategy;
        metadata::fill_system_fields(new, strategy, &*self.clock, &mut self.system.rng());
        target.resource.drop_disabled(new, None, &|feature| self.features.is_on(feature));
        strategy.prepare_create(new, &writer.context(&*self.clock));
        Ok(())
    }

    /// Prepare a changed object: what cannot be changed on this way stays as it is in `old`.
    pub(super) fn prepare_changed(&self, writer: &Writer, new: &mut Object, old: &Object, warnings: &mut Vec<String>) {
        warnings.extend(metadata::dedup_owners(new));
        writer.target.resource.drop_disabled(new, Some(old), &|feature| self.features.is_on(feature));
        metadata::prepare_update(new, old, &*writer.target.served().strategy, &writer.context(&*self.clock));
        new.remove(&["metadata", "resourceVersion"]);
    }

    /// Validate: everything that is wrong with the object, and whether its writer may write such a one.
    pub(super) async fn validate(&self, writer: &Writer, new: &Object, old: Option<&Object>, warnings: &mut Vec<String>) -> Result<(), Status> {
        let (resource, subresource) = (&writer.target.resource, &*writer.target.subresource);
        let mut errors = self.errors(writer, new, old, warnings)?;
        if errors.is_empty() {
            errors.extend(self.authorization.unreadable_parameters(&writer.user, &writer.target, new, old).await);
            errors.extend(self.authorization.unsigned(&writer.user, &writer.target, new, old).await);
        }
        if !errors.is_empty() {
            return Err(writer.invalid(new.name(), errors));
        }
        warnings.extend(resource.warnings(new, old, subresource));
        self.authorization.check_escalation(&writer.user, &writer.target, new, old).await
    }

    fn errors(&self, writer: &Writer, new: &Object, old: Option<&Object>, warnings: &mut Vec<String>) -> Result<Vec<FieldError>, Status> {
        let (resource, served, subresource) = (&writer.target.resource, writer.target.served(), &*writer.target.subresource);
        let mut errors = match old {
            None => {
                let mut errors = resource.validate_create(served, new);
                errors.extend(objects::missing_fields(&writer.target, new, &errors)?);
                errors
            }
            Some(old) => {
                let mut errors = resource.judge_update(served, new, old, subresource, warnings);
                if errors.is_empty() {
                    errors.extend(served.strategy.judge_time(new, old, subresource, self.clock.now()));
                }
                errors
            }
        };
        resource.judge_disabled(&mut errors, new, old, &|feature| self.features.is_on(feature));
        Ok(errors)
    }

    /// Admit.
    pub(super) async fn admit(&self, writer: &Writer, new: &Object, old: Option<&Object>) -> Result<(), Status> {
        self.admission.validate(self.attributes(writer, old).with_object(new)).await
    }

    /// Charge and commit a new object. In a dry run nothing is written: it only must not be there.
    pub(super) async fn commit_new(&self, writer: &Writer, new: &Object) -> Result<ReplyBody, CommitError> {
        if !new.resource_version().is_empty() && !writer.options.dry_run {
            // Upstream's store says so, after all others had their say; a dry run does not come to it.
            let why = "resourceVersion should not be set on objects to be created";
            return Err(CommitError::Failed(Status::new(500, Reason::Unknown, why)));
        }
        let receipt = self.quota.charge(writer, Operation::Create, new, None).await.map_err(CommitError::Failed)?;
        let resource = &writer.target.resource;
        if !writer.options.dry_run {
            let written = self.write_new(writer, new).await;
            if let Err(error) = &written {
                self.quota.refund(writer, receipt, error);
            }
            return written.map(ReplyBody::Object);
        }
        match self.reader.read_live(resource, &new.key()).await.map_err(CommitError::Failed)? {
            Some(_) => Err(CommitError::Lost(None)),
            None => {
                // It must have a form to be stored in, which a webhook may have to make.
                self.reader.versions.stored_form(resource, new).await.map_err(CommitError::Failed)?;
                Ok(ReplyBody::Tree(new.clone()))
            }
        }
    }

    async fn write_new(&self, writer: &Writer, new: &Object) -> Result<Arc<StoredObject>, CommitError> {
        let resource = &writer.target.resource;
        let stored = self.reader.versions.stored_form(resource, new).await.map_err(CommitError::Failed)?;
        self.committer.create(resource, &stored, &writer.cause).await
    }

    /// Commit an object in the place of the version at `expected`.
    pub(super) async fn write_changed(&self, writer: &Writer, new: &Object, expected: Revision) -> Result<Arc<StoredObject>, CommitError> {
        let resource = &writer.target.resource;
        let stored = self.reader.versions.stored_form(resource, new).await.map_err(CommitError::Failed)?;
        self.committer.update(resource, &stored, expected, &writer.cause).await
    }

    /// Charge and commit an object in the place of `current`, which is `old`.
    pub(super) async fn commit_changed(
        &self,
        writer: &Writer,
        new: &Object,
        old: &Object,
        current: &Arc<StoredObject>,
    ) -> Result<Arc<StoredObject>, CommitError> {
        self.room.check_growth(writer, new, current).map_err(CommitError::Failed)?;
        let charged = self.quota.charge(writer, Operation::Update, new, Some(old)).await;
        let receipt = charged.map_err(CommitError::Failed)?;
        let written = self.write_changed(writer, new, current.revision).await;
        if let Err(error) = &written {
            self.quota.refund(writer, receipt, error);
        }
        written
    }
}

/// What an update comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Nothing changed: the current version stands.
    Keep,
    Write,
    /// The last finalizer of a terminating object went.
    Remove,
}

impl Step {
    pub fn of(resource: &Resource, current: &StoredObject, new: &Object, old: &Object) -> Self {
        if removes(resource, new, old) {
            return Step::Remove;
        }
        let mut before = old.clone();
        before.remove(&["metadata", "resourceVersion"]);
        // What lies in the store in another version than the one for storage is written anew by whoever writes it.
        let is_outdated = resource.versions().is_some_and(|versions| !versions.is_of(current.api_version(), &resource.storage.version));
        if is_unchanged(new, before) && !is_outdated { Step::Keep } else { Step::Write }
    }
}

const MANAGED: [&str; 2] = ["metadata", "managedFields"];

/// Whether an update changes nothing. That somebody wrote again what was there is no change: times of managedFields alone do not count
/// (upstream's `IgnoreManagedFieldsTimestampsTransformer`).
fn is_unchanged(new: &Object, mut before: Object) -> bool {
    if objects::same_content(new, &before) {
        return true;
    }
    let (now, then) = (new.list(&MANAGED), before.list(&MANAGED));
    if now.is_empty() || now.len() != then.len() || !now.iter().zip(then).all(|(now, then)| entry(now).eq(entry(then))) {
        return false;
    }
    let now = now.to_vec();
    before.set(&MANAGED, now);
    objects::same_content(new, &before)
}

/// What an entry of managedFields says but for its time.
fn entry(entry: &Value) -> impl Iterator<Item = (&String, &Value)> {
    entry.as_object().into_iter().flatten().filter(|(name, _)| *name != "time")
}

/// Whether this update lets go of the last thing that held a terminating object.
fn removes(resource: &Resource, new: &Object, old: &Object) -> bool {
    let waits = old.int(&["metadata", "deletionGracePeriodSeconds"]).is_some_and(|seconds| seconds > 0);
    let held = !metadata::finalizers(new).is_empty() || resource.strategy.holds(new);
    old.is_terminating() && !waits && !held
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn times_of_managed_fields_alone_are_no_change() {
        let object = |time: &str, manager: &str, data: &str| {
            let managed = json!([{"manager": manager, "operation": "Apply", "time": time, "fieldsV1": {"f:data": {"f:a": {}}}}]);
            Object::from_value(json!({"metadata": {"name": "m", "managedFields": managed}, "data": {"a": data}})).expect("an object")
        };
        let before = object("2026-01-01T00:00:00Z", "m", "1");
        for (new, is_same) in [
            (before.clone(), true),
            (object("2026-01-02T00:00:00Z", "m", "1"), true),
            (object("2026-01-02T00:00:00Z", "m", "2"), false),
            (object("2026-01-02T00:00:00Z", "n", "1"), false),
            (Object::from_value(json!({"metadata": {"name": "m"}, "data": {"a": "1"}})).expect("an object"), false),
        ] {
            assert_eq!(is_unchanged(&new, before.clone()), is_same, "{new:?}");
        }
    }
}
