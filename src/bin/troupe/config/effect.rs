//! Which part of a cluster takes which setting. A flag that no part of a daemon takes is refused: it would have no effect.
//!
//! The configuration file belongs to the machine: a control plane and a node that both run there read the same one, each
//! what it takes.

use std::collections::BTreeSet;

use anyhow::{Result, bail};
use serde::{Deserialize, Serialize};

use super::Settings;

/// What a daemon may consist of, as far as settings differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Part {
    ApiServer,
    Controllers,
    Scheduler,
    /// Controllers or scheduler with an API server elsewhere.
    WithoutApiServer,
    Node,
    /// A node that has its API server from a kubeconfig.
    RemoteNode,
}

impl Part {
    /// What `troupe up` consists of.
    pub const WHOLE: [Part; 4] = [Part::ApiServer, Part::Controllers, Part::Scheduler, Part::Node];
}

const EVERY: &[Part] = &[Part::ApiServer, Part::Controllers, Part::Scheduler, Part::WithoutApiServer, Part::Node, Part::RemoteNode];

/// Who takes a setting, by its name in the configuration file.
fn takers(setting: &str) -> &'static [Part] {
    match setting {
        "dataDir" | "runDir" | "nodeIp" | "nodeName" => EVERY,
        "kubeconfig" => &[Part::ApiServer, Part::WithoutApiServer, Part::RemoteNode],
        "etcdServers" | "etcdCafile" | "etcdCertfile" | "etcdKeyfile" | "certSans" | "apiPort" => &[Part::ApiServer],
        "admissionControlConfigFile" | "kubeletCertificateAuthority" | "storeHistoryMegabytes" => &[Part::ApiServer],
        "enableAdmissionPlugins" | "disableAdmissionPlugins" | "runtimeConfig" => &[Part::ApiServer],
        "featureGates" => &[Part::ApiServer, Part::Controllers, Part::Scheduler, Part::Node],
        "tlsMinVersion" | "tlsCipherSuites" => &[Part::ApiServer, Part::WithoutApiServer],
        "tlsCertFile" | "tlsPrivateKeyFile" | "tlsSniCertKey" => &[Part::ApiServer],
        "maxRequestsInflight" | "maxMutatingRequestsInflight" | "requestTimeout" | "minRequestTimeout" => &[Part::ApiServer],
        "serviceNodePortRange" | "eventTtl" | "anonymousAuth" | "apiAudiences" => &[Part::ApiServer],
        "serviceAccountIssuer" | "serviceAccountSigningKeyFile" | "serviceAccountKeyFile" | "serviceAccountJwksUri" => &[Part::ApiServer],
        "serviceAccountExtendTokenExpiration" | "serviceAccountSigningEndpoint" => &[Part::ApiServer],
        "defaultNotReadyTolerationSeconds" | "defaultUnreachableTolerationSeconds" => &[Part::ApiServer],
        "terminatedPodGcThreshold" | "legacyServiceAccountTokenCleanUpPeriod" => &[Part::Controllers],
        "horizontalPodAutoscalerSyncPeriod" | "horizontalPodAutoscalerDownscaleStabilization" | "horizontalPodAutoscalerTolerance" => {
            &[Part::Controllers]
        }
        "nodeLabels" => &[Part::Node],
        "encryptionProviderConfig" | "encryptionProviderConfigAutomaticReload" => &[Part::ApiServer],
        "oidcIssuerUrl" | "oidcClientId" | "oidcUsernameClaim" | "oidcUsernamePrefix" | "oidcGroupsClaim" | "oidcGroupsPrefix" => &[Part::ApiServer],
        "oidcRequiredClaim" | "oidcCaFile" | "oidcSigningAlgs" | "tokenAuthFile" | "authenticationConfig" | "authorizationConfig" => {
            &[Part::ApiServer]
        }
        "authenticationTokenWebhookConfigFile" | "authenticationTokenWebhookCacheTtl" | "auditWebhookConfigFile" | "tracingConfigFile" => {
            &[Part::ApiServer]
        }
        "auditLogPath" | "auditPolicyFile" | "auditLogMaxsize" | "auditLogMaxbackup" | "auditLogMaxage" => &[Part::ApiServer],
        "certificatesDir" => &[Part::ApiServer, Part::WithoutApiServer, Part::Node],
        "certificateValidity" | "serviceCidr" | "clusterDomain" | "clusterDns" => &[Part::ApiServer, Part::Node],
        "bindAddress" | "advertiseAddress" => &[Part::ApiServer, Part::WithoutApiServer],
        "clusterSigningDuration" | "nodeMonitorGracePeriod" | "loadBalancerPool" => &[Part::Controllers],
        "nodeCidrMaskSizeIpv4" | "nodeCidrMaskSizeIpv6" => &[Part::Controllers],
        "schedulerConfig" => &[Part::Scheduler],
        "podCidr" => &[Part::Controllers, Part::Node],
        "apiServers" => &[Part::WithoutApiServer, Part::RemoteNode],
        "componentPort" => &[Part::WithoutApiServer],
        "kubeletPort" | "containerRuntimeEndpoint" | "imageDir" | "kubeletDir" | "podLogsDir" => &[Part::Node],
        "cniConfDir" | "cni" | "nonMasqueradeCidrs" | "bridge" => &[Part::Node],
        "cgroupParent"
        | "podMaxPids"
        | "kubeletConfig"
        | "kubeletConfigDir"
        | "imageCredentialProviderConfig"
        | "imageCredentialProviderBinDir"
        | "evictionHard"
        | "evictionSoft"
        | "evictionSoftGracePeriod"
        | "evictionMaxPodGracePeriod"
        | "evictionMinimumReclaim"
        | "evictionPressureTransitionPeriod"
        | "imageGcHighThreshold"
        | "imageGcLowThreshold"
        | "minimumImageTtlDuration"
        | "allowedUnsafeSysctls"
        | "manifestsDir"
        | "nodeHeartbeat"
        | "proxyHealthzBindAddress"
        | "proxyMetricsBindAddress" => &[Part::Node],
        "loadBalancerConflictDetection" => &[Part::Node],
        "conntrackMaxPerCore" | "conntrackMin" | "conntrackTcpTimeoutEstablished" | "conntrackTcpTimeoutCloseWait" => &[Part::Node],
        "authorizationMode"
        | "authorizationPolicyFile"
        | "authorizationWebhookConfigFile"
        | "authorizationWebhookVersion"
        | "authorizationWebhookCacheAuthorizedTtl"
        | "authorizationWebhookCacheUnauthorizedTtl" => &[Part::ApiServer],
        "horizontalPodAutoscalerCpuInitializationPeriod"
        | "horizontalPodAutoscalerInitialReadinessDelay"
        | "controllers"
        | "resourceQuotaSyncPeriod"
        | "nodeMonitorPeriod"
        | "nodeStartupGracePeriod"
        | "nodeEvictionRate"
        | "secondaryNodeEvictionRate"
        | "largeClusterSizeThreshold"
        | "unhealthyZoneThreshold" => &[Part::Controllers],
        audit if audit == "auditWebhookMode" || audit.starts_with("auditWebhookBatch") || audit.starts_with("auditLogBatch") => &[Part::ApiServer],
        syncs if syncs.ends_with("Syncs") => &[Part::Controllers],
        "leaderElectLeaseDuration" | "leaderElectRenewDeadline" | "leaderElectRetryPeriod" => &[Part::Controllers, Part::Scheduler],
        "corsAllowedOrigins"
        | "goawayChance"
        | "shutdownDelayDuration"
        | "shutdownSendRetryAfter"
        | "strictTransportSecurityDirectives"
        | "serviceAccountMaxTokenExpiration"
        | "auditLogFormat"
        | "auditLogMode" => &[Part::ApiServer],
        // A test sees to it that every setting stands above.
        _ => &[],
    }
}

/// Whether one of these parts takes a setting.
pub fn takes(parts: &BTreeSet<Part>, setting: &str) -> bool {
    takers(setting).iter().any(|part| parts.contains(part))
}

/// The flag of a setting.
pub fn flag(setting: &str) -> String {
    let mut flag = String::from("--");
    for letter in setting.chars() {
        if letter.is_ascii_uppercase() {
            flag.push('-');
        }
        flag.push(letter.to_ascii_lowercase());
    }
    flag
}

/// Refuses flags that none of the parts takes.
pub fn refuse_without_effect(flags: &Settings, parts: &BTreeSet<Part>) -> Result<()> {
    let idle: Vec<String> = flags.entries().into_keys().filter(|setting| !takes(parts, setting)).map(|setting| flag(&setting)).collect();
    if idle.is_empty() {
        return Ok(());
    }
    bail!("{} would have no effect here: leave it out", idle.join(", "))
}

#[cfg(test)]
mod tests {
    use clap::{Args, Command};

    use super::*;

    #[test]
    fn a_flag_that_no_part_takes_is_refused_by_name() {
        let flags = Settings { api_port: Some(1), bridge: Some("b".into()), node_monitor_grace_period: Some(6), ..Settings::default() };
        let refused = |parts: &[Part]| refuse_without_effect(&flags, &parts.iter().copied().collect()).map_err(|error| error.to_string());
        assert_eq!(refused(&Part::WHOLE), Ok(()));
        let gates = Settings { feature_gates: Some(vec!["GangScheduling=true".into()]), ..Settings::default() };
        assert!(refuse_without_effect(&gates, &[Part::Scheduler, Part::WithoutApiServer].into()).is_ok(), "schedulers know gangs");
        let node = refused(&[Part::Node, Part::RemoteNode]).expect_err("refused");
        assert!(node.contains("--api-port, --node-monitor-grace-period would") && !node.contains("--bridge"), "{node}");
        let control_plane = refused(&[Part::ApiServer, Part::Controllers]).expect_err("refused");
        assert!(control_plane.starts_with("--bridge would"), "{control_plane}");
    }

    #[test]
    fn every_setting_has_a_flag_of_its_name_and_somebody_takes_it() {
        let command = Settings::augment_args(Command::new("test"));
        let flags: BTreeSet<String> = command.get_arguments().filter_map(|argument| Some(format!("--{}", argument.get_long()?))).collect();
        let all = serde_json::to_value(Settings::default()).expect("encodes");
        let names: BTreeSet<String> = all.as_object().expect("an object").keys().cloned().collect();
        assert_eq!(names.iter().map(|name| flag(name)).collect::<BTreeSet<_>>(), flags);
        let idle: Vec<&String> = names.iter().filter(|name| takers(name).is_empty()).collect();
        assert!(idle.is_empty(), "nobody takes {idle:?}");
        for only_one in ["componentPort", "apiServers"] {
            assert!(!takes(&Part::WHOLE.into(), only_one), "{only_one} is for what has its API server elsewhere");
        }
    }
}
