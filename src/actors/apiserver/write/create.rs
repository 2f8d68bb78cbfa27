//! Creates: names that are generated, and what comes before the [path](super::path).

use std::sync::Arc;

use troupe_api::{
    aside,
    meta::Object,
    service::{ApiReply, Body},
    status::Status,
};

use super::{WritePath, names};
use crate::apiserver::{objects, writer::Writer};

/// How often a generated name is tried.
const NAME_TRIES: usize = 8;

/// Whether the object's managedFields are still to be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ownership {
    Track,
    /// Server-side apply made them.
    Done,
}

impl WritePath {
    /// Creates the object in `body`.
    pub async fn create(&self, writer: &Writer, body: Body) -> Result<ApiReply, Status> {
        let decoded = objects::decode(&*objects::schema(&writer.target)?, body, writer.options.field_validation)?;
        self.create_object(writer, decoded.object, decoded.warnings, Ownership::Track).await
    }

    /// The same beside the event loop where a small body stands for large objects.
    pub async fn create_aside(self: &Arc<Self>, writer: Writer, body: Body) -> Result<ApiReply, Status> {
        let decoded = objects::decode(&*objects::schema(&writer.target)?, body, writer.options.field_validation)?;
        let work = self.admission.work(&self.attributes(&writer, None).with_object(&decoded.object));
        let path = self.clone();
        let create = async move { path.create_object(&writer, decoded.object, decoded.warnings, Ownership::Track).await };
        aside::run(work, create).await
    }

    /// Creates a decoded object, under a generated name where it wants one.
    pub async fn create_object(&self, writer: &Writer, mut object: Object, warnings: Vec<String>, ownership: Ownership) -> Result<ApiReply, Status> {
        if writer.target.resource.is_terminating {
            let why = "create not allowed while custom resource definition is terminating";
            return Err(Status::forbidden(&writer.target.group_resource(), object.name(), why));
        }
        self.room.check_create(writer)?;
        names::settle_namespace(&writer.target, &mut object)?;
        objects::finish(&writer.target, &mut object)?;
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

    /// The 409 of a create where something stands: it tells whether that is about to go.
    pub(super) async fn occupied(&self, writer: &Writer, object: &Object) -> Status {
        let mut status = Status::already_exists(&writer.target.group_resource(), object.name());
        let there = self.reader.read_live(&writer.target.resource, &object.key()).await.ok().flatten();
        if there.is_some_and(|there| there.meta().deletion_timestamp.is_some()) {
            status.message.insert_str(0, "object is being deleted: ");
        }
        status
    }
}
