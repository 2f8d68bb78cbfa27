//! The objects with parameters that a binding names.

use std::sync::Arc;

use troupe_api::{
    aside,
    meta::{Object, ObjectKey},
    resources::{Resource, forms::served_form},
    stored::StoredObject,
};

use super::policy::{Binding, ParamKind, ParamRef, Policy};
use crate::admission::Attributes;

/// The resource of parameters.
///
/// # Errors
/// There is none, in upstream's words.
pub fn resource(request: &Attributes<'_>, kind: &ParamKind) -> Result<Arc<Resource>, String> {
    let ParamKind { version, kind } = kind;
    let row = request.reads.registry().by_kind(&version.group, kind).filter(|row| row.serves(&version.version));
    row.ok_or_else(|| format!("failed to find resource referenced by paramKind: '{}/{}, Kind={kind}'", version.group, version.version))
}

/// The parameters with which a policy is asked, each on its own: none (`None`) where it takes none.
///
/// # Errors
/// They are not there or cannot be, in upstream's words.
pub async fn collect(request: &Attributes<'_>, policy: &Policy, binding: &Binding) -> Result<Vec<Option<Object>>, String> {
    let (Some(kind), Some(reference)) = (&policy.params, &binding.params) else { return Ok(vec![None]) };
    let row = resource(request, kind)?;
    let objects = found(request, &row, reference)?;
    if objects.is_empty() && reference.must_exist {
        return Err("no params found for policy binding with `Deny` parameterNotFoundAction".to_owned());
    }
    let length = objects.iter().map(|object| object.encoded_length()).sum();
    let decoded: Vec<Object> = aside::compute(length, move || objects.iter().map(|object| object.to_object()).collect()).await;
    let mut params = Vec::with_capacity(decoded.len());
    for object in decoded {
        params.push(Some(match row.versions() {
            Some(_) => request.reads.convert(&row, &kind.version.version, &object).await.map_err(|status| status.message)?,
            None => served_form(&row, &kind.version.version, &object),
        }));
    }
    Ok(params)
}

fn found(request: &Attributes<'_>, row: &Resource, reference: &ParamRef) -> Result<Vec<Arc<StoredObject>>, String> {
    let namespace = match (row.namespaced, &*reference.namespace) {
        (false, "") => "",
        (false, _) => return Err("paramRef.namespace must not be provided for a cluster-scoped `paramKind`".to_owned()),
        (true, "") => match request.namespace() {
            "" => return Err("cannot use namespaced paramRef in policy binding that matches cluster-scoped resources".to_owned()),
            namespace => namespace,
        },
        (true, namespace) => namespace,
    };
    let (listers, resource) = (request.reads.listers(), row.group_resource());
    match (&*reference.name, &reference.selector) {
        ("", Some(selector)) => {
            let mut all = listers.list(&resource, namespace);
            all.retain(|object| selector.matches_projection(&object.meta().labels));
            Ok(all)
        }
        ("", None) => Err("one of name or selector must be provided".to_owned()),
        (_, Some(_)) => Err("paramRef.name and paramRef.selector are mutually exclusive".to_owned()),
        (name, None) => Ok(listers.get(&resource, &ObjectKey::new(namespace, name)).into_iter().collect()),
    }
}
