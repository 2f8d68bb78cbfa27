//! Delete: preconditions, grace, finalizers, propagation.

use std::sync::Arc;

use serde_json::json;
use troupe_api::{
    features::ALLOW_UNSAFE_MALFORMED_OBJECT_DELETION,
    meta::{
        GroupResource, Object, Revision,
        time::{format_time, parse_time, shifted_by_seconds},
    },
    resources::{Feature, Resource},
    service::{ApiReply, DeleteOptions, Propagation, ReplyBody},
    status::Status,
    stored::StoredObject,
};
use troupe_api_server::admission::OperationOptions;

use super::{WritePath, metadata};
use crate::apiserver::{
    commit::{CommitError, stored},
    writer::Writer,
};

const ORPHAN: &str = "orphan";
const FOREGROUND: &str = "foregroundDeletion";

/// What a deletion does to the current version.
#[derive(Debug, PartialEq)]
pub enum Deletion {
    /// It is going already, and the request changes nothing.
    Pending,
    /// Writes the marked object; it stays until grace or finalizers end.
    Mark(Box<Object>),
    /// Takes it away. Of an object of a kind that knows grace, this is how it goes: marked, with no grace left.
    Remove(Option<Box<Object>>),
}

/// Whether a deletion is a request of its own to admission.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Admission {
    IsAsked,
    WasAsked,
}

impl WritePath {
    /// DELETE of one object.
    pub async fn delete(&self, writer: &Writer, options: &DeleteOptions) -> Result<ApiReply, Status> {
        let strategy = &writer.target.resource.strategy;
        if let Some(why) = strategy.undeletable(&writer.target.name) {
            return Err(Status::forbidden(&writer.target.group_resource(), &writer.target.name, why));
        }
        if options.ignore_store_read_error && self.features.is_on(ALLOW_UNSAFE_MALFORMED_OBJECT_DELETION) {
            return self.delete_unreadable(writer).await;
        }
        let mut reply = self.delete_selected(writer, options).await?;
        reply.warnings.extend(deletion_warning(&writer.target.resource, options));
        Ok(reply)
    }

    /// The deletion of an object that a request for its collection selects.
    pub(super) async fn delete_selected(&self, writer: &Writer, options: &DeleteOptions) -> Result<ApiReply, Status> {
        self.delete_when(writer, options, Admission::IsAsked).await
    }

    /// The deletion that follows from a request which admission saw, such as an eviction: it is not asked once more.
    pub async fn delete_admitted(&self, writer: &Writer, options: &DeleteOptions) -> Result<ApiReply, Status> {
        self.delete_when(writer, options, Admission::WasAsked).await
    }

    async fn delete_when(&self, writer: &Writer, options: &DeleteOptions, admission: Admission) -> Result<ApiReply, Status> {
        options.validate()?;
        let resource = &writer.target.resource;
        let key = writer.target.key();
        let mut current = self.reader.read_live(resource, &key).await?;
        loop {
            let Some(version) = current else { return Err(Status::not_found(&writer.target.group_resource(), &key.name)) };
            match self.try_delete(writer, options, &version, admission).await {
                Ok(reply) => return self.reader.versions.shown_reply(&writer.target, reply).await,
                Err(CommitError::Lost(newer)) => current = newer.map(|kv| stored(resource, kv)).transpose()?,
                Err(CommitError::Failed(status) | CommitError::Unclear(status)) => return Err(status),
            }
        }
    }

    async fn try_delete(
        &self,
        writer: &Writer,
        options: &DeleteOptions,
        current: &Arc<StoredObject>,
        admission: Admission,
    ) -> Result<ApiReply, CommitError> {
        let resource = &writer.target.resource;
        check_preconditions(resource, options, current).map_err(CommitError::Failed)?;
        let old = self.reader.versions.worked_on(&writer.target, current).await.map_err(CommitError::Failed)?;
        if admission == Admission::IsAsked {
            let attributes = self.admission.attributes(writer, OperationOptions::Delete(options)).with_old(Some(&old));
            self.admission.admit(attributes).await.map_err(CommitError::Failed)?;
        }
        let body = match plan(resource, &old, options, self.clock.now()) {
            Deletion::Pending => ReplyBody::Object(current.clone()),
            Deletion::Mark(marked) if options.dry_run => ReplyBody::Tree(*marked),
            Deletion::Mark(marked) => {
                let mut marked = *marked;
                marked.remove(&["metadata", "resourceVersion"]);
                ReplyBody::Object(self.write_changed(writer, &marked, current.revision).await?)
            }
            Deletion::Remove(marked) if options.dry_run => gone(resource, current, marked, current.revision),
            Deletion::Remove(marked) => {
                let revision = self.committer.delete(resource, &current.key, current.revision, &writer.cause).await?;
                self.allocator.release(&writer.target, current, revision).await;
                gone(resource, current, marked, revision)
            }
        };
        Ok(ApiReply::ok(body))
    }
}

/// What the client is told beside the reply.
pub(super) fn deletion_warning(resource: &Resource, options: &DeleteOptions) -> Option<String> {
    resource.strategy.deletion_warning().filter(|_| options.propagation.is_none()).map(str::to_owned)
}

fn check_preconditions(resource: &Resource, options: &DeleteOptions, current: &StoredObject) -> Result<(), Status> {
    // Upstream names the kind here where it names the resource elsewhere.
    let named = GroupResource::new(resource.group.clone(), resource.kind.clone());
    let conflict = |why: String| Err(Status::conflict(&named, &current.key.name, why));
    if let Some(uid) = options.precondition_uid.as_deref().filter(|uid| **uid != *current.meta().uid) {
        let found = &current.meta().uid;
        return conflict(format!(
            "the UID in the precondition ({uid}) does not match the UID in record ({found}). The object might have been deleted and then recreated"
        ));
    }
    if let Some(revision) = options.precondition_revision.filter(|revision| *revision != current.revision) {
        let found = current.revision;
        return conflict(format!(
            "the ResourceVersion in the precondition ({revision}) does not match the ResourceVersion in record ({found}). The object might have been modified"
        ));
    }
    Ok(())
}

/// Decides what a deletion does. Pure.
pub fn plan(resource: &Resource, old: &Object, options: &DeleteOptions, now: jiff::Timestamp) -> Deletion {
    let mut new = old.clone();
    let graceful = match grace(resource, &mut new, old, options, now) {
        Grace::Pending => return Deletion::Pending,
        Grace::None => None,
        Grace::Seconds(seconds) => Some(seconds),
    };
    metadata::set_finalizers(&mut new, propagate(metadata::finalizers(old), options.propagation, resource.strategy.orphans_by_default()));
    if !old.is_terminating() {
        resource.strategy.begin_deletion(&mut new, now);
    }
    let held = !metadata::finalizers(&new).is_empty() || resource.strategy.holds(old);
    if !held && graceful.is_none_or(|seconds| seconds == 0) {
        return Deletion::Remove(graceful.map(|_| Box::new(new)));
    }
    if graceful.is_none() {
        mark(&mut new, 0, now, 0);
        resource.strategy.mark_deleted(&mut new);
    }
    if new == *old { Deletion::Pending } else { Deletion::Mark(Box::new(new)) }
}

enum Grace {
    /// Deleted gracefully before, and not to be hurried now.
    Pending,
    /// The kind knows no grace.
    None,
    Seconds(i64),
}

fn grace(resource: &Resource, new: &mut Object, old: &Object, options: &DeleteOptions, now: jiff::Timestamp) -> Grace {
    let requested = options.grace_period_seconds.map(|seconds| if seconds < 0 { 1 } else { seconds });
    let Some(seconds) = resource.strategy.graceful_deletion(old, requested) else { return Grace::None };
    if !old.is_terminating() {
        mark(new, seconds, now, seconds);
        return Grace::Seconds(seconds);
    }
    let Some(left) = old.int(&["metadata", "deletionGracePeriodSeconds"]) else { return Grace::None };
    match requested {
        Some(period) if period < left => {
            let until = parse_time(old.str(&["metadata", "deletionTimestamp"])).unwrap_or(now);
            let until = shifted_by_seconds(until, period.saturating_sub(left));
            // An end that is over already is now, and what was to end with grace keeps the least there is.
            let is_over = until < now;
            let period = if is_over { period.min(1) } else { period };
            new.set(&["metadata", "deletionTimestamp"], format_time(until.max(now)));
            new.set(&["metadata", "deletionGracePeriodSeconds"], period);
            Grace::Seconds(period)
        }
        _ if left == 0 => Grace::Seconds(0),
        _ => Grace::Pending,
    }
}

/// Sets deletionTimestamp once, `ahead` seconds from now, and the grace period; the first mark bumps the generation.
fn mark(object: &mut Object, grace: i64, now: jiff::Timestamp, ahead: i64) {
    if !object.is_terminating() {
        metadata::bump_generation(object);
        object.set(&["metadata", "deletionTimestamp"], format_time(shifted_by_seconds(now, ahead)));
    }
    object.set(&["metadata", "deletionGracePeriodSeconds"], grace);
}

/// The finalizers after the propagation policy had its say. Without a policy the ones that stand there decide, then the kind.
fn propagate(finalizers: Vec<String>, policy: Option<Propagation>, orphans_by_default: bool) -> Vec<String> {
    let has = |name: &str| finalizers.iter().any(|finalizer| finalizer == name);
    let (orphan, foreground) = match policy {
        Some(Propagation::Orphan) => (true, false),
        Some(Propagation::Background) => (false, false),
        Some(Propagation::Foreground) => (false, true),
        None => (has(ORPHAN) || orphans_by_default && !has(FOREGROUND), has(FOREGROUND)),
    };
    let unchanged = orphan == has(ORPHAN) && foreground == has(FOREGROUND);
    if unchanged {
        return finalizers;
    }
    let mut result: Vec<String> = finalizers.into_iter().filter(|finalizer| finalizer != ORPHAN && finalizer != FOREGROUND).collect();
    result.extend(orphan.then(|| ORPHAN.to_owned()));
    result.extend(foreground.then(|| FOREGROUND.to_owned()));
    result
}

/// The reply to a finished deletion: the object for the kinds where upstream returns it (as it was marked, if it was), else a Status.
fn gone(resource: &Resource, object: &StoredObject, marked: Option<Box<Object>>, revision: Revision) -> ReplyBody {
    if resource.has(Feature::ReturnsDeleted) {
        return match marked {
            Some(mut marked) => {
                marked.set(&["metadata", "resourceVersion"], revision.to_string());
                ReplyBody::Tree(*marked)
            }
            None => ReplyBody::Object(Arc::new(object.at_revision(revision))),
        };
    }
    let mut details = json!({"name": &*object.key.name, "kind": &*resource.plural, "uid": &*object.meta().uid});
    if !resource.group.is_empty() {
        details["group"] = json!(&*resource.group);
    }
    ReplyBody::Success { details }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;
    use troupe_api::resources::{Registry, builtin};

    use super::*;

    fn pod(grace: i64) -> Object {
        let metadata = json!({"name": "p", "namespace": "n", "uid": "u"});
        let spec = json!({"nodeName": "a", "terminationGracePeriodSeconds": grace});
        Object::from_value(json!({"metadata": metadata, "spec": spec})).expect("an object")
    }

    fn marked(object: &Object, requested: Option<i64>) -> Value {
        let resources = Registry::new(builtin());
        let pods = resources.by_resource("", "pods").expect("is served");
        let options = DeleteOptions { grace_period_seconds: requested, ..DeleteOptions::default() };
        let now = "2026-01-01T00:00:00Z".parse().expect("a time");
        match plan(&pods, object, &options, now) {
            Deletion::Mark(marked) => marked.into_value()["metadata"]["deletionTimestamp"].clone(),
            other => panic!("expected a mark, got {other:?}"),
        }
    }

    #[test]
    fn a_grace_that_no_calendar_holds_ends_with_the_calendar() {
        assert_eq!(marked(&pod(30), None), "2026-01-01T00:00:30Z");
        assert_eq!(marked(&pod(1 << 62), None), "9999-12-30T22:00:00Z");
        assert_eq!(marked(&pod(i64::MAX), None), "9999-12-30T22:00:00Z");
        let mut terminating = pod(1 << 62);
        terminating.set(&["metadata", "deletionTimestamp"], "9999-12-30T22:00:00Z");
        terminating.set(&["metadata", "deletionGracePeriodSeconds"], i64::MAX);
        assert_eq!(marked(&pod(30), Some(-7)), "2026-01-01T00:00:01Z", "less than none is the least there is");
        assert_eq!(marked(&terminating, Some(5)), "2026-01-01T00:00:00Z", "the sooner end wins, and is not over before it begins");
    }

    #[test]
    fn a_pod_that_goes_at_once_was_marked_before() {
        let resources = Registry::new(builtin());
        let pods = resources.by_resource("", "pods").expect("is served");
        let mut pod = pod(30);
        pod.set(&["metadata", "generation"], 1);
        pod.remove(&["spec", "nodeName"]);
        let now = "2026-01-01T00:00:00Z".parse().expect("a time");
        let Deletion::Remove(Some(gone)) = plan(&pods, &pod, &DeleteOptions::default(), now) else { panic!("no node has it") };
        let metadata = json!({"name": "p", "namespace": "n", "uid": "u", "generation": 2, "deletionTimestamp": "2026-01-01T00:00:00Z",
            "deletionGracePeriodSeconds": 0});
        assert_eq!(gone.get(&["metadata"]), Some(&metadata));
    }
}
