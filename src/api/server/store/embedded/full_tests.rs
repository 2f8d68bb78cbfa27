//! Full disks: writes are refused in plain words, all else goes on, nothing acknowledged is lost, and freed space is
//! enough to go on. Each test has a small file system of its own, which root may mount.

use std::{
    fs::File,
    path::PathBuf,
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    fcntl::{FallocateFlags, fallocate},
    mount::{MsFlags, mount},
    sched::{CloneFlags, unshare},
    sys::statvfs::statvfs,
};

use super::*;
use crate::store::{StoreEvent, suite};

const MIB: u64 = 1 << 20;

/// A small disk that only one thread, and what it starts, can see.
pub struct SmallDisk {
    dir: tempfile::TempDir,
}

impl SmallDisk {
    /// Runs a test on a disk of so many MiB.
    pub fn with(mib: u64, test: impl FnOnce(&SmallDisk) + Send + 'static) {
        let thread = std::thread::spawn(move || {
            let disk = SmallDisk { dir: tempfile::tempdir().expect("a directory") };
            let none = None::<&str>;
            unshare(CloneFlags::CLONE_NEWNS).expect("root may have mounts of its own");
            mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).expect("mounts stay here");
            let size = format!("size={mib}m");
            mount(Some("small"), disk.dir.path(), Some("tmpfs"), MsFlags::empty(), Some(size.as_str())).expect("mounts");
            test(&disk);
        });
        if let Err(panic) = thread.join() {
            std::panic::resume_unwind(panic);
        }
    }

    /// Where the store lies.
    pub fn store(&self) -> PathBuf {
        self.dir.path().join("store")
    }

    /// Fills the disk but for `left` bytes.
    pub fn fill(&self, left: u64) {
        let filler = File::options().create(true).append(true).open(self.dir.path().join("filler")).expect("creates");
        loop {
            let stat = statvfs(self.dir.path()).expect("asks");
            let excess = (stat.blocks_available() * stat.fragment_size()).saturating_sub(left);
            if excess == 0 {
                return;
            }
            let length = filler.metadata().expect("asks").len();
            match fallocate(&filler, FallocateFlags::empty(), length.cast_signed(), excess.cast_signed()) {
                // Somebody else was faster.
                Ok(()) | Err(Errno::ENOSPC | Errno::EINTR) => {}
                Err(error) => panic!("cannot fill the disk: {error}"),
            }
        }
    }

    /// Removes what [`SmallDisk::fill`] wrote.
    pub fn free(&self) {
        std::fs::remove_file(self.dir.path().join("filler")).expect("removes");
    }
}

fn run<F: Future<Output = ()>>(test: impl FnOnce() -> F) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(test());
}

fn open(disk: &SmallDisk, min_free: u64) -> EmbeddedStore {
    open_with(disk, EmbeddedOptions { min_free, patience: Duration::ZERO, ..EmbeddedOptions::default() })
}

fn open_with(disk: &SmallDisk, options: EmbeddedOptions) -> EmbeddedStore {
    EmbeddedStore::open_with(disk.store(), options).expect("opens")
}

/// Bytes that cannot be compressed.
fn noise() -> Bytes {
    let mut bytes = vec![0; 20_000];
    rand::fill(&mut bytes[..]);
    bytes.into()
}

fn key(n: u64) -> Bytes {
    format!("/registry/full/{n:05}").into()
}

/// Writes until the disk is full; gives what was acknowledged, and the error.
async fn write_until_refused(store: &EmbeddedStore, from: u64) -> (Vec<(Bytes, Revision)>, StoreError) {
    let mut acknowledged = Vec::new();
    for n in from..100_000 {
        match store.create(key(n), noise(), None).await {
            Ok(revision) => acknowledged.push((key(n), revision)),
            Err(error) => return (acknowledged, error),
        }
    }
    panic!("the disk is never full");
}

async fn succeeds_eventually(store: &EmbeddedStore, n: u64) -> Revision {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        match store.create(key(n), "again".into(), None).await {
            Ok(revision) => return revision,
            Err(error) => assert!(matches!(error, StoreError::NoSpace), "{error}"),
        }
        assert!(Instant::now() < deadline, "writes are refused although there is space");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn assert_all_there(store: &EmbeddedStore, acknowledged: &[(Bytes, Revision)]) {
    for (key, revision) in acknowledged {
        let held = store.get(key, None).await.expect("reads").0.expect("what was acknowledged is there");
        assert_eq!(held.mod_revision, *revision);
    }
}

#[test]
fn a_disk_that_fills_up_stops_writes_and_nothing_else() {
    SmallDisk::with(96, |disk| {
        run(|| async {
            let store = open(disk, 0);
            let mut watch = store.watch("/registry/".into(), Revision(2)).await.expect("watches");
            store.create(key(0), "first".into(), None).await.expect("there is space");
            suite::take_events(&mut watch, 1).await;
            disk.fill(3 * MIB);
            let (acknowledged, error) = write_until_refused(&store, 1).await;
            assert!(matches!(error, StoreError::NoSpace), "{error}");
            assert!(acknowledged.len() > 10, "there was some space: {}", acknowledged.len());
            disk.fill(0);
            // More than the last page of a file may have room for.
            assert!(matches!(store.create(key(99_999), noise(), None).await, Err(StoreError::NoSpace)));
            // Reads and watches go on; the revision is that of the last write that happened.
            assert_all_there(&store, &acknowledged).await;
            let last = acknowledged.last().expect("some").1;
            assert_eq!(store.current_revision().await.expect("reads"), last);
            let seen = suite::take_events(&mut watch, acknowledged.len()).await;
            assert_eq!(seen.last().map(StoreEvent::revision), Some(last));
            let mut late = store.watch("/registry/".into(), Revision(2)).await.expect("watches");
            assert_eq!(suite::take_events(&mut late, acknowledged.len() + 1).await.len(), acknowledged.len() + 1);
            // So it is after a restart on the full disk.
            drop(store);
            let store = open(disk, 0);
            disk.fill(0);
            assert_all_there(&store, &acknowledged).await;
            assert!(matches!(store.create(key(99_999), noise(), None).await, Err(StoreError::NoSpace)));
            assert!(matches!(store.delete(key(0), Revision(2)).await, Err(StoreError::NoSpace)), "not even deletions have room");
            let mut watch = store.watch("/registry/".into(), last.next()).await.expect("watches");
            disk.free();
            let again = succeeds_eventually(&store, 99_999).await;
            assert_eq!(again, last.next(), "no revision is skipped, none is given twice");
            assert_eq!(suite::take_events(&mut watch, 1).await[0].revision(), again);
            assert_all_there(&store, &acknowledged).await;
            drop(store);
            assert_all_there(&open(disk, 0), &[(key(99_999), again)]).await;
        });
    });
}

#[test]
fn deletions_go_on_a_while_longer_and_what_expires_meanwhile_is_not_forgotten() {
    SmallDisk::with(96, |disk| {
        run(|| async {
            let store = open(disk, 16 * MIB);
            let held = store.create(key(0), "v".into(), None).await.expect("there is space");
            let other = store.create(key(1), "v".into(), None).await.expect("there is space");
            disk.fill(8 * MIB);
            tokio::time::sleep(Duration::from_millis(150)).await; // longer than the space is believed
            assert!(matches!(store.create(key(2), "v".into(), None).await, Err(StoreError::NoSpace)));
            assert!(matches!(store.update(key(1), "w".into(), other, None).await, Err(StoreError::NoSpace)));
            store.delete(key(0), held).await.expect("deletions have room");
            disk.free();
            tokio::time::sleep(Duration::from_millis(150)).await; // likewise
            store.create(key(3), "v".into(), Some(Duration::from_millis(300))).await.expect("there is space");
            disk.fill(MIB);
            tokio::time::sleep(Duration::from_millis(400)).await; // longer than it lives
            assert!(matches!(store.delete(key(1), other).await, Err(StoreError::NoSpace)));
            disk.free();
            succeeds_eventually(&store, 4).await;
            let deadline = Instant::now() + Duration::from_secs(60);
            while store.get(&key(3), None).await.expect("reads").0.is_some() {
                assert!(Instant::now() < deadline, "never expires");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        });
    });
}

#[test]
fn a_segment_that_finds_no_space_is_begun_when_there_is_some() {
    SmallDisk::with(160, |disk| {
        run(|| async {
            let store = open(disk, 0);
            let mut acknowledged = Vec::new();
            // A segment has 8 MiB, so one begins with hardly any room left.
            for n in 0..380 {
                acknowledged.push((key(n), store.create(key(n), noise(), None).await.expect("there is space")));
            }
            disk.fill(4 * MIB);
            let (more, error) = write_until_refused(&store, 380).await;
            assert!(matches!(error, StoreError::NoSpace), "{error}");
            disk.free();
            acknowledged.extend(more);
            succeeds_eventually(&store, 99_999).await;
            assert_all_there(&store, &acknowledged).await;
            drop(store);
            assert_all_there(&open(disk, 0), &acknowledged).await;
        });
    });
}

/// Writers that all go on while somebody fills the disk and makes room again a moment later.
async fn write_through_a_full_disk(disk: &SmallDisk, store: &EmbeddedStore, left: u64) -> Vec<(Bytes, Revision)> {
    let writers = (0..4).map(|writer| async move {
        let mut acknowledged = Vec::new();
        for n in 0..40 {
            let key = key(writer * 1000 + n);
            acknowledged.push((key.clone(), store.create(key, noise(), None).await.expect("it waits for room")));
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        acknowledged
    });
    let filler = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        disk.fill(left);
        tokio::time::sleep(Duration::from_millis(700)).await;
        disk.free();
    };
    let (parts, ()) = tokio::join!(futures::future::join_all(writers), filler);
    parts.concat()
}

#[test]
fn while_somebody_fills_the_disk_for_a_moment_writes_wait() {
    for min_free in [0, 16 * MIB] {
        for left in [0, MIB, 8 * MIB] {
            SmallDisk::with(96, move |disk| {
                run(|| async {
                    let options = EmbeddedOptions { min_free, ..EmbeddedOptions::default() };
                    let store = open_with(disk, options.clone());
                    let acknowledged = write_through_a_full_disk(disk, &store, left).await;
                    assert_all_there(&store, &acknowledged).await;
                    let last = acknowledged.iter().map(|(_, revision)| *revision).max().expect("some");
                    assert_eq!(store.current_revision().await.expect("reads"), last, "no write happened twice");
                    drop(store);
                    assert_all_there(&open_with(disk, options), &acknowledged).await;
                });
            });
        }
    }
}

#[test]
fn on_a_disk_that_stays_full_nobody_is_kept_waiting() {
    SmallDisk::with(96, |disk| {
        run(|| async {
            let patience = Duration::from_millis(500);
            let store = open_with(disk, EmbeddedOptions { min_free: 16 * MIB, patience, ..EmbeddedOptions::default() });
            disk.fill(MIB);
            tokio::time::sleep(Duration::from_millis(150)).await; // longer than the space is believed
            for (at_least, at_most) in [(400, 10_000), (0, 400), (0, 400)] {
                let begun = Instant::now();
                assert!(matches!(store.create(key(1), "v".into(), None).await, Err(StoreError::NoSpace)));
                let took = begun.elapsed().as_millis();
                assert!((at_least..at_most).contains(&took), "{took} ms");
            }
        });
    });
}
