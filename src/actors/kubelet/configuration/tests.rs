use std::{collections::BTreeSet, fs, time::Duration};

use serde_json::json;
use troupe_api::spans::Endpoint;

use super::{
    ConfigurationError, CpuSet, KubeletConfiguration, Machine,
    amounts::shown_duration,
    fields::{Effect, FIELDS},
};
use crate::{
    document_shape::check,
    kubelet::{
        node::reserved::Reserved,
        pull_records::policy::{Allowlist, Policy},
    },
};

const HEAD: &str = "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\n";

fn parse(text: &str) -> Result<KubeletConfiguration, ConfigurationError> {
    KubeletConfiguration::parse(&format!("{HEAD}{text}"))
}

fn said(text: &str) -> KubeletConfiguration {
    parse(text).expect("a configuration")
}

fn refused(text: &str) -> String {
    match parse(text) {
        Err(error) => error.to_string(),
        Ok(configuration) => configuration.check(Machine::default()).expect_err(text).to_string(),
    }
}

#[test]
fn every_default_is_a_value_of_its_field_and_no_field_stands_twice() {
    let paths: BTreeSet<&str> = FIELDS.iter().map(|row| row.path).collect();
    assert_eq!(paths.len(), FIELDS.len());
    for row in FIELDS {
        assert_eq!(check(KubeletConfiguration::default().value(row.path), &row.shape, row.path, &mut Vec::new()), Ok(()));
        let above = row.path.rsplit_once('.').map(|(above, _)| above);
        assert!(above.is_none_or(|above| !paths.contains(above)), "{} lies in a field that is a value itself", row.path);
    }
}

#[test]
fn what_holds_where_nothing_is_said_needs_no_word() {
    let configuration = said("");
    assert_eq!(configuration.check(Machine { cgroup_v1: true, swap: true }), Ok(()));
    assert_eq!(configuration.idle(), Vec::<String>::new());
    assert_eq!((configuration.number("maxPods"), configuration.duration("imageMinimumGCAge")), (110, Duration::from_secs(120)));
    let document = configuration.document();
    assert_eq!(document["authentication"]["anonymous"]["enabled"], json!(false));
    assert_eq!((&document["kind"], &document["evictionHard"]["nodefs.available"]), (&json!("KubeletConfiguration"), &json!("10%")));
    assert_eq!(document["crashLoopBackOff"]["maxContainerRestartPeriod"], json!("5m0s"));
    assert!(document.get("clusterDNS").is_none());
}

#[test]
fn decoding_is_strict() {
    for (text, why) in [
        ("maxPod: 5\n", "failed to decode: strict decoding error: unknown field \"maxPod\""),
        (
            "authentication: {anonymous: {enable: true}}\nodd: 1\n",
            "failed to decode: strict decoding error: unknown field \"authentication.anonymous.enable\", unknown field \"odd\"",
        ),
        (
            "registerWithTaints: [{key: a, efect: NoSchedule}]\n",
            "failed to decode: strict decoding error: unknown field \"registerWithTaints[0].efect\"",
        ),
        ("maxPods: many\n", "failed to decode: maxPods: expected a whole number of 32 bits, found \"many\""),
        ("syncFrequency: 5\n", "failed to decode: syncFrequency: expected a duration, found 5"),
        ("authentication: 5\n", "failed to decode: authentication: expected an object, found 5"),
    ] {
        assert_eq!(refused(text), why);
    }
    assert!(refused("maxPods: 5\nmaxPods: 6\n").contains("maxPods"), "a field stands twice");
    let kind = |text: &str| KubeletConfiguration::parse(text).expect_err(text).to_string();
    assert_eq!(kind("kind: KubeletConfiguration\n"), "no apiVersion/kind");
    assert_eq!(kind("apiVersion: kubelet.config.k8s.io/v1\nkind: X\n"), "unknown apiVersion/kind: kubelet.config.k8s.io/v1, Kind=X");
}

#[test]
fn values_are_checked_in_upstreams_words() {
    let begin = "failed to validate kubelet configuration, error: ";
    for (text, why) in [
        ("maxPods: -1\n", "invalid configuration: maxPods (--max-pods) -1 must not be a negative number"),
        (
            "imageGCHighThresholdPercent: 80\nimageGCLowThresholdPercent: 90\n",
            "invalid configuration: imageGCLowThresholdPercent (--image-gc-low-threshold) 90 must be less than imageGCHighThresholdPercent \
             (--image-gc-high-threshold) 80",
        ),
        ("imageMaximumGCAge: 1m\n", "invalid configuration: imageMaximumGCAge 1m0s must be greater than imageMinimumGCAge 2m0s"),
        (
            "serializeImagePulls: true\nmaxParallelImagePulls: 2\n",
            "invalid configuration: maxParallelImagePulls cannot be larger than 1 unless SerializeImagePulls (--serialize-image-pulls) is set to false",
        ),
        ("registerWithTaints: [{key: a/b/c, effect: NoSchedule}]\n", "invalid taint: {a/b/c  NoSchedule <nil>}"),
        (
            "crashLoopBackOff: {maxContainerRestartPeriod: 500ms}\n",
            "invalid configuration: CrashLoopBackOff.MaxContainerRestartPeriod (got: 0.5 seconds) must be set between 1s and 300s",
        ),
        (
            "enforceNodeAllocatable: [pods, none]\n",
            "invalid configuration: enforceNodeAllocatable (--enforce-node-allocatable) may not contain additional enforcements when \"none\" is \
             specified",
        ),
        (
            "reservedSystemCPUs: 3-1\n",
            "[invalid configuration: unable to parse reservedSystemCPUs (--reserved-cpus) 3-1, error: invalid range \"3-1\" (3 > 1), unable to parse reserved-cpus list: invalid range \"3-1\" (3 > 1)]",
        ),
        (
            "preloadedImagesVerificationAllowlist: [a]\n",
            "invalid configuration: can't set `preloadedImagesVerificationAllowlist` if `imagePullCredentialsVertificationPolicy` is not \
             \"NeverVerifyAllowlistedImages\"",
        ),
        (
            "imagePullCredentialsVerificationPolicy: NeverVerifyAllowlistedImages\npreloadedImagesVerificationAllowlist: ['a*']\n",
            "invalid configuration: invalid image pattern in `preloadedImagesVerificationAllowlist`: not a valid wildcard pattern, only patterns \
             ending with '/*' are allowed: a*",
        ),
        ("systemReserved: {gpu: '1'}\n", "--system-reserved value failed to parse: cannot reserve \"gpu\" resource"),
        ("evictionSoft: {memory.available: 1Gi}\n", "grace period must be specified for the soft eviction threshold memory.available"),
        ("containerLogMaxFiles: 1\n", "invalid configuration: containerLogMaxFiles must be greater than 1"),
        ("podLogsDir: /a/../b\n", "invalid configuration: pod logs path \"/a/../b\" must be normalized"),
        (
            "tracing: {samplingRatePerMillion: 1000001}\n",
            "tracing.samplingRatePerMillion: Invalid value: 1000001: sampling rate per million must be less than or equal to one million",
        ),
        ("runOnce: true\n", "invalid configuration: runOnce (--runOnce) true, Runonce mode has been deprecated and should not be set"),
    ] {
        assert_eq!(refused(text), format!("{begin}{why}"));
    }
    let machine = Machine { cgroup_v1: true, swap: true };
    let both = said("failCgroupV1: true\nfailSwapOn: true\n").check(machine).expect_err("refused").to_string();
    assert!(both.contains("not to run on a host using cgroup v1") || both.contains("not run on a host using cgroup v1"), "{both}");
    assert!(both.contains("running with swap on is not supported"), "{both}");
}

#[test]
fn tracing_is_on_where_something_is_said_of_it() {
    assert_eq!(said("tracing: {}\n").tracing(), None);
    let none = said("tracing: {samplingRatePerMillion: 0}\n").tracing().expect("it is said");
    assert_eq!((none.per_million(), none.endpoint()), (0, Ok(Endpoint::Tcp("localhost:4317".into()))));
    let unix = said("tracing: {endpoint: 'unix:///run/otel.sock'}\n").tracing().expect("it is said");
    assert_eq!(unix.endpoint(), Ok(Endpoint::Unix("/run/otel.sock".into())));
}

#[test]
fn nothing_that_is_said_is_ignored_without_a_word() {
    let driver = "cgroupDriver: \"docker\" is not supported by this kubelet: it is \"cgroupfs\" or \"systemd\"";
    assert_eq!((refused("cgroupDriver: docker\n").as_str(), said("cgroupDriver: systemd\n").check(Machine::default())), (driver, Ok(())));
    assert_eq!(refused("kubeletCgroups: /a\n"), "kubeletCgroups: \"/a\" is not supported by this kubelet: leave it out");
    let anonymous = refused("authentication: {anonymous: {enabled: true}, webhook: {enabled: false}}\n");
    assert!(anonymous.starts_with('[') && anonymous.contains("authentication.anonymous.enabled: true is not"), "{anonymous}");
    let cgroup = refused("enforceNodeAllocatable: [pods, kube-reserved]\nkubeReservedCgroup: /k\n");
    assert!(cgroup.contains("enforceNodeAllocatable: \"kube-reserved\" is not supported"), "{cgroup}");
    let configuration = said(
        "syncFrequency: 2m\nkubeAPIQPS: 50\nfileCheckFrequency: 20s\nfeatureGates: {MemoryQoS: false, ContainerStopSignals: true, PodCertificateRequest: true, TaintTolerationComparisonOperators: true}\ncpuManagerPolicy: none\n",
    );
    assert_eq!(configuration.check(Machine::default()), Ok(()));
    assert_eq!(
        configuration.idle(),
        ["syncFrequency: \"2m0s\" has no effect on this node", "featureGates: MemoryQoS=false has no effect on this node"]
    );
    assert_eq!(
        (configuration.feature("ContainerStopSignals"), configuration.feature("MemoryQoS"), configuration.feature("Odd")),
        (Some(true), Some(false), None)
    );
    assert!(refused("featureGates: {Odd: true}\n").ends_with("unrecognized feature gate: Odd"));
    assert!(refused("featureGates: {MemoryQoS: true}\n").ends_with("there is no such feature here"));
    let known: BTreeSet<Effect> = FIELDS.iter().map(|row| row.effect).collect();
    assert_eq!(known.len(), 3);
}

#[test]
fn pods_have_the_time_that_is_said_when_the_machine_shuts_down() {
    let periods = |text: &str| {
        let said = said(text);
        assert_eq!(said.check(Machine::default()), Ok(()));
        said.shutdown_periods().iter().map(|period| (period.priority, period.grace)).collect::<Vec<_>>()
    };
    assert_eq!(periods(""), []);
    assert_eq!(periods("shutdownGracePeriod: 30s\nshutdownGracePeriodCriticalPods: 10s\n"), [(0, 20), (2_000_000_000, 10)]);
    let by_priority = "[{priority: 100, shutdownGracePeriodSeconds: 5}, {shutdownGracePeriodSeconds: 60}]";
    assert_eq!(periods(&format!("shutdownGracePeriodByPodPriority: {by_priority}\n")), [(0, 60), (100, 5)]);
    let both = refused(&format!("shutdownGracePeriod: 30s\nshutdownGracePeriodByPodPriority: {by_priority}\n"));
    assert!(both.contains("Cannot specify both shutdownGracePeriodByPodPriority and shutdownGracePeriod at the same time"), "{both}");
}

#[test]
fn what_is_said_of_memory_is_taken() {
    let swaps = said("memorySwap: {swapBehavior: LimitedSwap}\nsingleProcessOOMKill: true\n");
    assert_eq!(swaps.check(Machine { cgroup_v1: true, swap: true }), Ok(()));
    assert_eq!((swaps.text("memorySwap.swapBehavior"), swaps.flag("singleProcessOOMKill")), ("LimitedSwap", true));
    assert_eq!(said("enableSystemLogQuery: true\n").check(Machine::default()), Ok(()), "the gate is always on");
    let query = refused("enableSystemLogQuery: true\nenableSystemLogHandler: false\n");
    assert!(query.contains("enableSystemLogHandler is required for enableSystemLogQuery"), "{query}");
}

#[test]
fn pods_of_a_server_are_asked_for_with_headers_that_nobody_sees() {
    let configuration = said("staticPodURL: https://example.org/pods\nstaticPodURLHeader: {X-Key: [secret, more]}\nhttpCheckFrequency: 5s\n");
    assert_eq!(configuration.check(Machine::default()), Ok(()));
    let url = configuration.pod_url().expect("a URL");
    assert_eq!((url.to_string().as_str(), url.period), ("https://example.org:443/pods", Duration::from_secs(5)));
    let document = configuration.document();
    assert_eq!((&document["staticPodURLHeader"], &document["httpCheckFrequency"]), (&json!({"X-Key": ["<masked>"]}), &json!("5s")));
    assert_eq!(configuration.said_document()["staticPodURLHeader"]["X-Key"], json!(["secret", "more"]));
    assert_eq!((said("").pod_url(), said("").document().get("staticPodURLHeader")), (None, None));
    let odd = refused("staticPodURL: /etc/pods\n");
    assert!(odd.contains("staticPodURL (--manifest-url) is no URL of http or https"), "{odd}");
}

#[test]
fn drop_ins_are_merged_in_their_order_over_the_file() {
    let place = tempfile::tempdir().expect("a directory");
    let write = |name: &str, text: &str| {
        let path = place.path().join(name);
        fs::create_dir_all(path.parent().expect("a folder")).and_then(|()| fs::write(path, format!("{HEAD}{text}"))).expect("writes");
    };
    write("main.yaml", "maxPods: 10\nresolvConf: etc/resolv.conf\nsystemReserved: {cpu: 100m, memory: 1Gi}\nclusterDNS: [10.0.0.1, 10.0.0.2]\n");
    write(
        "d/20-more.conf",
        "maxPods: 30\nsystemReserved: {memory: null, pid: '100'}\nclusterDNS: [10.0.0.3]\nevictionHard: {memory.available: 5%}\n",
    );
    write("d/10-first/a.conf", "maxPods: 20\nauthentication: {webhook: {cacheTTL: 3m}}\nport: 11\n");
    write("d/30-back.conf", "authentication: null\nport: 0\n");
    write("d/notes.txt", "maxPods: 99\n");
    let file = place.path().join("main.yaml");
    let merged = KubeletConfiguration::load(Some(&file), Some(&place.path().join("d"))).expect("loads");
    assert_eq!((merged.number("maxPods"), merged.number("port"), merged.says("authentication.webhook.cacheTTL")), (30, 10250, None));
    assert_eq!(merged.map("systemReserved"), [("cpu".to_owned(), "100m".to_owned()), ("pid".to_owned(), "100".to_owned())].into());
    assert_eq!(merged.texts("clusterDNS"), ["10.0.0.3"]);
    assert_eq!(merged.text("resolvConf"), place.path().join("etc/resolv.conf").display().to_string());
    let hard = merged.eviction().hard;
    assert_eq!((hard["memory.available"].as_str(), hard.len()), ("5%", 5), "of the others the defaults stay: {hard:?}");
    write("d/40-odd.conf", "maxPodz: 1\n");
    let odd = KubeletConfiguration::load(Some(&file), Some(&place.path().join("d"))).expect_err("refused").to_string();
    assert!(
        odd.starts_with("failed to merge kubelet configs: failed to load kubelet dropin file, path: ") && odd.contains("unknown field \"maxPodz\"")
    );
    let none = KubeletConfiguration::load(Some(&place.path().join("none")), None).expect_err("refused").to_string();
    assert!(none.starts_with("failed to load kubelet config file, path: "), "{none}");
}

#[test]
fn a_file_that_names_signals_has_no_others_unless_it_merges_the_defaults() {
    let hard = |text: &str| said(text).eviction().hard.len();
    assert_eq!(hard("evictionHard: {memory.available: 1Gi}\n"), 1);
    assert_eq!(hard("evictionHard: {memory.available: 1Gi}\nmergeDefaultEvictionSettings: true\n"), 5);
    assert_eq!((hard("evictionHard: {}\n"), hard("")), (0, 5));
}

#[test]
fn zero_stands_for_nothing_said_unless_it_is_a_value() {
    let configuration = said("maxPods: 0\nport: 0\nimageMinimumGCAge: 0s\nregistryPullQPS: 0\nimageGCLowThresholdPercent: 0\nresolvConf: ''\n");
    assert_eq!((configuration.number("maxPods"), configuration.number("port")), (110, 10250));
    assert_eq!(configuration.duration("imageMinimumGCAge"), Duration::from_secs(120));
    assert_eq!((configuration.number("imageGCLowThresholdPercent"), configuration.text("resolvConf")), (0, ""));
    assert_eq!(said("podPidsLimit: -7\n").number("podPidsLimit"), -1);
    let slow = said("nodeStatusUpdateFrequency: 1m30s\n");
    assert_eq!(slow.duration("nodeStatusReportFrequency"), Duration::from_secs(90), "upstream's default follows");
}

#[test]
fn reservations_of_both_kinds_add_up_and_whole_cpus_stand_for_theirs() {
    let both = said("systemReserved: {cpu: 250m, memory: 1Gi}\nkubeReserved: {cpu: '1', ephemeral-storage: 2Gi, pid: '500'}\n");
    let sum = Reserved { milli_cpus: 1250, memory: 1 << 30, storage: 2 << 30, processes: 500 };
    assert_eq!(both.reserved(), Ok(sum));
    let cpus = said("systemReserved: {cpu: 250m}\nreservedSystemCPUs: '0-2,5'\n");
    assert_eq!(cpus.reserved().map(|reserved| reserved.milli_cpus), Ok(4000));
    assert_eq!(CpuSet::parse("0,x"), Err("strconv.Atoi: parsing \"x\": invalid syntax".into()));
    assert_eq!(CpuSet::parse(""), Ok(CpuSet::default()));
}

#[test]
fn who_has_cpus_for_himself_is_said_as_upstream_reads_it() {
    assert!(said("").container_manager().expect("the default").static_cpus.is_none());
    let text =
        "cpuManagerPolicy: static\ncpuManagerPolicyOptions: {full-pcpus-only: 'true'}\ncpuManagerReconcilePeriod: 5s\nreservedSystemCPUs: 0-1\n";
    assert_eq!(said(text).check(Machine::default()), Ok(()));
    let told = said(text).container_manager().expect("it is known").static_cpus.expect("static");
    assert!(told.options.full_cores && !told.options.by_cache);
    assert_eq!((told.reserved.to_string(), told.reconcile_period), ("0-1".to_owned(), Duration::from_secs(5)));
    let together =
        said("topologyManagerPolicy: restricted\ntopologyManagerScope: pod\ntopologyManagerPolicyOptions: {max-allowable-numa-nodes: '9'}\n");
    assert_eq!(together.check(Machine::default()), Ok(()));
    assert_eq!(together.container_manager().expect("it is known").topology_manager.map(|told| told.most_nodes), Some(9));
    let begin = "failed to validate kubelet configuration, error: ";
    let few = refused("topologyManagerPolicy: restricted\ntopologyManagerPolicyOptions: {max-allowable-numa-nodes: '2'}\n");
    assert_eq!(few, format!("{begin}the minimum value of \"max-allowable-numa-nodes\" should not be less than 8"));
    assert_eq!(refused("cpuManagerPolicy: dynamic\n"), format!("{begin}unknown policy: \"dynamic\""));
    let memory = |limits: &str| format!("memoryManagerPolicy: Static\nreservedMemory: [{{numaNode: 1, limits: {limits}}}]\n");
    let told = said(&memory("{memory: 1Gi}")).container_manager().expect("it is known").static_memory.expect("static");
    assert_eq!(told[&1]["memory"], 1 << 30);
    let zero = format!("{begin}reserved memory may not be zero for NUMA node 1 and resource \"memory\"");
    assert_eq!(refused(&memory("{memory: '0'}")), zero);
    assert!(refused(&memory("{cpu: '1'}")).contains("the limit type \"cpu\" for NUMA node 1 is not supported"));
    let odd = refused("cpuManagerPolicy: static\ncpuManagerPolicyOptions: {odd: 'true'}\n");
    assert_eq!(odd, format!("{begin}unknown CPU Manager Policy option: \"odd\""));
}

#[test]
fn who_needs_credentials_for_images_of_the_node_is_said_as_upstream_reads_it() {
    assert_eq!(said("").pull_verification(), Ok(Policy::NeverVerifyPreloadedImages));
    let all = said("imagePullCredentialsVerificationPolicy: AlwaysVerify\n");
    assert_eq!((all.check(Machine::default()), all.pull_verification()), (Ok(()), Ok(Policy::AlwaysVerify)));
    let some = said("imagePullCredentialsVerificationPolicy: NeverVerifyAllowlistedImages\npreloadedImagesVerificationAllowlist: [a/*, b]\n");
    assert_eq!(some.check(Machine::default()), Ok(()));
    let list = Allowlist::parse(&["a/*".into(), "b".into()]).expect("a list");
    assert_eq!(some.pull_verification(), Ok(Policy::NeverVerifyAllowlistedImages(list)));
    assert!(refused("imagePullCredentialsVerificationPolicy: Odd\n").contains("option \"Odd\" specified for imagePullCredentialsVerificationPolicy"));
}

#[test]
fn durations_are_written_as_go_writes_them() {
    let second = 1_000_000_000_i64;
    let shown = [0, 100_000_000, 1_500_000, 750, 90 * second, 3600 * second, second + 500_000_000, -30 * second].map(shown_duration);
    assert_eq!(shown, ["0s", "100ms", "1.5ms", "750ns", "1m30s", "1h0m0s", "1.5s", "-30s"]);
}
