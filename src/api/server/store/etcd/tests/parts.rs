//! What the shared suite does not ask: reading etcd by hand, leases, pages, values that are refused, other people's keys.

use troupe_api::meta::Revision;

use super::*;
use crate::store::{RangeRequest, StoreError, StoreEvent, WatchMessage, etcd::ConnectError, prefix_end};

fn under(prefix: &'static str) -> RangeRequest {
    RangeRequest { start: prefix.into(), end: prefix_end(prefix.as_bytes()), limit: 0, at: None }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn etcdctl_shows_what_people_expect() {
    let (_dir, cluster, store) = cluster(1).await;
    store.create("/registry/pods/default/web".into(), r#"{"kind":"Pod"}"#.into(), None).await.expect("creates");
    store.create("/registry/minions/n1".into(), r#"{"kind":"Node"}"#.into(), None).await.expect("creates");
    let shown = cluster.etcdctl(&["get", "--prefix", "/registry"]);
    assert_eq!(shown, "/registry/minions/n1\n{\"kind\":\"Node\"}\n/registry/pods/default/web\n{\"kind\":\"Pod\"}\n");
    let keys = cluster.etcdctl(&["get", "--prefix", "", "--keys-only"]);
    assert_eq!(keys.lines().filter(|line| !line.is_empty()).count(), 2, "nothing else is there: {keys}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thousands_of_expiring_values_share_a_few_leases_and_go_in_whole_revisions() {
    let (_dir, cluster, store) = cluster(1).await;
    let mut watch = store.watch("/registry/".into(), Revision(2)).await.expect("watches");
    let mut writers = tokio::task::JoinSet::new();
    for n in 0..2500 {
        let store = store.clone();
        writers.spawn(async move {
            let key = format!("/registry/events/default/{n}");
            store.create(key.into(), "{}".into(), Some(Duration::from_secs(4))).await.expect("creates");
        });
    }
    let created = tokio::spawn(async move {
        let events = suite::take_events(&mut watch, 2500).await;
        (events.len(), watch)
    });
    writers.join_all().await;
    let leases = cluster.etcdctl(&["lease", "list"]).lines().count() - 1;
    assert!((1..=20).contains(&leases), "{leases} leases");
    let (count, mut watch) = created.await.expect("no panic");
    assert_eq!(count, 2500);
    let mut deleted = 0;
    while deleted < 2500 {
        match tokio::time::timeout(Duration::from_secs(30), watch.recv()).await.expect("in time").expect("open") {
            WatchMessage::Events(events) => {
                assert!(events.iter().all(|event| matches!(event, StoreEvent::Delete { .. })));
                deleted += events.len();
            }
            WatchMessage::Progress(_) => {}
            WatchMessage::Ended { compacted } => panic!("ended {compacted:?}"),
        }
    }
    assert_eq!(store.range(under("/registry/")).await.expect("ranges").count, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revoked_lease_is_replaced() {
    let (_dir, cluster, store) = cluster(1).await;
    let ttl = Some(Duration::from_secs(600));
    store.create("/registry/events/a/1".into(), "{}".into(), ttl).await.expect("creates");
    let listed = cluster.etcdctl(&["lease", "list"]);
    cluster.etcdctl(&["lease", "revoke", listed.lines().nth(1).expect("a lease")]);
    store.create("/registry/events/a/2".into(), "{}".into(), ttl).await.expect("creates");
    assert_eq!(store.range(under("/registry/")).await.expect("ranges").count, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_range_of_several_pages_is_one_revision() {
    let (_dir, _cluster, store) = cluster(1).await;
    let mut writers = tokio::task::JoinSet::new();
    for n in 0..2300 {
        let store = store.clone();
        writers.spawn(async move { store.create(format!("/registry/pods/a/{n:05}").into(), "{}".into(), None).await.expect("creates") });
    }
    writers.join_all().await;
    let all = store.range(under("/registry/pods/")).await.expect("ranges");
    assert_eq!((all.items.len(), all.count, all.more, all.revision), (2300, 2300, false, Revision(2301)));
    assert!(all.items.windows(2).all(|pair| pair[0].key < pair[1].key));
    let some = store.range(RangeRequest { limit: 1500, ..under("/registry/pods/") }).await.expect("ranges");
    assert_eq!((some.items.len(), some.count, some.more), (1500, 2300, true));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_value_that_is_too_large_is_refused() {
    let (_dir, _cluster, store) = cluster(1).await;
    for bytes in [1_700_000, 3 << 20] {
        let huge = vec![b'x'; bytes];
        assert!(matches!(store.create("/registry/a".into(), huge.into(), None).await, Err(StoreError::TooLarge(_))));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_of_other_programs_move_the_watch_on_and_stay_unseen() {
    let (_dir, cluster, store) = cluster(1).await;
    let mut watch = store.watch("/registry/".into(), Revision(2)).await.expect("watches");
    cluster.etcdctl(&["put", "/other", "1"]);
    let told = tokio::time::timeout(Duration::from_secs(10), watch.recv()).await.expect("in time");
    assert_eq!(told, Some(WatchMessage::Progress(Revision(2))));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn data_of_a_newer_format_is_refused() {
    let (_dir, cluster, store) = cluster(1).await;
    drop(store);
    cluster.etcdctl(&["put", "/troupe/format", "2"]);
    let refused = EtcdStore::connect(cluster.options()).await.err().expect("refuses");
    assert!(matches!(&refused, ConnectError::NewerFormat { found } if found == "2"), "{refused}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_changes_come_through_a_watch_whole() {
    let (_dir, _cluster, store) = cluster(1).await;
    let value = bytes::Bytes::from(vec![b'x'; 1 << 20]);
    let mut expected = store.create("/registry/a".into(), value.clone(), None).await.expect("creates");
    for _ in 0..20 {
        expected = store.update("/registry/a".into(), value.clone(), expected, None).await.expect("updates");
    }
    let mut watch = store.watch("/registry/".into(), Revision(2)).await.expect("watches");
    let events = suite::take_events(&mut watch, 21).await;
    assert_eq!(events.iter().map(|event| event.revision().0).collect::<Vec<_>>(), (2..=22).collect::<Vec<_>>());
}
