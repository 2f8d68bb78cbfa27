//! What is told of the documents that clients find their way by: discovery, the version, and the keys of tokens.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::{
    META_V1,
    operations::{JSON, OBJECT_TYPES, of_document},
};
use troupe_api::resources::{Registry, Resource};

/// Where the paths of a group and version begin.
pub fn base(group: &str, version: &str) -> String {
    if group.is_empty() { format!("/api/{version}") } else { format!("/apis/{group}/{version}") }
}

/// The tag of a group and version, and what is in the names of their operations: `apps_v1` and `AppsV1`.
pub fn names(group: &str, version: &str) -> (String, String) {
    let group = camel(group);
    (format!("{group}_{version}"), format!("{}{}", capital(&group), capital(version)))
}

/// `rbac.authorization.k8s.io` → `rbacAuthorization`; the core group is `core`.
fn camel(group: &str) -> String {
    if group.is_empty() {
        return "core".to_owned();
    }
    let group = group.strip_suffix(".k8s.io").unwrap_or(group);
    let mut words = group.split(|letter: char| !letter.is_alphanumeric() && letter != '_');
    let first = words.next().unwrap_or_default().to_owned();
    words.fold(first, |name, word| name + &capital(word))
}

/// A word with a capital in front.
pub fn capital(word: &str) -> String {
    let mut letters = word.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

/// Adds the path that lists what a group and version have.
pub fn add(paths: &mut Map<String, Value>, group: &str, version: &str) {
    let (tag, name) = names(group, version);
    let operation = get(&format!("get{name}APIResources"), "get available resources", &tag, "APIResourceList");
    paths.insert(format!("{}/", base(group, version)), json!({"get": operation}));
}

/// A document that is of no version of a group.
pub struct Page {
    /// A `get`.
    operation: Value,
    /// Whether documents of v2 say which media types it takes.
    pub consumes: bool,
}

impl Page {
    /// As it stands at its path in a document.
    pub fn paths(self, path: &str) -> Map<String, Value> {
        Map::from_iter([(format!("/{path}/"), json!({"get": self.operation}))])
    }
}

/// The paths of all such documents of what is served here, without slashes at their ends.
pub fn pages(registry: &Registry) -> Vec<String> {
    let is_here = |row: &Resource| row.served.iter().any(|served| !registry.is_elsewhere(&row.group, &served.version));
    let rows = registry.rows().iter().filter(|row| !row.is_custom() && !row.group.is_empty() && is_here(row));
    let groups: BTreeSet<String> = rows.map(|row| format!("{GROUPS}{}", row.group)).collect();
    [API, APIS, VERSION, CONFIGURATION, KEYS].map(str::to_owned).into_iter().chain(groups).collect()
}

const API: &str = "api";
const APIS: &str = "apis";
/// Groups stand behind it.
const GROUPS: &str = "apis/";
const VERSION: &str = "version";
/// What others check the tokens of service accounts by.
const CONFIGURATION: &str = ".well-known/openid-configuration";
const KEYS: &str = "openid/v1/jwks";

/// The document of such a path; `None` where that is none.
pub fn page(path: &str) -> Option<Page> {
    let text = json!({"type": "string"});
    let operation = match path {
        API => get("getCoreAPIVersions", "get available API versions", "core", "APIVersions"),
        APIS => get("getAPIVersions", "get available API versions", "apis", "APIGroupList"),
        VERSION => version(),
        CONFIGURATION => of_document(
            "getServiceAccountIssuerOpenIDConfiguration",
            "get service account issuer OpenID configuration, also known as the 'OIDC discovery doc'",
            "WellKnown",
            &[JSON],
            &text,
        ),
        KEYS => of_document(
            "getServiceAccountIssuerOpenIDKeyset",
            "get service account issuer OpenID JSON Web Key Set (contains public token verification keys)",
            "openid",
            &["application/jwk-set+json"],
            &text,
        ),
        _ => {
            let tag = camel(path.strip_prefix(GROUPS).filter(|group| !group.is_empty() && !group.contains('/'))?);
            get(&format!("get{}APIGroup", capital(&tag)), "get information of a group", &tag, "APIGroup")
        }
    };
    Some(Page { operation, consumes: !matches!(path, CONFIGURATION | KEYS) })
}

fn version() -> Value {
    let info = json!({"$ref": "#/components/schemas/io.k8s.apimachinery.pkg.version.Info"});
    of_document("getCodeVersion", "get the version information for this server", "version", &[JSON], &info)
}

/// A `get` that answers with a kind of the discovery's.
fn get(id: &str, description: &str, tag: &str, kind: &str) -> Value {
    let schema = json!({"$ref": format!("#/components/schemas/io.k8s.{META_V1}{kind}")});
    of_document(id, description, tag, OBJECT_TYPES, &schema)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_named_as_in_the_names_of_operations() {
        for (group, tag, name) in [
            ("", "core_v1", "CoreV1"),
            ("apps", "apps_v1", "AppsV1"),
            ("rbac.authorization.k8s.io", "rbacAuthorization_v1", "RbacAuthorizationV1"),
            ("flowcontrol.apiserver.k8s.io", "flowcontrolApiserver_v1", "FlowcontrolApiserverV1"),
            ("my-group.example.com", "myGroupExampleCom_v1", "MyGroupExampleComV1"),
        ] {
            assert_eq!(names(group, "v1"), (tag.to_owned(), name.to_owned()));
        }
    }
}
