//! The seccomp and AppArmor profiles of containers.

use std::path::{Component, Path};

use k8s_openapi::api::core::v1::{AppArmorProfile, Container, Pod, SeccompProfile};

use crate::proto::{SecurityProfile, security_profile::ProfileType};

/// The annotation that named a container's AppArmor profile before there was a field, with the container's name behind it.
const APPARMOR_ANNOTATION: &str = "container.apparmor.security.beta.kubernetes.io/";
const APPARMOR_DEFAULT: &str = "runtime/default";
const APPARMOR_UNCONFINED: &str = "unconfined";
const APPARMOR_LOCALHOST: &str = "localhost/";

fn profile(kind: ProfileType, localhost_ref: String) -> SecurityProfile {
    SecurityProfile { profile_type: kind.into(), localhost_ref }
}

/// The runtime's own profile.
pub(super) fn runtime_default() -> SecurityProfile {
    profile(ProfileType::RuntimeDefault, String::new())
}

/// A seccomp profile; files are looked for below `root`. Without one nothing is filtered, as upstream.
///
/// # Errors
/// For a kind that does not exist, or a file that is not below `root`: less than asked must not run.
pub fn seccomp(wanted: Option<&SeccompProfile>, root: &str) -> Result<SecurityProfile, String> {
    let Some(wanted) = wanted else { return Ok(profile(ProfileType::Unconfined, String::new())) };
    match wanted.type_.as_str() {
        "RuntimeDefault" => Ok(runtime_default()),
        "Unconfined" => Ok(profile(ProfileType::Unconfined, String::new())),
        "Localhost" => match wanted.localhost_profile.as_deref().unwrap_or_default() {
            "" => Err("localhostProfile must be set if seccompProfile type is Localhost.".to_owned()),
            file if Path::new(file).components().all(|part| matches!(part, Component::Normal(_))) => {
                Ok(profile(ProfileType::Localhost, format!("{root}/{file}")))
            }
            file => Err(format!("seccompProfile: localhostProfile must be a relative path without '..': {file:?}")),
        },
        kind => Err(format!("unknown seccomp profile type: {kind:?}")),
    }
}

/// The AppArmor profile that a container asks for: its own field, its annotation, its pod's field.
pub fn apparmor_profile(pod: &Pod, container: &Container) -> Option<AppArmorProfile> {
    let own = container.security_context.as_ref().and_then(|own| own.app_armor_profile.clone());
    let of_pod = || pod.spec.as_ref()?.security_context.as_ref()?.app_armor_profile.clone();
    own.or_else(|| annotated(pod, &container.name)).or_else(of_pod)
}

/// What the annotation of a container says; a text that means nothing is kept as a kind that nothing supports.
fn annotated(pod: &Pod, container: &str) -> Option<AppArmorProfile> {
    let text = pod.metadata.annotations.as_ref()?.get(&format!("{APPARMOR_ANNOTATION}{container}"))?;
    let (kind, file) = match text.strip_prefix(APPARMOR_LOCALHOST) {
        Some(file) => ("Localhost", Some(file.to_owned())),
        None if text == APPARMOR_DEFAULT => ("RuntimeDefault", None),
        None if text == APPARMOR_UNCONFINED => ("Unconfined", None),
        None => (text.as_str(), None),
    };
    Some(AppArmorProfile { type_: kind.to_owned(), localhost_profile: file })
}

/// A container's AppArmor profile.
///
/// # Errors
/// For a kind that does not exist, or no name.
pub fn apparmor(pod: &Pod, container: &Container) -> Result<Option<SecurityProfile>, String> {
    let Some(wanted) = apparmor_profile(pod, container) else { return Ok(None) };
    let told = match wanted.type_.as_str() {
        "RuntimeDefault" => runtime_default(),
        "Unconfined" => profile(ProfileType::Unconfined, String::new()),
        "Localhost" => match wanted.localhost_profile.as_deref().map(str::trim).unwrap_or_default() {
            "" => return Err("missing localhost apparmor profile name".to_owned()),
            name => profile(ProfileType::Localhost, name.to_owned()),
        },
        kind => return Err(format!("unknown apparmor profile type: {kind:?}")),
    };
    Ok(Some(told))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn pod(pod: Value) -> Pod {
        serde_json::from_value(pod).expect("a pod")
    }

    fn told(from: &Pod) -> Result<Option<(ProfileType, String)>, String> {
        Ok(apparmor(from, &from.spec.as_ref().expect("a spec").containers[0])?.map(|told| (told.profile_type(), told.localhost_ref)))
    }

    fn file(name: &str) -> Result<Option<(ProfileType, String)>, String> {
        Ok(Some((ProfileType::Localhost, name.to_owned())))
    }

    #[test]
    fn a_seccomp_file_lies_below_the_nodes_folder() {
        let wanted = |value| serde_json::from_value::<SeccompProfile>(value).expect("a profile");
        let localhost = |file: &str| seccomp(Some(&wanted(json!({"type": "Localhost", "localhostProfile": file}))), "/root/seccomp");
        assert_eq!(localhost("a/b.json").expect("is below").localhost_ref, "/root/seccomp/a/b.json");
        for outside in ["../b.json", "a/../../b.json", "/b.json", "", "."] {
            assert!(localhost(outside).is_err(), "{outside:?}");
        }
        assert!(seccomp(Some(&wanted(json!({"type": "Localhost"}))), "").is_err());
    }

    #[test]
    fn a_seccomp_profile_of_an_unknown_kind_is_not_taken_for_none() {
        let wanted = SeccompProfile { type_: "Strict".into(), localhost_profile: None };
        assert_eq!(seccomp(Some(&wanted), ""), Err("unknown seccomp profile type: \"Strict\"".into()));
        assert_eq!(seccomp(None, "").map(|profile| profile.profile_type), Ok(ProfileType::Unconfined.into()));
    }

    #[test]
    fn the_containers_own_apparmor_profile_wins_over_the_annotation_and_that_over_the_pods() {
        let own = json!({"appArmorProfile": {"type": "Localhost", "localhostProfile": "own"}});
        let of_pod = json!({"appArmorProfile": {"type": "RuntimeDefault"}});
        let annotations = json!({"container.apparmor.security.beta.kubernetes.io/c": "localhost/old"});
        let all = json!({"metadata": {"annotations": annotations}, "spec": {"securityContext": of_pod, "containers": [{"name": "c", "securityContext": own}]}});
        assert_eq!(told(&pod(all.clone())), file("own"));
        let mut without_own = all.clone();
        without_own["spec"]["containers"][0]["securityContext"] = json!({});
        assert_eq!(told(&pod(without_own.clone())), file("old"));
        without_own["metadata"]["annotations"] = json!({});
        assert_eq!(told(&pod(without_own)), Ok(Some((ProfileType::RuntimeDefault, String::new()))));
    }

    #[test]
    fn an_apparmor_profile_that_means_nothing_is_an_error() {
        let annotations = json!({"container.apparmor.security.beta.kubernetes.io/c": "strict"});
        let odd = pod(json!({"metadata": {"annotations": annotations}, "spec": {"containers": [{"name": "c"}]}}));
        assert_eq!(told(&odd), Err("unknown apparmor profile type: \"strict\"".into()));
        let nameless = json!({"appArmorProfile": {"type": "Localhost", "localhostProfile": " "}});
        assert!(told(&pod(json!({"spec": {"securityContext": nameless, "containers": [{"name": "c"}]}}))).is_err());
    }
}
