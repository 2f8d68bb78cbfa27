//! A history of reads and writes through two servers while members of their etcd are killed, and what must hold of it.
//!
//! Every version of an object has a revision, so the order of versions is known, and a history is linearizable if
//! values fit their revisions and no operation that begins after another's end is at an older revision.
//! `TROUPE_HISTORY_SECONDS` makes it last longer than the few seconds of the usual run.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    time::Instant,
};

use super::*;

const KEYS: usize = 3;

/// One answered operation on an object. Unclear writes are in no history; their values may turn up in reads.
#[derive(Clone, Debug)]
struct Operation {
    key: usize,
    write: bool,
    value: String,
    revision: Revision,
    begun: Instant,
    ended: Instant,
}

/// What an observer of the history must find.
fn check(history: &[Operation]) -> Result<(), String> {
    for key in 0..KEYS {
        let mut operations: Vec<_> = history.iter().filter(|operation| operation.key == key).collect();
        let mut values = HashMap::new();
        for operation in &operations {
            let known = values.entry(operation.revision).or_insert(&operation.value);
            if *known != &operation.value {
                return Err(format!("revision {} is both {known} and {}", operation.revision, operation.value));
            }
        }
        // By their begin, each must be as new as everything that had ended then.
        operations.sort_by_key(|operation| operation.begun);
        let mut by_end = operations.clone();
        by_end.sort_by_key(|operation| operation.ended);
        let mut ended = by_end.into_iter().peekable();
        let mut newest: Option<&Operation> = None;
        for operation in operations {
            while let Some(done) = ended.next_if(|done| done.ended < operation.begun) {
                if newest.is_none_or(|newest| done.revision > newest.revision) {
                    newest = Some(done);
                }
            }
            let Some(before) = newest else { continue };
            // A write makes a version of its own; a read may see the same one again.
            let stale = if operation.write { operation.revision <= before.revision } else { operation.revision < before.revision };
            if stale {
                return Err(format!("{operation:?} came after {before:?}"));
            }
        }
    }
    Ok(())
}

/// What the workers share.
struct Run {
    history: RefCell<Vec<Operation>>,
    stop: Cell<bool>,
    values: Cell<u64>,
}

impl Run {
    async fn step(&self, api: &TestApi, key: usize, write: bool) {
        let name = format!("k{key}");
        let begun = Instant::now();
        let result = if write {
            self.values.set(self.values.get() + 1);
            api.try_update(config_map(&name, &self.values.get().to_string())).await
        } else {
            api.get("configmaps", "default", &name).await
        };
        match result {
            Ok(object) => {
                let revision = object.resource_version().parse().expect("a revision");
                let value = object.str(&["data", "v"]).to_owned();
                self.history.borrow_mut().push(Operation { key, write, value, revision, begun, ended: Instant::now() });
            }
            Err(status) => {
                assert!([409, 429, 503, 504].contains(&status.code), "{status}");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    }

    async fn work(self: Rc<Self>, api: Rc<TestApi>, worker: usize) {
        let mut n = worker;
        while !self.stop.get() {
            n += 1;
            self.step(&api, n % KEYS, n.is_multiple_of(3)).await;
        }
    }
}

/// Follows a server's watch as clients do, up to a revision once that is told; returns revisions and values.
async fn follow(api: Rc<TestApi>, from: Revision, end: Rc<Cell<Option<Revision>>>) -> Vec<(Revision, String)> {
    let (mut seen, mut events) = (from, Vec::new());
    let mut quiet = 0;
    while end.get().is_none_or(|end| seen < end) {
        assert!(quiet < 300, "nothing comes behind {seen}");
        let options = WatchOptions { resource_version: Some(seen), ..WatchOptions::default() };
        let Ok(mut watch) = api.try_watch("configmaps", "default", options).await else {
            quiet += 1;
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        while end.get().is_none_or(|end| seen < end) {
            match tokio::time::timeout(Duration::from_millis(100), watch.next()).await {
                Err(_) if end.get().is_some() => {
                    quiet += 1;
                    assert!(quiet < 300, "nothing comes behind {seen}");
                }
                Err(_) | Ok(Some(WatchItem::Bookmark { .. })) => {}
                Ok(Some(WatchItem::Event { object, .. })) => {
                    assert!(object.revision > seen, "{} comes behind {seen}", object.revision);
                    seen = object.revision;
                    events.push((seen, object.to_object().str(&["data", "v"]).to_owned()));
                }
                Ok(Some(WatchItem::End(status))) => panic!("the watch ended behind {seen}: {status}"),
                Ok(None) => break,
            }
        }
    }
    events
}

/// Kills one member after the other and starts it again.
async fn kill_members(cluster: &mut EtcdCluster, until: Instant) {
    let mut victim = 0;
    while Instant::now() < until {
        tokio::time::sleep(Duration::from_millis(1500)).await;
        cluster.kill(victim);
        tokio::time::sleep(Duration::from_millis(1000)).await;
        cluster.restart(victim);
        victim = (victim + 1) % cluster.size();
    }
}

#[actix::test]
async fn histories_are_linearizable_and_watches_complete_while_etcd_members_die() {
    let seconds = std::env::var("TROUPE_HISTORY_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(10);
    let Replicas { mut cluster, apis, _dir } = replicas(3).await;
    let mut from = Revision::ZERO;
    for key in 0..KEYS {
        from = apis[0].create(config_map(&format!("k{key}"), "0")).await.resource_version().parse().expect("a revision");
    }
    let run = Rc::new(Run { history: RefCell::default(), stop: Cell::new(false), values: Cell::new(0) });
    let end = Rc::new(Cell::new(None));
    let watches: Vec<_> = apis.iter().map(|api| actix_rt::spawn(follow(api.clone(), from, end.clone()))).collect();
    let workers: Vec<_> = (0..8).map(|n| actix_rt::spawn(run.clone().work(apis[n % 2].clone(), n))).collect();
    let has_enough = || {
        let history = run.history.borrow();
        let writes = history.iter().filter(|operation| operation.write).count();
        writes > 50 && history.len() - writes > 50
    };
    let latest = Instant::now() + Duration::from_secs(seconds + 60);
    kill_members(&mut cluster, Instant::now() + Duration::from_secs(seconds)).await;
    // A slow disk takes few writes.
    while !has_enough() && Instant::now() < latest {
        kill_members(&mut cluster, Instant::now() + Duration::from_secs(5)).await;
    }
    run.stop.set(true);
    join_all(workers).await.into_iter().for_each(|worker| worker.expect("no panic"));
    let history = run.history.take();
    let (writes, reads): (Vec<_>, Vec<_>) = history.iter().partition(|operation| operation.write);
    println!("{} writes and {} reads were answered", writes.len(), reads.len());
    assert!(writes.len() > 50 && reads.len() > 50, "hardly anything was answered");
    check(&history).expect("linearizable");
    end.set(writes.iter().map(|write| write.revision).max());
    for watch in watches {
        let events = watch.await.expect("no panic");
        for write in &writes {
            let found = events.binary_search_by_key(&write.revision, |(revision, _)| *revision);
            assert_eq!(found.ok().map(|at| &events[at].1), Some(&write.value), "{write:?} is missing from the watch");
        }
    }
}

#[test]
fn the_checker_notices_stale_reads_lost_writes_and_exchanged_values() {
    let start = Instant::now();
    let at = |write, revision, value: &str, begun: u64, ended: u64| Operation {
        key: 0,
        write,
        value: value.into(),
        revision: Revision(revision),
        begun: start + Duration::from_millis(begun),
        ended: start + Duration::from_millis(ended),
    };
    let good = [at(true, 2, "a", 0, 10), at(false, 2, "a", 5, 7), at(true, 3, "b", 11, 20), at(false, 2, "a", 12, 13), at(false, 3, "b", 21, 22)];
    check(&good).expect("an overlapping read may see either");
    assert!(check(&[at(true, 3, "b", 0, 10), at(false, 2, "a", 11, 12)]).is_err(), "a stale read");
    assert!(check(&[at(false, 3, "b", 0, 10), at(true, 3, "c", 11, 12)]).is_err(), "a write at a version read before");
    assert!(check(&[at(true, 3, "b", 0, 10), at(false, 3, "c", 11, 12)]).is_err(), "another value");
    assert!(check(&[at(false, 3, "b", 0, 10), at(false, 2, "a", 5, 12), at(false, 2, "a", 13, 14)]).is_err(), "going back");
}
