//! `OwnerReferencesPermissionEnforcement`: nobody has an object collected, or its owner kept, who may not do so by hand.

use async_trait::async_trait;
use serde_json::Value;
use troupe_api::{
    auth::{self, Authorizer, Decision},
    meta::{GroupVersion, Object},
    status::Status,
};

use super::{Attributes, Operation, Plugin, ValidatingPlugin};

/// The plugin.
#[derive(Clone, Copy, Debug, Default)]
pub struct OwnerReferencesPermissionEnforcement;

impl Plugin for OwnerReferencesPermissionEnforcement {
    fn name(&self) -> &'static str {
        "OwnerReferencesPermissionEnforcement"
    }

    fn operations(&self) -> &'static [Operation] {
        super::plugin::WRITES
    }
}

#[async_trait]
impl ValidatingPlugin for OwnerReferencesPermissionEnforcement {
    async fn validate(&self, request: &Attributes<'_>) -> Result<(), Status> {
        if !matches!(request.operation, Operation::Create | Operation::Update) {
            return Ok(());
        }
        let (Some(new), Some(authorizer)) = (request.object(), request.reads.authorizer()) else { return Ok(()) };
        let target = request.target;
        let is_pod_status = target.resource.group.is_empty() && &*target.resource.plural == "pods" && &*target.subresource == "status";
        if is_pod_status || references(Some(new)) == references(request.old) {
            return Ok(());
        }
        if request.operation != Operation::Create {
            may_delete(request, &**authorizer).await?;
        }
        may_block(request, new, &**authorizer).await
    }
}

fn references(object: Option<&Object>) -> &[Value] {
    object.map_or(&[], |object| object.list(&["metadata", "ownerReferences"]))
}

async fn may_delete(request: &Attributes<'_>, authorizer: &dyn Authorizer) -> Result<(), Status> {
    let target = request.target;
    let delete = auth::Attributes {
        verb: "delete",
        resource: &target.resource.plural,
        subresource: &target.subresource,
        group: &target.resource.group,
        version: &target.version,
        namespace: request.namespace(),
        name: request.name(),
        ..auth::Attributes::default()
    };
    match auth::decide(authorizer, request.user, &delete).await {
        Decision::Allow => Ok(()),
        Decision::Deny(why) | Decision::NoOpinion(why) => {
            Err(request.forbidden(format!("cannot set an ownerRef on a resource you can't delete: {why}, <nil>")))
        }
    }
}

async fn may_block(request: &Attributes<'_>, new: &Object, authorizer: &dyn Authorizer) -> Result<(), Status> {
    let is_blocking = |reference: &&Value| reference["blockOwnerDeletion"] == Value::Bool(true);
    let known = |reference: &&Value| references(request.old).iter().filter(is_blocking).any(|old| old["uid"] == reference["uid"]);
    let blocking: Vec<&Value> = references(Some(new)).iter().filter(is_blocking).filter(|reference| !known(reference)).collect();
    let finalizers = auth::Attributes { verb: "update", subresource: "finalizers", ..auth::Attributes::default() };
    let anything = auth::Attributes { group: "*", version: "*", resource: "*", name: "*", ..finalizers };
    if blocking.is_empty() || auth::decide(authorizer, request.user, &anything).await == Decision::Allow {
        return Ok(());
    }
    for reference in blocking {
        let text = |field: &str| reference[field].as_str().unwrap_or_default();
        let (api_version, kind) = (text("apiVersion"), text("kind"));
        let group_version = GroupVersion::parse(api_version);
        let Some(owner) = request.reads.registry().by_kind(&group_version.group, kind) else {
            let why = format!("no matches for kind {kind:?} in version {api_version:?}");
            let what = "cannot set blockOwnerDeletion in this case because cannot find RESTMapping for APIVersion";
            return Err(request.forbidden(format!("{what} {api_version} Kind {kind}: {why}")));
        };
        let namespace = if owner.namespaced { request.namespace() } else { "" };
        let own = auth::Attributes {
            group: &owner.group,
            version: &group_version.version,
            resource: &owner.plural,
            namespace,
            name: text("name"),
            ..finalizers
        };
        if let Decision::Deny(why) | Decision::NoOpinion(why) = auth::decide(authorizer, request.user, &own).await {
            let what = "cannot set blockOwnerDeletion if an ownerReference refers to a resource you can't set finalizers on";
            return Err(request.forbidden(format!("{what}: {why}, <nil>")));
        }
    }
    Ok(())
}
