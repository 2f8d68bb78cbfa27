//! Images: whether to pull, names, and pulling with the credentials of a pod.

use k8s_openapi::api::core::v1::{Container, Pod};
use serde_json::Value;
use troupe_cri::proto;

use super::env::References;

/// When an image is pulled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PullPolicy {
    Always,
    IfNotPresent,
    Never,
}

/// The pull policy of a container; where it says nothing, `:latest` is always pulled.
pub fn pull_policy(container: &Container) -> PullPolicy {
    match container.image_pull_policy.as_deref() {
        Some("Always") => PullPolicy::Always,
        Some("Never") => PullPolicy::Never,
        Some("IfNotPresent") => PullPolicy::IfNotPresent,
        _ if canonical(container.image.as_deref().unwrap_or_default()).is_ok_and(|name| name.ends_with(":latest")) => PullPolicy::Always,
        _ => PullPolicy::IfNotPresent,
    }
}

/// The name with its tag spelled out.
///
/// # Errors
/// When it is no image name.
pub fn canonical(image: &str) -> Result<String, String> {
    let invalid = || format!("couldn't parse image name \"{image}\": invalid reference format");
    let (name, digest) = image.split_once('@').map_or((image, None), |(name, digest)| (name, Some(digest)));
    let (path, tag) = match name.rsplit_once(':') {
        Some((path, tag)) if !tag.contains('/') => (path, Some(tag)),
        _ => (name, None),
    };
    let part = |part: &str| !part.is_empty() && part.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '.' | '_' | '-'));
    let mut parts = path.split('/');
    let first = parts.next().unwrap_or_default();
    let host = path.contains('/') && (first.contains(['.', ':']) || first == "localhost");
    let first_ok = if host { !first.is_empty() && first.chars().all(|c| c.is_ascii_alphanumeric() || ".:-[]".contains(c)) } else { part(first) };
    let tag_ok = tag.is_none_or(|tag| !tag.is_empty() && tag.len() <= 128 && tag.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c)));
    let digest_ok =
        digest.is_none_or(|digest| digest.split_once(':').is_some_and(|(_, hex)| hex.len() >= 32 && hex.chars().all(|c| c.is_ascii_hexdigit())));
    if !first_ok || !parts.all(part) || !tag_ok || !digest_ok {
        return Err(invalid());
    }
    Ok(match (tag, digest) {
        (None, None) => format!("{image}:latest"),
        _ => image.to_owned(),
    })
}

/// The registry an image is pulled from.
pub fn registry(image: &str) -> &str {
    match image.split_once('/') {
        Some((first, _)) if first.contains(['.', ':']) || first == "localhost" => first,
        _ => "docker.io",
    }
}

/// The names of the secrets that hold a pod's registry credentials.
pub fn pull_secrets(pod: &Pod) -> Vec<String> {
    let spec = pod.spec.as_ref();
    spec.and_then(|spec| spec.image_pull_secrets.as_ref()).into_iter().flatten().map(|reference| reference.name.clone()).collect()
}

/// The credentials for an image among a pod's secrets.
pub fn credentials(image: &str, names: &[String], references: &References) -> Option<proto::AuthConfig> {
    let wanted = registry(image);
    let configs = names.iter().filter_map(|name| {
        let secret = references.secrets.get(name)?.as_deref()?;
        let data = secret.data.as_ref()?;
        let text = data.get(".dockerconfigjson").or_else(|| data.get(".dockercfg"))?;
        let config: Value = serde_json::from_slice(&text.0).ok()?;
        Some(config.get("auths").cloned().unwrap_or(config))
    });
    let matching = |server: &str| {
        let server = server.trim_start_matches("https://").trim_start_matches("http://");
        let host = server.split('/').next().unwrap_or_default();
        host == wanted || (wanted == "docker.io" && host == "index.docker.io")
    };
    let mut found = configs.flat_map(|auths| auths.as_object().cloned().unwrap_or_default()).filter(|(server, _)| matching(server));
    let (server, entry) = found.next()?;
    let text = |field: &str| entry.get(field).and_then(Value::as_str).unwrap_or_default().to_owned();
    Some(proto::AuthConfig {
        username: text("username"),
        password: text("password"),
        auth: text("auth"),
        server_address: server,
        identity_token: text("identitytoken"),
        registry_token: String::new(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_checked_and_tags_spelled_out() {
        for (image, want) in [
            ("busybox", Ok("busybox:latest")),
            ("localhost:5000/a/b", Ok("localhost:5000/a/b:latest")),
            ("registry.k8s.io/pause:3.10", Ok("registry.k8s.io/pause:3.10")),
            ("Bad", Err(())),
            ("a//b", Err(())),
            ("", Err(())),
        ] {
            assert_eq!(canonical(image).as_deref().map_err(drop), want, "{image}");
        }
    }

    #[test]
    fn latest_is_always_pulled_unless_the_policy_says_else() {
        let of = |image: &str, policy: Option<&str>| {
            pull_policy(&Container { image: Some(image.into()), image_pull_policy: policy.map(str::to_owned), ..Default::default() })
        };
        assert_eq!(of("a", None), PullPolicy::Always);
        assert_eq!(of("a:1", None), PullPolicy::IfNotPresent);
        assert_eq!(of("a", Some("Never")), PullPolicy::Never);
    }
}
