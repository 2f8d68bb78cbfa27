//! Credentials of the secrets that a pod names in `imagePullSecrets`: client configurations of registries in JSON. Pure.

use base64::{
    Engine,
    alphabet::STANDARD,
    engine::{DecodePaddingMode, GeneralPurpose, general_purpose::PAD},
};
use k8s_openapi::api::core::v1::Secret;
use serde::Deserialize;
use serde_json::Value;
use troupe_cri::proto;

use super::{
    keyring::Keyring,
    model::{Coordinates, Credential, Source},
};

/// Types of such secrets, and the key of each with its configuration.
const KINDS: [(&str, &str); 2] = [("kubernetes.io/dockerconfigjson", ".dockerconfigjson"), ("kubernetes.io/dockercfg", ".dockercfg")];

/// What a configuration says of a place.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Entry {
    username: String,
    password: String,
    /// `user:password` in base64, which wins over both.
    auth: String,
    identitytoken: String,
}

/// All that these secrets have. What cannot be read is left out.
pub fn keyring<'a>(secrets: impl IntoIterator<Item = &'a Secret>) -> Keyring {
    let mut keyring = Keyring::default();
    for secret in secrets {
        let meta = &secret.metadata;
        let text = |field: &Option<String>| field.clone().unwrap_or_default();
        let coordinates = Coordinates { uid: text(&meta.uid), namespace: text(&meta.namespace), name: text(&meta.name) };
        for (place, entry) in entries(secret) {
            match auth(entry) {
                Ok(auth) => keyring.add(&place, Credential::new(auth, Some(Source::Secret(coordinates.clone())))),
                // Why could quote what is in it.
                Err(()) => tracing::warn!(namespace = coordinates.namespace, secret = coordinates.name, place, "credentials that cannot be read"),
            }
        }
    }
    keyring
}

fn entries(secret: &Secret) -> serde_json::Map<String, Value> {
    let kind = KINDS.iter().find(|(kind, _)| secret.type_.as_deref() == Some(*kind));
    let text = kind.and_then(|(_, key)| secret.data.as_ref()?.get(*key));
    let config: Value = text.and_then(|text| serde_json::from_slice(&text.0).ok()).unwrap_or_default();
    places(config, kind.is_some_and(|(_, key)| *key == ".dockerconfigjson"))
}

/// The places of a configuration with what is for them. A newer one has other things beside them.
pub(super) fn places(mut config: Value, is_newer: bool) -> serde_json::Map<String, Value> {
    let places = if is_newer { config.get_mut("auths").map(Value::take).unwrap_or_default() } else { config };
    match places {
        Value::Object(places) => places,
        _ => serde_json::Map::new(),
    }
}

/// What a configuration has for a place.
pub(super) fn auth(entry: Value) -> Result<proto::AuthConfig, ()> {
    let entry: Entry = serde_json::from_value(entry).map_err(drop)?;
    let (username, password) = if entry.auth.is_empty() { (entry.username, entry.password) } else { decode(&entry.auth)? };
    Ok(proto::AuthConfig { username, password, identity_token: entry.identitytoken, ..Default::default() })
}

fn decode(auth: &str) -> Result<(String, String), ()> {
    let base64 = GeneralPurpose::new(&STANDARD, PAD.with_decode_padding_mode(DecodePaddingMode::Indifferent));
    let text = String::from_utf8(base64.decode(auth.trim()).map_err(drop)?).map_err(drop)?;
    let (user, password) = text.split_once(':').ok_or(())?;
    Ok((user.to_owned(), password.trim_end_matches('\0').to_owned()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn secret(kind: &str, key: &str, config: &Value) -> Secret {
        serde_json::from_value(json!({"metadata": {"name": "s", "namespace": "a", "uid": "u"}, "type": kind,
            "data": {key: base64::engine::general_purpose::STANDARD.encode(config.to_string())}}))
        .expect("a secret")
    }

    fn found(secret: &Secret) -> Vec<(String, String)> {
        let all = keyring([secret]).lookup("registry.example/a");
        let source = Some(Source::Secret(Coordinates { uid: "u".into(), namespace: "a".into(), name: "s".into() }));
        assert!(all.iter().all(|credential| credential.source == source));
        all.into_iter().map(|credential| (credential.auth.username, credential.auth.password)).collect()
    }

    #[test]
    fn both_kinds_of_configurations_are_read() {
        let places = json!({"registry.example": {"username": "me", "password": "p"}, "https://registry.example/a": {"auth": "eW91OmE6Yg"},
            "odd.example": {"auth": "%"}, "registry.example/a/odd": 5});
        let both = [("you".to_owned(), "a:b".to_owned()), ("me".to_owned(), "p".to_owned())];
        let newer = secret("kubernetes.io/dockerconfigjson", ".dockerconfigjson", &json!({"auths": places}));
        assert_eq!(found(&newer), both);
        assert_eq!(found(&secret("kubernetes.io/dockercfg", ".dockercfg", &places)), both);
        let other = secret("Opaque", ".dockerconfigjson", &json!({"auths": places}));
        assert_eq!(found(&other), Vec::new(), "it is of another type");
        assert_eq!(found(&secret("kubernetes.io/dockercfg", ".dockercfg", &json!([1]))), Vec::new());
    }
}
