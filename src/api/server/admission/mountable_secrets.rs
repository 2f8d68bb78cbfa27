//! Which secrets pods of a service account may use: where the account says `kubernetes.io/enforce-mountable-secrets`, those that it lists
//! (upstream's `limitSecretReferences`). The annotation is deprecated, and holds.

use std::collections::BTreeSet;

use serde_json::Value;
use troupe_api::{meta::Object, stored::StoredObject};

const ANNOTATION: &str = "kubernetes.io/enforce-mountable-secrets";
const TRUE: [&str; 6] = ["1", "t", "T", "TRUE", "true", "True"];

/// Whether an account's text says so at all: most do not, and need not be decoded.
pub fn may_enforce(account: &StoredObject) -> bool {
    std::str::from_utf8(&account.encoded()).is_ok_and(|text| text.contains(ANNOTATION))
}

/// The secrets that an account lists, if its pods are held to them.
pub struct Mountable<'a> {
    account: &'a Object,
    secrets: BTreeSet<&'a str>,
}

impl<'a> Mountable<'a> {
    /// `None` for an account whose pods may use all secrets of the namespace.
    pub fn of(account: &'a Object) -> Option<Self> {
        let enforced = account.annotation(ANNOTATION).is_some_and(|value| TRUE.contains(&value));
        enforced.then(|| Mountable { account, secrets: names(account, "secrets") })
    }

    /// Why a new pod is refused.
    pub fn refusal(&self, pod: &Object) -> Option<String> {
        let volumes = pod.list(&["spec", "volumes"]).iter().filter_map(|volume| volume.pointer("/secret/secretName")?.as_str());
        self.lacking(volumes)
            .map(|name| self.secret(&format!("volume with secret.secretName=\"{name}\"")))
            .or_else(|| self.of_containers(pod, "initContainers", "init container"))
            .or_else(|| self.of_containers(pod, "containers", "container"))
            .or_else(|| self.of_pulls(pod))
    }

    /// Why a pod is refused ephemeral containers.
    pub fn refusal_of_ephemeral(&self, pod: &Object) -> Option<String> {
        self.of_containers(pod, "ephemeralContainers", "ephemeral container")
    }

    fn of_containers(&self, pod: &Object, field: &str, what: &str) -> Option<String> {
        pod.list(&["spec", field]).iter().find_map(|container| {
            let container_name = text(container, "/name");
            let lists = |field: &str| container.get(field).and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
            let refused =
                |means: &str, name: &str| self.secret(&format!("{what} {container_name} with {means} referencing secret.secretName=\"{name}\""));
            let variable = lists("env").iter().find_map(|variable| {
                let name = self.lacking(variable.pointer("/valueFrom/secretKeyRef").map(|secret| text(secret, "/name")))?;
                Some(refused(&format!("envVar {}", text(variable, "/name")), name))
            });
            variable.or_else(|| {
                let whole = lists("envFrom").iter().filter_map(|source| Some(text(source.get("secretRef")?, "/name")));
                self.lacking(whole).map(|name| refused("envFrom", name))
            })
        })
    }

    fn of_pulls(&self, pod: &Object) -> Option<String> {
        let allowed = names(self.account, "imagePullSecrets");
        let mut asked = pod.list(&["spec", "imagePullSecrets"]).iter().map(|secret| text(secret, "/name")).enumerate();
        let (at, name) = asked.find(|(_, name)| !allowed.contains(name))?;
        let account = self.account.name();
        Some(format!(
            "imagePullSecrets[{at}].name=\"{name}\" is not allowed because service account {account} does not reference that imagePullSecret"
        ))
    }

    fn lacking<'b>(&self, names: impl IntoIterator<Item = &'b str>) -> Option<&'b str> {
        names.into_iter().find(|name| !self.secrets.contains(name))
    }

    fn secret(&self, what: &str) -> String {
        format!("{what} is not allowed because service account {} does not reference that secret", self.account.name())
    }
}

fn names<'a>(account: &'a Object, field: &str) -> BTreeSet<&'a str> {
    account.list(&[field]).iter().map(|secret| text(secret, "/name")).collect()
}

fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}
