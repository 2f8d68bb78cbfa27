//! Update and patch: one loop that computes the new object from the newest one until a commit wins.

use std::{fmt, sync::Arc};

use bytes::Bytes;
use troupe_api::{
    aside,
    auth::Selection,
    meta::{Object, ObjectKey, Revision},
    resources::Resource,
    service::{ApiReply, Body, PatchType, Target},
    status::{FieldError, Status},
    stored::StoredObject,
};
use troupe_api_server::store::keys;

use super::{WritePath, create::Ownership, names};
use crate::apiserver::{
    commit::{CommitError, stored},
    objects,
    writer::Writer,
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

impl Change {
    /// Whether it is a server-side apply, which makes managedFields itself.
    pub fn is_apply(&self) -> bool {
        matches!(self, Change::Patch { patch_type: PatchType::Apply, .. })
    }
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

/// Brings an object into the form that writes work on, unless it has another name or namespace than the URL.
fn finish_named(target: &Target, object: &mut Object) -> Result<(), Status> {
    names::check_update(target, object)?;
    names::settle_namespace(target, object)?;
    objects::finish(target, object)
}

/// What came of trying an update on one version.
pub(super) enum Attempt {
    Written(ApiReply),
    /// Nothing was written: right if that version is the newest.
    Kept(ApiReply),
}

impl WritePath {
    /// PUT.
    pub async fn put(self: &Arc<Self>, writer: &Writer, body: Body) -> Result<ApiReply, Status> {
        let target = &writer.target;
        let decoded = objects::decode(&*objects::schema(target)?, body, writer.options.field_validation)?;
        let mut object = decoded.object;
        let finished = finish_named(target, &mut object);
        writer.told(finished, &decoded.warnings)?;
        self.update(writer, Change::Put(object), decoded.warnings).await
    }

    /// Applies `change` to the newest version of the writer's target.
    pub async fn update(self: &Arc<Self>, writer: &Writer, change: Change, mut warnings: Vec<String>) -> Result<ApiReply, Status> {
        let resource = &writer.target.resource;
        let key = writer.target.key();
        let mut current = self.reader.cached(resource, &key)?;
        let mut live = false;
        for _ in 0..MAX_TRIES {
            let attempt = match &current {
                Some(current) => self.update_once(writer, &change, current, &mut warnings).await,
                None => self.update_missing(writer, &change, &mut warnings).await.map(Attempt::Written).map_err(CommitError::Failed),
            };
            let settled = match attempt {
                Ok(Attempt::Written(reply)) => return self.reader.versions.shown_reply(&writer.target, ApiReply { warnings, ..reply }).await,
                Ok(Attempt::Kept(reply)) => {
                    let reply = ApiReply { warnings: warnings.clone(), ..reply };
                    self.reader.versions.shown_reply(&writer.target, reply).await
                }
                Err(CommitError::Lost(newer)) => {
                    (current, live) = (newer.map(|kv| stored(resource, kv)).transpose()?, true);
                    continue;
                }
                // Judging again could do it twice.
                Err(CommitError::Unclear(status)) => return Err(status),
                Err(CommitError::Failed(status)) => Err(status),
            };
            if live {
                return writer.told(settled, &warnings);
            }
            // The cache may have been behind: judge by the newest version.
            let newest = self.reader.read_live(resource, &key).await?;
            if newest.as_ref().map(|object| object.revision) == current.as_ref().map(|object| object.revision) {
                return writer.told(settled, &warnings);
            }
            (current, live) = (newest, true);
        }
        Err(Status::modified(&writer.target.group_resource(), &key.name))
    }

    /// Decode, or compute by a patch: what the change makes of the current version, which must be the one that the client saw.
    pub(super) async fn compute(
        &self,
        writer: &Writer,
        change: &Change,
        current: &StoredObject,
        old: &Object,
        warnings: &mut Vec<String>,
    ) -> Result<Object, Status> {
        let new = self.changed(writer, change, old, warnings).await?;
        check_preconditions(writer, change, &new, current)?;
        Ok(new)
    }

    async fn changed(&self, writer: &Writer, change: &Change, old: &Object, warnings: &mut Vec<String>) -> Result<Object, Status> {
        let target = &writer.target;
        let decoded = match change {
            Change::Put(object) => return Ok(object.clone()),
            Change::Transform(transform) => return transform(old),
            Change::Patch { patch_type: PatchType::Apply, patch } => self.apply(writer, Some(old), patch).await?,
            Change::Patch { patch_type, patch } => objects::patch(target, *patch_type, old, patch, &writer.options)?,
        };
        warnings.clear();
        warnings.extend(decoded.warnings);
        let mut object = decoded.object;
        finish_named(target, &mut object)?;
        Ok(object)
    }

    /// An update of what does not exist: creates it where the kind or the patch says so.
    async fn update_missing(self: &Arc<Self>, writer: &Writer, change: &Change, warnings: &mut Vec<String>) -> Result<ApiReply, Status> {
        let target = &writer.target;
        let missing = || Status::not_found(&target.group_resource(), &target.name);
        let (mut object, ownership) = match change {
            Change::Put(object) if target.resource.strategy.allow_create_on_update() && target.subresource.is_empty() => {
                (object.clone(), Ownership::Track)
            }
            Change::Patch { patch_type: PatchType::Apply, patch } if target.subresource.is_empty() => {
                let applied = self.apply(writer, None, patch).await?;
                // Who names an object's UID means that object and no new one.
                if !applied.object.uid().is_empty() {
                    let why = format!("uid mismatch: the provided object specified uid {}, and no existing object was found", applied.object.uid());
                    return Err(Status::conflict(&target.group_resource(), &target.name, why));
                }
                warnings.extend(applied.warnings);
                (applied.object, Ownership::Done)
            }
            _ => return Err(missing()),
        };
        self.authorization.authorize(&writer.user, target, "create", &target.name, Selection::default()).await?;
        object.remove(&["metadata", "resourceVersion"]);
        // A small patch may stand for large objects.
        let work = self.admission.work(&self.attributes(writer, None).with_object(&object));
        let (path, writer) = (self.clone(), writer.clone());
        let reply = aside::run(work, async move { path.create_object(&writer, object, Vec::new(), ownership).await }).await?;
        warnings.extend(reply.warnings);
        Ok(ApiReply { warnings: Vec::new(), ..reply })
    }
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
