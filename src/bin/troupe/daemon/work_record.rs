//! The record of what a daemon's units work on: a file in memory that outlives the process.
//!
//! It lies in the run directory and is mapped; the kernel has what was written when the process is killed. A file beside it counts
//! in whose hands processes died. Nothing is ever synced: what a crash of the machine takes away is not missed.

use std::{
    collections::BTreeMap,
    fmt, fs,
    fs::{File, OpenOptions},
    io,
    os::{fd::AsRawFd, unix::fs::OpenOptionsExt},
    path::{Path, PathBuf},
    ptr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU8, Ordering},
    },
};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use troupe_actors::runtime::work::{Attempt, NoRecord, Version, WorkRecord};
use troupe_api::meta::ObjectKey;

/// More attempts at once than controllers and scheduler make.
const PLACES: usize = 256;
/// A place: its state, the length of its text in two bytes, the text.
const PLACE: usize = 512;
const TEXT: usize = 3;

const FREE: u8 = 0;
const TAKEN: u8 = 1;
const RUNNING: u8 = 2;

/// In whose hands processes died: by unit and object.
type Suspects = BTreeMap<String, Suspect>;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Suspect {
    version: u64,
    deaths: u32,
}

/// See the module.
pub struct FileRecord {
    places: Mapping,
    free: Mutex<Vec<usize>>,
    suspects: Mutex<Suspects>,
    any: AtomicBool,
    suspects_file: PathBuf,
}

/// Opens the record of the daemon that has this pid file. Without it the daemon works as well, but learns nothing of its deaths.
pub fn open(pid_file: &Path) -> Arc<dyn WorkRecord> {
    match FileRecord::open(pid_file) {
        Ok(record) => Arc::new(record),
        Err(error) => {
            tracing::warn!(%error, beside = %pid_file.display(), "cannot note what is in work: objects that end the process will not be recognised");
            Arc::new(NoRecord)
        }
    }
}

impl FileRecord {
    fn open(pid_file: &Path) -> io::Result<Self> {
        let (file, suspects_file) = (pid_file.with_extension("work"), pid_file.with_extension("suspects"));
        let before = fs::read(&file).unwrap_or_default();
        let known = fs::read(&suspects_file).ok().and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default();
        let suspects = counted(known, &running(&before));
        for (name, suspect) in &suspects {
            tracing::warn!(deaths = suspect.deaths, "the process died while it worked on {name}");
        }
        // First what was learnt, then a clean record.
        save(&suspects_file, &suspects)?;
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).mode(0o600).open(file)?;
        file.set_len(u64::try_from(PLACES * PLACE).expect("small"))?;
        Ok(FileRecord {
            places: Mapping::of(&file)?,
            free: Mutex::new((0..PLACES).rev().collect()),
            any: AtomicBool::new(!suspects.is_empty()),
            suspects: Mutex::new(suspects),
            suspects_file,
        })
    }
}

fn name(unit: &str, key: &ObjectKey) -> String {
    format!("{unit} {key}")
}

/// The attempts that were running, of a record's bytes: unit and object, and its version.
fn running(record: &[u8]) -> Vec<(String, u64)> {
    let places = record.chunks_exact(PLACE).filter(|place| place[0] == RUNNING);
    let texts = places.filter_map(|place| {
        let length = usize::from(u16::from_le_bytes([place[1], place[2]]));
        std::str::from_utf8(place.get(TEXT..TEXT + length)?).ok()
    });
    texts.filter_map(|text| Some((text.split_once('\n')?.0.to_owned(), text.split_once('\n')?.1.parse().ok()?))).collect()
}

/// One more death in the hands of each of `victims`. A changed object begins anew.
fn counted(mut suspects: Suspects, victims: &[(String, u64)]) -> Suspects {
    for (name, version) in victims {
        let suspect = suspects.entry(name.clone()).or_insert(Suspect { version: *version, deaths: 0 });
        if suspect.version != *version {
            *suspect = Suspect { version: *version, deaths: 0 };
        }
        suspect.deaths = suspect.deaths.saturating_add(1);
    }
    suspects
}

fn save(path: &Path, suspects: &Suspects) -> io::Result<()> {
    let next = path.with_extension("suspects.next");
    fs::write(&next, serde_json::to_vec(suspects)?)?;
    fs::rename(next, path)
}

impl WorkRecord for FileRecord {
    fn begin(&self, attempt: &Attempt<'_>) -> Option<usize> {
        let text = format!("{}\n{}", name(attempt.unit, attempt.key), attempt.version.0);
        if text.len() > PLACE - TEXT {
            return None;
        }
        let place = self.free.lock().pop()?;
        self.places.write(place, text.as_bytes());
        self.places.state(place).store(TAKEN, Ordering::Release);
        Some(place)
    }

    fn set_running(&self, place: usize, running: bool) {
        self.places.state(place).store(if running { RUNNING } else { TAKEN }, Ordering::Release);
    }

    fn end(&self, place: usize) {
        self.places.state(place).store(FREE, Ordering::Release);
        self.free.lock().push(place);
    }

    fn has_suspects(&self) -> bool {
        self.any.load(Ordering::Relaxed)
    }

    fn deaths(&self, attempt: &Attempt<'_>) -> u32 {
        let Version(version) = attempt.version;
        let suspects = self.suspects.lock();
        suspects.get(&name(attempt.unit, attempt.key)).filter(|suspect| suspect.version == version).map_or(0, |suspect| suspect.deaths)
    }

    fn forget(&self, unit: &str, key: &ObjectKey) {
        let mut suspects = self.suspects.lock();
        if suspects.remove(&name(unit, key)).is_none() {
            return;
        }
        self.any.store(!suspects.is_empty(), Ordering::Relaxed);
        if let Err(error) = save(&self.suspects_file, &suspects) {
            tracing::warn!(%error, "cannot write down that an object ends the process no more");
        }
    }
}

impl fmt::Debug for FileRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileRecord").field("suspects", &*self.suspects.lock()).finish_non_exhaustive()
    }
}

/// The places, shared with the file.
struct Mapping(*mut u8);

// SAFETY: the memory is the process's for as long as it lives. States are atomic, and a text is written only by whoever took its
// place from the list of free ones.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl Mapping {
    fn of(file: &File) -> io::Result<Self> {
        // SAFETY: a new mapping, at an address that the kernel chooses, of a file that is as long as it.
        let start = unsafe { libc::mmap(ptr::null_mut(), PLACES * PLACE, libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED, file.as_raw_fd(), 0) };
        if start == libc::MAP_FAILED { Err(io::Error::last_os_error()) } else { Ok(Mapping(start.cast())) }
    }

    fn state(&self, place: usize) -> &AtomicU8 {
        assert!(place < PLACES, "places are handed out by number");
        // SAFETY: within the mapping, which is never taken away while this lives; states are only used as atomics.
        unsafe { AtomicU8::from_ptr(self.0.add(place * PLACE)) }
    }

    fn write(&self, place: usize, text: &[u8]) {
        assert!(place < PLACES && text.len() <= PLACE - TEXT, "checked by the caller");
        let length = u16::try_from(text.len()).expect("a place is smaller").to_le_bytes();
        // SAFETY: within the mapping; nobody else writes to a place that was taken, and nobody reads it in this process.
        unsafe {
            let start = self.0.add(place * PLACE);
            ptr::copy_nonoverlapping(length.as_ptr(), start.add(1), length.len());
            ptr::copy_nonoverlapping(text.as_ptr(), start.add(TEXT), text.len());
        }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: it was mapped with this length, and nothing refers to it any more.
        unsafe { libc::munmap(self.0.cast(), PLACES * PLACE) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attempt(key: &ObjectKey, version: u64) -> Attempt<'_> {
        Attempt { unit: "statefulset", key, version: Version(version) }
    }

    /// A process that dies in the middle of an attempt leaves the record as it is.
    fn dies_in(pid_file: &Path, key: &ObjectKey, version: u64) {
        let record = FileRecord::open(pid_file).expect("opens");
        let waiting = ObjectKey::new("n", "waits-for-the-api-server");
        record.begin(&attempt(&waiting, 1)).expect("there is room");
        let done = record.begin(&attempt(&ObjectKey::new("n", "done"), 1)).expect("there is room");
        record.set_running(done, true);
        record.end(done);
        let place = record.begin(&attempt(key, version)).expect("there is room");
        record.set_running(place, true);
    }

    #[test]
    fn deaths_are_counted_for_the_object_that_was_being_worked_on() {
        let dir = tempfile::tempdir().expect("a directory");
        let pid_file = dir.path().join("troupe.pid");
        let bad = ObjectKey::new("n", "absurd");
        for _ in 0..3 {
            dies_in(&pid_file, &bad, 7);
        }
        let record = FileRecord::open(&pid_file).expect("opens");
        assert!(record.has_suspects());
        assert_eq!(record.deaths(&attempt(&bad, 7)), 3);
        assert_eq!(record.deaths(&attempt(&bad, 8)), 0, "it was changed");
        for other in ["done", "waits-for-the-api-server"] {
            assert_eq!(record.deaths(&attempt(&ObjectKey::new("n", other), 1)), 0, "{other}");
        }
        drop(record);
        let again = FileRecord::open(&pid_file).expect("opens");
        assert_eq!(again.deaths(&attempt(&bad, 7)), 3, "a process that ends otherwise changes nothing");
        again.forget("statefulset", &bad);
        assert!(!again.has_suspects());
        drop(again);
        assert!(!FileRecord::open(&pid_file).expect("opens").has_suspects());
    }

    #[test]
    fn a_change_begins_anew_and_junk_is_ignored() {
        let dir = tempfile::tempdir().expect("a directory");
        let pid_file = dir.path().join("troupe.pid");
        let bad = ObjectKey::new("n", "absurd");
        dies_in(&pid_file, &bad, 7);
        dies_in(&pid_file, &bad, 8);
        assert_eq!(FileRecord::open(&pid_file).expect("opens").deaths(&attempt(&bad, 8)), 1);
        fs::write(pid_file.with_extension("work"), vec![RUNNING; 3000]).expect("writes");
        fs::write(pid_file.with_extension("suspects"), "{").expect("writes");
        assert!(!FileRecord::open(&pid_file).expect("opens").has_suspects());
    }

    #[test]
    fn no_more_attempts_are_noted_than_there_are_places() {
        let dir = tempfile::tempdir().expect("a directory");
        let record = FileRecord::open(&dir.path().join("troupe.pid")).expect("opens");
        let key = ObjectKey::new("n", "a");
        let taken: Vec<usize> = std::iter::from_fn(|| record.begin(&attempt(&key, 1))).collect();
        assert_eq!(taken.len(), PLACES);
        record.end(taken[5]);
        assert_eq!(record.begin(&attempt(&key, 1)), Some(taken[5]));
    }
}
