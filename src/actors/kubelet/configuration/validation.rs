//! What is wrong with a configuration, in upstream's words and order (`ValidateKubeletConfiguration`), with the feature gates that are on by
//! default.

use std::collections::BTreeSet;

use serde_json::Value;
use troupe_api::{
    features,
    meta::{Quantity, names},
};

use super::{
    CpuSet, KubeletConfiguration,
    amounts::shown_duration,
    pulls::{ALLOWLISTED, POLICIES},
};
use crate::kubelet::pull_records::policy::Allowlist;

const SECOND: i64 = 1_000_000_000;
const ID_BLOCK: i64 = 65_536;
const EFFECTS: [&str; 3] = ["NoSchedule", "PreferNoSchedule", "NoExecute"];

/// What of the machine values are compared with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Machine {
    /// Its cgroups are of the first version.
    pub cgroup_v1: bool,
    pub swap: bool,
}

/// All that is wrong.
pub(super) fn validate(configuration: &KubeletConfiguration, machine: Machine) -> Vec<String> {
    let mut check = Check { configuration, errors: Vec::new() };
    check.features();
    check.numbers();
    check.images();
    check.pulls();
    check.taints();
    check.managers();
    check.shutdown();
    check.rest();
    check.tracing();
    check.enforcement();
    check.choices();
    check.reservations();
    check.machine(machine);
    check.memory();
    check.logs();
    check.parsed();
    check.errors
}

struct Check<'a> {
    configuration: &'a KubeletConfiguration,
    errors: Vec<String>,
}

impl Check<'_> {
    fn refuse(&mut self, why: impl AsRef<str>) {
        self.errors.push(format!("invalid configuration: {}", why.as_ref()));
    }

    fn refuse_if(&mut self, wrong: bool, why: impl FnOnce() -> String) {
        if wrong {
            self.refuse(why());
        }
    }

    fn number(&self, path: &str) -> i64 {
        self.configuration.number(path)
    }

    fn text(&self, path: &str) -> &str {
        self.configuration.text(path)
    }

    fn nanoseconds(&self, path: &str) -> i64 {
        self.configuration.nanoseconds(path)
    }

    /// Gates that there are not, or that cannot be as it is said.
    fn features(&mut self) {
        let said = self.configuration.says("featureGates").and_then(Value::as_object).into_iter().flatten();
        for (name, value) in said {
            match value.as_bool() {
                Some(value) => self.errors.extend(features::refusal(name, value)),
                None => self.errors.push(format!("invalid value of {name}={value}: it is neither true nor false")),
            }
        }
    }

    fn between(&mut self, path: &str, flag: &str, (least, most): (i64, i64)) {
        let number = self.number(path);
        self.refuse_if(!(least..=most).contains(&number), || format!("{path} ({flag}) {number} must be between {least} and {most}, inclusive"));
    }

    fn not_negative(&mut self, path: &str, flag: &str) {
        let number = self.number(path);
        self.refuse_if(number < 0, || format!("{path} ({flag}) {number} must not be a negative number"));
    }

    fn one_of(&mut self, path: &str, flag: &str, known: &[&str]) {
        let given = self.text(path).to_owned();
        let all = known.iter().map(|known| format!("{known:?}")).collect::<Vec<_>>().join(" ");
        self.refuse_if(!known.contains(&given.as_str()), || format!("{path} ({flag}) {given:?} must be one of: [{all}]"));
    }

    fn numbers(&mut self) {
        self.refuse_if(self.number("nodeLeaseDurationSeconds") <= 0, || "nodeLeaseDurationSeconds must be greater than 0".into());
        let cgroups = !self.text("systemCgroups").is_empty() && self.text("cgroupRoot").is_empty();
        self.refuse_if(cgroups, || "systemCgroups (--system-cgroups) was specified and cgroupRoot (--cgroup-root) was not specified".into());
        self.not_negative("eventBurst", "--event-burst");
        self.not_negative("eventRecordQPS", "--event-qps");
        if self.number("healthzPort") != 0 {
            self.between("healthzPort", "--healthz-port", (1, 65535));
        }
        let quota = self.nanoseconds("cpuCFSQuotaPeriod");
        let shown = shown_duration(quota);
        self.refuse_if(!(SECOND / 1000..=SECOND).contains(&quota), || {
            format!("cpuCFSQuotaPeriod (--cpu-cfs-quota-period) {shown} must be between 1ms and 1sec, inclusive")
        });
    }

    fn images(&mut self) {
        self.between("imageGCHighThresholdPercent", "--image-gc-high-threshold", (0, 100));
        self.between("imageGCLowThresholdPercent", "--image-gc-low-threshold", (0, 100));
        let (high, low) = (self.number("imageGCHighThresholdPercent"), self.number("imageGCLowThresholdPercent"));
        self.refuse_if(low >= high, || {
            format!(
                "imageGCLowThresholdPercent (--image-gc-low-threshold) {low} must be less than imageGCHighThresholdPercent \
                 (--image-gc-high-threshold) {high}"
            )
        });
        let (least, most) = (self.nanoseconds("imageMinimumGCAge"), self.nanoseconds("imageMaximumGCAge"));
        for (path, age) in [("imageMinimumGCAge", least), ("imageMaximumGCAge", most)] {
            self.refuse_if(age < 0, || format!("{path} {} must not be negative", shown_duration(age)));
        }
        self.refuse_if(most > 0 && most <= least, || {
            format!("imageMaximumGCAge {} must be greater than imageMinimumGCAge {}", shown_duration(most), shown_duration(least))
        });
        self.between("iptablesDropBit", "--iptables-drop-bit", (0, 31));
        self.between("iptablesMasqueradeBit", "--iptables-masquerade-bit", (0, 31));
        self.not_negative("kubeAPIBurst", "--kube-api-burst");
        self.not_negative("kubeAPIQPS", "--kube-api-qps");
        let images = self.number("nodeStatusMaxImages");
        self.refuse_if(images < -1, || format!("nodeStatusMaxImages (--node-status-max-images) {images} must be -1 or greater"));
        self.not_negative("maxOpenFiles", "--max-open-files");
        self.not_negative("maxPods", "--max-pods");
        self.between("oomScoreAdj", "--oom-score-adj", (-1000, 1000));
        self.not_negative("podsPerCore", "--pods-per-core");
        self.between("port", "--port", (1, 65535));
        let read_only = self.number("readOnlyPort");
        self.refuse_if(!(0..=65535).contains(&read_only), || {
            format!("readOnlyPort (--read-only-port) {read_only} must be between 0 and 65535, inclusive")
        });
    }

    fn pulls(&mut self) {
        self.not_negative("registryBurst", "--registry-burst");
        self.not_negative("registryPullQPS", "--registry-qps");
        if let Some(pulls) = self.configuration.says("maxParallelImagePulls").and_then(Value::as_i64) {
            self.refuse_if(pulls < 1, || format!("maxParallelImagePulls {pulls} must be a positive number"));
            self.refuse_if(self.configuration.flag("serializeImagePulls") && pulls > 1, || {
                "maxParallelImagePulls cannot be larger than 1 unless SerializeImagePulls (--serialize-image-pulls) is set to false".into()
            });
        }
        self.refuse_if(self.configuration.flag("runOnce"), || {
            "runOnce (--runOnce) true, Runonce mode has been deprecated and should not be set".into()
        });
    }

    fn taints(&mut self) {
        for taint in self.configuration.taints() {
            let (key, value, effect) = (&taint.key, taint.value.as_deref().unwrap_or_default(), taint.effect.as_str());
            let is_valid = names::qualified(key).is_empty() && names::label_value(value).is_empty() && EFFECTS.contains(&effect);
            if !is_valid {
                self.errors.push(format!("invalid taint: {{{key} {value} {effect} <nil>}}"));
            }
            self.refuse_if(taint.time_added.is_some(), || "taint.TimeAdded is not nil".into());
        }
    }

    fn managers(&mut self) {
        self.one_of("topologyManagerPolicy", "--topology-manager-policy", &["none", "best-effort", "restricted", "single-numa-node"]);
        let scope = self.text("topologyManagerScope").to_owned();
        self.refuse_if(!["container", "pod"].contains(&scope.as_str()), || {
            format!("topologyManagerScope (--topology-manager-scope) {scope:?} must be one of: \"container\", or \"pod\"")
        });
    }

    fn shutdown(&mut self) {
        let (whole, critical) = (self.nanoseconds("shutdownGracePeriod"), self.nanoseconds("shutdownGracePeriodCriticalPods"));
        self.refuse_if(critical > whole, || {
            let (critical, whole) = (shown_duration(critical), shown_duration(whole));
            format!("shutdownGracePeriodCriticalPods {critical} must be <= shutdownGracePeriod {whole}")
        });
        for (path, period) in [("shutdownGracePeriod", whole), ("shutdownGracePeriodCriticalPods", critical)] {
            self.refuse_if(period < 0 || (period > 0 && period < SECOND), || {
                format!("{path} {} must be either zero or otherwise >= 1 sec", shown_duration(period))
            });
        }
        let by_priority = self.configuration.value("shutdownGracePeriodByPodPriority").as_array().is_some_and(|all| !all.is_empty());
        self.refuse_if(by_priority && (whole > 0 || critical > 0), || {
            "Cannot specify both shutdownGracePeriodByPodPriority and shutdownGracePeriod at the same time".into()
        });
    }

    fn rest(&mut self) {
        let swap = self.text("memorySwap.swapBehavior").to_owned();
        self.refuse_if(!["", "NoSwap", "LimitedSwap"].contains(&swap.as_str()), || {
            format!("memorySwap.swapBehavior {swap:?} must be one of: \"\", \"LimitedSwap\" or \"NoSwap\"")
        });
        let longest = self.nanoseconds("crashLoopBackOff.maxContainerRestartPeriod");
        self.refuse_if(!(1000..=300_000).contains(&(longest / 1_000_000)), || {
            let seconds = longest as f64 / SECOND as f64;
            format!("CrashLoopBackOff.MaxContainerRestartPeriod (got: {seconds} seconds) must be set between 1s and 300s")
        });
    }

    fn tracing(&mut self) {
        self.errors.extend(self.configuration.tracing().map(|tracing| tracing.errors("tracing")).unwrap_or_default());
    }

    fn enforcement(&mut self) {
        const FLAG: &str = "enforceNodeAllocatable (--enforce-node-allocatable)";
        let all = self.configuration.texts("enforceNodeAllocatable");
        let has = |wanted: &str| all.iter().any(|enforced| enforced == wanted);
        for (whole, part) in [("system-reserved", "system-reserved-compressible"), ("kube-reserved", "kube-reserved-compressible")] {
            self.refuse_if(has(whole) && has(part), || format!("both {whole:?} and {part:?} cannot be specified together in {FLAG}"));
        }
        let mut seen = BTreeSet::new();
        for enforced in &all {
            if !seen.insert(enforced) {
                self.refuse(format!("duplicated enforcements {enforced:?} in {FLAG}"));
                continue;
            }
            match enforced.as_str() {
                "pods" => {}
                "system-reserved" | "system-reserved-compressible" => self.needs_cgroup("system", enforced),
                "kube-reserved" | "kube-reserved-compressible" => self.needs_cgroup("kube", enforced),
                "none" => {
                    self.refuse_if(all.len() > 1, || format!("{FLAG} may not contain additional enforcements when \"none\" is specified"));
                    continue;
                }
                odd => {
                    let known = "\"pods\", \"system-reserved\", \"system-reserved-compressible\", \"kube-reserved\", \"kube-reserved-compressible\" or \"none\"";
                    self.refuse(format!("option {odd:?} specified for {FLAG}. Valid options are {known}"));
                    continue;
                }
            }
            self.refuse_if(!self.configuration.flag("cgroupsPerQOS"), || {
                format!("cgroupsPerQOS (--cgroups-per-qos) must be set to true when {enforced:?} contained in {FLAG}")
            });
        }
    }

    fn needs_cgroup(&mut self, whose: &str, enforced: &str) {
        let missing = self.text(&format!("{whose}ReservedCgroup")).is_empty();
        let whole = enforced.trim_end_matches("-compressible");
        self.refuse_if(missing, || {
            format!(
                "{whose}ReservedCgroup (--{whose}-reserved-cgroup) must be specified when {whole:?} or \"{whole}-compressible\" included in \
                 enforceNodeAllocatable (--enforce-node-allocatable)"
            )
        });
    }

    fn choices(&mut self) {
        let hairpin = self.text("hairpinMode").to_owned();
        self.refuse_if(!["none", "hairpin-veth", "promiscuous-bridge"].contains(&hairpin.as_str()), || {
            let known = "\"none\", \"hairpin-veth\" or \"promiscuous-bridge\"";
            format!("option {hairpin:?} specified for hairpinMode (--hairpin-mode). Valid options are {known}")
        });
        let policy = self.text("imagePullCredentialsVerificationPolicy").to_owned();
        self.refuse_if(!POLICIES.contains(&policy.as_str()), || {
            let [never, preloaded, allowed, always] = POLICIES;
            format!(
                "option {policy:?} specified for imagePullCredentialsVerificationPolicy. Valid options are {never:?}, {preloaded:?}, {allowed:?} \
                 or {always:?}"
            )
        });
        let listed = self.configuration.texts("preloadedImagesVerificationAllowlist");
        if !listed.is_empty() && policy != ALLOWLISTED {
            // Misspelt as upstream has it.
            let policy = "imagePullCredentialsVertificationPolicy";
            self.refuse(format!("can't set `preloadedImagesVerificationAllowlist` if `{policy}` is not {ALLOWLISTED:?}"));
        } else if let Err(why) = Allowlist::parse(&listed) {
            self.refuse(format!("invalid image pattern in `preloadedImagesVerificationAllowlist`: {why}"));
        }
    }

    fn reservations(&mut self) {
        let reserved = self.text("reservedSystemCPUs").to_owned();
        if reserved.is_empty() {
            return;
        }
        let apart = !self.text("systemReservedCgroup").is_empty() || !self.text("kubeReservedCgroup").is_empty();
        self.refuse_if(apart, || {
            "can't use reservedSystemCPUs (--reserved-cpus) with systemReservedCgroup (--system-reserved-cgroup) or kubeReservedCgroup \
             (--kube-reserved-cgroup)"
                .into()
        });
        if let Err(why) = CpuSet::parse(&reserved) {
            self.refuse(format!("unable to parse reservedSystemCPUs (--reserved-cpus) {reserved}, error: {why}"));
        }
    }

    fn machine(&mut self, machine: Machine) {
        if self.configuration.flag("failCgroupV1") && machine.cgroup_v1 {
            self.errors.push(
                "kubelet is configured to not run on a host using cgroup v1. cgroup v1 support is unsupported and will be removed in a future release"
                    .into(),
            );
        }
        if self.configuration.flag("failSwapOn") && machine.swap {
            self.errors.push("running with swap on is not supported, please disable swap or set --fail-swap-on flag to false".into());
        }
        let single = self.configuration.says("singleProcessOOMKill").and_then(Value::as_bool);
        self.refuse_if(machine.cgroup_v1 && single == Some(false), || {
            "singleProcessOOMKill must not be explicitly set to false when using cgroup v1".into()
        });
        if let Some(ids) = self.configuration.says("userNamespaces.idsPerPod").and_then(Value::as_i64) {
            if ids < ID_BLOCK {
                self.refuse(format!("userNamespaces.idsPerPod must not be less than {ID_BLOCK}"));
            } else if ids % ID_BLOCK != 0 {
                self.refuse(format!("userNamespaces.idsPerPod must be a multiple of {ID_BLOCK}"));
            } else if ids > i64::from(u32::MAX) {
                self.refuse(format!("userNamespaces.idsPerPod must not be more than {}", u32::MAX));
            }
        }
    }

    fn memory(&mut self) {
        let factor = self.configuration.value("memoryThrottlingFactor").as_f64().unwrap_or(1.0);
        self.refuse_if(factor <= 0.0 || factor > 1.0, || {
            format!("memoryThrottlingFactor {factor} must be greater than 0 and less than or equal to 1.0")
        });
        match self.text("memoryReservationPolicy") {
            "None" => {}
            "TieredReservation" => self.refuse("memoryReservationPolicy \"TieredReservation\" requires MemoryQoS feature gate to be enabled"),
            odd => {
                let why = format!("option {odd:?} specified for memoryReservationPolicy. Valid options are \"None\" or \"TieredReservation\"");
                self.refuse(why);
            }
        }
        let (query, handler) = (self.configuration.flag("enableSystemLogQuery"), self.configuration.flag("enableSystemLogHandler"));
        self.refuse_if(query && !handler, || "enableSystemLogHandler is required for enableSystemLogQuery".into());
    }

    fn logs(&mut self) {
        self.refuse_if(self.number("containerLogMaxWorkers") < 1, || "containerLogMaxWorkers must be greater than or equal to 1".into());
        self.refuse_if(self.nanoseconds("containerLogMonitorInterval") < 3 * SECOND, || {
            "containerLogMonitorInterval must be a positive time duration greater than or equal to 3s".into()
        });
        self.refuse_if(self.number("containerLogMaxFiles") <= 1, || "containerLogMaxFiles must be greater than 1".into());
        let logs = self.text("podLogsDir").to_owned();
        self.refuse_if(!logs.starts_with('/'), || format!("pod logs path {logs:?} must be absolute path"));
        let is_clean = logs.split('/').skip(1).all(|part| !matches!(part, "" | "." | "..")) || logs == "/";
        self.refuse_if(!is_clean, || format!("pod logs path {logs:?} must be normalized"));
        self.refuse_if(!logs.is_ascii(), || format!("pod logs path {logs:?} mut contains ASCII characters only"));
    }

    /// What upstream reads when it starts.
    fn parsed(&mut self) {
        if let Err(why) = self.configuration.eviction().thresholds() {
            self.errors.push(why.to_string());
        }
        if let Err(why) = self.configuration.reserved() {
            self.errors.push(why);
        } else if let (true, Err(why)) = (self.errors.is_empty(), self.configuration.container_manager()) {
            // Upstream makes its managers of what is valid.
            self.errors.push(why);
        }
        let size = self.text("containerLogMaxSize").to_owned();
        match Quantity::parse(&size) {
            Err(why) => self.errors.push(format!("failed to parse container log max size {size:?}: {why}")),
            Ok(quantity) if quantity.sign() <= 0 => {
                let why = format!("failed to initialize container log manager: invalid max log file size {size:?}: it must be positive");
                self.errors.push(why);
            }
            Ok(_) => {}
        }
        let limit = self.number("podPidsLimit");
        self.refuse_if(limit == 0 || limit > i64::from(u32::MAX), || format!("podPidsLimit (--pod-max-pids) {limit} is no number of processes"));
        for server in self.configuration.texts("clusterDNS") {
            self.refuse_if(server.parse::<std::net::IpAddr>().is_err(), || format!("clusterDNS (--cluster-dns) {server:?} is no address"));
        }
        let url = self.text("staticPodURL");
        if !url.is_empty() && self.configuration.pod_url().is_none() {
            self.refuse("staticPodURL (--manifest-url) is no URL of http or https");
        }
        let address = self.text("address").to_owned();
        self.refuse_if(address.parse::<std::net::IpAddr>().is_err(), || format!("address (--address) {address:?} is no address"));
    }
}
