//! What events name as their source, for those who filter by it: upstream's names.

use super::super::{
    attach_detach::{AttachedVolumes, Attacher},
    cronjob::CronJobController,
    daemonset::DaemonSetController,
    deployment::DeploymentController,
    device_taint_eviction::DeviceTaintEvictionController,
    disruption::{DisruptionController, SeveralBudgetsController, StaleDisruptionController},
    endpoints::EndpointsController,
    endpointslice::EndpointSliceController,
    endpointslice_mirroring::EndpointSliceMirroringController,
    ephemeral_volume::EphemeralVolumeController,
    job::{JobController, orphans::JobOrphanController},
    node_ipam::NodeIpamController,
    node_lifecycle::NodeLifecycleController,
    persistent_volume::{ClaimBinder, VolumeBinder},
    podautoscaler::HorizontalController,
    replicaset::ReplicaSetController,
    replicationcontroller::ReplicationControllerController,
    resourceclaim::{ClaimReservationController, ResourceClaimController},
    service_cidr::ServiceCidrController,
    service_lb::ServiceLoadBalancerController,
    statefulset::StatefulSetController,
    ttl_after_finished::TtlAfterFinishedController,
    volume_expand::ExpandController,
};
use crate::runtime::controller::event_source;

#[test]
fn events_name_controllers_as_upstream_does() {
    let all = [
        (event_source::<Attacher>(), "attachdetach-controller"),
        (event_source::<AttachedVolumes>(), "attachdetach-controller"),
        (event_source::<CronJobController>(), "cronjob-controller"),
        (event_source::<DaemonSetController>(), "daemonset-controller"),
        (event_source::<DeploymentController>(), "deployment-controller"),
        (event_source::<DeviceTaintEvictionController>(), "device-taint-eviction-controller"),
        (event_source::<DisruptionController>(), "controllermanager"),
        (event_source::<StaleDisruptionController>(), "controllermanager"),
        (event_source::<SeveralBudgetsController>(), "controllermanager"),
        (event_source::<EndpointsController>(), "endpoint-controller"),
        (event_source::<EndpointSliceController>(), "endpoint-slice-controller"),
        (event_source::<EndpointSliceMirroringController>(), "endpoint-slice-mirroring-controller"),
        (event_source::<EphemeralVolumeController>(), "ephemeral_volume"),
        (event_source::<JobController>(), "job-controller"),
        (event_source::<JobOrphanController>(), "job-controller"),
        (event_source::<NodeIpamController>(), "cidrAllocator"),
        (event_source::<NodeLifecycleController>(), "node-controller"),
        (event_source::<ClaimBinder>(), "persistentvolume-controller"),
        (event_source::<VolumeBinder>(), "persistentvolume-controller"),
        (event_source::<HorizontalController>(), "horizontal-pod-autoscaler"),
        (event_source::<ReplicaSetController>(), "replicaset-controller"),
        (event_source::<ReplicationControllerController>(), "replication-controller"),
        (event_source::<ResourceClaimController>(), "resource_claim"),
        (event_source::<ClaimReservationController>(), "resource_claim"),
        (event_source::<ServiceCidrController>(), "service-cidr-controller"),
        (event_source::<ServiceLoadBalancerController>(), "service-controller"),
        (event_source::<StatefulSetController>(), "statefulset-controller"),
        (event_source::<TtlAfterFinishedController>(), "ttl-after-finished-controller"),
        (event_source::<ExpandController>(), "volume_expand"),
    ];
    for (source, upstream) in all {
        assert_eq!(source, upstream);
    }
}
