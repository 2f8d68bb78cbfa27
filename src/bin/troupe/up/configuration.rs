//! Whether what is configured can be used: flags that choose among what there is, and the files that they name.
//!
//! It is asked before a daemon starts. So whoever waits for a detached start is told at once, and what is misspelt is no crash.

use std::collections::BTreeSet;

use anyhow::{Context, Result};

use super::{audit, control_plane, controllers, encryption, identity, identity::Outside, kubelet, spans};
use crate::config::{Config, Part};

/// Reads what these parts of a cluster will read when they start, and forgets it. Nothing is made, and no other server is asked.
///
/// # Errors
/// The first that cannot be used.
pub fn check(config: &Config, parts: &BTreeSet<Part>) -> Result<()> {
    if parts.contains(&Part::ApiServer) {
        check_api_server(config)?;
    }
    if parts.contains(&Part::WithoutApiServer) {
        control_plane::tls_policy(config)?;
    }
    if parts.contains(&Part::Controllers) {
        control_plane::features(config)?;
    }
    if parts.contains(&Part::Scheduler) {
        controllers::scheduling(config).map(drop)?;
    }
    if parts.contains(&Part::Node) {
        kubelet::check(config).context("the kubelet's configuration")?;
    }
    Ok(())
}

fn check_api_server(config: &Config) -> Result<()> {
    control_plane::check(config)?;
    spans::check(config)?;
    if let Some(etcd) = &config.etcd {
        etcd.options().map(drop)?;
    }
    // Those that look for new files end with it.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot read the configuration")?;
    runtime.block_on(async {
        identity::keys(&config.api).map(drop)?;
        Outside::read(config).map(drop)?;
        encryption::check(config)?;
        audit::check(config)
    })
}

#[cfg(test)]
mod tests {
    use std::{fs, net::IpAddr, path::Path};

    use super::*;
    use crate::config::Settings;

    fn config(settings: Settings) -> Config {
        let named = Settings { node_ip: Some(IpAddr::from([192, 0, 2, 7]).into()), node_name: Some("one".into()), ..settings };
        named.resolve().expect("resolves")
    }

    fn refused(settings: Settings, parts: &[Part]) -> String {
        let parts = parts.iter().copied().collect();
        format!("{:#}", check(&config(settings), &parts).expect_err("it cannot be used"))
    }

    #[test]
    fn programs_that_know_credentials_must_be_there() {
        let place = tempfile::tempdir().expect("a directory");
        let file = place.path().join("providers.yaml");
        let settings = |bin_dir: &str| Settings {
            image_credential_provider_config: Some(file.clone()),
            image_credential_provider_bin_dir: Some(bin_dir.into()),
            ..Settings::default()
        };
        let text = "apiVersion: kubelet.config.k8s.io/v1\nkind: CredentialProviderConfig\nproviders: [{name: sh, matchImages: ['*.example'], \
            defaultCacheDuration: 1m, apiVersion: credentialprovider.kubelet.k8s.io/v1}]\n";
        fs::write(&file, text).expect("writes");
        check(&config(settings("/bin")), &[Part::Node].into()).expect("it is a program");
        let missing = refused(settings(&place.path().display().to_string()), &[Part::Node]);
        assert!(missing.contains("image credential providers: plugin binary executable") && missing.ends_with("did not exist"), "{missing}");
    }

    #[test]
    fn what_is_chosen_by_flags_must_be_there() {
        let whole = |settings| refused(settings, &Part::WHOLE);
        let gates = Settings { feature_gates: Some(vec!["Nope=true".into()]), ..Settings::default() };
        for part in [Part::ApiServer, Part::Controllers, Part::Scheduler] {
            assert_eq!(refused(gates.clone(), &[part]), "--feature-gates: unrecognized feature gate: Nope");
        }
        let versions = whole(Settings { runtime_config: Some(vec!["nope.example/v1=true".into()]), ..Settings::default() });
        assert!(versions.starts_with("--runtime-config: ") && versions.contains("nope.example/v1"), "{versions}");
        let chosen = |gates: &[&str], versions: &[&str]| Settings {
            feature_gates: Some(gates.iter().map(|gate| (*gate).to_owned()).collect()),
            runtime_config: Some(versions.iter().map(|version| (*version).to_owned()).collect()),
            ..Settings::default()
        };
        let (leaders, jobs) = (["CoordinatedLeaderElection=true"], ["GenericWorkload=true", "WorkloadWithJob=true"]);
        let leaderless = whole(chosen(&leaders, &["coordination.k8s.io/v1alpha2=true"]));
        assert!(leaderless.contains("needs --runtime-config=coordination.k8s.io/v1beta1=true"), "{leaderless}");
        let idle = whole(chosen(&jobs, &[]));
        assert!(idle.contains("needs --runtime-config=scheduling.k8s.io/v1alpha2=true"), "{idle}");
        check(&config(chosen(&leaders, &["coordination.k8s.io/v1beta1=true"])), &Part::WHOLE.into()).expect("candidates are served");
        check(&config(chosen(&jobs, &["scheduling.k8s.io/v1alpha2=true"])), &Part::WHOLE.into()).expect("workloads are served");
        let suites = Settings { tls_cipher_suites: Some(vec!["TLS_NOPE".into()]), ..Settings::default() };
        for suites in [whole(suites.clone()), refused(suites, &[Part::Scheduler, Part::WithoutApiServer])] {
            assert!(suites.ends_with("Cipher suite TLS_NOPE not supported or doesn't exist"), "{suites}");
        }
        let plugins = whole(Settings { enable_admission_plugins: Some(vec!["Nope".into()]), ..Settings::default() });
        assert!(plugins.contains("plugin \"Nope\" is unknown"), "{plugins}");
        let modes =
            |modes: &[&str]| Settings { authorization_mode: Some(modes.iter().map(|mode| (*mode).to_owned()).collect()), ..Settings::default() };
        assert_eq!(whole(modes(&["RBAC", "Nope"])), "authorization-mode \"Nope\" is not a valid mode");
        assert_eq!(whole(modes(&["ABAC"])), "authorization-mode ABAC's authorization policy file not passed");
        check(&config(modes(&["Node", "RBAC", "AlwaysDeny"])), &Part::WHOLE.into()).expect("they exist");
        let twice = Settings { authorization_config: Some("/a".into()), node_name: Some("one".into()), ..modes(&["RBAC"]) };
        let twice = twice.resolve().expect_err("one of them").to_string();
        assert!(twice.starts_with("--authorization-config can not be specified when --authorization-mode"), "{twice}");
        assert!(refused(gates, &[Part::Node]).ends_with("--feature-gates: unrecognized feature gate: Nope"));
        check(&config(Settings::default()), &Part::WHOLE.into()).expect("the usual works");
    }

    #[test]
    fn files_must_be_there_and_be_what_they_are_named_as() {
        type With = fn(&Path) -> Settings;
        let all: [(Part, With); 13] = [
            (Part::ApiServer, |file| Settings { tracing_config_file: Some(file.into()), ..Settings::default() }),
            (Part::Scheduler, |file| Settings { scheduler_config: Some(file.into()), ..Settings::default() }),
            (Part::ApiServer, |file| Settings { admission_control_config_file: Some(file.into()), ..Settings::default() }),
            (Part::ApiServer, |file| Settings { encryption_provider_config: Some(file.into()), ..Settings::default() }),
            (Part::ApiServer, |file| Settings { authentication_config: Some(file.into()), ..Settings::default() }),
            (Part::ApiServer, |file| Settings { authorization_config: Some(file.into()), ..Settings::default() }),
            (Part::ApiServer, |file| Settings {
                authorization_policy_file: Some(file.into()),
                authorization_mode: Some(vec!["ABAC".into()]),
                ..Settings::default()
            }),
            (Part::ApiServer, |file| Settings { authentication_token_webhook_config_file: Some(file.into()), ..Settings::default() }),
            (Part::ApiServer, |file| Settings { audit_policy_file: Some(file.into()), audit_log_path: Some("-".into()), ..Settings::default() }),
            (Part::ApiServer, |file| Settings { service_account_signing_key_file: Some(file.into()), ..Settings::default() }),
            (Part::ApiServer, |file| Settings { service_account_key_file: Some(vec![file.into()]), ..Settings::default() }),
            (Part::ApiServer, |file| Settings { token_auth_file: Some(file.into()), ..Settings::default() }),
            (Part::ApiServer, |file| Settings { kubelet_certificate_authority: Some(file.into()), ..Settings::default() }),
        ];
        let dir = tempfile::tempdir().expect("a directory");
        let (odd, missing) = (dir.path().join("odd"), dir.path().join("missing"));
        fs::write(&odd, "apiVersion: example.test/v1\nkind: Odd\n").expect("writes");
        for (part, settings) in all {
            let told = refused(settings(&missing), &[part]);
            assert!(told.contains(&*missing.to_string_lossy()), "{told}");
            check(&config(settings(&missing)), &[Part::Node].into()).expect("it is not read by others");
        }
        for (part, settings) in all.into_iter().take(11) {
            let told = refused(settings(&odd), &[part]);
            assert!(told.contains(&*odd.to_string_lossy()), "{told}");
        }
    }
}
