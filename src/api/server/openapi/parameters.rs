//! The query and path parameters of operations.

use serde_json::{Value, json};

use super::descriptions::of_deletion;

/// A query parameter: name, type and description.
type Parameter = (&'static str, &'static str, &'static str);

const PRETTY: Parameter = ("pretty", "string", "If 'true', then the output is pretty printed.");
const FIELD_MANAGER: Parameter = ("fieldManager", "string", "The name of the actor that makes these changes, at most 128 printable characters.");
const PATCH_MANAGER: Parameter =
    ("fieldManager", "string", "The name of the actor that makes these changes, at most 128 printable characters. Required for server-side apply.");
const FIELD_VALIDATION: Parameter = (
    "fieldValidation",
    "string",
    "What to do with unknown or duplicate fields of the request body. Valid values are: - Ignore: drop them silently - Warn: drop them with a warning, the default - Strict: fail the request with an error that lists them",
);
const FORCE: Parameter = ("force", "boolean", "Server-side apply takes over conflicting fields that others own. Must be unset for other patches.");
const RESOURCE_VERSION: Parameter = ("resourceVersion", "string", "Constrains the versions that the request may be served from.");

/// What only a watch can be asked for.
pub const OF_WATCHES: [&str; 2] = ["watch", "allowWatchBookmarks"];

/// That of all operations but connections.
pub fn pretty() -> Value {
    query(PRETTY)
}

/// Query parameters of a create or a replace.
pub fn write() -> Vec<Value> {
    [dry_run(), FIELD_MANAGER, FIELD_VALIDATION].map(query).into()
}

/// Query parameters of a patch.
pub fn patch() -> Vec<Value> {
    [dry_run(), PATCH_MANAGER, FIELD_VALIDATION, FORCE].map(query).into()
}

/// Query parameters of a read of a custom resource.
pub fn read() -> Vec<Value> {
    vec![query(RESOURCE_VERSION)]
}

/// Query parameters of a deletion, which its body may have in their place.
pub fn delete() -> Vec<Value> {
    [
        dry_run(),
        of_options("gracePeriodSeconds", "integer"),
        of_options("ignoreStoreReadErrorWithClusterBreakingPotential", "boolean"),
        of_options("orphanDependents", "boolean"),
        of_options("propagationPolicy", "string"),
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
        RESOURCE_VERSION,
        ("resourceVersionMatch", "string", "How resourceVersion is applied to lists: 'Exact' or 'NotOlderThan'."),
        ("sendInitialEvents", "boolean", "Begin a watch with synthetic events for all that exists, then a bookmark."),
        (
            "shardSelector",
            "string",
            "Restricts the list to objects whose uid or namespace hashes into given ranges, shardRange(object.metadata.uid, '0x0', '0x8000000000000000') for the first half of them. Alpha, of the feature ShardedListAndWatch.",
        ),
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

/// What the query of a connection or of the request for a log may say; nothing for other subresources.
pub fn options(subresource: &str) -> Vec<Value> {
    const CONTAINER: Parameter = ("container", "string", "The container of the pod. May be left out where there is one only.");
    const STREAMS: [Parameter; 4] = [
        ("stderr", "boolean", "Whether the standard error output is wanted."),
        ("stdin", "boolean", "Whether standard input is sent."),
        ("stdout", "boolean", "Whether the standard output is wanted."),
        ("tty", "boolean", "Whether the streams are those of a terminal."),
    ];
    let found: Vec<Parameter> = match subresource {
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

/// The parameters that stand in a path; `kind` is what its name names.
pub fn places(path: &str, kind: &str) -> Vec<Value> {
    let mut parameters = Vec::new();
    if path.contains("{name}") {
        parameters.push(in_path("name", &format!("name of the {kind}")));
    }
    if path.contains("{namespace}") {
        parameters.push(in_path("namespace", "object name and auth scope, such as for teams and projects"));
    }
    if path.contains("{path}") {
        parameters.push(in_path("path", "path to the resource"));
    }
    parameters
}

fn in_path(name: &str, description: &str) -> Value {
    json!({"name": name, "in": "path", "description": description, "required": true, "schema": {"type": "string", "uniqueItems": true}})
}

fn dry_run() -> Parameter {
    of_options("dryRun", "string")
}

/// A field of the options of deletions, which say of it what is said of the parameter.
fn of_options(name: &'static str, kind: &'static str) -> Parameter {
    (name, kind, of_deletion(name))
}

fn query((name, kind, description): Parameter) -> Value {
    json!({"name": name, "in": "query", "description": description, "schema": {"type": kind, "uniqueItems": true}})
}
