//! Which images of a node ask for credentials (`imagePullCredentialsVerificationPolicy`). Pure.

use std::collections::BTreeSet;

use crate::kubelet::images::{canonical, without_tag};

/// Whose credentials are looked at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Policy {
    /// Nobody's: all pods use all images.
    NeverVerify,
    /// Those for images that were pulled by this node's kubelet.
    #[default]
    NeverVerifyPreloadedImages,
    /// Those for all images but some.
    NeverVerifyAllowlistedImages(Allowlist),
    /// All.
    AlwaysVerify,
}

/// A policy, and the images that this node brings itself: no registry has them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verification {
    pub policy: Policy,
    /// Names as pods have them.
    pub own: Vec<String>,
}

impl Verification {
    /// Whether an image asks for credentials, which was pulled by this node's kubelet or not.
    pub fn is_wanted(&self, image: &str, is_pulled: bool) -> bool {
        if !is_pulled && self.own.iter().any(|own| own == image) {
            return false;
        }
        match &self.policy {
            Policy::NeverVerify => false,
            Policy::NeverVerifyPreloadedImages => is_pulled,
            Policy::NeverVerifyAllowlistedImages(allowed) => !allowed.has(image),
            Policy::AlwaysVerify => true,
        }
    }
}

/// Images by their names without tags, or by the beginnings of those.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Allowlist {
    exact: BTreeSet<String>,
    prefixes: Vec<String>,
}

impl Allowlist {
    /// Reads names, and beginnings with `/*` behind.
    ///
    /// # Errors
    /// The first that is neither, in upstream's words.
    pub fn parse(patterns: &[String]) -> Result<Self, String> {
        let mut list = Allowlist::default();
        for pattern in patterns {
            if pattern.trim() != pattern {
                return Err(format!("leading/trailing spaces are not allowed: {pattern}"));
            }
            let is_wildcard = pattern.ends_with("/*");
            let name = pattern.strip_suffix('*').filter(|_| is_wildcard).unwrap_or(pattern);
            if name.is_empty() {
                return Err(format!("the supplied pattern is too short: {pattern}"));
            }
            if name.contains('*') {
                return Err(format!("not a valid wildcard pattern, only patterns ending with '/*' are allowed: {pattern}"));
            }
            if name == "/" {
                return Err("at least registry hostname is required".into());
            }
            if is_wildcard {
                list.prefixes.push(name.to_owned());
                continue;
            }
            canonical(name).map_err(|_| "failed to parse as an image name: invalid reference format")?;
            if without_tag(name) != name {
                return Err(format!("neither tag nor digest is accepted in an image reference: {pattern}"));
            }
            list.exact.insert(name.to_owned());
        }
        Ok(list)
    }

    fn has(&self, image: &str) -> bool {
        let name = without_tag(image);
        self.exact.contains(name) || self.prefixes.iter().any(|prefix| name.starts_with(prefix))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(patterns: &[&str]) -> Result<Allowlist, String> {
        Allowlist::parse(&patterns.iter().map(|pattern| (*pattern).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn policies_tell_pulled_preloaded_and_allowed_images_apart() {
        let allowed = list(&["registry.example/a", "registry.example/team/*"]).expect("a list");
        let wanted = |policy: &Policy| {
            let verification = Verification { policy: policy.clone(), own: vec!["own:1".into()] };
            let images = ["registry.example/a:1", "registry.example/team/b@sha256:0", "registry.example/ab:1", "own:1"];
            images.map(|image| (verification.is_wanted(image, false), verification.is_wanted(image, true)))
        };
        assert_eq!(wanted(&Policy::NeverVerify), [(false, false); 4]);
        assert_eq!(wanted(&Policy::default()), [(false, true); 4]);
        let (yes, no) = ((true, true), (false, false));
        assert_eq!(wanted(&Policy::NeverVerifyAllowlistedImages(allowed)), [no, no, yes, (false, true)]);
        assert_eq!(wanted(&Policy::AlwaysVerify), [yes, yes, yes, (false, true)]);
    }

    #[test]
    fn patterns_that_are_none_are_refused_in_upstreams_words() {
        for (pattern, why) in [
            (" a", "leading/trailing spaces are not allowed:  a"),
            ("", "the supplied pattern is too short: "),
            ("a*", "not a valid wildcard pattern, only patterns ending with '/*' are allowed: a*"),
            ("/*", "at least registry hostname is required"),
            ("A//b", "failed to parse as an image name: invalid reference format"),
            ("a:1", "neither tag nor digest is accepted in an image reference: a:1"),
        ] {
            assert_eq!(list(&[pattern]), Err(why.to_owned()));
        }
    }
}
