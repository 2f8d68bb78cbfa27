//! `NamespaceLifecycle`: nothing is created in a namespace that is missing or going away; some namespaces stay forever.

use async_trait::async_trait;
use troupe_api::{
    meta::{GroupResource, ObjectKey},
    status::{Status, StatusCause},
    stored::StoredObject,
};

use super::{Attributes, MutatingPlugin, Operation, Plugin};

/// Namespaces that cannot be deleted.
const IMMORTAL: [&str; 3] = ["default", "kube-system", "kube-public"];

/// The plugin.
#[derive(Clone, Copy, Debug, Default)]
pub struct NamespaceLifecycle;

impl Plugin for NamespaceLifecycle {
    fn name(&self) -> &'static str {
        "NamespaceLifecycle"
    }

    fn operations(&self) -> &'static [Operation] {
        super::plugin::CHANGES
    }
}

#[async_trait]
impl MutatingPlugin for NamespaceLifecycle {
    async fn admit(&self, request: &mut Attributes<'_>) -> Result<(), Status> {
        if request.operation == Operation::Delete && request.is_main("", "namespaces") && IMMORTAL.contains(&&*request.target.name) {
            return Err(Status::forbidden(&request.target.group_resource(), &request.target.name, "this namespace may not be deleted"));
        }
        if request.operation != Operation::Create || request.target.namespace.is_empty() || is_access_review(request) {
            return Ok(());
        }
        let namespaces = GroupResource::new("", "namespaces");
        let key = ObjectKey::cluster(request.target.namespace.clone());
        let found = match request.reads.listers().get(&namespaces, &key) {
            Some(namespace) => Some(namespace),
            None => request.reads.live(&namespaces, &key).await?,
        };
        match found {
            None => Err(Status::not_found(&namespaces, &key.name)),
            Some(namespace) if is_terminating(&namespace) => Err(terminating(request)),
            Some(_) => Ok(()),
        }
    }
}

/// A local review asks about a namespace that need not exist.
fn is_access_review(request: &Attributes<'_>) -> bool {
    *request.target.resource.group == *"authorization.k8s.io"
}

fn is_terminating(namespace: &StoredObject) -> bool {
    namespace.meta().deletion_timestamp.is_some()
}

fn terminating(request: &Attributes<'_>) -> Status {
    let namespace = &request.target.namespace;
    let why = format!("unable to create new content in namespace {namespace} because it is being terminated");
    let message = format!("namespace {namespace} is being terminated");
    let cause = StatusCause { reason: "NamespaceTerminating".into(), message, field: "metadata.namespace".into() };
    request.forbidden(why).with_causes(vec![cause])
}
