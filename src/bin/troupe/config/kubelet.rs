//! The kubelet's own configuration files beside this node's settings, which win over them as upstream's flags do.

use std::{
    fs,
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use troupe_actors::kubelet::configuration::{KubeletConfiguration, Machine};

use super::{Config, Settings, eviction::shown_hard};

/// The cgroup of pods below upstream's `cgroupRoot`.
const PODS: &str = "kubepods";
/// A lease holds for so many signs of life.
const HOLDS: u64 = 4;

impl Settings {
    /// The same with what the kubelet's files say where these are silent, and what else those say.
    ///
    /// # Errors
    /// When a file is unusable.
    pub fn with_kubelet_configuration(self) -> Result<(Self, KubeletConfiguration)> {
        let (file, folder) = (self.kubelet_config.clone(), self.kubelet_config_dir.clone());
        let mut kubelet = KubeletConfiguration::load(file.as_deref(), folder.as_deref())?;
        if let Some(seconds) = self.node_heartbeat {
            // More signs of life are no reason to write a status more often that does not change.
            let report = kubelet.text("nodeStatusReportFrequency").to_owned();
            kubelet.say("nodeStatusReportFrequency", report);
            kubelet.say("nodeStatusUpdateFrequency", format!("{seconds}s"));
            kubelet.say("nodeLeaseDurationSeconds", seconds.saturating_mul(HOLDS));
        }
        if let Some(domain) = &self.cluster_domain {
            kubelet.say("clusterDomain", domain.clone());
        }
        if let Some(server) = self.cluster_dns {
            kubelet.say("clusterDNS", json!([server.to_string()]));
        }
        let from_files = settings_of(&kubelet)?;
        Ok((self.or(from_files), kubelet))
    }
}

/// What is said of what this node has settings for.
fn settings_of(kubelet: &KubeletConfiguration) -> Result<Settings> {
    let says = |path: &str| kubelet.says(path).is_some();
    let path = |path: &str| says(path).then(|| PathBuf::from(kubelet.text(path)));
    let number = |path: &str| says(path).then(|| kubelet.number(path));
    let seconds = |path: &str| says(path).then(|| kubelet.duration(path).as_secs());
    let list = |path: &str, sign: char| says(path).then(|| kubelet.map(path).iter().map(|(name, value)| format!("{name}{sign}{value}")).collect());
    let percent =
        |path: &str| number(path).map(|percent| u8::try_from(percent).with_context(|| format!("{path} {percent} is no percentage"))).transpose();
    Ok(Settings {
        kubelet_port: number("port").map(|port| u16::try_from(port).with_context(|| format!("port {port} is no port"))).transpose()?,
        manifests_dir: path("staticPodPath"),
        pod_logs_dir: path("podLogsDir"),
        cgroup_parent: says("cgroupRoot").then(|| format!("{}/{PODS}", kubelet.text("cgroupRoot").trim_end_matches('/'))),
        pod_max_pids: number("podPidsLimit"),
        eviction_hard: says("evictionHard").then(|| shown_hard(&kubelet.eviction().hard)),
        eviction_soft: list("evictionSoft", '<'),
        eviction_soft_grace_period: list("evictionSoftGracePeriod", '='),
        eviction_minimum_reclaim: list("evictionMinimumReclaim", '='),
        eviction_max_pod_grace_period: number("evictionMaxPodGracePeriod").and_then(|seconds| i32::try_from(seconds).ok()),
        eviction_pressure_transition_period: seconds("evictionPressureTransitionPeriod"),
        image_gc_high_threshold: percent("imageGCHighThresholdPercent")?,
        image_gc_low_threshold: percent("imageGCLowThresholdPercent")?,
        minimum_image_ttl_duration: seconds("imageMinimumGCAge"),
        allowed_unsafe_sysctls: says("allowedUnsafeSysctls").then(|| kubelet.texts("allowedUnsafeSysctls")),
        container_runtime_endpoint: runtime_endpoint(kubelet)?,
        ..Settings::default()
    })
}

fn runtime_endpoint(kubelet: &KubeletConfiguration) -> Result<Option<PathBuf>> {
    if kubelet.says("containerRuntimeEndpoint").is_none() {
        return Ok(None);
    }
    let endpoint = kubelet.text("containerRuntimeEndpoint");
    match endpoint.strip_prefix("unix://") {
        Some(path) => Ok(Some(path.into())),
        None if endpoint.starts_with('/') => Ok(Some(endpoint.into())),
        None => bail!("containerRuntimeEndpoint {endpoint:?} is not supported: name a socket, such as unix:///run/containerd/containerd.sock"),
    }
}

impl Config {
    /// The same with a kubelet's configuration, over which everything is said that this node's settings say.
    ///
    /// # Errors
    /// When that is invalid, or asks for what this kubelet does not do.
    pub fn with_kubelet(mut self, kubelet: KubeletConfiguration) -> Result<Self> {
        let mut kubelet = kubelet;
        let said = self.eviction.among(Settings::default());
        let pairs = |list: Option<Vec<String>>, sign: char| -> Value {
            let list = list.unwrap_or_default();
            list.iter().filter_map(|pair| pair.split_once(sign)).map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
        };
        // Without what changes nothing, such as a slash at its end.
        let text = |path: &Path| path.components().collect::<PathBuf>().display().to_string();
        kubelet.say("port", self.kubelet_port);
        kubelet.say("staticPodPath", text(&self.manifests_dir));
        kubelet.say("podLogsDir", text(&self.pod_logs_dir));
        kubelet.say("podPidsLimit", self.pod_max_pids.map_or(-1, i64::from));
        kubelet.say("evictionHard", pairs(said.eviction_hard, '<'));
        kubelet.say("evictionSoft", pairs(said.eviction_soft, '<'));
        kubelet.say("evictionSoftGracePeriod", pairs(said.eviction_soft_grace_period, '='));
        kubelet.say("evictionMinimumReclaim", pairs(said.eviction_minimum_reclaim, '='));
        kubelet.say("evictionMaxPodGracePeriod", self.eviction.grace_periods.most);
        kubelet.say_duration("evictionPressureTransitionPeriod", self.eviction.pressure_transition_period);
        kubelet.say("imageGCHighThresholdPercent", self.image_policy.high);
        kubelet.say("imageGCLowThresholdPercent", self.image_policy.low);
        kubelet.say_duration("imageMinimumGCAge", self.image_policy.least_age);
        kubelet.say("allowedUnsafeSysctls", json!(self.allowed_unsafe_sysctls));
        if self.cgroup_parent != PODS {
            kubelet.say("cgroupRoot", format!("/{}", self.cgroup_parent.strip_suffix(&format!("/{PODS}")).unwrap_or(&self.cgroup_parent)));
        }
        if kubelet.says("clusterDomain").is_none() {
            kubelet.say("clusterDomain", self.cluster_domain.clone());
        }
        if kubelet.says("clusterDNS").is_none() {
            kubelet.say("clusterDNS", json!([self.cluster_dns.to_string()]));
        }
        kubelet.check(this_machine())?;
        self.kubelet = kubelet;
        Ok(self)
    }

    /// How often this node gives a sign of life.
    pub fn heartbeat(&self) -> Duration {
        Duration::from_secs(self.kubelet.number("nodeLeaseDurationSeconds").max(1).unsigned_abs()) / u32::try_from(HOLDS).unwrap_or(1)
    }

    /// Writes down what holds for this node's kubelet, for another node of this machine, which has a runtime of its own.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write_kubelet_configuration(&self, path: &Path) -> Result<()> {
        let mut said = self.kubelet.said_document();
        if let Some(fields) = said.as_object_mut() {
            fields.remove("containerRuntimeEndpoint");
        }
        // What it says of servers' headers is for nobody else.
        let mut file = fs::OpenOptions::new();
        let file = file.write(true).create(true).truncate(true).mode(0o600).open(path);
        file.and_then(|mut file| file.write_all(said.to_string().as_bytes())).with_context(|| format!("cannot write {}", path.display()))
    }
}

fn this_machine() -> Machine {
    let swap = fs::read_to_string("/proc/swaps").is_ok_and(|swaps| swaps.lines().count() > 1);
    Machine { cgroup_v1: !Path::new("/sys/fs/cgroup/cgroup.controllers").exists(), swap }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

    fn node(settings: Settings) -> Settings {
        Settings { node_ip: Some(IpAddr::from([192, 0, 2, 7]).into()), node_name: Some("one".into()), ..settings }
    }

    fn configured(text: &str, flags: Settings) -> Result<Config> {
        let place = tempfile::tempdir().expect("a directory");
        let file = place.path().join("kubelet.yaml");
        fs::write(&file, format!("apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\n{text}")).expect("writes");
        let (settings, kubelet) = node(Settings { kubelet_config: Some(file), ..flags }).with_kubelet_configuration()?;
        settings.resolve()?.with_kubelet(kubelet)
    }

    #[test]
    fn flags_win_over_the_kubelets_file_and_that_over_defaults() {
        let text = "port: 7250\npodPidsLimit: 99\nimageGCHighThresholdPercent: 70\nimageGCLowThresholdPercent: 60\nmaxPods: 30\n\
                    evictionHard: {memory.available: 5%}\nevictionSoft: {memory.available: 10%}\n\
                    evictionSoftGracePeriod: {memory.available: 1m}\nclusterDomain: example.test\ncgroupRoot: /machine\n\
                    nodeLeaseDurationSeconds: 20\ncontainerRuntimeEndpoint: unix:///run/c.sock\n";
        let flags = Settings { kubelet_port: Some(8250), pod_max_pids: Some(-1), ..Settings::default() };
        let config = configured(text, flags).expect("works");
        assert_eq!((config.kubelet_port, config.pod_max_pids, config.image_policy.high), (8250, None, 70));
        assert_eq!((config.cgroup_parent.as_str(), config.cluster_domain.as_str()), ("machine/kubepods", "cluster.local"));
        assert_eq!(config.container_runtime_endpoint, Some("/run/c.sock".into()));
        assert_eq!((config.eviction.thresholds.len(), config.heartbeat()), (2, Duration::from_secs(5)));
        let document = config.kubelet.document();
        assert_eq!((&document["port"], &document["podPidsLimit"], &document["maxPods"]), (&json!(8250), &json!(-1), &json!(30)));
        assert_eq!((&document["clusterDomain"], &document["clusterDNS"]), (&json!("example.test"), &json!(["10.96.0.10"])));
        assert_eq!((&document["evictionHard"], &document["cgroupRoot"]), (&json!({"memory.available": "5%"}), &json!("/machine")));
        // Everything that has a setting is recorded as one.
        let recorded = config.settings();
        assert_eq!((recorded.image_gc_high_threshold, recorded.node_heartbeat), (Some(70), None));
    }

    #[test]
    fn without_files_what_holds_is_told_all_the_same() {
        let settings = node(Settings { node_heartbeat: Some(3), eviction_hard: Some(vec!["none".into()]), ..Settings::default() });
        let (settings, kubelet) = settings.with_kubelet_configuration().expect("works");
        let config = settings.resolve().and_then(|config| config.with_kubelet(kubelet)).expect("works");
        assert_eq!((config.heartbeat(), config.kubelet.duration("nodeStatusUpdateFrequency")), (Duration::from_secs(3), Duration::from_secs(3)));
        assert_eq!(config.kubelet.duration("nodeStatusReportFrequency"), Duration::from_secs(300));
        let document = config.kubelet.document();
        assert_eq!((&document["evictionHard"], &document["podPidsLimit"]), (&json!({}), &json!(4096)));
        assert_eq!(config.kubelet.idle(), Vec::<String>::new());
    }

    #[test]
    fn what_the_kubelet_does_not_do_ends_the_start_by_name() {
        let refused = |text: &str| format!("{:#}", configured(text, Settings::default()).map(drop).expect_err(text));
        assert!(refused("cgroupDriver: docker\n").contains("cgroupDriver: \"docker\" is not supported by this kubelet"));
        assert!(refused("maxPodz: 5\n").contains("unknown field \"maxPodz\""));
        assert!(refused("maxPods: -5\n").contains("maxPods (--max-pods) -5 must not be a negative number"));
        assert!(refused("containerRuntimeEndpoint: npipe:////./x\n").contains("containerRuntimeEndpoint"));
    }

    #[test]
    fn another_node_of_this_machine_gets_all_but_the_runtime() {
        let place = tempfile::tempdir().expect("a directory");
        let config = configured("maxPods: 30\ncontainerRuntimeEndpoint: unix:///run/c.sock\n", Settings::default()).expect("works");
        let file = place.path().join("kubelet.json");
        config.write_kubelet_configuration(&file).expect("writes");
        let again = KubeletConfiguration::load(Some(&file), None).expect("loads");
        assert_eq!((again.number("maxPods"), again.says("containerRuntimeEndpoint")), (30, None));
    }
}
