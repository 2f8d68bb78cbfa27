//! Who may do what: the right to a request, and what some kinds ask of their writers beside it.

use std::sync::Arc;

use troupe_api::{
    auth::{
        Attributes, Authorizer, Decision, Selection, decide, forbidden, policy_parameters,
        rbac::{
            escalation::{self, Write},
            resolve::Resolver,
        },
        signers,
    },
    meta::{GroupResource, Object, ObjectKey},
    resources::Feature,
    service::{Listers, Target, UserInfo},
    status::{FieldError, Status},
};

use super::listers::CacheListers;

const UNSAFE_DELETE: &str = "unsafe-delete-ignore-read-errors";

/// The gate that every request passes. Without an authorizer everything is allowed.
pub struct Authorization {
    authorizer: Option<Arc<dyn Authorizer>>,
    /// What roles grant, for the check that nobody grants more than they hold.
    resolver: Resolver,
    listers: Arc<CacheListers>,
}

impl Authorization {
    pub fn new(authorizer: Option<Arc<dyn Authorizer>>, listers: Arc<CacheListers>) -> Self {
        Authorization { authorizer, resolver: Resolver::new(listers.clone()), listers }
    }

    pub fn authorizer(&self) -> Option<&Arc<dyn Authorizer>> {
        self.authorizer.as_ref()
    }

    /// 403 unless `user` may do `verb` on `target`.
    pub async fn authorize(&self, user: &UserInfo, target: &Target, verb: &str, name: &str, selection: Selection<'_>) -> Result<(), Status> {
        let Some(authorizer) = &self.authorizer else { return Ok(()) };
        let attributes = Attributes { selection, ..attributes(target, verb, name) };
        match decide(&**authorizer, user, &attributes).await {
            Decision::Allow => Ok(()),
            Decision::Deny(why) | Decision::NoOpinion(why) => Err(forbidden(user, &attributes, &why)),
        }
    }

    /// 403 unless `user` may delete what cannot be read (KEP-3926), beside the right to delete.
    pub async fn authorize_unsafe_delete(&self, user: &UserInfo, target: &Target) -> Result<(), Status> {
        let Some(authorizer) = &self.authorizer else { return Ok(()) };
        match decide(&**authorizer, user, &attributes(target, UNSAFE_DELETE, &target.name)).await {
            Decision::Allow => Ok(()),
            Decision::Deny(why) | Decision::NoOpinion(why) => {
                let why = format!("not permitted to do {UNSAFE_DELETE:?}, reason: {why}");
                Err(Status::forbidden(&target.group_resource(), &target.name, why))
            }
        }
    }

    /// 403 when a role or binding grants what its writer does not hold.
    pub async fn check_escalation(&self, user: &UserInfo, target: &Target, new: &Object, old: Option<&Object>) -> Result<(), Status> {
        let Some(authorizer) = self.authorizer.as_ref().filter(|_| target.resource.has(Feature::Grants)) else { return Ok(()) };
        let write = Write { user, resource: &target.group_resource(), namespace: &target.namespace, new, old };
        // What the authorizer decides by is shared with it.
        escalation::check(&write, authorizer.rbac().unwrap_or(&self.resolver), &**authorizer).await
    }

    /// What is wrong with a status that its writer may not sign for.
    pub async fn unsigned(&self, user: &UserInfo, target: &Target, new: &Object, old: Option<&Object>) -> Option<FieldError> {
        let is_signed = target.resource.has(Feature::Signed) && &*target.subresource == "status";
        let (authorizer, old) = self.authorizer.as_ref().filter(|_| is_signed).zip(old)?;
        let signer = old.str(&["spec", "signerName"]);
        if new.get(&["status"]) == old.get(&["status"]) || signers::may(&**authorizer, user, "sign", signer).await {
            return None;
        }
        let why = format!("User {:?} is not permitted to \"sign\" for signer {signer:?}", user.name);
        Some(FieldError::forbidden("spec.signerName", why))
    }

    /// What is wrong with a policy or binding that names parameters which its writer may not read.
    pub async fn unreadable_parameters(&self, user: &UserInfo, target: &Target, new: &Object, old: Option<&Object>) -> Option<FieldError> {
        let authorizer = self.authorizer.as_ref().filter(|_| target.resource.has(Feature::Parameters) && target.subresource.is_empty())?;
        let resource = target.group_resource();
        let write = Write { user, resource: &resource, namespace: &target.namespace, new, old };
        let policy = |policies: &str, name: &str| {
            let found = self.listers.get(&GroupResource::new(resource.group.clone(), policies), &ObjectKey::cluster(name));
            found.map(|policy| policy.to_object())
        };
        let registry = self.listers.registry.load_full();
        policy_parameters::fault(&write, &registry, policy, &**authorizer).await
    }
}

/// What is asked about `verb` on `target`, without what it selects by.
fn attributes<'a>(target: &'a Target, verb: &'a str, name: &'a str) -> Attributes<'a> {
    // A namespace lies within itself, so that its own roles can allow to read it.
    let namespace = if target.resource.is_namespace() { &target.name } else { &target.namespace };
    Attributes {
        verb,
        resource: &target.resource.plural,
        subresource: &target.subresource,
        group: &target.resource.group,
        version: &target.version,
        namespace,
        name,
        path: None,
        selection: Selection::default(),
    }
}
