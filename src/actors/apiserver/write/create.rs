//! Create.

use troupe_api::{
    admission::Operation,
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
        let target = &writer.target;
        let decoded = objects::decode(&target.resource.gvk(&target.version), body, writer.options.field_validation)?;
        self.create_object(writer, decoded.object, decoded.warnings, Ownership::Track).await
    }

    /// Creates a decoded object, under a generated name where it wants one.
    pub async fn create_object(&self, writer: &Writer, mut object: Object, warnings: Vec<String>, ownership: Ownership) -> Result<ApiReply, Status> {
        names::settle_namespace(&writer.target, &mut object)?;
        objects::finish(&writer.target, &mut object)?;
        if !object.resource_version().is_empty() {
            return Err(Status::new(500, Reason::Unknown, "resourceVersion should not be set on objects to be created"));
        }
        let generate = object.name().is_empty().then(|| object.str(&["metadata", "generateName"]).to_owned()).filter(|base| !base.is_empty());
        let Some(base) = generate else { return self.create_once(writer, object, warnings, ownership).await };
        for _ in 1..NAME_TRIES {
            let mut named = object.clone();
            named.set(&["metadata", "name"], names::generate(&base, &mut self.recorder.system().rng()));
            match self.create_once(writer, named, warnings.clone(), ownership).await {
                Err(status) if status.is_already_exists() => {}
                settled => return settled,
            }
        }
        object.set(&["metadata", "name"], names::generate(&base, &mut self.recorder.system().rng()));
        let resource = writer.target.group_resource();
        let name = object.name().to_owned();
        self.create_once(writer, object, warnings, ownership).await.map_err(|mut status| {
            if status.is_already_exists() {
                status.message = format!("{resource} \"{name}\" already exists, the server was not able to generate a unique name for the object");
            }
            status
        })
    }

    async fn create_once(&self, writer: &Writer, mut object: Object, mut warnings: Vec<String>, ownership: Ownership) -> Result<ApiReply, Status> {
        let resource = &writer.target.resource;
        if ownership == Ownership::Track {
            // The status that prepare_create makes is nobody's.
            let mut owned = object.clone();
            owned.remove(&["status"]);
            objects::track(writer, None, &mut owned, self.clock.now())?;
            if let Some(managed) = owned.remove(&["metadata", "managedFields"]) {
                object.set(&["metadata", "managedFields"], managed);
            }
        }
        let mut admission = writer.admission(self, Operation::Create, Some(&mut object), None);
        self.admission.admit(&mut admission).await?;
        warnings.append(&mut admission.warnings);
        warnings.extend(metadata::dedup_owners(&mut object));
        metadata::fill_system_fields(&mut object, &*resource.strategy, &*self.clock, &mut self.recorder.system().rng());
        resource.strategy.prepare_create(&mut object, &writer.context(self));
        let allocated = self.allocate(writer, &mut object, None).await?;
        let result = self.validate_and_commit_create(writer, &mut object, &mut warnings).await;
        let settlement = match &result {
            Ok(ReplyBody::Object(object)) => Settlement::Committed(object.revision),
            Err(CommitError::Unclear(_)) => Settlement::Unclear,
            _ => Settlement::Dropped,
        };
        self.settle_allocation(allocated, settlement).await;
        let body = result.map_err(|error| match error {
            CommitError::Lost(_) => Status::already_exists(&writer.target.group_resource(), object.name()),
            CommitError::Failed(status) | CommitError::Unclear(status) => status,
        })?;
        Ok(ApiReply { warnings, ..ApiReply::created(body) })
    }

    async fn validate_and_commit_create(&self, writer: &Writer, object: &mut Object, warnings: &mut Vec<String>) -> Result<ReplyBody, CommitError> {
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

    async fn validate_create(&self, writer: &Writer, object: &mut Object, warnings: &mut Vec<String>) -> Result<(), Status> {
        let resource = &writer.target.resource;
        let mut errors = resource.validate_create(object);
        errors.extend(objects::missing_fields(resource, object, &errors)?);
        if !errors.is_empty() {
            return Err(writer.invalid(object.name(), errors));
        }
        warnings.extend(resource.strategy.warnings(object));
        self.check_escalation(&writer.user, &writer.target, object, None)?;
        let admission = writer.admission(self, Operation::Create, Some(object), None);
        self.admission.validate(&admission).await
    }
}
