//! Options of list, watch and deletecollection from the query, with upstream's refusals.

use std::time::Duration;

use troupe_api::{
    meta::{FieldSelector, LabelSelector, Revision},
    service::{ListOptions, Target, VersionMatch, WatchOptions},
    status::{FieldError, Reason, Status},
};

use super::query::{Query, number_error};

const NOT_OLDER_THAN: &str = "NotOlderThan";

/// Options of a list or a deletecollection.
pub fn list_options(query: &Query, target: &Target) -> Result<ListOptions, Status> {
    let (labels, fields) = selectors(query, target)?;
    let limit = query.integer("limit")?.unwrap_or(0);
    // Lists do not go by it, but it has to be one.
    query.integer("timeoutSeconds")?;
    let version_match = query.text("resourceVersionMatch");
    let version = query.text("resourceVersion");
    let errors = list_errors(query, version_match, version);
    if !errors.is_empty() {
        return Err(Status::invalid("meta.k8s.io", "ListOptions", "", errors));
    }
    Ok(ListOptions {
        labels,
        fields,
        limit: usize::try_from(limit).unwrap_or(0),
        continue_token: query.text("continue").map(str::to_owned),
        resource_version: revision(query).map_err(|status| Status::bad_request(format!("invalid resource version: {}", status.message)))?,
        version_match: version_match.map(|text| if text == "Exact" { VersionMatch::Exact } else { VersionMatch::NotOlderThan }),
        // What is asked of other servers goes there as it came.
        metric_labels: LabelSelector::default(),
    })
}

/// Options of a watch.
pub fn watch_options(query: &Query, target: &Target) -> Result<WatchOptions, Status> {
    let (labels, fields) = selectors(query, target)?;
    let errors = watch_errors(query);
    if !errors.is_empty() {
        return Err(Status::invalid("meta.k8s.io", "ListOptions", "", errors));
    }
    let seconds = query.integer("timeoutSeconds")?.and_then(|seconds| u64::try_from(seconds).ok()).filter(|seconds| *seconds > 0);
    let options = WatchOptions {
        labels,
        fields,
        resource_version: revision(query)?,
        allow_bookmarks: query.flag("allowWatchBookmarks").unwrap_or(false),
        progress: false,
        send_initial_events: query.flag("sendInitialEvents").or_else(|| initial_events_by_default(query)),
        lasts: seconds.map(Duration::from_secs),
    };
    Ok(options)
}

/// A watch from the newest or any state that does not say otherwise has initial events and their end, as upstream defaults it.
fn initial_events_by_default(query: &Query) -> Option<bool> {
    let begins_anew = matches!(query.text("resourceVersion"), None | Some("0"));
    (begins_anew && query.text("resourceVersionMatch").is_none()).then_some(true)
}

/// `resourceVersion`, where one is given.
///
/// # Errors
/// When it is no number, 500 without a reason: upstream has no better word for what its store refuses.
pub fn revision(query: &Query) -> Result<Option<Revision>, Status> {
    let Some(text) = query.text("resourceVersion") else { return Ok(None) };
    text.parse().map(Some).map_err(|error| {
        let why = format!("resourceVersion: Invalid value: {text:?}: strconv.ParseUint: parsing {text:?}: {}", number_error(&error));
        Status::new(500, Reason::Unknown, why)
    })
}

fn selectors(query: &Query, target: &Target) -> Result<(LabelSelector, FieldSelector), Status> {
    let labels = query.text("labelSelector").map(LabelSelector::parse).transpose();
    let labels = labels.map_err(|error| Status::bad_request(error.to_string()))?;
    let fields = query.text("fieldSelector").map(FieldSelector::parse).transpose();
    let mut fields = fields.map_err(|error| Status::bad_request(error.to_string()))?.unwrap_or_default();
    for (label, _, _) in &mut fields.terms {
        let path = target.resource.strategy.field_path(&target.resource.group, label);
        check_selectable(target, &path, label)?;
        *label = path;
    }
    Ok((labels.unwrap_or_default(), fields))
}

fn check_selectable(target: &Target, path: &str, label: &str) -> Result<(), Status> {
    let own = &target.served().selectable;
    // Kinds with labels of their own know no namespace where they have none; all others take the word.
    let generic = own.is_empty() && !target.resource.is_custom();
    if path == "metadata.name" || own.iter().any(|known| **known == *path) {
        return Ok(());
    }
    if path == "metadata.namespace" && (generic || target.resource.namespaced) {
        return Ok(());
    }
    Err(Status::bad_request(if generic {
        format!("{label:?} is not a known field selector: only \"metadata.name\", \"metadata.namespace\"")
    } else {
        format!("field label not supported: {label}")
    }))
}

fn list_errors(query: &Query, version_match: Option<&str>, version: Option<&str>) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let mut forbid = |field: &str, why: &str| errors.push(FieldError::forbidden(field, why));
    if let Some(version_match) = version_match {
        const FIELD: &str = "resourceVersionMatch";
        if version.is_none() {
            forbid(FIELD, "resourceVersionMatch is forbidden unless resourceVersion is provided");
        }
        if query.text("continue").is_some() {
            forbid(FIELD, "resourceVersionMatch is forbidden when continue is provided");
        }
        if version_match == "Exact" && version == Some("0") {
            forbid(FIELD, "resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"");
        }
        if !matches!(version_match, "Exact" | NOT_OLDER_THAN) {
            errors.push(FieldError::not_supported(FIELD, version_match, &["Exact", NOT_OLDER_THAN, ""]));
        }
    }
    if query.get("sendInitialEvents").is_some() {
        errors.push(FieldError::forbidden("sendInitialEvents", "sendInitialEvents is forbidden for list"));
    }
    errors
}

fn watch_errors(query: &Query) -> Vec<FieldError> {
    const FIELD: &str = "resourceVersionMatch";
    let version_match = query.text(FIELD);
    let initial = query.get("sendInitialEvents").is_some();
    let mut errors = Vec::new();
    if initial && version_match != Some(NOT_OLDER_THAN) {
        errors.push(FieldError::forbidden(FIELD, "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan"));
    }
    if let Some(version_match) = version_match {
        if !initial {
            errors.push(FieldError::forbidden(FIELD, "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided"));
        }
        if version_match != NOT_OLDER_THAN {
            errors.push(FieldError::not_supported(FIELD, version_match, &[NOT_OLDER_THAN]));
        }
        if query.text("continue").is_some() {
            errors.push(FieldError::forbidden(FIELD, "resourceVersionMatch is forbidden when continue is provided"));
        }
    }
    errors
}
