//! How the mounts of a container are to be made.

use k8s_openapi::api::core::v1::VolumeMount;

/// Whether what is mounted below a read-only mount is to be read-only, too. `able` says whether the runtime can do that.
///
/// # Errors
/// When that is asked for and cannot be.
pub fn recursive_read_only(mount: &VolumeMount, able: bool) -> Result<bool, String> {
    let asks = |what: &str| Err(format!("volume {:?} requested recursive read-only mode, but it is {what}", mount.name));
    let mode = mount.recursive_read_only.as_deref().unwrap_or("Disabled");
    if mode == "Disabled" {
        return Ok(false);
    }
    if mount.read_only != Some(true) {
        return asks("not read-only");
    }
    if let Some(propagation) = mount.mount_propagation.as_deref().filter(|mode| *mode != "None") {
        return asks(&format!("not compatible with propagation {propagation:?}"));
    }
    match mode {
        "IfPossible" => Ok(able),
        "Enabled" if able => Ok(true),
        "Enabled" => asks("not supported by the runtime"),
        mode => Err(format!("unknown recursive read-only mode {mode:?}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(mode: &str, able: bool) -> Result<bool, String> {
        let (name, read_only, mode) = ("v".to_owned(), Some(true), Some(mode.to_owned()));
        recursive_read_only(&VolumeMount { name, read_only, recursive_read_only: mode, ..VolumeMount::default() }, able)
    }

    #[test]
    fn recursive_read_only_is_given_or_refused() {
        assert_eq!((mode("Enabled", true), mode("IfPossible", true), mode("IfPossible", false)), (Ok(true), Ok(true), Ok(false)));
        let why = "volume \"v\" requested recursive read-only mode, but it is not supported by the runtime";
        assert_eq!(mode("Enabled", false), Err(why.into()));
        assert_eq!(mode("Disabled", false), Ok(false));
        assert!(mode("Always", true).is_err());
    }

    #[test]
    fn only_a_private_read_only_mount_is_so_recursively() {
        let mount = VolumeMount { name: "v".into(), recursive_read_only: Some("Enabled".into()), ..VolumeMount::default() };
        assert!(recursive_read_only(&mount, true).expect_err("writable").ends_with("but it is not read-only"));
        let mount = VolumeMount { read_only: Some(true), mount_propagation: Some("HostToContainer".into()), ..mount };
        assert!(recursive_read_only(&mount, true).expect_err("not private").ends_with("not compatible with propagation \"HostToContainer\""));
    }
}
