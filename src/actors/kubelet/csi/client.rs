//! A driver's Node service.

use std::{
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use tonic::Code;
use troupe_api::metrics::{Family, Histogram};
use troupe_unix_grpc::{Service, code_name, words};

use super::proto::{
    Empty, NodeExpandVolumeRequest, NodeExpandVolumeResponse, NodeGetCapabilitiesResponse, NodeGetInfoResponse, NodeGetVolumeStatsRequest,
    NodeGetVolumeStatsResponse, NodePublishVolumeRequest, NodeStageVolumeRequest, NodeUnpublishVolumeRequest, NodeUnstageVolumeRequest, RpcType,
};

/// How long a driver may take for a call; upstream's.
const PATIENCE: Duration = Duration::from_secs(120);

/// Under upstream's name; drivers are those that have registered.
pub static OPERATIONS: Family<Histogram> = Family::histogram(
    "csi_operations_seconds",
    "Container Storage Interface operation duration with gRPC error code status total",
    &["driver_name", "method_name", "grpc_status_code", "migrated"],
    &OPERATION_SECONDS,
);
const OPERATION_SECONDS: [f64; 13] = [0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 15.0, 25.0, 50.0, 120.0, 300.0, 600.0];

/// Why a call failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct CallError {
    pub text: String,
    /// The driver has ended the work, which others may undo; otherwise it may still be at it.
    pub is_final: bool,
    /// Trying again with the same arguments is of no use.
    pub is_infeasible: bool,
}

impl From<tonic::Status> for CallError {
    fn from(status: tonic::Status) -> Self {
        let pending = matches!(
            status.code(),
            Code::Cancelled | Code::DeadlineExceeded | Code::Unavailable | Code::ResourceExhausted | Code::Aborted | Code::Unknown
        );
        let is_infeasible = matches!(status.code(), Code::InvalidArgument | Code::OutOfRange | Code::NotFound);
        CallError { text: words(&status), is_final: !pending, is_infeasible }
    }
}

/// What a driver can do on a node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Capabilities(Vec<RpcType>);

impl Capabilities {
    pub fn has(&self, wanted: RpcType) -> bool {
        self.0.contains(&wanted)
    }
}

/// See the module. Cheap to clone.
#[derive(Clone)]
pub struct NodeClient {
    driver: Arc<str>,
    service: Service,
}

impl NodeClient {
    pub fn new(driver: &str, endpoint: &Path) -> Self {
        NodeClient { driver: driver.into(), service: Service::new(endpoint, PATIENCE) }
    }

    async fn ask<Q, A>(&self, method: &'static str, request: Q) -> Result<A, CallError>
    where
        Q: prost::Message + Default + 'static,
        A: prost::Message + Default + 'static,
    {
        let begun = Instant::now();
        let outcome = self.service.ask(method, request).await;
        let code = outcome.as_ref().map_or_else(code_name, |_| "OK".to_owned());
        OPERATIONS.with(&[&*self.driver, method, &code, "false"]).observe_time(begun.elapsed());
        outcome.map_err(CallError::from)
    }

    pub async fn info(&self) -> Result<NodeGetInfoResponse, CallError> {
        self.ask("/csi.v1.Node/NodeGetInfo", Empty {}).await
    }

    pub async fn capabilities(&self) -> Result<Capabilities, CallError> {
        let told: NodeGetCapabilitiesResponse = self.ask("/csi.v1.Node/NodeGetCapabilities", Empty {}).await?;
        let kinds = told.capabilities.iter().filter_map(|capability| RpcType::try_from(capability.rpc.as_ref()?.kind).ok());
        Ok(Capabilities(kinds.collect()))
    }

    pub async fn stage(&self, request: NodeStageVolumeRequest) -> Result<(), CallError> {
        self.ask("/csi.v1.Node/NodeStageVolume", request).await.map(|_: Empty| ())
    }

    pub async fn unstage(&self, request: NodeUnstageVolumeRequest) -> Result<(), CallError> {
        self.ask("/csi.v1.Node/NodeUnstageVolume", request).await.map(|_: Empty| ())
    }

    pub async fn publish(&self, request: NodePublishVolumeRequest) -> Result<(), CallError> {
        self.ask("/csi.v1.Node/NodePublishVolume", request).await.map(|_: Empty| ())
    }

    pub async fn unpublish(&self, request: NodeUnpublishVolumeRequest) -> Result<(), CallError> {
        self.ask("/csi.v1.Node/NodeUnpublishVolume", request).await.map(|_: Empty| ())
    }

    pub async fn expand(&self, request: NodeExpandVolumeRequest) -> Result<NodeExpandVolumeResponse, CallError> {
        self.ask("/csi.v1.Node/NodeExpandVolume", request).await
    }

    pub async fn stats(&self, request: NodeGetVolumeStatsRequest) -> Result<NodeGetVolumeStatsResponse, CallError> {
        self.ask("/csi.v1.Node/NodeGetVolumeStats", request).await
    }
}

#[cfg(test)]
pub mod testing {
    use super::{Capabilities, RpcType};

    /// What a driver with these abilities would say.
    pub fn able(kinds: &[RpcType]) -> Capabilities {
        Capabilities(kinds.to_vec())
    }
}
