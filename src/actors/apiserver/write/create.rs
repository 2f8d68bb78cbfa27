//! Create.

use std::sync::Arc;

use troupe_api::{
    admission::Operation,
    aside,
    meta::Object,
    service::{ApiReply, Body, ReplyBody},
    status::{Reason, Status},
};

use super::{Writer, commit::CommitError, metadata, names};
use crate::apiserver::{core::Core, objects, services::Settlement};

/// How often a generated name is tried.
const NAME_TRIES: usize = 8;

/// Whether the object's managedFields are still to be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ownership {
    Track,
    /// Server-side apply made them.
    Done,
}

impl Core {
    /// Creates the object in `body`.
    pub async fn create(&self, writer: &Writer, body: Body) -> Result<ApiReply, Status> {
        let decoded = objects::decode(&*objects::schema(&writer.target)?, body, writer.options.field_validation)?;
        self.create_object(writer, decoded.object, decoded.warnings, Ownership::Track).await
    }

    /// The same beside the event loop where a small body stands for large objects.
    pub async fn create_aside(self: &Arc<Self>, writer: Writer, body: Body) -> Result<ApiReply, Status> {
        let decoded = objects::decode(&*objects::schema(&writer.target)?, body, writer.options.field_validation)?;
        let work = self.admission.work(&writer.attributes(self, Operation::Create).with_object(&decoded.object));
        let core = self.clone();
        let create = async move { core.create_object(&writer, decoded.object, decoded.warnings, Ownership::Track).await };
        aside::run(work, create).await
    }

    /// Creates a decoded object, under a generated name where it wants one.
    pub async fn create_object(&self, writer: &Writer, mut object: Object, warnings: Vec<String>, ownership: Ownership) -> Result<ApiReply, Status> {
        if writer.target.resource.is_terminating {
            return Err(Status::method_not_allowed("create not allowed while custom resource definition is terminating"));
        }
        self.check_room_to_create(writer)?;
        names::settle_namespace(&writer.target, &mut object)?;
        objects::finish(&writer.target, &mut object)?;
        if !object.resource_version().is_empty() {
            return Err(Status::new(500, Reason::Unknown, "resourceVersion should not be set on objects to be created"));
        }
        let generate = object.name().is_empty().then(|| object.str(&["metadata", "generateName"]).to_owned()).filter(|base| !base.is_empty());
        let Some(base) = generate else { return self.create_once(writer, object, None, warnings, ownership).await };
        for _ in 1..NAME_TRIES {
            match self.create_once(writer, object.clone(), Some(&base), warnings.clone(), ownership).await {
                Err(status) if status.is_already_exists() => {}
                settled => return settled,
            }
        }
        self.create_once(writer, object, Some(&base), warnings, ownership).await.map_err(|mut status| {
            if status.is_already_exists() {
                status.message.push_str(", the server was not able to generate a unique name for the object");
            }
            status
        })
    }

    /// Creates an object; with `base`, under a name that is made of it unless mutating admission gave it one.
    async fn create_once(
        &self,
        writer: &Writer,
        mut object: Object,
        base: Option<&str>,
        mut warnings: Vec<String>,
        ownership: Ownership,
    ) -> Result<ApiReply, Status> {
        let version = writer.target.served();
        if ownership == Ownership::Track {
            // The status that prepare_create makes is nobody's.
            let mut owned = object.clone();
            owned.remove(&["status"]);
            objects::track(writer, None, &mut owned, self.clock.now())?;
            if let Some(managed) = owned.remove(&["metadata", "managedFields"]) {
                object.set(&["metadata", "managedFields"], managed);
            }
        }
        let mut admission = writer.attributes(self, Operation::Create).with_object(&mut object);
        self.admission.admit(&mut admission).await?;
        names::settle_namespace(&writer.target, &mut object)?;
        if let (Some(base), "") = (base, object.name()) {
            object.set(&["metadata", "name"], names::generate(base, &mut self.recorder.system().rng()));
        }
        if !writer.target.name.is_empty() {
            names::check_update(&writer.target, &object)?;
        }
        warnings.extend(metadata::dedup_owners(&mut object));
        metadata::fill_system_fields(&mut object, &*version.strategy, &*self.clock, &mut self.recorder.system().rng());
        version.strategy.prepare_create(&mut object, &writer.context(self));
        let allocated = self.allocate(writer, &mut object, None).await?;
        let result = self.validate_and_commit_create(writer, &object, &mut warnings).await;
        let settlement = match &result {
            Ok(ReplyBody::Object(object)) => Settlement::Committed(object.revision),
            Err(CommitError::Unclear(_)) => Settlement::Unclear,
            _ => Settlement::Dropped,
        };
        self.settle_allocation(allocated, settlement).await;
        let body = match result {
            Ok(body) => body,
            Err(CommitError::Lost(_)) => return Err(self.occupied(writer, &object).await),
            Err(CommitError::Failed(status) | CommitError::Unclear(status)) => return Err(status),
        };
        Ok(ApiReply { warnings, ..ApiReply::created(body) })
    }

    /// The 409 of a create where something stands: it tells whether that is about to go.
    async fn occupied(&self, writer: &Writer, object: &Object) -> Status {
        let mut status = Status::already_exists(&writer.target.group_resource(), object.name());
        let there = self.read_live(&writer.target.resource, &object.key()).await.ok().flatten();
        if there.is_some_and(|there| there.meta().deletion_timestamp.is_some()) {
            status.message.insert_str(0, "object is being deleted: ");
        }
        status
    }

    async fn validate_and_commit_create(&self, writer: &Writer, object: &Object, warnings: &mut Vec<String>) -> Result<ReplyBody, CommitError> {
        self.validate_create(writer, object, warnings).await.map_err(CommitError::Failed)?;
        let receipt = self.charge(writer, Operation::Create, object, None).await.map_err(CommitError::Failed)?;
        let resource = &writer.target.resource;
        if !writer.options.dry_run {
            let written = self.commit_create(resource, object, &writer.cause).await;
            if let Err(error) = &written {
                self.refund(writer, receipt, error);
            }
            return written.map(ReplyBody::Object);
        }
        match self.read_live(resource, &object.key()).await.map_err(CommitError::Failed)? {
            Some(_) => Err(CommitError::Lost(None)),
            None => Ok(ReplyBody::Tree(object.clone())),
        }
    }

    async fn validate_create(&self, writer: &Writer, object: &Object, warnings: &mut Vec<String>) -> Result<(), Status> {
        let resource = &writer.target.resource;
        let mut errors = resource.validate_create(writer.target.served(), object);
        errors.extend(objects::missing_fields(resource, object, &errors)?);
        if errors.is_empty() {
            errors.extend(self.unreadable_parameters(&writer.user, &writer.target, object, None));
        }
        if !errors.is_empty() {
            return Err(writer.invalid(object.name(), errors));
        }
        warnings.extend(resource.warnings(object, None, &writer.target.subresource));
        self.check_escalation(&writer.user, &writer.target, object, None)?;
        let admission = writer.attributes(self, Operation::Create).with_object(object);
        self.admission.validate(&admission).await
    }
}
