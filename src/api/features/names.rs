//! Features that are asked for by name.

/// Objects that cannot be read can be deleted (KEP-3926).
pub const ALLOW_UNSAFE_MALFORMED_OBJECT_DELETION: &str = "AllowUnsafeMalformedObjectDeletion";

/// Uids of users in their certificates (KEP-4633).
pub const UID_FROM_CERTIFICATE: &str = "AllowParsingUserUIDFromCertAuth";

/// Uids of users in the headers of front proxies.
pub const REMOTE_REQUEST_HEADER_UID: &str = "RemoteRequestHeaderUID";

/// Answers of the API server are compressed for whoever takes that (KEP-156).
pub const API_RESPONSE_COMPRESSION: &str = "APIResponseCompression";

/// Commands in pods over WebSockets need the right to create them, as those over SPDY.
pub const AUTHORIZE_POD_WEBSOCKET_UPGRADES: &str = "AuthorizePodWebsocketUpgradeCreatePermission";

/// `/flagz` (KEP-4828).
pub const COMPONENT_FLAGZ: &str = "ComponentFlagz";

/// `/statusz` (KEP-4827).
pub const COMPONENT_STATUSZ: &str = "ComponentStatusz";

/// Who may act as others for some things only (KEP-5284).
pub const CONSTRAINED_IMPERSONATION: &str = "ConstrainedImpersonation";

/// Bundles of trust anchors, and the controller that publishes that of the API server (KEP-3257).
pub const CLUSTER_TRUST_BUNDLE: &str = "ClusterTrustBundle";

/// The controller of storage version migrations, and their resource.
pub const STORAGE_VERSION_MIGRATOR: &str = "StorageVersionMigrator";

/// Certificates of pods (KEP-4317): their requests, and volumes that have them.
pub const POD_CERTIFICATE_REQUEST: &str = "PodCertificateRequest";

/// Logs of one output of a container alone (KEP-3288).
pub const POD_LOGS_QUERY_SPLIT_STREAMS: &str = "PodLogsQuerySplitStreams";

/// Containers that are ended by signals of their own (KEP-4960).
pub const CONTAINER_STOP_SIGNALS: &str = "ContainerStopSignals";

/// Workloads and pod groups (KEP-4671).
pub const GENERIC_WORKLOAD: &str = "GenericWorkload";

/// Pods of a group get their nodes all together or not at all (KEP-4671).
pub const GANG_SCHEDULING: &str = "GangScheduling";

/// Autoscalers scale to zero (KEP-2021).
pub const HPA_SCALE_TO_ZERO: &str = "HPAScaleToZero";

/// Tolerations compare values of taints as numbers (KEP-5471).
pub const TOLERATION_COMPARISONS: &str = "TaintTolerationComparisonOperators";

/// Nodes score by the room that their storage has (KEP-4049).
pub const STORAGE_CAPACITY_SCORING: &str = "StorageCapacityScoring";

/// Drivers may keep pods with their volumes from nodes without them (KEP-5030).
pub const VOLUME_LIMIT_SCALING: &str = "VolumeLimitScaling";

/// Pods that changes may have helped are tried before their backoff ends when no other waits (KEP-5142).
pub const POP_FROM_BACKOFF_QUEUE: &str = "SchedulerPopFromBackoffQ";

/// An API server chooses leaders among candidates (KEP-4355).
pub const COORDINATED_LEADER_ELECTION: &str = "CoordinatedLeaderElection";

/// Jobs make workloads and pod groups for their pods (KEP-5547).
pub const WORKLOAD_WITH_JOB: &str = "WorkloadWithJob";

/// Rules that taint devices (KEP-5055).
pub const DEVICE_TAINT_RULES: &str = "DRADeviceTaintRules";

/// What pools of devices have and what of it is free, for who asks (KEP-5677).
pub const RESOURCE_POOL_STATUS: &str = "DRAResourcePoolStatus";
