//! What a list or a watch selects, of the kind that it addresses.

use std::sync::Arc;

use troupe_api::{
    aside,
    meta::{FieldSelector, LabelSelector},
    service::Target,
    status::Status,
};

use super::cache::{Change, Delivery, Selection};

/// The share of work aside that a long scan has: a handful of them goes on at one time.
pub(super) const LONG_SCAN: usize = 1 << 20;

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
    let generic = own.is_empty() && !target.resource.is_custom();
    let known = |path: &str| match path {
        "metadata.name" => true,
        "metadata.namespace" => namespaced || generic,
        path => own.iter().any(|known| **known == *path),
    };
    match fields.terms.iter().find(|(path, _, _)| !known(path)) {
        None => Ok(()),
        Some((path, _, _)) if generic => {
            Err(Status::bad_request(format!("{path:?} is not a known field selector: only \"metadata.name\", \"metadata.namespace\"")))
        }
        Some((path, _, _)) => Err(Status::bad_request(format!("field label not supported: {path}"))),
    }
}

/// What a watch shows of changes. It is searched on its own account.
pub(super) async fn selected(changes: Vec<Change>, selection: Arc<Selection>) -> Vec<Delivery> {
    let mut cost = changes.len() * selection.cost();
    if selection.reads_documents() && cost <= aside::SMALL {
        let unknown = changes.iter().flat_map(|change| change.previous.iter().chain(&change.current)).filter(|object| !object.knows_fields());
        cost += unknown.map(|object| object.encoded_length()).sum::<usize>();
    }
    aside::compute(cost.min(LONG_SCAN), move || changes.iter().filter_map(|change| selection.deliver(change)).collect()).await
}
