//! What a list or a watch selects, of the kind that it addresses.

use troupe_api::{
    meta::{FieldSelector, LabelSelector},
    service::Target,
    status::Status,
};

use super::cache::Selection;

/// The objects that a request selects.
pub fn selection(target: &Target, labels: &LabelSelector, fields: &FieldSelector) -> Selection {
    Selection {
        resource: target.resource.clone(),
        namespace: target.namespace.clone(),
        name: target.name.clone(),
        labels: labels.into(),
        fields: fields.into(),
        shows: target.resource.versions().map(|versions| versions.api_version(&target.version).into()),
    }
}

/// 400 when a field selector names a field that the kind cannot be selected by.
pub fn check_fields(target: &Target, fields: &FieldSelector) -> Result<(), Status> {
    let (namespaced, own) = (target.resource.namespaced, &target.served().selectable);
    let known = |path: &str| path == "metadata.name" || (path == "metadata.namespace" && namespaced) || own.iter().any(|known| **known == *path);
    match fields.terms.iter().find(|(path, _, _)| !known(path)) {
        None => Ok(()),
        Some((path, _, _)) if own.is_empty() => {
            Err(Status::bad_request(format!("{path:?} is not a known field selector: only \"metadata.name\", \"metadata.namespace\"")))
        }
        Some((path, _, _)) => Err(Status::bad_request(format!("field label not supported: {path}"))),
    }
}
