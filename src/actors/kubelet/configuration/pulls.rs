//! What a configuration says of credentials for images that are on the node already. Pure.

use super::KubeletConfiguration;
use crate::kubelet::pull_records::policy::{Allowlist, Policy};

/// The policies, by their names.
pub(super) const POLICIES: [&str; 4] = ["NeverVerify", "NeverVerifyPreloadedImages", ALLOWLISTED, "AlwaysVerify"];
pub(super) const ALLOWLISTED: &str = "NeverVerifyAllowlistedImages";

impl KubeletConfiguration {
    /// Whose credentials are looked at before a pod uses an image that is on the node.
    ///
    /// # Errors
    /// When there is no such policy, or an image of the list is none, in upstream's words.
    pub fn pull_verification(&self) -> Result<Policy, String> {
        match self.text("imagePullCredentialsVerificationPolicy") {
            "NeverVerify" => Ok(Policy::NeverVerify),
            "NeverVerifyPreloadedImages" => Ok(Policy::NeverVerifyPreloadedImages),
            ALLOWLISTED => Allowlist::parse(&self.texts("preloadedImagesVerificationAllowlist")).map(Policy::NeverVerifyAllowlistedImages),
            "AlwaysVerify" => Ok(Policy::AlwaysVerify),
            odd => Err(format!("unknown image pull credential verification policy: {odd}")),
        }
    }
}
