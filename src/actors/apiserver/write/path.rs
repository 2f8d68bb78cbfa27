//! The path of a write, stage by stage (see the [module](super)).

use std::sync::Arc;

use troupe_api::{
    meta::{Object, Revision},
    service::{ApiReply, ReplyBody},
    status::Status,
    stored::StoredObject,
};

use super::{
    WritePath,
    create::Ownership,
    stages::Step,
    update::{Attempt, Change},
};
use crate::apiserver::{commit::CommitError, services::Settlement, writer::Writer};

impl WritePath {
    /// A create of a decoded object; with `base`, under a name that is made of it unless mutating admission gave it one.
    pub(super) async fn create_once(
        &self,
        writer: &Writer,
        mut new: Object,
        base: Option<&str>,
        mut warnings: Vec<String>,
        ownership: Ownership,
    ) -> Result<ApiReply, Status> {
        if ownership == Ownership::Track {
            self.own_new(writer, &mut new).await?;
        }
        writer.told(self.mutate(writer, &mut new, None).await, &warnings)?;
        let prepared = self.prepare_new(writer, &mut new, base, &mut warnings);
        writer.told(prepared, &warnings)?;
        let allocation = writer.told(self.allocator.allocate(writer, &mut new, None).await, &warnings)?;
        let result = self.settle_new(writer, &new, &mut warnings).await;
        let revision = result.as_ref().map(|body| if let ReplyBody::Object(object) = body { Some(object.revision) } else { None });
        self.allocator.settle(allocation, Settlement::of(revision)).await;
        match result {
            Ok(body) => self.reader.versions.shown_reply(&writer.target, ApiReply { warnings, ..ApiReply::created(body) }).await,
            Err(CommitError::Lost(_)) => writer.told(Err(self.occupied(writer, &new).await), &warnings),
            Err(CommitError::Failed(status) | CommitError::Unclear(status)) => writer.told(Err(status), &warnings),
        }
    }

    /// Its stages after allocation.
    async fn settle_new(&self, writer: &Writer, new: &Object, warnings: &mut Vec<String>) -> Result<ReplyBody, CommitError> {
        self.validate(writer, new, None, warnings).await.map_err(CommitError::Failed)?;
        self.admit(writer, new, None).await.map_err(CommitError::Failed)?;
        self.commit_new(writer, new).await
    }

    /// An update of one version of an object.
    pub(super) async fn update_once(
        &self,
        writer: &Writer,
        change: &Change,
        current: &Arc<StoredObject>,
        warnings: &mut Vec<String>,
    ) -> Result<Attempt, CommitError> {
        let old = self.reader.versions.worked_on(&writer.target, current).await.map_err(CommitError::Failed)?;
        let mut new = self.compute(writer, change, current, &old, warnings).await.map_err(CommitError::Failed)?;
        self.mutate(writer, &mut new, Some(&old)).await.map_err(CommitError::Failed)?;
        self.prepare_changed(writer, &mut new, &old, warnings);
        if !change.is_apply() {
            self.track(writer, Some(&old), &mut new).await.map_err(CommitError::Failed)?;
        }
        let allocation = self.allocator.allocate(writer, &mut new, Some(&old)).await.map_err(CommitError::Failed)?;
        let result = self.settle_changed(writer, new, &old, current, warnings).await;
        self.allocator.settle(allocation, Settlement::of(result.as_ref().map(|settled| settled.revision))).await;
        let Settled { body, step, revision } = result?;
        if let (Step::Remove, Some(revision)) = (step, revision) {
            self.allocator.release(&writer.target, current, revision).await;
        }
        let is_written = step != Step::Keep && revision.is_some();
        let reply = ApiReply::ok(body);
        Ok(if is_written { Attempt::Written(reply) } else { Attempt::Kept(reply) })
    }

    /// Its stages after allocation.
    async fn settle_changed(
        &self,
        writer: &Writer,
        mut new: Object,
        old: &Object,
        current: &Arc<StoredObject>,
        warnings: &mut Vec<String>,
    ) -> Result<Settled, CommitError> {
        let resource = &writer.target.resource;
        self.validate(writer, &new, Some(old), warnings).await.map_err(CommitError::Failed)?;
        // It replaces the version that was read, whether or not its writer named one.
        new.set(&["metadata", "resourceVersion"], current.revision.to_string());
        self.admit(writer, &new, Some(old)).await.map_err(CommitError::Failed)?;
        new.remove(&["metadata", "resourceVersion"]);
        let mut step = Step::of(resource, current, &new, old);
        if step == Step::Keep {
            // Also the times of managedFields stay.
            new = old.clone();
            new.remove(&["metadata", "resourceVersion"]);
        }
        if step == Step::Keep && !writer.options.dry_run && self.committer.is_stale(resource, &current.key).await? {
            step = Step::Write;
        }
        if writer.options.dry_run {
            return Ok(Settled { body: ReplyBody::Tree(with_revision(new, current.revision)), step, revision: None });
        }
        let (body, revision) = match step {
            Step::Keep => (ReplyBody::Object(current.clone()), current.revision),
            Step::Write => {
                let written = self.commit_changed(writer, &new, old, current).await?;
                let revision = written.revision;
                (ReplyBody::Object(written), revision)
            }
            Step::Remove => {
                let revision = self.committer.delete(resource, &current.key, current.revision, &writer.cause).await?;
                (ReplyBody::Tree(with_revision(new, revision)), revision)
            }
        };
        Ok(Settled { body, step, revision: Some(revision) })
    }
}

/// What an update came to.
struct Settled {
    body: ReplyBody,
    step: Step,
    /// What is in force now; none after a dry run.
    revision: Option<Revision>,
}

fn with_revision(mut object: Object, revision: Revision) -> Object {
    object.set(&["metadata", "resourceVersion"], revision.to_string());
    object
}
