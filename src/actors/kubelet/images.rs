//! Images: whether to pull, their names, and the secrets that a pod has for them. Pure.

use k8s_openapi::api::core::v1::{Container, Pod};

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

/// The whole repository of an image, as registries know it: `docker.io/library/busybox` of `busybox:1`.
pub fn repository(image: &str) -> String {
    let name = without_tag(image);
    let (host, path) = match name.split_once('/') {
        Some((host, path)) if host.contains(['.', ':']) || host == "localhost" || host.chars().any(char::is_uppercase) => (host, path),
        _ => ("docker.io", name),
    };
    match host {
        "docker.io" | "index.docker.io" if !path.contains('/') => format!("docker.io/library/{path}"),
        "docker.io" | "index.docker.io" => format!("docker.io/{path}"),
        _ => format!("{host}/{path}"),
    }
}

/// The name of an image as it is written, without tag and digest.
pub fn without_tag(image: &str) -> &str {
    let name = image.split_once('@').map_or(image, |(name, _)| name);
    match name.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => name,
        _ => name,
    }
}

/// The names of the secrets that hold a pod's registry credentials. The API takes references without a name, which mean nothing.
pub fn pull_secrets(pod: &Pod) -> Vec<String> {
    let references = pod.spec.as_ref().and_then(|spec| spec.image_pull_secrets.as_ref());
    references.into_iter().flatten().map(|reference| reference.name.clone()).filter(|name| !name.is_empty()).collect()
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
    fn references_without_a_name_mean_no_secret() {
        let pod = serde_json::json!({"spec": {"containers": [], "imagePullSecrets": [{}, {"name": ""}, {"name": "a"}]}});
        assert_eq!(pull_secrets(&serde_json::from_value(pod).expect("a pod")), ["a"]);
    }

    #[test]
    fn repositories_are_named_whole() {
        for (image, want) in [
            ("busybox", "docker.io/library/busybox"),
            ("busybox:1@sha256:0", "docker.io/library/busybox"),
            ("team/a:1", "docker.io/team/a"),
            ("index.docker.io/team/a", "docker.io/team/a"),
            ("localhost/a", "localhost/a"),
            ("localhost:5000/a/b", "localhost:5000/a/b"),
            ("registry.example/a@sha256:0", "registry.example/a"),
        ] {
            assert_eq!(repository(image), want, "{image}");
        }
        assert_eq!((without_tag("localhost:5000/a:1"), without_tag("localhost:5000/a")), ("localhost:5000/a", "localhost:5000/a"));
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
