//! Update and patch: one loop that computes the new object from the newest one until a commit wins.

use std::{fmt, sync::Arc};

use bytes::Bytes;
use troupe_api::{
    admission::Operation,
    meta::{Object, ObjectKey, Revision},
    resources::Resource,
    service::{ApiReply, Body, PatchType, ReplyBody},
    status::{FieldError, Status},
    store::keys,
    stored::StoredObject,
};

use super::{
    Writer,
    commit::{CommitError, stored},
    create::Ownership,
    metadata, names,
};
use crate::apiserver::{
    core::Core,
    objects,
    services::{Allocation, Settlement},
};

/// Lost races after which a write gives up; each one means that somebody else's write succeeded.
const MAX_TRIES: usize = 64;

/// Computes a new object from the current one; for subresources that are no plain replacement.
pub type Transform = Arc<dyn Fn(&Object) -> Result<Object, Status> + Send + Sync>;

/// What an update does to the current object.
#[derive(Clone)]
pub enum Change {
    /// Replaces it; the object is decoded and has its defaults.
    Put(Object),
    Patch {
        patch_type: PatchType,
        patch: Bytes,
    },
    Transform(Transform),
}

impl fmt::Debug for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Change::Put(_) => "Put",
            Change::Patch { .. } => "Patch",
            Change::Transform(_) => "Transform",
        })
    }
}

/// What one round of computing came to.
struct Plan {
    new: Object,
    step: Step,
    allocation: Allocation,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Step {
    /// Nothing changed: the current version stands.
    Keep,
    Write,
    /// The last finalizer of a terminating object went.
    Remove,
}

/// What came of trying an update on one version.
enum Attempt {
    Written(ApiReply),
    /// Nothing was written: right if that version is the newest.
    Kept(ApiReply),
}

impl Core {
    /// PUT.
    pub async fn put(&self, writer: &Writer, body: Body) -> Result<ApiReply, Status> {
        let target = &writer.target;
        let decoded = objects::decode(&*objects::schema(target)?, body, writer.options.field_validation)?;
        let mut object = decoded.object;
        names::check_update(target, &object)?;
        names::settle_namespace(target, &mut object)?;
        objects::finish(target, &mut object)?;
        self.update(writer, Change::Put(object), decoded.warnings).await
    }

    /// Applies `change` to the newest version of the writer's target.
    pub async fn update(&self, writer: &Writer, change: Change, mut warnings: Vec<String>) -> Result<ApiReply, Status> {
        let resource = &writer.target.resource;
        let key = writer.target.key();
        let mut current = self.cache(resource)?.get(&key);
        let mut live = false;
        for _ in 0..MAX_TRIES {
            let attempt = match &current {
                Some(current) => self.try_update(writer, &change, current, &mut warnings).await,
                None => self.update_missing(writer, &change, &mut warnings).await.map(Attempt::Written).map_err(CommitError::Failed),
            };
            let settled = match attempt {
                Ok(Attempt::Written(reply)) => return Ok(ApiReply { warnings, ..reply }),
                Ok(Attempt::Kept(reply)) => Ok(ApiReply { warnings: warnings.clone(), ..reply }),
                Err(CommitError::Lost(newer)) => {
                    (current, live) = (newer.map(|kv| stored(resource, kv)).transpose()?, true);
                    continue;
                }
                // Judging again could do it twice.
                Err(CommitError::Unclear(status)) => return Err(status),
                Err(CommitError::Failed(status)) => Err(status),
            };
            if live {
                return settled;
            }
            // The cache may have been behind: judge by the newest version.
            let newest = self.read_live(resource, &key).await?;
            if newest.as_ref().map(|object| object.revision) == current.as_ref().map(|object| object.revision) {
                return settled;
            }
            (current, live) = (newest, true);
        }
        Err(Status::modified(&writer.target.group_resource(), &key.name))
    }

    async fn try_update(
        &self,
        writer: &Writer,
        change: &Change,
        current: &Arc<StoredObject>,
        warnings: &mut Vec<String>,
    ) -> Result<Attempt, CommitError> {
        let resource = &writer.target.resource;
        let plan = self.plan_update(writer, change, current, warnings).await.map_err(CommitError::Failed)?;
        if writer.options.dry_run {
            self.settle_allocation(plan.allocation, Settlement::Dropped).await;
            return Ok(Attempt::Kept(ApiReply::ok(ReplyBody::Tree(with_revision(plan.new, current.revision)))));
        }
        let written = match plan.step {
            Step::Keep => Ok((current.revision, ReplyBody::Object(current.clone()))),
            Step::Write => {
                let written = self.charge_and_write(writer, &plan.new, current).await;
                written.map(|object| (object.revision, ReplyBody::Object(object)))
            }
            Step::Remove => {
                let removed = self.commit_delete(resource, &current.key, current.revision, &writer.cause).await;
                removed.map(|revision| (revision, ReplyBody::Tree(with_revision(plan.new, revision))))
            }
        };
        self.settle_allocation(plan.allocation, Settlement::of(written.as_ref().map(|(revision, _)| *revision))).await;
        let (revision, body) = written?;
        if plan.step == Step::Remove {
            self.release(&writer.target, current, revision).await;
        }
        let reply = ApiReply::ok(body);
        Ok(if plan.step == Step::Keep { Attempt::Kept(reply) } else { Attempt::Written(reply) })
    }

    async fn charge_and_write(&self, writer: &Writer, new: &Object, current: &Arc<StoredObject>) -> Result<Arc<StoredObject>, CommitError> {
        self.check_room_to_grow(writer, new, current).map_err(CommitError::Failed)?;
        let receipt = self.charge(writer, Operation::Update, new, Some(&current.to_object())).await.map_err(CommitError::Failed)?;
        let written = self.commit_update(&writer.target.resource, new, current.revision, &writer.cause).await;
        if let Err(error) = &written {
            self.refund(writer, receipt, error);
        }
        written
    }

    async fn plan_update(&self, writer: &Writer, change: &Change, current: &StoredObject, warnings: &mut Vec<String>) -> Result<Plan, Status> {
        let resource = &writer.target.resource;
        let old = current.to_object();
        let mut new = compute(writer, change, &old, warnings, self.clock.now())?;
        check_preconditions(writer, change, &new, current)?;
        let mut admission = writer.attributes(self, Operation::Update).with_object(&mut new).with_old(Some(&old));
        self.admission.admit(&mut admission).await?;
        warnings.extend(metadata::dedup_owners(&mut new));
        metadata::prepare_update(&mut new, &old, &*writer.target.served().strategy, &writer.context(self));
        new.remove(&["metadata", "resourceVersion"]);
        if !matches!(change, Change::Patch { patch_type: PatchType::Apply, .. }) {
            objects::track(writer, Some(&old), &mut new, self.clock.now())?;
        }
        let allocation = self.allocate(writer, &mut new, Some(&old)).await?;
        match self.validate_update(writer, &new, &old, warnings).await {
            Ok(()) => Ok(Plan { step: step(resource, &new, &old), new, allocation }),
            Err(status) => {
                self.settle_allocation(allocation, Settlement::Dropped).await;
                Err(status)
            }
        }
    }

    async fn validate_update(&self, writer: &Writer, new: &Object, old: &Object, warnings: &mut Vec<String>) -> Result<(), Status> {
        let (resource, subresource) = (&writer.target.resource, &*writer.target.subresource);
        let mut errors = resource.validate_update(writer.target.served(), new, old, subresource);
        if errors.is_empty() {
            errors.extend(self.unreadable_parameters(&writer.user, &writer.target, new, Some(old)));
        }
        if !errors.is_empty() {
            return Err(writer.invalid(new.name(), errors));
        }
        warnings.extend(resource.warnings(new, Some(old), subresource));
        self.check_escalation(&writer.user, &writer.target, new, Some(old))?;
        let admission = writer.attributes(self, Operation::Update).with_object(new).with_old(Some(old));
        self.admission.validate(&admission).await
    }

    /// An update of what does not exist: creates it where the kind or the patch says so.
    async fn update_missing(&self, writer: &Writer, change: &Change, warnings: &mut Vec<String>) -> Result<ApiReply, Status> {
        let target = &writer.target;
        let missing = || Status::not_found(&target.group_resource(), &target.name);
        let (mut object, ownership) = match change {
            Change::Put(object) if target.resource.strategy.allow_create_on_update() && target.subresource.is_empty() => {
                (object.clone(), Ownership::Track)
            }
            Change::Patch { patch_type: PatchType::Apply, patch } if target.subresource.is_empty() => {
                let applied = objects::apply(writer, None, patch, self.clock.now())?;
                warnings.extend(applied.warnings);
                (applied.object, Ownership::Done)
            }
            _ => return Err(missing()),
        };
        self.authorize(&writer.user, target, "create", &target.name, None)?;
        object.remove(&["metadata", "resourceVersion"]);
        let reply = self.create_object(writer, object, Vec::new(), ownership).await?;
        warnings.extend(reply.warnings);
        Ok(ApiReply { warnings: Vec::new(), ..reply })
    }
}

fn compute(writer: &Writer, change: &Change, old: &Object, warnings: &mut Vec<String>, now: jiff::Timestamp) -> Result<Object, Status> {
    let target = &writer.target;
    let decoded = match change {
        Change::Put(object) => return Ok(object.clone()),
        Change::Transform(transform) => return transform(old),
        Change::Patch { patch_type: PatchType::Apply, patch } => objects::apply(writer, Some(old), patch, now)?,
        Change::Patch { patch_type, patch } => objects::patch(target, *patch_type, old, patch, &writer.options)?,
    };
    warnings.clear();
    warnings.extend(decoded.warnings);
    let mut object = decoded.object;
    names::check_update(target, &object)?;
    names::settle_namespace(target, &mut object)?;
    objects::finish(target, &mut object)?;
    Ok(object)
}

/// A stale resourceVersion or another UID means that the client saw another object.
fn check_preconditions(writer: &Writer, change: &Change, new: &Object, current: &StoredObject) -> Result<(), Status> {
    let resource = writer.target.group_resource();
    let name = &*current.key.name;
    let wanted = new.resource_version();
    if (wanted.is_empty() || wanted == "0") && !writer.target.resource.strategy.allow_unconditional_update() {
        let error = FieldError::invalid("metadata.resourceVersion", 0, "must be specified for an update");
        return Err(Status::invalid(&resource.group, &resource.resource, name, vec![error]));
    }
    if !wanted.is_empty() && wanted != "0" && wanted.parse() != Ok(current.revision) {
        if wanted.parse::<Revision>().is_err() {
            let error = FieldError::invalid("metadata.resourceVersion", wanted, "strconv.ParseUint: parsing the resource version failed");
            return Err(writer.invalid(name, vec![error]));
        }
        return Err(Status::modified(&resource, name));
    }
    let uid = new.uid();
    if matches!(change, Change::Put(_)) && !uid.is_empty() && *uid != *current.meta().uid {
        return Err(uid_conflict(&writer.target.resource, &current.key, uid, &current.meta().uid));
    }
    Ok(())
}

fn uid_conflict(resource: &Resource, key: &ObjectKey, wanted: &str, found: &str) -> Status {
    let store_key = keys::object(&resource.storage_prefix, key);
    let why = format!(
        "StorageError: invalid object, Code: 4, Key: {}, ResourceVersion: 0, AdditionalErrorMsg: Precondition failed: UID in precondition: {wanted}, UID in object meta: {found}",
        String::from_utf8_lossy(&store_key)
    );
    Status::conflict(&resource.group_resource(), &key.name, why)
}

fn step(resource: &Resource, new: &Object, old: &Object) -> Step {
    if removes(resource, new, old) {
        return Step::Remove;
    }
    let mut before = old.clone();
    before.remove(&["metadata", "resourceVersion"]);
    if objects::same_content(new, &before) { Step::Keep } else { Step::Write }
}

/// Whether this update lets go of the last thing that held a terminating object.
fn removes(resource: &Resource, new: &Object, old: &Object) -> bool {
    let waits = old.int(&["metadata", "deletionGracePeriodSeconds"]).is_some_and(|seconds| seconds > 0);
    let held = !metadata::finalizers(new).is_empty() || resource.strategy.holds(new);
    old.is_terminating() && !waits && !held
}

fn with_revision(mut object: Object, revision: Revision) -> Object {
    object.set(&["metadata", "resourceVersion"], revision.to_string());
    object
}
