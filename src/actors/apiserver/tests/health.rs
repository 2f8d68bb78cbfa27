use troupe_api::http::HealthCheck;

use crate::apiserver::testing::boot;

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
    let checks = api.server.health_checks();
    let of = |ready: bool| -> Vec<HealthCheck> { checks.iter().filter(|check| ready || check.groups.livez).cloned().collect() };
    assert_eq!(checks.iter().map(|check| check.name).collect::<Vec<_>>(), ["etcd", "etcd-readiness", "informer-sync", "shutdown"]);
    assert!(failing(&of(true)).await.is_empty());
    api.server.withdraw("192.0.2.1".parse().expect("an address"), 6443).await.expect("withdraws");
    assert_eq!(failing(&of(true)).await, ["shutdown"]);
    assert!(failing(&of(false)).await.is_empty());
}
