//! `kubectl logs`.

use std::time::{Duration, Instant};

use super::world::World;

async fn eventually(world: &World, arguments: &[&str], wanted: &str) {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let said = world.says(arguments).await;
        if said == wanted {
            return;
        }
        assert!(Instant::now() < deadline, "kubectl {arguments:?} says {said:?}, not {wanted:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[actix::test]
async fn kubectl_reads_and_follows_logs() {
    let world = World::start().await;
    world.pod("talk", &[("a", "echo one; echo two; sleep 1; echo oops >&2; sleep 1000"), ("b", "sleep 1; seq 1 3; sleep 1; echo end")]).await;
    eventually(&world, &["logs", "talk", "-c", "a"], "one\ntwo\noops\n").await;
    assert_eq!(world.says(&["logs", "talk", "-c", "a", "--tail=1"]).await, "oops\n");
    assert_eq!(world.says(&["logs", "talk", "-c", "a", "--limit-bytes=5"]).await, "one\nt");
    let stamped = world.says(&["logs", "talk", "-c", "a", "--timestamps"]).await;
    assert!(stamped.lines().all(|line| line.as_bytes()[29] == b'Z' && line.as_bytes()[30] == b' '), "{stamped}");
    assert_eq!(world.says(&["logs", "talk", "-c", "b", "-f"]).await, "1\n2\n3\nend\n", "it follows to the end");
    let ambiguous = world.says(&["get", "--raw", "/api/v1/namespaces/default/pods/talk/log"]).await;
    assert!(ambiguous.contains("a container name must be specified for pod talk, choose one of: [a b]"), "{ambiguous}");
    let none = world.says(&["logs", "talk", "-c", "a", "--previous"]).await;
    assert_eq!(none, "Error from server (BadRequest): previous terminated container \"a\" in pod \"talk\" not found\n");
    let unknown = world.says(&["logs", "talk", "-c", "x"]).await;
    assert!(unknown.contains("container x is not valid for pod talk"), "{unknown}");
    let missing = world.says(&["logs", "nobody"]).await;
    assert_eq!(missing, "error: error from server (NotFound): pods \"nobody\" not found in namespace \"default\"\n");
    world.stop().await;
}
