//! Controllers by upstream's names: which of them run (`--controllers`), and how many objects each works on at once.

use anyhow::{Result, bail, ensure};

use super::ControllerSettings;

const ALL: &str = "*";
const LIFECYCLE: &str = "node-lifecycle-controller";
const EVICTION: &str = "taint-eviction-controller";

/// When a controller runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// Unless it is left out.
    Usual,
    /// Where nothing is said, and where it is named.
    Named,
    /// Never: there is none here.
    Missing,
}

use Standing::{Missing, Named, Usual};

/// Every controller, with its older names.
const KNOWN: [(&str, &[&str], Standing); 58] = [
    ("bootstrap-signer-controller", &["bootstrapsigner"], Named),
    ("certificatesigningrequest-approving-controller", &["csrapproving"], Usual),
    ("certificatesigningrequest-cleaner-controller", &["csrcleaner"], Usual),
    ("certificatesigningrequest-signing-controller", &["csrsigning"], Usual),
    ("cloud-node-lifecycle-controller", &["cloud-node-lifecycle"], Missing),
    ("clusterrole-aggregation-controller", &["clusterrole-aggregation"], Usual),
    ("cronjob-controller", &["cronjob"], Usual),
    ("daemonset-controller", &["daemonset"], Usual),
    ("deployment-controller", &["deployment"], Usual),
    ("device-taint-eviction-controller", &[], Usual),
    ("disruption-controller", &["disruption"], Usual),
    ("endpoints-controller", &["endpoint"], Usual),
    ("endpointslice-controller", &["endpointslice"], Usual),
    ("endpointslice-mirroring-controller", &["endpointslicemirroring"], Usual),
    ("ephemeral-volume-controller", &["ephemeral-volume"], Usual),
    ("garbage-collector-controller", &["garbagecollector"], Usual),
    ("horizontal-pod-autoscaler-controller", &["horizontalpodautoscaling"], Usual),
    ("job-controller", &["job"], Usual),
    ("kube-apiserver-serving-clustertrustbundle-publisher-controller", &[], Usual),
    ("legacy-serviceaccount-token-cleaner-controller", &["legacy-service-account-token-cleaner"], Usual),
    ("namespace-controller", &["namespace"], Usual),
    ("node-ipam-controller", &["nodeipam"], Usual),
    (LIFECYCLE, &["nodelifecycle"], Usual),
    ("node-route-controller", &["route"], Missing),
    ("persistentvolume-attach-detach-controller", &["attachdetach"], Usual),
    ("persistentvolume-binder-controller", &["persistentvolume-binder"], Usual),
    ("persistentvolume-expander-controller", &["persistentvolume-expander"], Usual),
    ("persistentvolume-protection-controller", &["pv-protection"], Usual),
    ("persistentvolumeclaim-protection-controller", &["pvc-protection"], Usual),
    ("pod-garbage-collector-controller", &["podgc"], Usual),
    ("podcertificaterequest-cleaner-controller", &[], Usual),
    ("podgroup-protection-controller", &[], Usual),
    ("replicaset-controller", &["replicaset"], Usual),
    ("replicationcontroller-controller", &["replicationcontroller"], Usual),
    ("resourceclaim-controller", &["resource-claim-controller"], Usual),
    ("resourcepoolstatusrequest-controller", &[], Usual),
    ("resourcequota-controller", &["resourcequota"], Usual),
    ("root-ca-certificate-publisher-controller", &["root-ca-cert-publisher"], Usual),
    ("selinux-warning-controller", &[], Missing),
    ("service-ca-certificate-publisher-controller", &["service-ca-cert-publisher"], Missing),
    ("service-cidr-controller", &[], Usual),
    ("service-lb-controller", &["service"], Usual),
    ("serviceaccount-controller", &["serviceaccount"], Usual),
    ("serviceaccount-token-controller", &["serviceaccount-token"], Usual),
    ("statefulset-controller", &["statefulset"], Usual),
    ("storage-version-migrator-controller", &["svm"], Usual),
    ("storageversion-garbage-collector-controller", &["storage-version-gc"], Missing),
    (EVICTION, &[], Usual),
    ("token-cleaner-controller", &["tokencleaner"], Named),
    ("ttl-after-finished-controller", &["ttl-after-finished"], Usual),
    ("ttl-controller", &["ttl"], Usual),
    ("validatingadmissionpolicy-status-controller", &[], Usual),
    ("volumeattributesclass-protection-controller", &[], Usual),
    // What upstream leaves to others.
    ("cloud-node-controller", &["cloud-node"], Missing),
    ("kubelet-serving-approver-controller", &[], Usual),
    ("local-path-provisioner-controller", &[], Usual),
    ("networkpolicy-controller", &[], Usual),
    ("clusternetworkpolicy-status-controller", &[], Usual),
];

/// A controller by one of its names.
fn known(name: &str) -> Option<(&'static str, Standing)> {
    KNOWN.iter().find(|(own, older, _)| *own == name || older.contains(&name)).map(|(own, _, standing)| (*own, *standing))
}

/// Refuses names that no controller has, or only one that there is not.
///
/// # Errors
/// See above, and where nobody would see to the taints of lost nodes although somebody should.
pub fn check(given: &[String]) -> Result<()> {
    for entry in given.iter().filter(|entry| *entry != ALL) {
        let name = entry.strip_prefix('-').unwrap_or(entry);
        match known(name) {
            None => bail!("--controllers: {name:?} is not in the list of known controllers"),
            Some((own, Missing)) if !entry.starts_with('-') => bail!("--controllers: there is no {own} here: leave it out"),
            Some(_) => {}
        }
    }
    ensure!(
        runs(given, LIFECYCLE) || !runs(given, EVICTION),
        "--controllers: {EVICTION} works as a part of {LIFECYCLE} here: leave both out, or none"
    );
    Ok(())
}

/// Whether a controller runs, as upstream decides it: what names it counts, and the first that does, then `*`.
fn runs(given: &[String], controller: &str) -> bool {
    let named = given.iter().find_map(|entry| {
        let (name, wanted) = entry.strip_prefix('-').map_or((entry.as_str(), true), |name| (name, false));
        known(name).filter(|(own, _)| *own == controller).map(|_| wanted)
    });
    let usual = || given.iter().any(|entry| entry == ALL) && known(controller).is_some_and(|(_, standing)| standing == Usual);
    named.unwrap_or_else(usual)
}

impl ControllerSettings {
    /// Whether a controller runs, by upstream's name of it.
    pub fn runs(&self, controller: &str) -> bool {
        self.controllers.as_deref().is_none_or(|given| runs(given, controller))
    }

    /// Whether pods leave nodes by taints.
    pub fn evicts(&self) -> bool {
        self.runs(EVICTION)
    }

    /// How many objects a controller works on at once, where that is said.
    pub fn concurrency(&self, controller: &str) -> Option<usize> {
        let said = match controller {
            "deployment-controller" => self.concurrent_deployment_syncs,
            "replicaset-controller" => self.concurrent_replicaset_syncs,
            "replicationcontroller-controller" => self.concurrent_rc_syncs,
            "statefulset-controller" => self.concurrent_statefulset_syncs,
            "daemonset-controller" => self.concurrent_daemonset_syncs,
            "job-controller" => self.concurrent_job_syncs,
            "cronjob-controller" => self.concurrent_cron_job_syncs,
            "ttl-after-finished-controller" => self.concurrent_ttl_after_finished_syncs,
            "endpoints-controller" => self.concurrent_endpoint_syncs,
            "endpointslice-controller" => self.concurrent_service_endpoint_syncs,
            "endpointslice-mirroring-controller" => self.mirroring_concurrent_service_endpoint_syncs,
            "service-lb-controller" => self.concurrent_service_syncs,
            "namespace-controller" => self.concurrent_namespace_syncs,
            "resourcequota-controller" => self.concurrent_resource_quota_syncs,
            "serviceaccount-token-controller" => self.concurrent_serviceaccount_token_syncs,
            "horizontal-pod-autoscaler-controller" => self.concurrent_horizontal_pod_autoscaler_syncs,
            "ephemeral-volume-controller" => self.concurrent_ephemeralvolume_syncs,
            "resourceclaim-controller" => self.concurrent_resourceclaim_syncs,
            "device-taint-eviction-controller" => self.concurrent_device_taint_eviction_syncs,
            "validatingadmissionpolicy-status-controller" => self.concurrent_validating_admission_policy_status_syncs,
            "garbage-collector-controller" => self.concurrent_gc_syncs,
            _ => None,
        };
        said.and_then(|count| usize::try_from(count).ok())
    }
}

/// Whether this is the name of a controller, for whoever starts it.
pub fn is_known(controller: &str) -> bool {
    KNOWN.iter().any(|(own, ..)| *own == controller)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All that run where nothing is said.
    fn usual() -> Vec<&'static str> {
        KNOWN.iter().filter(|(_, _, standing)| *standing != Missing).map(|(own, ..)| *own).collect()
    }

    fn said(given: &[&str]) -> ControllerSettings {
        ControllerSettings { controllers: Some(given.iter().map(|entry| (*entry).to_owned()).collect()), ..ControllerSettings::default() }
    }

    fn refused(given: &[&str]) -> String {
        check(&said(given).controllers.expect("said")).map_or_else(|error| error.to_string(), |()| String::new())
    }

    #[test]
    fn controllers_run_as_upstream_decides() {
        let all = ControllerSettings::default();
        assert!(usual().into_iter().all(|controller| all.runs(controller)), "where nothing is said");
        let kubeadm = said(&["*", "bootstrapsigner", "tokencleaner"]);
        assert!(usual().into_iter().all(|controller| kubeadm.runs(controller)));
        let some = said(&["*", "-job", "-cronjob-controller"]);
        assert!(!some.runs("job-controller") && !some.runs("cronjob-controller") && some.runs("deployment-controller"));
        assert!(!some.runs("bootstrap-signer-controller"), "it has to be named");
        let few = said(&["deployment", "replicaset-controller", "-replicaset"]);
        assert!(few.runs("deployment-controller") && few.runs("replicaset-controller"), "the first entry that names it counts");
        assert!(!few.runs("job-controller") && !few.evicts());
    }

    #[test]
    fn names_that_nobody_has_are_refused() {
        assert_eq!(refused(&["*", "-nope"]), "--controllers: \"nope\" is not in the list of known controllers");
        assert_eq!(refused(&["*", "selinux-warning-controller"]), "--controllers: there is no selinux-warning-controller here: leave it out");
        assert_eq!(refused(&["*", "-selinux-warning-controller", "-cloud-node-lifecycle"]), "");
        assert!(refused(&["*", "-node-lifecycle-controller"]).ends_with("leave both out, or none"));
        assert_eq!(refused(&["*", "-nodelifecycle", "-taint-eviction-controller"]), "");
    }

    #[test]
    fn no_name_stands_for_two_controllers() {
        let mut names: Vec<&str> = KNOWN.iter().flat_map(|(own, older, _)| older.iter().copied().chain([*own])).collect();
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
    }

    #[test]
    fn each_controller_works_on_as_many_objects_as_is_said() {
        let given = ControllerSettings { concurrent_rc_syncs: Some(9), ..ControllerSettings::default() };
        assert_eq!((given.concurrency("replicationcontroller-controller"), given.concurrency("job-controller")), (Some(9), None));
    }
}
