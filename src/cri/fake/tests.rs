use super::*;

fn container_config(name: &str) -> proto::ContainerConfig {
    proto::ContainerConfig { metadata: Some(proto::ContainerMetadata { name: name.into(), attempt: 0 }), ..Default::default() }
}

#[tokio::test]
async fn a_container_lives_through_its_states() {
    let fake = FakeRuntime::default();
    let sandbox = fake.run_pod_sandbox(Default::default(), "").await.expect("runs");
    let id = fake.create_container(&sandbox, container_config("c"), Default::default()).await.expect("creates");
    fake.start_container(&id).await.expect("starts");
    assert!(fake.start_container(&id).await.is_err(), "a container starts once");
    fake.exit(&id, 3);
    let status = fake.container_status(&id).await.expect("is there");
    assert_eq!((status.state(), status.exit_code), (ContainerState::ContainerExited, 3));
    fake.remove_pod_sandbox(&sandbox).await.expect("removes");
    assert!(fake.container_status(&id).await.expect_err("is gone").is_not_found());
}

#[tokio::test]
async fn an_injected_failure_hits_one_call() {
    let fake = FakeRuntime::default();
    fake.fail_next("run_pod_sandbox", CriError::Unavailable("away".into()));
    assert!(fake.run_pod_sandbox(Default::default(), "").await.is_err());
    assert!(fake.run_pod_sandbox(Default::default(), "").await.is_ok());
    assert_eq!(fake.calls(), ["run_pod_sandbox", "run_pod_sandbox"]);
}

#[tokio::test]
async fn only_offered_images_can_be_pulled() {
    let fake = FakeRuntime::with_images(&["a"]);
    fake.offer_image("b");
    assert!(fake.image_status("a").await.expect("answers").is_some());
    assert!(fake.pull_image("b", None, Default::default()).await.is_ok());
    assert!(fake.pull_image("c", None, Default::default()).await.is_err());
    fake.offer_private_image("p", "secret");
    let shown = |password: &str| Some(proto::AuthConfig { password: password.into(), ..Default::default() });
    assert!(fake.pull_image("p", None, Default::default()).await.is_err());
    assert!(fake.pull_image("p", shown("guess"), Default::default()).await.is_err());
    let pulled = fake.pull_image("p", shown("secret"), Default::default()).await.expect("pulls");
    assert_eq!(fake.image_status(&pulled).await.expect("answers").map(|image| image.repo_tags), Some(vec!["p".to_owned()]));
}

#[tokio::test]
async fn its_time_is_what_somebody_tells() {
    let fake = FakeRuntime::default();
    fake.follow(|| 7);
    let sandbox = fake.run_pod_sandbox(Default::default(), "").await.expect("runs");
    assert_eq!(fake.pod_sandbox_status(&sandbox).await.expect("is there").created_at, 7);
}
