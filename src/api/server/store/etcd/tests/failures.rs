//! Members that die, stall and come back, compaction under a watch, and a full cluster.

use std::sync::atomic::{AtomicBool, Ordering};

use nix::sys::signal::Signal;
use tokio::sync::mpsc;
use troupe_api::meta::Revision;

use super::*;
use crate::store::{StoreError, StoreEvent, WatchMessage};

/// Follows everything from revision 2 on, resuming as a consumer does, until told the last revision; returns the events.
async fn follow(store: Arc<EtcdStore>, mut last: mpsc::Receiver<Revision>) -> Vec<StoreEvent> {
    let (mut seen, mut end, mut events) = (Revision(1), None, Vec::new());
    let mut watch = store.watch("/registry/".into(), Revision(2)).await.expect("watches");
    while end.is_none_or(|end| seen < end) {
        let message = tokio::select! {
            message = watch.recv() => message,
            told = last.recv(), if end.is_none() => {
                end = told;
                continue;
            }
            () = tokio::time::sleep(Duration::from_secs(30)) => panic!("nothing comes behind {seen}"),
        };
        match message {
            Some(WatchMessage::Events(more)) => {
                seen = more.last().map_or(seen, StoreEvent::revision);
                events.extend(more);
            }
            Some(WatchMessage::Progress(revision)) => seen = seen.max(revision),
            Some(WatchMessage::Ended { compacted: None }) | None => {
                watch = store.watch("/registry/".into(), seen.next()).await.expect("watches");
            }
            Some(WatchMessage::Ended { compacted }) => panic!("compacted {compacted:?}"),
        }
    }
    events
}

/// Updates one key until told to stop; returns the revisions that were acknowledged. An unclear write is read again first.
async fn write(store: Arc<EtcdStore>, writer: usize, stop: Arc<AtomicBool>) -> Vec<Revision> {
    let key = bytes::Bytes::from(format!("/registry/w/{writer}"));
    let (mut acknowledged, mut expected, mut n) = (Vec::new(), None, 0_u64);
    while !stop.load(Ordering::SeqCst) {
        n += 1;
        let written = match expected {
            None => store.create(key.clone(), n.to_string().into(), None).await,
            Some(expected) => store.update(key.clone(), n.to_string().into(), expected, None).await,
        };
        match written {
            Ok(revision) => {
                acknowledged.push(revision);
                expected = Some(revision);
            }
            Err(StoreError::Conflict { current }) => expected = current.map(|kv| kv.mod_revision),
            Err(StoreError::Unknown(_) | StoreError::Unavailable(_)) => {
                if let Ok((held, _)) = store.get(&key, None).await {
                    expected = held.map(|kv| kv.mod_revision);
                }
            }
            Err(other) => panic!("{other}"),
        }
    }
    acknowledged
}

/// Runs writers and a watch while `disturb` does its worst, then checks that nothing acknowledged is missing from the
/// watch, and that the watch is in order and without repeats.
async fn survive(store: Arc<EtcdStore>, disturb: impl AsyncFnOnce()) {
    let stop = Arc::new(AtomicBool::new(false));
    let (tell, told) = mpsc::channel(1);
    let follower = tokio::spawn(follow(store.clone(), told));
    let writers: Vec<_> = (0..8).map(|n| tokio::spawn(write(store.clone(), n, stop.clone()))).collect();
    disturb().await;
    stop.store(true, Ordering::SeqCst);
    let mut acknowledged = Vec::new();
    for writer in writers {
        acknowledged.extend(writer.await.expect("no panic"));
    }
    assert!(acknowledged.len() > 100, "hardly anything was written: {}", acknowledged.len());
    let mut end = None;
    until("the store answers again", async || {
        end = store.current_revision().await.ok();
        end.is_some()
    })
    .await;
    tell.send(end.expect("seen above")).await.expect("the follower listens");
    let events = follower.await.expect("no panic");
    assert!(events.windows(2).all(|pair| pair[0].revision() < pair[1].revision()), "in order, each once");
    for revision in &acknowledged {
        assert!(events.binary_search_by_key(revision, StoreEvent::revision).is_ok(), "{revision} was acknowledged and is missing");
    }
    let mut held = std::collections::HashMap::new();
    for event in &events {
        let StoreEvent::Put { kv, previous } = event else { panic!("nobody deletes") };
        assert_eq!(previous.as_ref(), held.get(&kv.key), "what was replaced is what was there");
        held.insert(kv.key.clone(), kv.clone());
    }
}

/// Lets the writers get somewhere: until `more` revisions have come.
async fn progress(store: &EtcdStore, more: u64) {
    let mut goal = None;
    until("writes go on", async || match (store.current_revision().await, goal) {
        (Ok(now), None) => {
            goal = Some(now.0 + more);
            false
        }
        (Ok(now), Some(goal)) => now.0 >= goal,
        (Err(_), _) => false,
    })
    .await;
}

async fn leader(cluster: &EtcdCluster) -> usize {
    let mut found = None;
    until("a leader", async || {
        found = cluster.leader().await;
        found.is_some()
    })
    .await;
    found.expect("seen above")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killing_leaders_loses_no_acknowledged_write_and_no_event() {
    let (_dir, mut cluster, store) = cluster(3).await;
    survive(store.clone(), async || {
        for _ in 0..3 {
            progress(&store, 200).await;
            let victim = leader(&cluster).await;
            cluster.kill(victim);
            progress(&store, 200).await;
            cluster.restart(victim);
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_single_member_may_restart_under_writes() {
    let (_dir, mut cluster, store) = cluster(1).await;
    survive(store.clone(), async || {
        for _ in 0..3 {
            progress(&store, 100).await;
            cluster.restart(0);
        }
        progress(&store, 100).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stalled_member_is_left_and_stalls_nobody_for_long() {
    let (_dir, cluster, store) = cluster(3).await;
    survive(store.clone(), async || {
        for victim in 0..3 {
            progress(&store, 100).await;
            cluster.signal(victim, Signal::SIGSTOP);
            let since = tokio::time::Instant::now();
            progress(&store, 200).await;
            assert!(since.elapsed() < Duration::from_secs(30), "stalled for {:?}", since.elapsed());
            cluster.signal(victim, Signal::SIGCONT);
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_quorum_the_store_says_so_and_comes_back() {
    let (_dir, mut cluster, store) = cluster(3).await;
    let created = store.create("/registry/a".into(), "1".into(), None).await.expect("creates");
    cluster.kill(0);
    cluster.kill(1);
    assert!(matches!(store.current_revision().await, Err(StoreError::Unavailable(_))));
    let failed = store.update("/registry/a".into(), "2".into(), created, None).await;
    assert!(matches!(failed, Err(StoreError::Unavailable(_) | StoreError::Unknown(_))), "{failed:?}");
    cluster.restart(0);
    until("a quorum", async || store.current_revision().await.is_ok()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_that_compaction_overtakes_ends() {
    let (_dir, mut cluster, store) = cluster(1).await;
    let first = store.create("/registry/a".into(), "1".into(), None).await.expect("creates");
    let mut watch = store.watch("/registry/".into(), first).await.expect("watches");
    suite::take_events(&mut watch, 1).await;
    cluster.kill(0);
    cluster.restart(0);
    let mut expected = first;
    // Before the watch has connected again, what it wants next is gone.
    let bare = cluster.connect().await;
    for _ in 0..3 {
        expected = bare.update("/registry/a".into(), "2".into(), expected, None).await.expect("updates");
    }
    bare.compact(expected).await.expect("compacts");
    let mut seen = first;
    loop {
        match tokio::time::timeout(Duration::from_secs(30), watch.recv()).await.expect("in time") {
            Some(WatchMessage::Events(events)) => {
                for event in events {
                    assert_eq!(event.revision(), seen.next(), "no gap");
                    seen = event.revision();
                }
                // It was quick enough to see everything.
                if seen == expected {
                    break;
                }
            }
            Some(WatchMessage::Ended { compacted }) => {
                assert_eq!(compacted, Some(expected));
                break;
            }
            Some(WatchMessage::Progress(_)) => {}
            None => panic!("ended without a word"),
        }
    }
    let mut late = store.watch("/registry/".into(), expected).await.expect("watches");
    let ended = tokio::time::timeout(Duration::from_secs(10), late.recv()).await.expect("in time");
    assert_eq!(ended, Some(WatchMessage::Ended { compacted: Some(expected) }));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_cluster_takes_deletions_only() {
    let dir = tempfile::tempdir().expect("a directory");
    let extra = vec!["--quota-backend-bytes".to_owned(), (2 << 20).to_string()];
    let cluster = EtcdCluster::start_with(dir.path(), ClusterOptions { extra, ..ClusterOptions::default() });
    let store = cluster.connect().await;
    let value = bytes::Bytes::from(vec![b'x'; 200_000]);
    let created = store.create("/registry/first".into(), value.clone(), None).await.expect("creates");
    let mut n = 0;
    let full = loop {
        n += 1;
        assert!(n < 100, "never full");
        if let Err(error) = store.create(format!("/registry/{n}").into(), value.clone(), None).await {
            break error;
        }
    };
    assert!(matches!(full, StoreError::NoSpace), "{full}");
    assert!(matches!(store.update("/registry/first".into(), "2".into(), created, None).await, Err(StoreError::NoSpace)));
    store.delete("/registry/first".into(), created).await.expect("deletes");
}
