//! A container's environment from all its sources, in the order the kernel gets it.

mod fields;
pub mod files;
pub mod services;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};

use k8s_openapi::api::core::v1::{ConfigMap, Container, EnvFromSource, EnvVar, EnvVarSource, Pod, Secret};
use thiserror::Error;
use troupe_cri::{
    expand::{self, expand},
    resources::MachineSize,
};

pub use fields::{field_value, resource_value};
pub use files::Files;

use super::{pod_certificates::Bundles, trust_bundles::TrustBundles};

/// Why the environment cannot be made: the container waits with `CreateContainerConfigError`.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("{0}")]
pub struct EnvError(pub String);

/// What a pod refers to: objects by name within its namespace, of which `None` marks one that does not exist, and certificates of its own.
#[derive(Clone, Debug, Default)]
pub struct References {
    pub config_maps: BTreeMap<String, Option<std::sync::Arc<ConfigMap>>>,
    pub secrets: BTreeMap<String, Option<std::sync::Arc<Secret>>>,
    /// Those of the cluster, where a volume shows some.
    pub trust_bundles: Option<TrustBundles>,
    pub certificates: Bundles,
}

/// What beside the spec an environment is made of.
#[derive(Clone, Copy, Debug)]
pub struct EnvInputs<'a> {
    pub pod: &'a Pod,
    pub references: &'a References,
    /// Those of the pod's files that the container's variables name.
    pub files: &'a Files,
    /// Variables of services, in order.
    pub services: &'a [(String, String)],
    pub pod_ips: &'a [String],
    pub node_ips: &'a [String],
    pub machine: MachineSize,
}

impl References {
    fn config_map(&self, name: &str) -> Option<&ConfigMap> {
        self.config_maps.get(name)?.as_deref()
    }

    fn secret(&self, name: &str) -> Option<&Secret> {
        self.secrets.get(name)?.as_deref()
    }
}

/// The names of config maps and secrets that containers' environments refer to.
pub fn referenced(container: &Container) -> (Vec<String>, Vec<String>) {
    let (mut maps, mut secrets) = (Vec::new(), Vec::new());
    for source in container.env_from.iter().flatten() {
        maps.extend(source.config_map_ref.iter().map(|reference| reference.name.clone()));
        secrets.extend(source.secret_ref.iter().map(|reference| reference.name.clone()));
    }
    for source in container.env.iter().flatten().filter_map(|variable| variable.value_from.as_ref()) {
        maps.extend(source.config_map_key_ref.iter().map(|reference| reference.name.clone()));
        secrets.extend(source.secret_key_ref.iter().map(|reference| reference.name.clone()));
    }
    (maps, secrets)
}

/// The environment: services first, then `envFrom`, then `env`; later ones win, each name once.
///
/// # Errors
/// When something required does not exist, or all of it is larger than a program can be given. It is never made then.
pub fn environment(inputs: &EnvInputs<'_>, container: &Container) -> Result<Vec<(String, String)>, EnvError> {
    let mut made = Variables::default();
    let services: HashMap<&str, &str> = inputs.services.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    for source in container.env_from.iter().flatten() {
        from_source(inputs, source, &mut made)?;
    }
    for variable in container.env.iter().flatten() {
        if let Some(value) = value_of(inputs, container, variable, &made, &services)? {
            made.put(variable.name.clone(), value)?;
        }
    }
    // Whatever the pod names itself wins over the services.
    for (name, value) in inputs.services {
        if !made.values.contains_key(name) {
            made.put(name.clone(), value.clone())?;
        }
    }
    let Variables { mut values, order, .. } = made;
    Ok(order.into_iter().filter_map(|name| values.remove(&name).map(|value| (name, value))).collect())
}

/// Variables in the order of their first mention.
#[derive(Debug, Default)]
struct Variables {
    values: HashMap<String, String>,
    order: Vec<String>,
    bytes: usize,
}

impl Variables {
    fn put(&mut self, name: String, value: String) -> Result<(), EnvError> {
        let size = |value: &str| name.len() + value.len() + 2;
        let replaced = self.values.get(&name).map_or(0, |old| size(old));
        self.bytes = self.bytes - replaced + size(&value);
        if self.bytes > expand::MOST {
            return Err(EnvError(expand::TooLarge.to_string()));
        }
        if self.values.insert(name.clone(), value).is_none() {
            self.order.push(name);
        }
        Ok(())
    }
}

fn from_source(inputs: &EnvInputs<'_>, source: &EnvFromSource, made: &mut Variables) -> Result<(), EnvError> {
    let prefix = source.prefix.as_deref().unwrap_or_default();
    if let Some(reference) = &source.config_map_ref {
        return match inputs.references.config_map(&reference.name) {
            Some(map) => map.data.iter().flatten().try_for_each(|(name, value)| made.put(format!("{prefix}{name}"), value.clone())),
            None if reference.optional == Some(true) => Ok(()),
            None => Err(EnvError(format!("configmap \"{}\" not found", reference.name))),
        };
    }
    if let Some(reference) = &source.secret_ref {
        return match inputs.references.secret(&reference.name) {
            Some(secret) => {
                let mut data = secret.data.iter().flatten();
                data.try_for_each(|(name, value)| made.put(format!("{prefix}{name}"), String::from_utf8_lossy(&value.0).into_owned()))
            }
            None if reference.optional == Some(true) => Ok(()),
            None => Err(EnvError(format!("secret \"{}\" not found", reference.name))),
        };
    }
    Ok(())
}

fn value_of(
    inputs: &EnvInputs<'_>,
    container: &Container,
    variable: &EnvVar,
    made: &Variables,
    services: &HashMap<&str, &str>,
) -> Result<Option<String>, EnvError> {
    if let Some(text) = variable.value.as_deref().filter(|text| !text.is_empty()) {
        let known = |name: &str| made.values.get(name).map(String::as_str).or_else(|| services.get(name).copied());
        return expand(text, known, expand::MOST).map(Some).map_err(|error| EnvError(error.to_string()));
    }
    match &variable.value_from {
        None => Ok(Some(String::new())),
        Some(source) => from_reference(inputs, container, source),
    }
}

fn from_reference(inputs: &EnvInputs<'_>, container: &Container, source: &EnvVarSource) -> Result<Option<String>, EnvError> {
    if let Some(field) = &source.field_ref {
        return field_value(inputs.pod, &field.field_path, inputs.pod_ips, inputs.node_ips).map(Some).map_err(EnvError);
    }
    if let Some(field) = &source.resource_field_ref {
        let name = field.container_name.as_deref().filter(|name| !name.is_empty() && *name != container.name);
        let spec = inputs.pod.spec.as_ref();
        let other = name.and_then(|name| crate::kubelet::worker::plan::find_container(spec?, name));
        return resource_value(inputs.pod, other.unwrap_or(container), field, inputs.machine).map(Some).map_err(EnvError);
    }
    if let Some(reference) = &source.file_key_ref {
        return files::value(inputs.files, reference).map_err(EnvError);
    }
    let namespace = inputs.pod.metadata.namespace.as_deref().unwrap_or_default();
    if let Some(reference) = &source.config_map_key_ref {
        let optional = reference.optional == Some(true);
        let Some(map) = inputs.references.config_map(&reference.name) else {
            return if optional { Ok(None) } else { Err(EnvError(format!("configmap \"{}\" not found", reference.name))) };
        };
        return match map.data.as_ref().and_then(|data| data.get(&reference.key)) {
            Some(value) => Ok(Some(value.clone())),
            None if optional => Ok(None),
            None => Err(EnvError(format!("couldn't find key {} in ConfigMap {namespace}/{}", reference.key, reference.name))),
        };
    }
    if let Some(reference) = &source.secret_key_ref {
        let optional = reference.optional == Some(true);
        let Some(secret) = inputs.references.secret(&reference.name) else {
            return if optional { Ok(None) } else { Err(EnvError(format!("secret \"{}\" not found", reference.name))) };
        };
        return match secret.data.as_ref().and_then(|data| data.get(&reference.key)) {
            Some(value) => Ok(Some(String::from_utf8_lossy(&value.0).into_owned())),
            None if optional => Ok(None),
            None => Err(EnvError(format!("couldn't find key {} in Secret {namespace}/{}", reference.key, reference.name))),
        };
    }
    Ok(None)
}
