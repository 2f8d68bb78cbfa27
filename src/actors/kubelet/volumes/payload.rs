//! What files a configMap, secret, downwardAPI or projected volume holds.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    ConfigMap, DownwardAPIVolumeFile, KeyToPath, Pod, PodCertificateProjection, Secret, ServiceAccountTokenProjection, Volume, VolumeProjection,
};
use troupe_cri::resources::MachineSize;

use super::{claim::Sources, room::Room};
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
    /// What claims lead to; nothing for those that are set up.
    pub claims: &'a Sources,
    pub pod_ips: &'a [String],
    pub node_ips: &'a [String],
    pub machine: MachineSize,
    /// The runtime with its version, such as `containerd 1.6.20`.
    pub runtime: &'a str,
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
/// The reason as an event shows it, when something required does not exist, or there is no room for all of it.
pub fn payload(inputs: &PayloadInputs<'_>, volume: &Volume, room: &mut Room<'_>) -> Result<Payload, String> {
    let mode = |mode: Option<i32>| mode.unwrap_or(0o644).cast_unsigned();
    if let Some(source) = &volume.config_map {
        let keys = Keys::of_config_map(inputs, &source.name, source.items.as_deref(), source.optional);
        return keyed(&keys, mode(source.default_mode), room);
    }
    if let Some(source) = &volume.secret {
        let name = source.secret_name.as_deref().unwrap_or_default();
        return keyed(&Keys::of_secret(inputs, name, source.items.as_deref(), source.optional), mode(source.default_mode), room);
    }
    if let Some(source) = &volume.downward_api {
        return downward(inputs, source.items.as_deref().unwrap_or_default(), mode(source.default_mode), room);
    }
    let mut all = Payload::new();
    if let Some(projected) = &volume.projected {
        for (place, source) in projected.sources.iter().flatten().enumerate() {
            match &source.pod_certificate {
                Some(wanted) => all.extend(certificate(inputs, (volume.name.as_str(), place), wanted, mode(projected.default_mode), room)?),
                None => all.extend(projection(inputs, source, mode(projected.default_mode), room)?),
            }
        }
    }
    Ok(all)
}

fn projection(inputs: &PayloadInputs<'_>, source: &VolumeProjection, mode: u32, room: &mut Room<'_>) -> Result<Payload, String> {
    if let Some(source) = &source.config_map {
        return keyed(&Keys::of_config_map(inputs, &source.name, source.items.as_deref(), source.optional), mode, room);
    }
    if let Some(source) = &source.secret {
        return keyed(&Keys::of_secret(inputs, &source.name, source.items.as_deref(), source.optional), mode, room);
    }
    if let Some(source) = &source.downward_api {
        return downward(inputs, source.items.as_deref().unwrap_or_default(), mode, room);
    }
    if let Some(source) = &source.service_account_token {
        let token = inputs.tokens.get(&TokenRequest::of(source)).ok_or("the service account token is not there yet")?;
        room.take(token.len())?;
        return Ok(own_file(inputs.pod, &source.path, token.clone(), mode));
    }
    if let Some(source) = &source.cluster_trust_bundle {
        let bundles = inputs.references.trust_bundles.as_ref().ok_or("the bundles of trust anchors are not known yet")?;
        let anchors = bundles.file(source)?;
        room.take(anchors.len())?;
        return Ok(own_file(inputs.pod, &source.path, anchors, mode));
    }
    Ok(Payload::new())
}

/// A file that is readable by the one user that all containers run as, or by the group, or else by anyone in the pod.
fn own_file(pod: &Pod, path: &str, text: String, mode: u32) -> Payload {
    Payload::from([(path.to_owned(), FileContent { data: text.into_bytes(), mode: credential_mode(pod, mode) })])
}

/// A pod's key and the certificates for it, together or apart.
fn certificate(
    inputs: &PayloadInputs<'_>,
    (volume, place): (&str, usize),
    wanted: &PodCertificateProjection,
    mode: u32,
    room: &mut Room<'_>,
) -> Result<Payload, String> {
    let Some(found) = inputs.references.certificates.get(&(volume.to_owned(), place)) else { return Err("no credentials yet".into()) };
    let bundle = found.clone()?;
    let (both, mode) = (format!("{}{}", bundle.key, bundle.chain), credential_mode(inputs.pod, mode));
    let mut all = Payload::new();
    for (path, content) in [(&wanted.credential_bundle_path, &both), (&wanted.key_path, &bundle.key), (&wanted.certificate_chain_path, &bundle.chain)]
    {
        let Some(path) = path.as_ref().filter(|path| !path.is_empty()) else { continue };
        room.take(content.len())?;
        all.insert(path.clone(), FileContent { data: content.clone().into_bytes(), mode });
    }
    Ok(all)
}

/// Credentials are readable by the one user that all containers run as, or by the group, or else by anyone in the pod.
fn credential_mode(pod: &Pod, mode: u32) -> u32 {
    let is_owned = super::fs_group(pod).is_some() || sole_user(pod).is_some();
    if is_owned { 0o600 } else { mode }
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

/// The object whose keys become files, and which of them under which names.
struct Keys<'a> {
    kind: &'static str,
    name: &'a str,
    /// Nothing where the object does not exist.
    data: Option<Data<'a>>,
    items: Option<&'a [KeyToPath]>,
    optional: bool,
}

impl<'a> Keys<'a> {
    fn of_config_map(inputs: &PayloadInputs<'a>, name: &'a str, items: Option<&'a [KeyToPath]>, optional: Option<bool>) -> Self {
        let data = inputs.references.config_maps.get(name).and_then(Option::as_deref).map(config_map_data);
        Keys { kind: "configmap", name, data, items, optional: optional == Some(true) }
    }

    fn of_secret(inputs: &PayloadInputs<'a>, name: &'a str, items: Option<&'a [KeyToPath]>, optional: Option<bool>) -> Self {
        let data = inputs.references.secrets.get(name).and_then(Option::as_deref).map(secret_data);
        Keys { kind: "secret", name, data, items, optional: optional == Some(true) }
    }
}

/// The bytes of each key.
type Data<'a> = BTreeMap<&'a str, &'a [u8]>;

fn config_map_data(map: &ConfigMap) -> Data<'_> {
    let text = map.data.iter().flatten().map(|(key, value)| (key.as_str(), value.as_bytes()));
    text.chain(map.binary_data.iter().flatten().map(|(key, value)| (key.as_str(), value.0.as_slice()))).collect()
}

fn secret_data(secret: &Secret) -> Data<'_> {
    secret.data.iter().flatten().map(|(key, value)| (key.as_str(), value.0.as_slice())).collect()
}

fn keyed(keys: &Keys<'_>, mode: u32, room: &mut Room<'_>) -> Result<Payload, String> {
    let Keys { kind, name, items, optional, .. } = *keys;
    let Some(data) = &keys.data else {
        return if optional { Ok(Payload::new()) } else { Err(format!("{kind} \"{name}\" not found")) };
    };
    let mut all = Payload::new();
    let mut add = |path: &str, value: &[u8], mode: u32| -> Result<(), String> {
        room.take(value.len())?;
        all.insert(path.to_owned(), FileContent { data: value.to_owned(), mode });
        Ok(())
    };
    match items.filter(|items| !items.is_empty()) {
        None => data.iter().try_for_each(|(key, value)| add(key, value, mode))?,
        Some(items) => {
            for item in items {
                match data.get(item.key.as_str()) {
                    Some(value) => add(&item.path, value, item.mode.map_or(mode, i32::cast_unsigned))?,
                    None if optional => {}
                    None if kind == "secret" => return Err(format!("references non-existent secret key: {}", item.key)),
                    None => return Err(format!("{kind} references non-existent config key: {}", item.key)),
                }
            }
        }
    }
    Ok(all)
}

fn downward(inputs: &PayloadInputs<'_>, items: &[DownwardAPIVolumeFile], mode: u32, room: &mut Room<'_>) -> Result<Payload, String> {
    let mut all = Payload::new();
    for item in items {
        let text = if let Some(field) = &item.field_ref {
            field_value(inputs.pod, &field.field_path, inputs.pod_ips, inputs.node_ips)?
        } else if let Some(field) = &item.resource_field_ref {
            let name = field.container_name.as_deref().unwrap_or_default();
            let spec = inputs.pod.spec.as_ref().ok_or("the pod has no spec")?;
            let container = find_container(spec, name).ok_or_else(|| format!("container {name} not found"))?;
            resource_value(inputs.pod, container, field, inputs.machine)?
        } else {
            return Err(format!("file {} refers to nothing", item.path));
        };
        room.take(text.len())?;
        all.insert(item.path.clone(), FileContent { data: text.into_bytes(), mode: item.mode.map_or(mode, i32::cast_unsigned) });
    }
    Ok(all)
}
