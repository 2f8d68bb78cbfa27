//! Which plugins run: those that are on by default, and what `--enable-admission-plugins` and `--disable-admission-plugins` say.

use std::collections::BTreeSet;

/// Every plugin there is, in the order in which they are asked, and whether it runs where nothing is said.
const PLUGINS: [(&str, bool); 38] = [
    ("AlwaysAdmit", false),
    ("NamespaceLifecycle", true),
    ("NamespaceExists", false),
    ("LimitPodHardAntiAffinityTopology", false),
    ("LimitRanger", true),
    ("ServiceAccount", true),
    ("NodeRestriction", true),
    ("TaintNodesByCondition", true),
    ("AlwaysPullImages", false),
    ("PodSecurity", true),
    ("PodNodeSelector", false),
    ("Priority", true),
    ("DefaultTolerationSeconds", true),
    ("PodTolerationRestriction", false),
    ("EventRateLimit", false),
    ("ExtendedResourceToleration", false),
    ("DefaultStorageClass", true),
    ("StorageObjectInUseProtection", true),
    ("PodGroupProtection", true),
    ("OwnerReferencesPermissionEnforcement", false),
    ("PersistentVolumeClaimResize", true),
    ("RuntimeClass", true),
    ("CertificateApproval", true),
    ("CertificateSigning", true),
    ("ClusterTrustBundleAttest", true),
    ("CertificateSubjectRestriction", true),
    ("DefaultIngressClass", true),
    ("DenyServiceExternalIPs", false),
    ("PodTopologyLabels", true),
    ("PodGroupWorkloadExists", true),
    ("NodeDeclaredFeatureValidator", true),
    ("JobValidation", true),
    ("PodResizeValidator", true),
    ("MutatingAdmissionPolicy", true),
    ("MutatingAdmissionWebhook", true),
    ("ValidatingAdmissionPolicy", true),
    ("ValidatingAdmissionWebhook", true),
    ("ResourceQuota", true),
];
/// Comes behind all others, after the pipeline is put together.
const LAST: &str = "AlwaysDeny";
/// Upstream's plugins that this server does not have, and that are off there.
const ELSEWHERE: [&str; 2] = ["ImagePolicyWebhook", "NamespaceAutoProvision"];

/// Why a choice of plugins is refused, in upstream's words where it refuses it too.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SelectionError {
    #[error("{flag} plugin {name:?} is unknown")]
    Unknown { flag: &'static str, name: String },
    #[error("enable-admission-plugins plugin {0:?} is not part of this server")]
    Elsewhere(String),
    #[error("[{0}] in enable-admission-plugins and disable-admission-plugins overlapped")]
    Overlap(String),
}

/// The plugins that run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selection {
    names: BTreeSet<&'static str>,
}

impl Default for Selection {
    fn default() -> Self {
        Selection { names: PLUGINS.iter().filter(|(_, on)| *on).map(|(name, _)| *name).collect() }
    }
}

impl Selection {
    /// Those on by default, and `enable`, without `disable`.
    ///
    /// # Errors
    /// When a name is unknown, or stands in both.
    pub fn new(enable: &[String], disable: &[String]) -> Result<Self, SelectionError> {
        let mut selection = Selection::default();
        for name in disable {
            match known("disable-admission-plugins", name)? {
                Some(known) => selection.names.remove(known),
                None => false,
            };
        }
        for name in enable {
            let Some(known) = known("enable-admission-plugins", name)? else { return Err(SelectionError::Elsewhere(name.clone())) };
            selection.names.insert(known);
        }
        let both: BTreeSet<&str> = enable.iter().filter(|name| disable.contains(name)).map(String::as_str).collect();
        if !both.is_empty() {
            return Err(SelectionError::Overlap(both.into_iter().collect::<Vec<_>>().join(" ")));
        }
        Ok(selection)
    }

    /// The same without plugins whose feature is off; one that was asked for by name has no effect then, as upstream.
    #[must_use]
    pub fn without(mut self, idle: impl IntoIterator<Item = &'static str>) -> Self {
        for name in idle {
            self.names.remove(name);
        }
        self
    }

    /// Whether a plugin runs. What is none of upstream's plugins cannot be switched off.
    pub fn has(&self, name: &str) -> bool {
        self.names.contains(name) || !PLUGINS.iter().any(|(known, _)| *known == name) && name != LAST
    }
}

/// A plugin's name; nothing where only upstream has it.
fn known(flag: &'static str, name: &str) -> Result<Option<&'static str>, SelectionError> {
    let all = PLUGINS.iter().map(|(name, _)| *name).chain([LAST]);
    match all.into_iter().find(|known| *known == name) {
        Some(known) => Ok(Some(known)),
        None if ELSEWHERE.contains(&name) => Ok(None),
        None => Err(SelectionError::Unknown { flag, name: name.to_owned() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn select(enable: &[&str], disable: &[&str]) -> Result<Selection, String> {
        let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        Selection::new(&owned(enable), &owned(disable)).map_err(|error| error.to_string())
    }

    #[test]
    fn what_is_enabled_and_disabled_goes_beside_the_default() {
        let chosen = select(&["AlwaysPullImages"], &["Priority"]).expect("works");
        assert!(chosen.has("AlwaysPullImages") && chosen.has("LimitRanger") && !chosen.has("Priority") && !chosen.has("AlwaysDeny"));
        assert_eq!(select(&[], &[]), Ok(Selection::default()));
        assert_eq!(select(&[], &["ImagePolicyWebhook"]), Ok(Selection::default()), "it does not run anyway");
    }

    #[test]
    fn a_choice_that_means_nothing_is_refused_as_upstream() {
        let refused = |enable, disable| select(enable, disable).expect_err("is refused");
        assert_eq!(refused(&["Nope"], &[]), "enable-admission-plugins plugin \"Nope\" is unknown");
        assert_eq!(refused(&[], &["Nope"]), "disable-admission-plugins plugin \"Nope\" is unknown");
        assert_eq!(refused(&["Priority"], &["Priority"]), "[Priority] in enable-admission-plugins and disable-admission-plugins overlapped");
        assert!(refused(&["ImagePolicyWebhook"], &[]).contains("not part of this server"));
    }
}
