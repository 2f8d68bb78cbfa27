//! Authorizers as upstream's flags name them: `--authorization-mode` and what each mode needs.

use std::{collections::BTreeSet, path::PathBuf, time::Duration};

use super::config::{Mode, Webhook};

const MODES: [&str; 6] = ["AlwaysAllow", "AlwaysDeny", "ABAC", "Webhook", "RBAC", "Node"];
const TIMEOUT: Duration = Duration::from_secs(30);
const AUTHORIZED_FOR: Duration = Duration::from_mins(5);
const UNAUTHORIZED_FOR: Duration = Duration::from_secs(30);

/// What the flags say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuthorizationFlags {
    pub modes: Vec<String>,
    pub policy_file: Option<PathBuf>,
    pub webhook_config_file: Option<PathBuf>,
    pub webhook_version: Option<String>,
    /// How long what the webhook allowed counts; zero for no longer than the request.
    pub authorized_ttl: Option<Duration>,
    /// The same of what it did not allow.
    pub unauthorized_ttl: Option<Duration>,
}

impl AuthorizationFlags {
    /// The authorizers in their order.
    ///
    /// # Errors
    /// What cannot work, in upstream's words.
    pub fn modes(self) -> Result<Vec<Mode>, String> {
        let modes: BTreeSet<&str> = self.modes.iter().map(String::as_str).collect();
        if let Some(unknown) = modes.iter().find(|mode| !MODES.contains(mode)) {
            return Err(format!("authorization-mode {unknown:?} is not a valid mode"));
        }
        match (&self.policy_file, modes.contains("ABAC")) {
            (None, true) => return Err("authorization-mode ABAC's authorization policy file not passed".into()),
            (Some(_), false) => return Err("cannot specify --authorization-policy-file without mode ABAC".into()),
            _ => {}
        }
        match (&self.webhook_config_file, modes.contains("Webhook")) {
            (None, true) => return Err("authorization-mode Webhook's authorization config file not passed".into()),
            (Some(_), false) => return Err("cannot specify --authorization-webhook-config-file without mode Webhook".into()),
            (None, false) if self.webhook_version.is_some() => return Err(without_webhook("version")),
            (None, false) if self.authorized_ttl.is_some() => return Err(without_webhook("cache-authorized-ttl")),
            (None, false) if self.unauthorized_ttl.is_some() => return Err(without_webhook("cache-unauthorized-ttl")),
            _ => {}
        }
        if modes.is_empty() {
            return Err("at least one authorization-mode must be passed".into());
        }
        if modes.len() != self.modes.len() {
            return Err(format!("authorization-mode {:?} has mode specified more than once", self.modes));
        }
        let version = self.webhook_version.as_deref().unwrap_or("v1beta1");
        if !["v1", "v1beta1"].contains(&version) {
            return Err(format!("authorization-webhook-version {version:?} is neither v1 nor v1beta1"));
        }
        Ok(self.modes.iter().map(|mode| self.mode(mode)).collect())
    }

    /// One of those that are checked.
    fn mode(&self, mode: &str) -> Mode {
        match mode {
            "AlwaysAllow" => Mode::AlwaysAllow,
            "AlwaysDeny" => Mode::AlwaysDeny,
            "ABAC" => Mode::Abac(self.policy_file.clone().unwrap_or_default()),
            "Node" => Mode::Node,
            "RBAC" => Mode::Rbac,
            _ => Mode::Webhook(Box::new(self.webhook())),
        }
    }

    fn webhook(&self) -> Webhook {
        let kept = |given: Option<Duration>, usual| Some(given.unwrap_or(usual)).filter(|lasts| !lasts.is_zero());
        Webhook {
            name: "default".into(),
            kubeconfig: self.webhook_config_file.clone().unwrap_or_default(),
            timeout: TIMEOUT,
            authorized_for: kept(self.authorized_ttl, AUTHORIZED_FOR),
            unauthorized_for: kept(self.unauthorized_ttl, UNAUTHORIZED_FOR),
            version: self.webhook_version.clone().unwrap_or_else(|| "v1beta1".into()),
            denies_on_failure: false,
            conditions: Vec::new(),
        }
    }
}

fn without_webhook(flag: &str) -> String {
    format!("--authorization-webhook-{flag} has no effect without mode Webhook")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flags(modes: &[&str]) -> AuthorizationFlags {
        AuthorizationFlags { modes: modes.iter().map(|mode| (*mode).to_owned()).collect(), ..AuthorizationFlags::default() }
    }

    #[test]
    fn modes_stand_in_the_order_that_they_are_given_in() {
        let given = AuthorizationFlags { policy_file: Some("/p".into()), ..flags(&["ABAC", "RBAC", "Node", "AlwaysDeny"]) };
        let modes = given.modes().expect("works");
        assert!(matches!(&modes[..], [Mode::Abac(file), Mode::Rbac, Mode::Node, Mode::AlwaysDeny] if file.to_str() == Some("/p")), "{modes:?}");
    }

    #[test]
    fn a_webhook_of_flags_is_as_upstreams() {
        let given = AuthorizationFlags { webhook_config_file: Some("/w".into()), authorized_ttl: Some(Duration::ZERO), ..flags(&["Webhook"]) };
        let modes = given.modes().expect("works");
        let [Mode::Webhook(webhook)] = &modes[..] else { panic!("{modes:?}") };
        assert_eq!((webhook.name.as_str(), webhook.version.as_str(), webhook.timeout), ("default", "v1beta1", TIMEOUT));
        assert_eq!((webhook.authorized_for, webhook.unauthorized_for), (None, Some(UNAUTHORIZED_FOR)));
        assert!(!webhook.denies_on_failure);
    }

    #[test]
    fn what_cannot_work_is_told_in_upstreams_words() {
        let refused = |flags: AuthorizationFlags| flags.modes().expect_err("refused");
        assert_eq!(refused(flags(&["RBAC", "Nope"])), "authorization-mode \"Nope\" is not a valid mode");
        assert_eq!(refused(flags(&["ABAC"])), "authorization-mode ABAC's authorization policy file not passed");
        assert_eq!(refused(flags(&["Webhook"])), "authorization-mode Webhook's authorization config file not passed");
        assert!(refused(flags(&["RBAC", "RBAC"])).ends_with("has mode specified more than once"));
        let policy = AuthorizationFlags { policy_file: Some("/p".into()), ..flags(&["RBAC"]) };
        assert_eq!(refused(policy), "cannot specify --authorization-policy-file without mode ABAC");
        let ttl = AuthorizationFlags { unauthorized_ttl: Some(Duration::from_secs(1)), ..flags(&["RBAC"]) };
        assert_eq!(refused(ttl), "--authorization-webhook-cache-unauthorized-ttl has no effect without mode Webhook");
    }
}
