//! The fields of a `KubeletConfiguration` (`kubelet.config.k8s.io/v1beta1`), their defaults, and what this kubelet makes of them. Upstream's
//! names and order; a default is upstream's unless the comment at its side says what this kubelet does instead.

use crate::document_shape::{
    Shape::{self, Any, Bool, Duration, Int32, Int64, List, Lists, Map, Number, Object, Text},
    TEXTS,
};

/// What becomes of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Effect {
    Honoured,
    /// It is always as by default: another value is refused.
    Fixed,
    /// Another value than the default changes nothing that pods could see, and is warned of.
    Idle,
}

/// One field.
#[derive(Debug)]
pub struct Row {
    /// With dots where it lies in others.
    pub path: &'static str,
    pub shape: Shape,
    /// Zero, false and the empty text are values and do not stand for nothing said (a pointer upstream).
    pub has_zero: bool,
    /// JSON; empty for none.
    pub default: &'static str,
    pub effect: Effect,
}

const fn row(path: &'static str, shape: Shape, default: &'static str, effect: Effect) -> Row {
    Row { path, shape, has_zero: false, default, effect }
}

const fn pointer(path: &'static str, shape: Shape, default: &'static str, effect: Effect) -> Row {
    Row { path, shape, has_zero: true, default, effect }
}

use Effect::{Fixed, Honoured, Idle};

const TAINT: Shape = Object(&[("key", &Text), ("value", &Text), ("effect", &Text), ("timeAdded", &Text)]);
const PRIORITIES: Shape = Object(&[("priority", &Int32), ("shutdownGracePeriodSeconds", &Int64)]);
const MEMORY: Shape = Object(&[("numaNode", &Int32), ("limits", &Any)]);
const CURVES: Shape = List(&Int32);
const TAINTS: Shape = List(&TAINT);

/// All of them.
pub static FIELDS: &[Row] = &[
    row("apiVersion", Text, r#""kubelet.config.k8s.io/v1beta1""#, Honoured),
    row("kind", Text, r#""KubeletConfiguration""#, Honoured),
    pointer("enableServer", Bool, "true", Fixed),
    row("staticPodPath", Text, "", Honoured),
    row("podLogsDir", Text, r#""/var/log/pods""#, Honoured),
    row("syncFrequency", Duration, r#""1m0s""#, Idle),
    row("fileCheckFrequency", Duration, r#""20s""#, Idle),
    row("httpCheckFrequency", Duration, r#""20s""#, Honoured),
    row("staticPodURL", Text, "", Honoured),
    row("staticPodURLHeader", Lists, "", Honoured),
    row("address", Text, r#""0.0.0.0""#, Honoured),
    row("port", Int32, "10250", Honoured),
    row("readOnlyPort", Int32, "", Fixed),
    row("tlsCertFile", Text, "", Honoured),
    row("tlsPrivateKeyFile", Text, "", Honoured),
    row("tlsCipherSuites", TEXTS, "", Honoured),
    row("tlsCurvePreferences", CURVES, "", Fixed),
    row("tlsMinVersion", Text, "", Honoured),
    // Certificates that were asked for are always renewed, and serving ones asked for where nobody makes them here.
    row("rotateCertificates", Bool, "true", Idle),
    row("serverTLSBootstrap", Bool, "true", Idle),
    row("authentication.x509.clientCAFile", Text, "", Honoured),
    pointer("authentication.webhook.enabled", Bool, "true", Fixed),
    row("authentication.webhook.cacheTTL", Duration, r#""2m0s""#, Idle),
    pointer("authentication.anonymous.enabled", Bool, "false", Fixed),
    row("authorization.mode", Text, r#""Webhook""#, Fixed),
    row("authorization.webhook.cacheAuthorizedTTL", Duration, r#""5m0s""#, Idle),
    row("authorization.webhook.cacheUnauthorizedTTL", Duration, r#""30s""#, Idle),
    // As many as pods ask for.
    pointer("registryPullQPS", Int32, "0", Honoured),
    row("registryBurst", Int32, "10", Honoured),
    row("imagePullCredentialsVerificationPolicy", Text, r#""NeverVerifyPreloadedImages""#, Honoured),
    row("preloadedImagesVerificationAllowlist", TEXTS, "", Honoured),
    // As they come, one after the other.
    pointer("eventRecordQPS", Int32, "0", Honoured),
    row("eventBurst", Int32, "100", Honoured),
    pointer("enableDebuggingHandlers", Bool, "true", Fixed),
    row("enableContentionProfiling", Bool, "", Idle),
    // Health is told at the kubelet's own port, where no other is named.
    pointer("healthzPort", Int32, "0", Honoured),
    row("healthzBindAddress", Text, r#""127.0.0.1""#, Honoured),
    pointer("oomScoreAdj", Int32, "-999", Idle),
    row("clusterDomain", Text, "", Honoured),
    row("clusterDNS", TEXTS, "", Honoured),
    row("streamingConnectionIdleTimeout", Duration, r#""4h0m0s""#, Idle),
    row("nodeStatusUpdateFrequency", Duration, r#""10s""#, Honoured),
    row("nodeStatusReportFrequency", Duration, r#""5m0s""#, Honoured),
    row("nodeLeaseDurationSeconds", Int32, "40", Honoured),
    row("imageMinimumGCAge", Duration, r#""2m0s""#, Honoured),
    row("imageMaximumGCAge", Duration, r#""0s""#, Honoured),
    pointer("imageGCHighThresholdPercent", Int32, "85", Honoured),
    pointer("imageGCLowThresholdPercent", Int32, "80", Honoured),
    row("volumeStatsAggPeriod", Duration, r#""1m0s""#, Idle),
    row("kubeletCgroups", Text, "", Fixed),
    row("systemCgroups", Text, "", Fixed),
    row("cgroupRoot", Text, "", Honoured),
    pointer("cgroupsPerQOS", Bool, "true", Honoured),
    row("cgroupDriver", Text, r#""cgroupfs""#, Honoured),
    row("cpuManagerPolicy", Text, r#""none""#, Honoured),
    // Upstream's default follows the version of cgroups: of the first each process is killed alone.
    pointer("singleProcessOOMKill", Bool, "", Honoured),
    row("cpuManagerPolicyOptions", Map, "", Honoured),
    row("cpuManagerReconcilePeriod", Duration, r#""10s""#, Honoured),
    row("memoryManagerPolicy", Text, r#""None""#, Honoured),
    row("topologyManagerPolicy", Text, r#""none""#, Honoured),
    row("topologyManagerScope", Text, r#""container""#, Honoured),
    row("topologyManagerPolicyOptions", Map, "", Honoured),
    row("qosReserved", Map, "", Fixed),
    row("runtimeRequestTimeout", Duration, r#""2m0s""#, Idle),
    row("hairpinMode", Text, r#""promiscuous-bridge""#, Idle),
    row("maxPods", Int32, "110", Honoured),
    row("podCIDR", Text, "", Fixed),
    // Upstream has no limit.
    pointer("podPidsLimit", Int64, "4096", Honoured),
    pointer("resolvConf", Text, r#""/etc/resolv.conf""#, Honoured),
    row("runOnce", Bool, "", Fixed),
    pointer("cpuCFSQuota", Bool, "true", Honoured),
    pointer("cpuCFSQuotaPeriod", Duration, r#""100ms""#, Honoured),
    pointer("nodeStatusMaxImages", Int32, "50", Honoured),
    row("maxOpenFiles", Int64, "1000000", Idle),
    row("contentType", Text, r#""application/vnd.kubernetes.protobuf""#, Idle),
    pointer("kubeAPIQPS", Int32, "50", Idle),
    row("kubeAPIBurst", Int32, "100", Idle),
    // Each container's image is pulled when it is needed.
    pointer("serializeImagePulls", Bool, "false", Honoured),
    pointer("maxParallelImagePulls", Int32, "", Honoured),
    row("evictionHard", Map, "", Honoured),
    row("evictionSoft", Map, "", Honoured),
    row("evictionSoftGracePeriod", Map, "", Honoured),
    row("evictionPressureTransitionPeriod", Duration, r#""5m0s""#, Honoured),
    row("evictionMaxPodGracePeriod", Int32, "", Honoured),
    row("evictionMinimumReclaim", Map, "", Honoured),
    pointer("mergeDefaultEvictionSettings", Bool, "false", Honoured),
    row("podsPerCore", Int32, "", Honoured),
    pointer("enableControllerAttachDetach", Bool, "true", Fixed),
    row("protectKernelDefaults", Bool, "", Fixed),
    pointer("makeIPTablesUtilChains", Bool, "true", Idle),
    pointer("iptablesMasqueradeBit", Int32, "14", Idle),
    pointer("iptablesDropBit", Int32, "15", Idle),
    row("featureGates", Any, "", Honoured),
    // Machines with swap are taken, unless it is said that they must have none.
    pointer("failSwapOn", Bool, "false", Honoured),
    row("memorySwap.swapBehavior", Text, "", Honoured),
    row("containerLogMaxSize", Text, r#""10Mi""#, Honoured),
    pointer("containerLogMaxFiles", Int32, "5", Honoured),
    pointer("containerLogMaxWorkers", Int32, "1", Idle),
    pointer("containerLogMonitorInterval", Duration, r#""10s""#, Honoured),
    row("configMapAndSecretChangeDetectionStrategy", Text, r#""Watch""#, Idle),
    row("systemReserved", Map, "", Honoured),
    row("kubeReserved", Map, "", Honoured),
    row("reservedSystemCPUs", Text, "", Honoured),
    row("showHiddenMetricsForVersion", Text, "", Idle),
    row("systemReservedCgroup", Text, "", Fixed),
    row("kubeReservedCgroup", Text, "", Fixed),
    pointer("enforceNodeAllocatable", TEXTS, r#"["pods"]"#, Honoured),
    row("allowedUnsafeSysctls", TEXTS, "", Honoured),
    row("volumePluginDir", Text, r#""/usr/libexec/kubernetes/kubelet-plugins/volume/exec/""#, Idle),
    row("providerID", Text, "", Honoured),
    // Memory is looked at each second.
    row("kernelMemcgNotification", Bool, "", Idle),
    row("logging.format", Text, r#""text""#, Idle),
    row("logging.flushFrequency", Any, r#""5s""#, Idle),
    row("logging.verbosity", Int64, "0", Idle),
    row("logging.vmodule", Any, "", Idle),
    row("logging.options", Any, r#"{"text":{"infoBufferSize":"0"},"json":{"infoBufferSize":"0"}}"#, Idle),
    pointer("enableSystemLogHandler", Bool, "true", Honoured),
    pointer("enableSystemLogQuery", Bool, "false", Honoured),
    row("shutdownGracePeriod", Duration, r#""0s""#, Honoured),
    row("shutdownGracePeriodCriticalPods", Duration, r#""0s""#, Honoured),
    row("shutdownGracePeriodByPodPriority", List(&PRIORITIES), "", Honoured),
    pointer("crashLoopBackOff.maxContainerRestartPeriod", Duration, r#""5m0s""#, Honoured),
    row("reservedMemory", List(&MEMORY), "", Honoured),
    pointer("enableProfilingHandler", Bool, "true", Idle),
    pointer("enableDebugFlagsHandler", Bool, "true", Idle),
    pointer("seccompDefault", Bool, "false", Honoured),
    pointer("memoryThrottlingFactor", Number, "0.9", Idle),
    row("memoryReservationPolicy", Text, r#""None""#, Fixed),
    row("registerWithTaints", TAINTS, "", Honoured),
    pointer("registerNode", Bool, "true", Honoured),
    pointer("tracing.endpoint", Text, "", Honoured),
    pointer("tracing.samplingRatePerMillion", Int32, "", Honoured),
    pointer("localStorageCapacityIsolation", Bool, "true", Fixed),
    row("containerRuntimeEndpoint", Text, r#""unix:///run/containerd/containerd.sock""#, Honoured),
    row("imageServiceEndpoint", Text, "", Fixed),
    // Both versions of cgroups are taken, unless it is said that the first must not be.
    pointer("failCgroupV1", Bool, "false", Honoured),
    row("userNamespaces.idsPerPod", Int64, "", Honoured),
];
