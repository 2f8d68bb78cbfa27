use troupe_api_server::http::{HealthCheck, HealthGroups};

use crate::apiserver::{Bootstrap, testing::boot};

async fn failing(checks: &[HealthCheck]) -> Vec<&'static str> {
    let mut failing = Vec::new();
    for check in checks {
        if (check.check)().await.is_err() {
            failing.push(check.name);
        }
    }
    failing
}

#[actix::test]
async fn a_server_that_leaves_lives_on_but_is_not_ready() {
    let api = boot().await;
    let bootstrap = Bootstrap { advertise: Some(("192.0.2.1".parse().expect("an address"), 6443)), ..Bootstrap::default() };
    api.server.bootstrap(&bootstrap).await.expect("bootstraps");
    let checks = api.server.health_checks();
    let of = |ready: bool| -> Vec<HealthCheck> { checks.iter().filter(|check| ready || check.groups.livez).cloned().collect() };
    let hooks = |check: &&HealthCheck| check.name.starts_with("poststarthook/") || check.name == "autoregister-completion";
    let others: Vec<_> = checks.iter().filter(|check| !hooks(check)).map(|check| check.name).collect();
    assert_eq!(others, ["log", "etcd", "etcd-readiness", "informer-sync", "shutdown"]);
    assert!(checks.iter().filter(hooks).all(|check| check.groups == HealthGroups::ALL));
    assert!(failing(&of(true)).await.is_empty());
    api.server.withdraw("192.0.2.1".parse().expect("an address"), 6443).await.expect("withdraws");
    assert_eq!(failing(&of(true)).await, ["shutdown"]);
    assert!(failing(&of(false)).await.is_empty());
}

/// The checks that upstream's end-to-end test of health handlers asks for, beside `ping`.
const REQUIRED: [&str; 19] = [
    "log",
    "poststarthook/start-apiserver-admission-initializer",
    "poststarthook/generic-apiserver-start-informers",
    "poststarthook/start-apiextensions-informers",
    "poststarthook/start-apiextensions-controllers",
    "poststarthook/crd-informer-synced",
    "poststarthook/bootstrap-controller",
    "poststarthook/start-system-namespaces-controller",
    "poststarthook/start-service-ip-repair-controllers",
    "poststarthook/scheduling/bootstrap-system-priority-classes",
    "poststarthook/start-cluster-authentication-info-controller",
    "poststarthook/start-kube-aggregator-informers",
    "poststarthook/apiservice-registration-controller",
    "poststarthook/apiservice-status-local-available-controller",
    "poststarthook/apiservice-status-remote-available-controller",
    "poststarthook/kube-apiserver-autoregistration",
    "autoregister-completion",
    "poststarthook/apiservice-openapi-controller",
    "poststarthook/storage-readiness",
];

#[actix::test]
async fn hooks_are_done_when_what_they_do_is_there() {
    let api = boot().await;
    let checks = api.server.health_checks();
    for required in REQUIRED {
        assert!(checks.iter().any(|check| check.name == required), "{required}");
    }
    let before = failing(&checks).await;
    assert!(before.contains(&"poststarthook/rbac/bootstrap-roles") && before.contains(&"poststarthook/bootstrap-controller"), "{before:?}");
    assert!(!before.contains(&"poststarthook/crd-informer-synced"), "{before:?}");
    let bootstrap = Bootstrap { advertise: Some(("192.0.2.1".parse().expect("an address"), 6443)), ..Bootstrap::default() };
    api.server.bootstrap(&bootstrap).await.expect("bootstraps");
    assert!(failing(&checks).await.is_empty());
    api.server.system().stop("apiserver/definitions");
    let stopped = async {
        while api.server.system().directory().get("apiserver/definitions").is_some() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(30), stopped).await.expect("it stops");
    assert_eq!(failing(&checks).await, ["poststarthook/start-apiextensions-controllers"]);
}
