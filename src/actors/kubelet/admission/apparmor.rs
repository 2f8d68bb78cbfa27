//! AppArmor: a pod that asks for a profile runs only where the kernel enforces profiles.

use std::fs;

use k8s_openapi::api::core::v1::{Pod, PodSpec};
use troupe_cri::{proto::security_profile::ProfileType, security::profiles};

/// Whether the kernel enforces AppArmor profiles.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AppArmor {
    pub enabled: bool,
}

impl AppArmor {
    /// Asks the running kernel.
    pub fn read() -> Self {
        let on = || fs::read_to_string("/sys/module/apparmor/parameters/enabled").is_ok_and(|text| text.starts_with('Y'));
        AppArmor { enabled: fs::exists("/sys/kernel/security/apparmor").unwrap_or(false) && on() }
    }

    /// Checks every profile of a pod. Whether a profile is loaded is known when its container is made: the runtime says so then.
    pub(super) fn check(self, pod: &Pod, spec: &PodSpec) -> Result<(), String> {
        for (_, container) in super::containers(spec) {
            let wanted = profiles::apparmor(pod, &container)?;
            if wanted.is_some_and(|profile| profile.profile_type() != ProfileType::Unconfined) && !self.enabled {
                return Err("AppArmor is not enabled on the host".to_owned());
            }
        }
        Ok(())
    }
}
