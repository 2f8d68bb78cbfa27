//! The query and path parameters of operations.

use serde_json::{Value, json};

const PRETTY: (&str, &str, &str) = ("pretty", "string", "If 'true', then the output is pretty printed.");
const DRY_RUN: (&str, &str, &str) =
    ("dryRun", "string", "When present, modifications are not persisted. Valid values are: - All: all dry run stages will be processed");
const FIELD_MANAGER: (&str, &str, &str) =
    ("fieldManager", "string", "The name of the actor that makes these changes, at most 128 printable characters. Required for server-side apply.");
const FIELD_VALIDATION: (&str, &str, &str) = (
    "fieldValidation",
    "string",
    "What to do with unknown or duplicate fields of the request body. Valid values are: - Ignore: drop them silently - Warn: drop them with a warning, the default - Strict: fail the request with an error that lists them",
);
const FORCE: (&str, &str, &str) =
    ("force", "boolean", "Server-side apply takes over conflicting fields that others own. Must be unset for other patches.");

/// Query parameters of a create, a replace or, with `force`, a patch.
pub fn write(force: bool) -> Vec<Value> {
    let mut parameters = vec![query(DRY_RUN), query(FIELD_MANAGER), query(FIELD_VALIDATION)];
    if force {
        parameters.push(query(FORCE));
    }
    parameters
}

/// Query parameters of a deletion.
pub fn delete() -> Vec<Value> {
    [
        DRY_RUN,
        ("gracePeriodSeconds", "integer", "Seconds before the object is deleted; zero deletes at once. Defaults to a value of the object."),
        ("ignoreStoreReadErrorWithClusterBreakingPotential", "boolean", "Deletes an object that cannot be read from the store, ignoring finalizers."),
        ("orphanDependents", "boolean", "Deprecated: use propagationPolicy. Whether dependents lose or keep their owner."),
        ("propagationPolicy", "string", "Whether and how dependents are deleted: 'Orphan', 'Background' or 'Foreground'."),
    ]
    .map(query)
    .into()
}

/// Query parameters of a list or watch.
pub fn list() -> Vec<Value> {
    [
        ("allowWatchBookmarks", "boolean", "Ask for watch events of type BOOKMARK."),
        ("continue", "string", "The token of the next page, from the metadata of the page before."),
        ("fieldSelector", "string", "A selector that restricts the list of returned objects by their fields. Defaults to everything."),
        ("labelSelector", "string", "A selector that restricts the list of returned objects by their labels. Defaults to everything."),
        ("limit", "integer", "The most objects a page may hold."),
        ("resourceVersion", "string", "Constrains the versions that the request may be served from."),
        ("resourceVersionMatch", "string", "How resourceVersion is applied to lists: 'Exact' or 'NotOlderThan'."),
        ("sendInitialEvents", "boolean", "Begin a watch with synthetic events for all that exists, then a bookmark."),
        ("timeoutSeconds", "integer", "Ends the call after this time."),
        (
            "watch",
            "boolean",
            "Watch for changes to the described resources and answer with a stream of them instead of a list. Specify resourceVersion.",
        ),
    ]
    .map(query)
    .into()
}

/// Parameters that all operations of a path share.
pub fn of_path(path: &str, kind: &str) -> Vec<Value> {
    let in_path = |name: &str, description: String| json!({"name": name, "in": "path", "description": description, "required": true, "schema": {"type": "string", "uniqueItems": true}});
    let mut parameters = Vec::new();
    if path.contains("{name}") {
        parameters.push(in_path("name", format!("name of the {kind}")));
    }
    if path.contains("{namespace}") {
        parameters.push(in_path("namespace", "object name and auth scope, such as for teams and projects".to_owned()));
    }
    if path.contains("{path}") {
        parameters.push(in_path("path", "path to the resource".to_owned()));
    }
    parameters.push(query(PRETTY));
    parameters
}

fn query((name, kind, description): (&str, &str, &str)) -> Value {
    json!({"name": name, "in": "query", "description": description, "schema": {"type": kind, "uniqueItems": true}})
}
