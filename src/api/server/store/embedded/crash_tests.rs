//! `kill -9` in the middle of writes: what was acknowledged is there, and nothing is half written.

use std::{
    collections::HashMap,
    io::{BufRead, BufReader, Write},
    process::{Child, Command, Stdio},
    time::Duration,
};

use super::{full_tests::SmallDisk, *};
use crate::store::prefix_end;

const DIRECTORY: &str = "TROUPE_STORE_CRASH_DIRECTORY";
/// Set where the child's disk is to fail after a few megabytes.
const DISK_FAILS: &str = "TROUPE_STORE_CRASH_DISK_FAILS";
/// Set where the child's disk is full now and then.
const DISK_FULL: &str = "TROUPE_STORE_CRASH_DISK_FULL";
/// Set to the step on the disk at which the child is killed.
const STEP: &str = "TROUPE_STORE_CRASH_STEP";
/// Set to the bytes in a segment of the child's log, which also makes keys and deletes them.
const SEGMENT: &str = "TROUPE_STORE_CRASH_SEGMENT";
/// Set to the bytes of old versions in the child's log, which compacts nothing by itself then.
const HISTORY: &str = "TROUPE_STORE_CRASH_HISTORY";
const ROUNDS: u32 = 20;
const WRITERS: u32 = 8;

/// The only value that may ever be found for a key and a counter. Sizes vary from bytes to many pages.
fn value_of(writer: u32, counter: u32) -> Bytes {
    let length = (counter as usize).wrapping_mul(7919) % 12_000;
    let mut text = format!("{writer} {counter} ");
    let letter = char::from(b'a' + u8::try_from(counter % 26).expect("a letter"));
    text.extend(std::iter::repeat_n(letter, length));
    text.into()
}

fn key_of(writer: u32) -> Bytes {
    format!("/registry/crash/{writer}").into()
}

/// A key that is made and deleted in each turn.
fn fleeting_key_of(writer: u32) -> Bytes {
    format!("/registry/fleeting/{writer}").into()
}

fn counter_in(value: &[u8]) -> u32 {
    let text = std::str::from_utf8(value).expect("text");
    text.split(' ').nth(1).expect("a counter").parse().expect("a number")
}

/// The child: writes without end and says on stdout what was acknowledged. Does nothing unless the parent test started it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "started by the crash test in a process of its own"]
async fn child_that_writes_until_killed() {
    let Ok(directory) = std::env::var(DIRECTORY) else { return };
    let full = std::env::var_os(DISK_FULL).is_some();
    let min_free = if full { 0 } else { EmbeddedOptions::default().min_free };
    let number = |name| std::env::var(name).ok().map(|text| text.parse::<u64>().expect("a number"));
    let segment = number(SEGMENT);
    let segment_bytes = segment.unwrap_or(EmbeddedOptions::default().segment_bytes);
    let history_on_disk = number(HISTORY);
    let options = EmbeddedOptions { min_free, patience: Duration::ZERO, segment_bytes, history_on_disk, ..EmbeddedOptions::default() };
    let store = Arc::new(EmbeddedStore::open_with(directory, options).expect("opens"));
    if let Some(step) = number(STEP) {
        log::steps::die_after(step);
    }
    if std::env::var_os(DISK_FAILS).is_some() {
        fail_writes_behind(4 << 20);
    }
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..WRITERS {
        let store = store.clone();
        writers.spawn(async move {
            loop {
                let compact_every = match segment {
                    _ if history_on_disk.is_some() => None,
                    Some(_) => Some(2),
                    None => Some(50),
                };
                write_until_full(&store, writer, segment.is_some(), compact_every).await;
                assert!(full, "the disk is never full");
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        });
    }
    writers.join_all().await;
}

/// Makes every write behind `bytes` of a file fail, as a broken disk would.
fn fail_writes_behind(bytes: u64) {
    let limit = libc::rlimit { rlim_cur: bytes, rlim_max: bytes };
    // SAFETY: plain system calls on a valid struct, in a process of the test's own.
    let set = unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) != libc::SIG_ERR && libc::setrlimit(libc::RLIMIT_FSIZE, &raw const limit) == 0 };
    assert!(set, "the limit is taken");
}

/// Makes a key and deletes it.
async fn write_fleeting(store: &EmbeddedStore, writer: u32, counter: u32) {
    let key = fleeting_key_of(writer);
    if let Some(left) = store.get(&key, None).await.expect("reads").0 {
        store.delete(key.clone(), left.mod_revision).await.expect("deletes");
    }
    let made = store.create(key.clone(), value_of(writer, counter), None).await.expect("creates");
    store.delete(key, made).await.expect("deletes");
}

/// Writes until the disk is full; any other error is one.
async fn write_until_full(store: &EmbeddedStore, writer: u32, is_small: bool, compact_every: Option<u32>) {
    let held = store.get(&key_of(writer), None).await.expect("reads").0;
    let mut counter = held.as_ref().map_or(0, |kv| counter_in(&kv.value));
    let mut expected = held.map(|kv| kv.mod_revision);
    loop {
        counter += 1;
        let value = value_of(writer, counter);
        let written = match expected {
            Some(expected) => store.update(key_of(writer), value, expected, None).await,
            None => store.create(key_of(writer), value, None).await,
        };
        let revision = match written {
            Ok(revision) => revision,
            // A conflict: a write of unknown outcome had happened.
            Err(StoreError::NoSpace | StoreError::Unknown(_) | StoreError::Conflict { .. }) => return,
            Err(error) => panic!("{error}"),
        };
        if is_small {
            write_fleeting(store, writer, counter).await;
        }
        let line = format!("\nack {writer} {counter} {revision}\n");
        std::io::stdout().lock().write_all(line.as_bytes()).expect("the parent listens");
        if compact_every.is_some_and(|every| counter.is_multiple_of(every)) {
            match store.compact(revision).await {
                Ok(()) => {}
                Err(StoreError::NoSpace) => return,
                Err(error) => panic!("{error}"),
            }
        }
        expected = Some(revision);
    }
}

fn child(directory: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("this executable"));
    command.args(["--exact", "store::embedded::crash_tests::child_that_writes_until_killed", "--ignored", "--nocapture"]);
    command.env(DIRECTORY, directory).stdout(Stdio::piped()).stderr(Stdio::null());
    command
}

/// How long a child lives in one of the usual rounds, or in one of those that follow where the machine is too slow for anything to be written in them.
fn lifetime(is_usual: bool) -> Duration {
    Duration::from_millis(if is_usual { rand::random_range(60..400) } else { rand::random_range(1000..4000) })
}

/// Starts the child, kills it after `lifetime`, and returns what was acknowledged.
fn run_child(command: &mut Command, lifetime: Duration) -> HashMap<u32, (u32, Revision)> {
    let mut child = command.spawn().expect("starts");
    let reader = acknowledgements(&mut child);
    std::thread::sleep(lifetime);
    child.kill().expect("SIGKILL");
    child.wait().expect("reaped");
    reader.join().expect("read to the end")
}

/// Reads the last acknowledged counter and revision of each writer from the child's output, to its end.
fn acknowledgements(child: &mut Child) -> std::thread::JoinHandle<HashMap<u32, (u32, Revision)>> {
    let stdout = child.stdout.take().expect("piped");
    std::thread::spawn(move || {
        let mut acknowledged = HashMap::new();
        let mut lines = BufReader::new(stdout);
        let mut line = String::new();
        while lines.read_line(&mut line).is_ok_and(|length| length > 0) {
            if let Some(ack) = line.strip_prefix("ack ").and_then(|rest| rest.strip_suffix('\n')) {
                let numbers = ack.split(' ').map(|number| number.parse::<u32>().expect("a number")).collect::<Vec<_>>();
                acknowledged.insert(numbers[0], (numbers[1], Revision(numbers[2].into())));
            }
            line.clear();
        }
        acknowledged
    })
}

#[test]
fn killing_the_process_loses_no_acknowledged_write_and_leaves_none_half_written() {
    let dir = tempfile::tempdir().expect("a directory");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let mut acknowledged = HashMap::new();
    let (mut total, mut round) = (0, 0);
    while round < ROUNDS || (total <= u64::from(ROUNDS) && round < 2 * ROUNDS) {
        acknowledged.extend(run_child(&mut child(dir.path()), lifetime(round < ROUNDS)));
        total = runtime.block_on(check(dir.path(), &mut acknowledged));
        round += 1;
    }
    assert!(total > u64::from(ROUNDS), "the children hardly wrote: {total}");
}

#[test]
fn killing_the_process_while_segments_come_and_go_loses_nothing_and_brings_nothing_back() {
    let dir = tempfile::tempdir().expect("a directory");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let mut acknowledged = HashMap::new();
    let mut round = 0;
    while round < ROUNDS || (first_segment(dir.path()) <= 10 && round < 2 * ROUNDS) {
        acknowledged.extend(run_child(child(dir.path()).env(SEGMENT, "30000"), lifetime(round < ROUNDS)));
        runtime.block_on(check(dir.path(), &mut acknowledged));
        round += 1;
    }
    assert!(first_segment(dir.path()) > 10, "hardly a segment was dropped");
}

#[test]
fn killing_the_process_at_any_step_on_the_disk_loses_nothing_and_brings_nothing_back() {
    let dir = tempfile::tempdir().expect("a directory");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let mut acknowledged = HashMap::new();
    // A batch takes three steps, a new segment four, dropping one three: so many steps see several of each.
    for step in 1..=60 {
        let mut child = child(dir.path()).env(SEGMENT, "30000").env(STEP, step.to_string()).spawn().expect("starts");
        let reader = acknowledgements(&mut child);
        let status = child.wait().expect("reaped");
        assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(libc::SIGKILL), "step {step}: {status}");
        acknowledged.extend(reader.join().expect("read to the end"));
        runtime.block_on(check(dir.path(), &mut acknowledged));
    }
    assert!(first_segment(dir.path()) > 10, "hardly a segment was dropped");
}

#[test]
fn killing_the_process_while_history_goes_by_its_size_loses_nothing_and_brings_nothing_back() {
    let dir = tempfile::tempdir().expect("a directory");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let mut acknowledged = HashMap::new();
    for step in 1..=60 {
        let mut child = child(dir.path());
        let mut child = child.env(SEGMENT, "30000").env(HISTORY, "90000").env(STEP, step.to_string()).spawn().expect("starts");
        let reader = acknowledgements(&mut child);
        child.wait().expect("reaped");
        acknowledged.extend(reader.join().expect("read to the end"));
        runtime.block_on(check(dir.path(), &mut acknowledged));
    }
    assert!(first_segment(dir.path()) > 10, "hardly a segment was dropped");
}

/// The number of the oldest segment.
fn first_segment(directory: &Path) -> u64 {
    let names = std::fs::read_dir(directory.join("log")).expect("lists").map(|entry| entry.expect("lists").file_name());
    let numbers = names.filter_map(|name| name.to_str()?.strip_suffix(".log")?.parse().ok());
    numbers.min().expect("a segment")
}

#[test]
fn killing_the_process_on_a_full_disk_loses_no_acknowledged_write_either() {
    SmallDisk::with(256, |disk| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let mut acknowledged = HashMap::new();
        let (mut revisions, mut round) = (Vec::new(), 0);
        while round < 8 || (revisions.last() <= revisions.first() && round < 16) {
            let mut child = child(&disk.store()).env(DISK_FULL, "1").spawn().expect("starts");
            let reader = acknowledgements(&mut child);
            std::thread::sleep(lifetime(round < 8));
            disk.fill(0);
            std::thread::sleep(Duration::from_millis(rand::random_range(0..200)));
            child.kill().expect("SIGKILL");
            child.wait().expect("reaped");
            acknowledged.extend(reader.join().expect("read to the end"));
            revisions.push(runtime.block_on(check(&disk.store(), &mut acknowledged)));
            // Every third child begins on a full disk.
            if round % 3 != 1 {
                disk.free();
            }
            round += 1;
        }
        assert!(revisions.last() > revisions.first(), "the children went on when there was space: {revisions:?}");
    });
}

#[test]
fn a_failing_disk_ends_the_process_and_loses_no_acknowledged_write() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut child = child(dir.path()).env(DISK_FAILS, "1").spawn().expect("starts");
    let reader = acknowledgements(&mut child);
    let status = child.wait().expect("ends by itself");
    assert_eq!(status.code(), Some(74), "{status}");
    let mut acknowledged = reader.join().expect("read to the end");
    assert!(!acknowledged.is_empty());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(check(dir.path(), &mut acknowledged));
}

/// Reopens the store and checks it; returns its revision. What is found there must be there from now on.
async fn check(directory: &Path, acknowledged: &mut HashMap<u32, (u32, Revision)>) -> u64 {
    let store = EmbeddedStore::open(directory).expect("opens after a kill");
    let range = RangeRequest { start: "/registry/".into(), end: prefix_end(b"/registry/"), limit: 0, at: None };
    let held = store.range(range).await.expect("ranges");
    for kv in &held.items {
        assert_eq!(kv.value, value_of(writer_of(&kv.key), counter_in(&kv.value)), "half written");
    }
    let (fleeting, held_items): (Vec<_>, Vec<_>) = held.items.into_iter().partition(|kv| kv.key.starts_with(b"/registry/fleeting/"));
    for kv in fleeting {
        let last = acknowledged.get(&writer_of(&kv.key)).map_or(0, |(counter, _)| *counter);
        assert!(counter_in(&kv.value) > last, "what was deleted is back: {:?}", kv.key);
        // The next child may not come so far.
        store.delete(kv.key, kv.mod_revision).await.expect("deletes");
    }
    for (writer, (counter, revision)) in &*acknowledged {
        let kv = held_items.iter().find(|kv| kv.key == key_of(*writer)).expect("an acknowledged key is there");
        let found = counter_in(&kv.value);
        // At most the one write in flight at the kill may have happened without its acknowledgement reaching us.
        assert!(found == *counter || found == counter + 1, "writer {writer} had {counter} acknowledged, {found} is there");
        assert!(kv.mod_revision >= *revision);
    }
    for kv in &held_items {
        acknowledged.insert(writer_of(&kv.key), (counter_in(&kv.value), kv.mod_revision));
    }
    held.revision.0
}

fn writer_of(key: &[u8]) -> u32 {
    std::str::from_utf8(key).expect("text").rsplit('/').next().and_then(|n| n.parse().ok()).expect("a writer")
}
