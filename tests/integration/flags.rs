//! Arguments of upstream's static pods, given to a control plane of ours.

use crate::cluster::{Cluster, eventually, text};

/// As kubeadm and others write them, but for files; what is short here is longer there.
const ARGUMENTS: [&str; 22] = [
    "--components=apiserver,controllers",
    "--allow-privileged=true",
    "--authorization-mode=Node,RBAC",
    "--enable-bootstrap-token-auth=true",
    "--enable-aggregator-routing=true",
    "--kubelet-preferred-address-types=InternalIP,ExternalIP,Hostname",
    "--requestheader-username-headers=X-Remote-User",
    "--storage-backend=etcd3",
    "--secure-port=6443",
    "--profiling=false",
    "--goaway-chance=0.001",
    "--strict-transport-security-directives=max-age=31536000",
    "--service-account-max-token-expiration=2h0m0s",
    "--shutdown-send-retry-after=true",
    "--leader-elect=true",
    "--leader-elect-lease-duration=30s",
    "--use-service-account-credentials=true",
    "--controllers=*,bootstrapsigner,tokencleaner,-job",
    "--concurrent-deployment-syncs=9",
    "--node-eviction-rate=0.2",
    "--horizontal-pod-autoscaler-initial-readiness-delay=20s",
    "--v=2",
];

#[test]
fn arguments_of_upstreams_programs_start_a_control_plane_or_are_refused_by_name() {
    let cluster = Cluster::place();
    let refused = |flag: &str| {
        let output = cluster.troupe_command(&["control-plane", flag]).output().expect("troupe runs");
        assert!(!output.status.success(), "{flag}");
        text(&output.stderr)
    };
    let authority = refused("--client-ca-file=/etc/kubernetes/pki/ca.crt");
    assert!(authority.contains("--client-ca-file has no effect here: ") && authority.contains("--certificates-dir"), "{authority}");
    let profiling = refused("--profiling=true");
    assert!(profiling.contains("--profiling=true cannot be had, only false"), "{profiling}");
    let egress = refused("--egress-selector-config-file=/egress.yaml");
    assert!(egress.contains("there is no egress selector"), "{egress}");

    let _daemon = cluster.daemon("control-plane", &ARGUMENTS);
    eventually("the API server is ready", || cluster.kubectl_output("get --raw /readyz").status.success());
    let runs = |path: &str| cluster.actors().iter().any(|actor| actor["path"] == path);
    eventually("those controllers run that are chosen", || runs("controllers/deployment") && runs("controllers/cronjob"));
    assert!(!runs("controllers/job"), "it is left out");
    let warned = || text(&cluster.kubectl_output("create token default --duration=4h").stderr);
    eventually("a token is shortened", || warned().contains("requested expiration of 14400 seconds shortened to 7200 seconds"));
    let told = cluster.kubectl("get --raw /flagz");
    assert!(told.lines().any(|line| line.starts_with("goaway-chance") && line.ends_with("0.001")), "{told}");
    let lease = cluster.kubectl("-n kube-system get leases kube-controller-manager -o jsonpath={.spec.leaseDurationSeconds}");
    assert_eq!(lease, "30");
}
