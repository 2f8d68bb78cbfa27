//! From the words of a command line (`po/web`, `deployment web`) to a resource of the API.

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::remote::Remote;

/// A resource as discovery tells of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resource {
    /// `/api/v1` or `/apis/apps/v1`.
    pub root: String,
    /// `pods`.
    pub plural: String,
    pub kind: String,
    pub namespaced: bool,
}

impl Resource {
    /// `plural.group`, or the plural alone in the core group.
    pub fn group_resource(&self) -> String {
        let group = self.root.strip_prefix("/apis/").and_then(|version| version.split('/').next());
        group.map_or_else(|| self.plural.clone(), |group| format!("{}.{group}", self.plural))
    }

    /// The path of all objects in a namespace, or of all there are of a resource that lives in none.
    pub fn collection(&self, namespace: &str) -> String {
        if self.namespaced { format!("{}/namespaces/{namespace}/{}", self.root, self.plural) } else { format!("{}/{}", self.root, self.plural) }
    }

    /// The path of an object; the namespace is left out where it does not apply.
    pub fn path(&self, namespace: &str, name: &str) -> String {
        if self.namespaced {
            format!("{}/namespaces/{namespace}/{}/{name}", self.root, self.plural)
        } else {
            format!("{}/{}/{name}", self.root, self.plural)
        }
    }
}

/// Takes `KIND/NAME` apart.
///
/// # Errors
/// When there is no slash.
pub fn split(object: &str) -> Result<(&str, &str)> {
    object.split_once('/').with_context(|| format!("{object} is not of the form KIND/NAME"))
}

/// Where resources are looked for: the versions that groups prefer, then all others, as some kinds are in these alone.
fn roots(groups: &Value) -> Vec<String> {
    let (mut preferred, mut others) = (vec!["/api/v1".to_owned()], Vec::new());
    for group in groups["groups"].as_array().into_iter().flatten() {
        let first = &group["preferredVersion"]["groupVersion"];
        preferred.extend(first.as_str().map(|version| format!("/apis/{version}")));
        let versions = group["versions"].as_array().into_iter().flatten().map(|version| &version["groupVersion"]);
        others.extend(versions.filter(|version| *version != first).filter_map(|version| Some(format!("/apis/{}", version.as_str()?))));
    }
    preferred.append(&mut others);
    preferred
}

/// The resource behind a kind, plural, singular or short name.
///
/// # Errors
/// When the server knows none, or does not answer.
pub async fn find(remote: &Remote, word: &str) -> Result<Resource> {
    let roots = roots(&remote.get_json("/apis").await?);
    let wanted = word.to_lowercase();
    // `deployments.apps` names the group, too.
    let (wanted, group) = wanted.split_once('.').map_or((wanted.as_str(), None), |(plural, group)| (plural, Some(group)));
    let of_group = |root: &String| group.is_none_or(|group| root.strip_prefix("/apis/").is_some_and(|rest| rest.split('/').next() == Some(group)));
    for root in roots.into_iter().filter(of_group) {
        let list = remote.get_json(&root).await?;
        for resource in list["resources"].as_array().into_iter().flatten() {
            let is = |field: &str| resource[field].as_str().is_some_and(|text| text.to_lowercase() == wanted);
            let short = resource["shortNames"].as_array().into_iter().flatten().any(|name| name.as_str() == Some(wanted));
            let plural = resource["name"].as_str().unwrap_or("");
            if plural.contains('/') || !(is("name") || is("singularName") || is("kind") || short) {
                continue;
            }
            let kind = resource["kind"].as_str().unwrap_or("").to_owned();
            return Ok(Resource { root, plural: plural.to_owned(), kind, namespaced: resource["namespaced"] == true });
        }
    }
    bail!("the server knows no resource called {word}")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn versions_that_a_group_does_not_prefer_come_last() {
        let version = |name: &str| json!({"groupVersion": name});
        let scheduling = [version("scheduling.k8s.io/v1"), version("scheduling.k8s.io/v1alpha2")];
        let groups = json!({"groups": [
            {"preferredVersion": scheduling[0], "versions": scheduling},
            {"preferredVersion": version("apps/v1"), "versions": [version("apps/v1")]},
        ]});
        assert_eq!(roots(&groups), ["/api/v1", "/apis/scheduling.k8s.io/v1", "/apis/apps/v1", "/apis/scheduling.k8s.io/v1alpha2"]);
    }

    #[test]
    fn an_objects_path_has_its_namespace_only_where_it_lives_in_one() {
        let deployments = Resource { root: "/apis/apps/v1".into(), plural: "deployments".into(), kind: "Deployment".into(), namespaced: true };
        assert_eq!(deployments.path("a", "b"), "/apis/apps/v1/namespaces/a/deployments/b");
        assert_eq!(deployments.collection("a"), "/apis/apps/v1/namespaces/a/deployments");
        assert_eq!(deployments.group_resource(), "deployments.apps");
        let nodes = Resource { root: "/api/v1".into(), plural: "nodes".into(), kind: "Node".into(), namespaced: false };
        assert_eq!((nodes.path("a", "b").as_str(), nodes.group_resource().as_str()), ("/api/v1/nodes/b", "nodes"));
        assert!(split("web").is_err());
    }
}
