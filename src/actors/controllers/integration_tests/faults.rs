use std::time::{Duration, Instant};

use serde_json::json;

use super::{World, eventually};

#[actix::test]
async fn a_killed_controller_is_back_at_once() {
    let world = World::new().await;
    world.node("n1", 64).await;
    world.play_kubelets();
    world.deployment("web", 1, "a:1").await;
    world.rolled_out("web", 1).await;
    assert!(world.system.directory().poison("controllers/deployment"));
    let begun = Instant::now();
    let restarts = || world.system.directory().snapshot().iter().find(|actor| &*actor.path == "controllers/deployment").map(|actor| actor.restarts);
    world.patch_deployment("web", json!({"spec": {"replicas": 3}})).await;
    eventually("it is back", || restarts() == Some(1)).await;
    // Within a second, where nothing else runs.
    assert!(begun.elapsed() < Duration::from_secs(8), "it took {:?}", begun.elapsed());
    world.rolled_out("web", 3).await;
    assert_eq!(restarts(), Some(1));
    assert!(world.system.directory().kill("controllers/deployment"));
    eventually("it started again", || restarts() == Some(2)).await;
    world.patch_deployment("web", json!({"spec": {"replicas": 2}})).await;
    world.rolled_out("web", 2).await;
}

#[actix::test]
async fn killing_every_unit_in_turn_loses_no_work() {
    let world = World::new().await;
    world.node("n1", 64).await;
    world.play_kubelets();
    world.deployment("web", 1, "a:1").await;
    world.rolled_out("web", 1).await;
    for (step, actor) in world.system.directory().snapshot().into_iter().enumerate() {
        world.system.directory().kill(&actor.path);
        let replicas = i32::try_from(step % 3).expect("small") + 2;
        world.patch_deployment("web", json!({"spec": {"replicas": replicas}})).await;
        world.rolled_out("web", replicas).await;
    }
    world.settles().await;
}
