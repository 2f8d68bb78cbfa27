//! Records through pulls, restarts and removals.

use jiff::SignedDuration;
use troupe_api::meta::SystemClock;
use troupe_cri::FakeRuntime;

use super::*;
use crate::kubelet::credentials::{Coordinates, Source};

const IMAGE: &str = "registry.example/a:1";

fn records(root: &Path, policy: Policy) -> PullRecords {
    PullRecords::new(root, Verification { policy, own: Vec::new() }, Arc::new(SystemClock))
}

fn secret() -> Credential {
    let coordinates = Coordinates { uid: "u".into(), namespace: "a".into(), name: "s".into() };
    Credential::basic("me", "p", Some(Source::Secret(coordinates)))
}

fn restricted() -> Check {
    Check::Restricted(ImagePullCredentials::of(Some(&secret())))
}

fn files(root: &Path, folder: &str) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(root.join("image_manager").join(folder)).into_iter().flatten();
    entries.map(|entry| entry.expect("an entry").path()).collect()
}

#[tokio::test]
async fn what_was_pulled_asks_for_what_it_was_pulled_with_and_what_was_there_before_does_not() {
    let place = tempfile::tempdir().expect("a directory");
    let known = records(place.path(), Policy::default());
    assert_eq!(known.check(IMAGE, "sha256:1").await, Check::Allowed, "it is preloaded");
    let intent = known.begin(IMAGE, None).await.expect("notes");
    assert_eq!(known.check(IMAGE, "sha256:1").await, Check::Refused, "nobody knows yet who may use it");
    intent.pulled("sha256:1", Some(&secret())).await;
    assert_eq!(known.check(IMAGE, "sha256:1").await, restricted());
    assert_eq!(known.check("registry.example/other", "sha256:1").await, Check::Refused, "it was not pulled under this name");
    assert_eq!(known.check(IMAGE, "sha256:2").await, Check::Allowed);
    assert_eq!(files(place.path(), "pulling"), Vec::<std::path::PathBuf>::new());
    let again = records(place.path(), Policy::default());
    assert_eq!(again.check(IMAGE, "sha256:1").await, restricted(), "a restart forgets nothing");
    assert_eq!(records(place.path(), Policy::NeverVerify).check("registry.example/other", "sha256:1").await, Check::Allowed);
    assert_eq!(records(place.path(), Policy::AlwaysVerify).check(IMAGE, "sha256:2").await, Check::Refused);
    again.begin(IMAGE, Some("sha256:1")).await.expect("notes").pulled("sha256:1", None).await;
    assert_eq!(again.check(IMAGE, "sha256:1").await, Check::Allowed, "anybody could pull it");
}

#[tokio::test]
async fn a_pull_that_fails_leaves_nothing_and_one_that_is_broken_off_leaves_a_doubt() {
    let place = tempfile::tempdir().expect("a directory");
    let known = records(place.path(), Policy::default());
    let (first, second) = (known.begin(IMAGE, Some("sha256:1")).await.expect("notes"), known.begin(IMAGE, Some("sha256:1")).await.expect("notes"));
    first.failed().await;
    assert_eq!(files(place.path(), "pulling").len(), 1, "the other is under way");
    assert_eq!(known.check(IMAGE, "sha256:1").await, Check::Allowed, "it was there before");
    second.failed().await;
    assert_eq!(files(place.path(), "pulling").len(), 0);
    drop(known.begin(IMAGE, Some("sha256:1")).await.expect("notes"));
    assert_eq!(known.check(IMAGE, "sha256:1").await, Check::Allowed);
    assert_eq!(known.check(IMAGE, "sha256:2").await, Check::Refused, "the runtime may have brought it");
    known.begin(IMAGE, Some("sha256:2")).await.expect("notes").failed().await;
    assert_eq!(known.check(IMAGE, "sha256:2").await, Check::Refused, "somebody else's failure tells nothing of it");
    known.begin(IMAGE, Some("sha256:2")).await.expect("notes").pulled("sha256:2", Some(&secret())).await;
    assert_eq!((known.check(IMAGE, "sha256:2").await, files(place.path(), "pulling").len()), (restricted(), 0));
}

#[tokio::test]
async fn pulls_under_way_at_the_end_of_a_process_are_taken_in_by_the_next() {
    let place = tempfile::tempdir().expect("a directory");
    let known = records(place.path(), Policy::default());
    drop(known.begin("web", None).await.expect("notes"));
    drop(known.begin("gone", None).await.expect("notes"));
    let runtime = FakeRuntime::with_images(&["web:latest"]);
    let id = runtime.image_status("web:latest").await.expect("answers").expect("is there").id;
    let next = records(place.path(), Policy::default());
    next.recover(&runtime).await;
    assert_eq!(next.check("web", &id).await, Check::Refused);
    assert_eq!((files(place.path(), "pulling").len(), files(place.path(), "pulled").len()), (1, 1), "one may come yet");
    let readable = records(place.path(), Policy::NeverVerify);
    assert_eq!(readable.check("web", &id).await, Check::Allowed);
}

#[tokio::test]
async fn records_go_with_their_images_and_unreadable_ones_are_written_anew() {
    let place = tempfile::tempdir().expect("a directory");
    let known = records(place.path(), Policy::default());
    let pull = async |image_ref: &str| known.begin(IMAGE, None).await.expect("notes").pulled(image_ref, Some(&secret())).await;
    pull("sha256:1").await;
    let (before, later) = (Timestamp::now() - SignedDuration::from_secs(60), Timestamp::now() + SignedDuration::from_secs(60));
    known.prune(Vec::new(), before).await;
    known.forget("sha256:1", before).await;
    assert_eq!(files(place.path(), "pulled").len(), 1, "it was pulled since");
    known.prune(vec!["sha256:1".into()], later).await;
    assert_eq!(files(place.path(), "pulled").len(), 1, "its image is there");
    known.prune(vec!["sha256:2".into()], later).await;
    assert_eq!(known.check(IMAGE, "sha256:1").await, Check::Allowed, "its image went");
    pull("sha256:1").await;
    let file = files(place.path(), "pulled").remove(0);
    std::fs::write(&file, "{").expect("writes");
    assert_eq!(known.check(IMAGE, "sha256:1").await, Check::Refused, "it is to be pulled");
    pull("sha256:1").await;
    assert_eq!(known.check(IMAGE, "sha256:1").await, restricted());
    std::fs::write(&file, "{").expect("writes");
    known.prune(Vec::new(), before).await;
    assert_eq!(files(place.path(), "pulled").len(), 0, "one that cannot be read goes with its image, too");
    pull("sha256:1").await;
    known.forget("sha256:1", later).await;
    assert_eq!(files(place.path(), "pulled").len(), 0);
}

async fn looked(known: &PullRecords, image_ref: &str) -> Option<Checked> {
    known.look(IMAGE, image_ref).await.1
}

#[tokio::test]
async fn what_looking_came_to_is_told_as_upstream_counts_it() {
    let place = tempfile::tempdir().expect("a directory");
    let known = records(place.path(), Policy::default());
    assert_eq!(looked(&known, "sha256:1").await, Some(Checked::Policy), "it is preloaded");
    let intent = known.begin(IMAGE, None).await.expect("notes");
    assert_eq!(looked(&known, "sha256:1").await, Some(Checked::Unknown));
    intent.pulled("sha256:1", Some(&secret())).await;
    assert_eq!(looked(&known, "sha256:1").await, None, "it depends on what the pod has");
    known.begin(IMAGE, None).await.expect("notes").pulled("sha256:2", None).await;
    assert_eq!(looked(&known, "sha256:2").await, Some(Checked::Record));
    assert_eq!(looked(&records(place.path(), Policy::NeverVerify), "sha256:1").await, Some(Checked::Policy));
    assert_eq!(known.with(|state| state.files.kept()).await, (0, 2));
    for file in files(place.path(), "pulled") {
        std::fs::write(file, "{").expect("writes");
    }
    assert_eq!(looked(&known, "sha256:1").await, Some(Checked::Failed));
}
