//! What files a configMap, secret, downwardAPI or projected volume holds.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{ConfigMap, DownwardAPIVolumeFile, KeyToPath, Pod, Secret, ServiceAccountTokenProjection, Volume, VolumeProjection};
use troupe_cri::resources::MachineSize;

use crate::kubelet::{
    env::{References, field_value, resource_value},
    worker::plan::find_container,
};

/// A file to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileContent {
    pub data: Vec<u8>,
    pub mode: u32,
}

/// Files by path relative to the volume.
pub type Payload = BTreeMap<String, FileContent>;

/// A token that a volume projects, as asked of the API.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TokenRequest {
    pub audience: String,
    pub expiration_seconds: i64,
}

impl TokenRequest {
    pub fn of(projection: &ServiceAccountTokenProjection) -> Self {
        TokenRequest { audience: projection.audience.clone().unwrap_or_default(), expiration_seconds: projection.expiration_seconds.unwrap_or(3600) }
    }
}

/// What beside the spec a volume's content is made of.
#[derive(Clone, Copy, Debug)]
pub struct PayloadInputs<'a> {
    pub pod: &'a Pod,
    pub references: &'a References,
    pub tokens: &'a BTreeMap<TokenRequest, String>,
    pub pod_ips: &'a [String],
    pub node_ips: &'a [String],
    pub machine: MachineSize,
}

/// The tokens that a volume needs.
pub fn token_requests(volume: &Volume) -> Vec<TokenRequest> {
    let sources = volume.projected.iter().flat_map(|projected| projected.sources.iter().flatten());
    sources.filter_map(|source| source.service_account_token.as_ref()).map(TokenRequest::of).collect()
}

/// The config maps and secrets that a volume refers to.
pub fn referenced(volume: &Volume) -> (Vec<String>, Vec<String>) {
    let (mut maps, mut secrets) = (Vec::new(), Vec::new());
    maps.extend(volume.config_map.iter().map(|source| source.name.clone()));
    secrets.extend(volume.secret.iter().filter_map(|source| source.secret_name.clone()));
    for source in volume.projected.iter().flat_map(|projected| projected.sources.iter().flatten()) {
        maps.extend(source.config_map.iter().map(|source| source.name.clone()));
        secrets.extend(source.secret.iter().map(|source| source.name.clone()));
    }
    (maps, secrets)
}

/// The files of a volume.
///
/// # Errors
/// The reason as an event shows it, when something required does not exist.
pub fn payload(inputs: &PayloadInputs<'_>, volume: &Volume) -> Result<Payload, String> {
    let mode = |mode: Option<i32>| mode.unwrap_or(0o644).cast_unsigned();
    if let Some(source) = &volume.config_map {
        let optional = source.optional == Some(true);
        return config_map(inputs, &source.name, source.items.as_deref(), optional, mode(source.default_mode));
    }
    if let Some(source) = &volume.secret {
        let optional = source.optional == Some(true);
        let name = source.secret_name.as_deref().unwrap_or_default();
        return secret(inputs, name, source.items.as_deref(), optional, mode(source.default_mode));
    }
    if let Some(source) = &volume.downward_api {
        return downward(inputs, source.items.as_deref().unwrap_or_default(), mode(source.default_mode));
    }
    let mut all = Payload::new();
    if let Some(projected) = &volume.projected {
        for source in projected.sources.iter().flatten() {
            all.extend(projection(inputs, source, mode(projected.default_mode))?);
        }
    }
    Ok(all)
}

fn projection(inputs: &PayloadInputs<'_>, source: &VolumeProjection, mode: u32) -> Result<Payload, String> {
    if let Some(source) = &source.config_map {
        return config_map(inputs, &source.name, source.items.as_deref(), source.optional == Some(true), mode);
    }
    if let Some(source) = &source.secret {
        return secret(inputs, &source.name, source.items.as_deref(), source.optional == Some(true), mode);
    }
    if let Some(source) = &source.downward_api {
        return downward(inputs, source.items.as_deref().unwrap_or_default(), mode);
    }
    if let Some(source) = &source.service_account_token {
        let token = inputs.tokens.get(&TokenRequest::of(source)).ok_or("the service account token is not there yet")?;
        // Readable by the one user that all containers run as, or by the group, or else by anyone in the pod.
        let grouped = super::fs_group(inputs.pod).is_some();
        let mode = if grouped || sole_user(inputs.pod).is_some() { 0o600 } else { mode };
        let file = FileContent { data: token.clone().into_bytes(), mode };
        return Ok(Payload::from([(source.path.clone(), file)]));
    }
    Ok(Payload::new())
}

/// The user that all containers run as, where they agree and the spec says so.
pub fn sole_user(pod: &Pod) -> Option<i64> {
    let spec = pod.spec.as_ref()?;
    let of_pod = spec.security_context.as_ref().and_then(|context| context.run_as_user);
    let mut users = spec.init_containers.iter().flatten().chain(&spec.containers).map(|container| {
        let own = container.security_context.as_ref().and_then(|context| context.run_as_user);
        own.or(of_pod)
    });
    let first = users.next()??;
    users.all(|user| user == Some(first)).then_some(first)
}

fn config_map(inputs: &PayloadInputs<'_>, name: &str, items: Option<&[KeyToPath]>, optional: bool, mode: u32) -> Result<Payload, String> {
    let Some(map) = inputs.references.config_maps.get(name).and_then(Option::as_deref) else {
        return if optional { Ok(Payload::new()) } else { Err(format!("configmap \"{name}\" not found")) };
    };
    keyed(&config_map_data(map), items, optional, mode, "configmap")
}

fn config_map_data(map: &ConfigMap) -> BTreeMap<String, Vec<u8>> {
    let text = map.data.iter().flatten().map(|(key, value)| (key.clone(), value.clone().into_bytes()));
    text.chain(map.binary_data.iter().flatten().map(|(key, value)| (key.clone(), value.0.clone()))).collect()
}

fn secret(inputs: &PayloadInputs<'_>, name: &str, items: Option<&[KeyToPath]>, optional: bool, mode: u32) -> Result<Payload, String> {
    let Some(secret) = inputs.references.secrets.get(name).and_then(Option::as_deref) else {
        return if optional { Ok(Payload::new()) } else { Err(format!("secret \"{name}\" not found")) };
    };
    keyed(&secret_data(secret), items, optional, mode, "secret")
}

fn secret_data(secret: &Secret) -> BTreeMap<String, Vec<u8>> {
    secret.data.iter().flatten().map(|(key, value)| (key.clone(), value.0.clone())).collect()
}

fn keyed(data: &BTreeMap<String, Vec<u8>>, items: Option<&[KeyToPath]>, optional: bool, mode: u32, what: &str) -> Result<Payload, String> {
    let Some(items) = items.filter(|items| !items.is_empty()) else {
        return Ok(data.iter().map(|(key, value)| (key.clone(), FileContent { data: value.clone(), mode })).collect());
    };
    let mut all = Payload::new();
    for item in items {
        match data.get(&item.key) {
            Some(value) => {
                let mode = item.mode.map_or(mode, i32::cast_unsigned);
                all.insert(item.path.clone(), FileContent { data: value.clone(), mode });
            }
            None if optional => {}
            None => return Err(format!("{what} references non-existent key: {}", item.key)),
        }
    }
    Ok(all)
}

fn downward(inputs: &PayloadInputs<'_>, items: &[DownwardAPIVolumeFile], mode: u32) -> Result<Payload, String> {
    let mut all = Payload::new();
    for item in items {
        let text = if let Some(field) = &item.field_ref {
            field_value(inputs.pod, &field.field_path, inputs.pod_ips, inputs.node_ips)?
        } else if let Some(field) = &item.resource_field_ref {
            let name = field.container_name.as_deref().unwrap_or_default();
            let spec = inputs.pod.spec.as_ref().ok_or("the pod has no spec")?;
            let container = find_container(spec, name).ok_or_else(|| format!("container {name} not found"))?;
            resource_value(container, field, inputs.machine)?
        } else {
            return Err(format!("file {} refers to nothing", item.path));
        };
        all.insert(item.path.clone(), FileContent { data: text.into_bytes(), mode: item.mode.map_or(mode, i32::cast_unsigned) });
    }
    Ok(all)
}
