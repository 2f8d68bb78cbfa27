//! What checks see of a pod or of a pod template.

use serde_json::{Map, Value};
use troupe_api::resources::tree;

/// The annotations and the spec of a pod or a template.
#[derive(Clone, Copy, Debug)]
pub struct PodView<'a> {
    annotations: Option<&'a Map<String, Value>>,
    pub spec: &'a Value,
}

impl<'a> PodView<'a> {
    /// Of something with `metadata` and `spec`.
    pub fn new(pod: &'a Map<String, Value>) -> Self {
        let annotations = pod.get("metadata").and_then(|metadata| metadata.get("annotations")?.as_object());
        PodView { annotations, spec: pod.get("spec").unwrap_or(&Value::Null) }
    }

    /// Names and texts of the annotations.
    pub fn annotations(&self) -> impl Iterator<Item = (&'a str, &'a str)> + use<'a> {
        let all = self.annotations.into_iter().flatten();
        all.map(|(name, value)| (name.as_str(), value.as_str().unwrap_or("")))
    }

    pub fn annotation(&self, name: &str) -> Option<&'a str> {
        self.annotations?.get(name)?.as_str()
    }

    /// `spec.securityContext`, or null.
    pub fn security_context(&self) -> &'a Value {
        security_context(self.spec)
    }

    /// Every container: initial, ordinary, ephemeral.
    pub fn containers(&self) -> impl Iterator<Item = &'a Value> + use<'a> {
        let spec = self.spec;
        ["initContainers", "containers", "ephemeralContainers"].into_iter().flat_map(move |list| tree::items(spec, &[list]))
    }

    /// The names of the containers that `is_bad` finds.
    pub fn containers_where(&self, mut is_bad: impl FnMut(&'a Value) -> bool) -> Vec<&'a str> {
        self.containers().filter(|container| is_bad(container)).map(|container| tree::text(container, &["name"])).collect()
    }

    pub fn is_windows(&self) -> bool {
        tree::text(self.spec, &["os", "name"]) == "windows"
    }

    /// Whether root in the pod is nobody on its node.
    pub fn has_user_namespace(&self) -> bool {
        tree::at(self.spec, &["hostUsers"]) == &Value::Bool(false)
    }
}

/// The security context of a pod's spec or of a container, or null.
pub fn security_context(of: &Value) -> &Value {
    tree::at(of, &["securityContext"])
}
