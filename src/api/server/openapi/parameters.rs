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

/// Parameters that all operations of a path share; `kind` is what its name names.
pub fn of_path(path: &str, kind: &str) -> Vec<Value> {
    let mut parameters = places(path, kind);
    parameters.push(query(PRETTY));
    parameters
}

/// The same of the path of a subresource that is connected to: what the connection is to be stands in its query.
pub fn of_connection(path: &str, kind: &str, subresource: &str) -> Vec<Value> {
    let mut parameters = places(path, kind);
    parameters.extend(options(subresource));
    parameters
}

/// What the query of a connection or of the request for a log may say; nothing for other subresources.
pub fn options(subresource: &str) -> Vec<Value> {
    const CONTAINER: (&str, &str, &str) = ("container", "string", "The container of the pod. May be left out where there is one only.");
    const STREAMS: [(&str, &str, &str); 4] = [
        ("stderr", "boolean", "Whether the standard error output is wanted."),
        ("stdin", "boolean", "Whether standard input is sent."),
        ("stdout", "boolean", "Whether the standard output is wanted."),
        ("tty", "boolean", "Whether the streams are those of a terminal."),
    ];
    let found: Vec<(&str, &str, &str)> = match subresource {
        "attach" => [CONTAINER].into_iter().chain(STREAMS).collect(),
        "exec" => {
            let command = ("command", "string", "The command and its arguments, each as a parameter of this name. No shell is involved.");
            [command, CONTAINER].into_iter().chain(STREAMS).collect()
        }
        "portforward" => vec![("ports", "integer", "Ports of the pod to be forwarded. Required over WebSockets.")],
        "proxy" => vec![("path", "string", "The path at the backend.")],
        "log" => vec![
            CONTAINER,
            ("follow", "boolean", "Go on with what is logged from now on."),
            ("insecureSkipTLSVerifyBackend", "boolean", "Take the log from whoever answers for the kubelet, without a check of its certificate."),
            ("limitBytes", "integer", "The most bytes of the log to answer with. The last line may be cut."),
            ("previous", "boolean", "The log of the container's last run that has ended."),
            ("sinceSeconds", "integer", "Only what was logged in the last so many seconds. Excludes sinceTime."),
            ("stream", "string", "Which output: 'All', the default, 'Stdout' or 'Stderr'. Must be 'All' with tailLines."),
            ("tailLines", "integer", "The most lines to answer with, counted from the end. Everything where nothing is said."),
            ("timestamps", "boolean", "Begin each line with its time (RFC 3339)."),
        ],
        _ => Vec::new(),
    };
    found.into_iter().map(query).collect()
}

/// The parameters that stand in a path.
fn places(path: &str, kind: &str) -> Vec<Value> {
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
    parameters
}

fn query((name, kind, description): (&str, &str, &str)) -> Value {
    json!({"name": name, "in": "query", "description": description, "schema": {"type": kind, "uniqueItems": true}})
}
