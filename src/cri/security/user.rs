//! Which user a container runs as, and whether that is what its pod allows.

use k8s_openapi::api::core::v1::{Container, Pod};

use crate::{names::PodIdentity, proto};

/// The highest id that the kernel's interfaces take without a change of sign; upstream's bound.
pub const MAX_ID: i64 = i32::MAX as i64;

/// The user an image is made to run as: a number, or a name that only the image can resolve.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ImageUser {
    Uid(i64),
    Name(String),
}

impl ImageUser {
    /// An image that names no user runs as root.
    pub fn of(image: &proto::Image) -> Self {
        match &image.uid {
            Some(uid) => ImageUser::Uid(uid.value),
            None if image.username.is_empty() => ImageUser::Uid(0),
            None => ImageUser::Name(image.username.clone()),
        }
    }
}

/// The user that the container's spec asks for, or else its pod's.
pub fn asked_user(pod: &Pod, container: &Container) -> Option<i64> {
    let of_pod = pod.spec.as_ref().and_then(|spec| spec.security_context.as_ref());
    container.security_context.as_ref().and_then(|own| own.run_as_user).or_else(|| of_pod?.run_as_user)
}

/// Whether the container, or its pod, asks for a user other than root.
fn asks_for_non_root(pod: &Pod, container: &Container) -> bool {
    let of_pod = pod.spec.as_ref().and_then(|spec| spec.security_context.as_ref());
    let own = container.security_context.as_ref().and_then(|own| own.run_as_non_root);
    own.or_else(|| of_pod?.run_as_non_root) == Some(true)
}

/// Checks that a container that must not run as root will not.
///
/// # Errors
/// Why it must not start, as its status shows it.
pub fn verify_non_root(pod: &Pod, container: &Container, image: &ImageUser) -> Result<(), String> {
    if !asks_for_non_root(pod, container) {
        return Ok(());
    }
    let PodIdentity { namespace, name, uid } = PodIdentity::of(pod);
    let who = format!("(pod: \"{name}_{namespace}({uid})\", container: {})", container.name);
    match (asked_user(pod, container), image) {
        (Some(0), _) => Err(format!("container's runAsUser breaks non-root policy {who}")),
        (Some(_), _) => Ok(()),
        (None, ImageUser::Name(user)) => {
            Err(format!("container has runAsNonRoot and image has non-numeric user ({user}), cannot verify user is non-root {who}"))
        }
        (None, ImageUser::Uid(0)) => Err(format!("container has runAsNonRoot and image will run as root {who}")),
        (None, ImageUser::Uid(1..=MAX_ID)) => Ok(()),
        (None, ImageUser::Uid(uid)) => Err(format!(
            "container has runAsNonRoot and image has an invalid user id ({uid}). (Must be 1-({MAX_ID})): must be between 0 and {MAX_ID}, inclusive {who}"
        )),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// What is said of a pod with this security context, whose container has that one, and an image of this user.
    fn verified(of_pod: Value, own: Value, user: &ImageUser) -> Result<(), String> {
        let spec = json!({"securityContext": of_pod, "containers": [{"name": "c", "securityContext": own}]});
        let pod: Pod = serde_json::from_value(json!({"metadata": {"name": "p", "namespace": "n", "uid": "u"}, "spec": spec})).expect("a pod");
        verify_non_root(&pod, &pod.spec.as_ref().expect("a spec").containers[0], user)
    }

    fn image(uid: Option<i64>, username: &str) -> ImageUser {
        ImageUser::of(&proto::Image { uid: uid.map(|value| proto::Int64Value { value }), username: username.into(), ..Default::default() })
    }

    const WHO: &str = "(pod: \"p_n(u)\", container: c)";

    #[test]
    fn an_image_without_a_user_is_roots() {
        let said = verified(json!({}), json!({"runAsNonRoot": true}), &image(None, ""));
        assert_eq!(said, Err(format!("container has runAsNonRoot and image will run as root {WHO}")));
        assert_eq!(verified(json!({"runAsNonRoot": true}), json!({}), &image(Some(0), "")), said);
        assert_eq!(verified(json!({}), json!({}), &image(None, "")), Ok(()), "nobody asked");
    }

    #[test]
    fn a_user_name_proves_nothing() {
        let said = verified(json!({"runAsNonRoot": true}), json!({}), &image(None, "www"));
        let why = "container has runAsNonRoot and image has non-numeric user (www), cannot verify user is non-root";
        assert_eq!(said, Err(format!("{why} {WHO}")));
    }

    #[test]
    fn an_id_that_the_kernel_reads_as_another_is_refused() {
        for uid in [-1, 1 << 32] {
            let said = verified(json!({"runAsNonRoot": true}), json!({}), &image(Some(uid), "")).expect_err("refused");
            assert!(said.starts_with(&format!("container has runAsNonRoot and image has an invalid user id ({uid}).")), "{said}");
        }
    }

    #[test]
    fn the_spec_wins_over_the_image_and_the_container_over_the_pod() {
        let said = verified(json!({"runAsNonRoot": true, "runAsUser": 0}), json!({}), &image(Some(7), ""));
        assert_eq!(said, Err(format!("container's runAsUser breaks non-root policy {WHO}")));
        assert_eq!(verified(json!({"runAsNonRoot": true, "runAsUser": 0}), json!({"runAsUser": 5}), &image(None, "")), Ok(()));
        assert_eq!(verified(json!({"runAsNonRoot": true}), json!({"runAsNonRoot": false}), &image(None, "")), Ok(()));
        assert_eq!(verified(json!({"runAsNonRoot": true}), json!({}), &image(Some(7), "")), Ok(()));
    }
}
