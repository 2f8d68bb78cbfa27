//! Features that are asked for by name.

/// The controller of storage version migrations, and their resource.
pub const STORAGE_VERSION_MIGRATOR: &str = "StorageVersionMigrator";

/// Logs of one output of a container alone (KEP-3288).
pub const POD_LOGS_QUERY_SPLIT_STREAMS: &str = "PodLogsQuerySplitStreams";

/// Containers that are ended by signals of their own (KEP-4960).
pub const CONTAINER_STOP_SIGNALS: &str = "ContainerStopSignals";

/// Workloads and pod groups (KEP-4671).
pub const GENERIC_WORKLOAD: &str = "GenericWorkload";

/// Pods of a group get their nodes all together or not at all (KEP-4671).
pub const GANG_SCHEDULING: &str = "GangScheduling";
