//! The log by itself, on torn, damaged and full disks.

use troupe_api::meta::Revision;

use super::*;
use crate::store::embedded::full_tests::SmallDisk;

const BIG: u64 = 1 << 20;

/// Places of one byte each, for tests of what keeps places.
pub struct Places {
    segment: Arc<Segment>,
    _directory: tempfile::TempDir,
}

impl Default for Places {
    fn default() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let marks = Marks { current: Revision(1), compacted: Revision::ZERO };
        let segment = Arc::new(Segment::create(directory.path(), 1, marks).expect("creates"));
        Places { segment, _directory: directory }
    }
}

impl Places {
    pub fn at(&self, n: u64) -> Place {
        self.segment.place(n, 1)
    }

    pub fn needed(&self) -> u64 {
        self.segment.needed()
    }
}

fn marks(current: u64) -> Marks {
    Marks { current: Revision(current), compacted: Revision::ZERO }
}

fn batch<'a>(records: impl IntoIterator<Item = (u64, &'a [u8])>) -> Batch {
    let mut batch = Batch::default();
    for (revision, record) in records {
        batch.push(&Entry::Change { revision: Revision(revision), superseded: None, record });
    }
    batch
}

fn append(log: &mut Log, revision: u64, record: &[u8]) -> Place {
    log.append(&batch([(revision, record)]), marks(revision - 1)).expect("appends").remove(0)
}

/// Opens a log; gives the revisions it holds, in the log's order, too.
fn open(path: &Path, segment_bytes: u64) -> Result<(Log, Vec<u64>), LogError> {
    let mut found = Vec::new();
    let log = Log::open(path, segment_bytes, |item| {
        if let Item::Entry(_, Entry::Change { revision, .. }) = item {
            found.push(revision.0);
        }
        Ok(())
    })?;
    Ok((log, found))
}

fn contents(place: &Place) -> Vec<u8> {
    place.read(|record| Some(record.to_vec())).expect("reads")
}

fn segment(directory: &Path, number: u64) -> PathBuf {
    directory.join(format!("{number:016}.log"))
}

/// A log with three batches in its only segment; the last batch has `last` records. Gives the end of each batch too.
fn three_batches(directory: &Path, last: u64) -> Vec<u64> {
    let (mut log, _) = open(directory, BIG).expect("opens");
    let mut ends = Vec::new();
    append(&mut log, 2, b"two");
    ends.push(log.bytes());
    append(&mut log, 3, b"three, which is a little longer");
    ends.push(log.bytes());
    let records = (4..4 + last).map(|revision| (revision, &b"one of the last records"[..]));
    log.append(&batch(records), marks(3)).expect("appends");
    ends.push(log.bytes());
    ends
}

#[test]
fn what_is_appended_is_found_again_in_order_over_all_segments() {
    let dir = tempfile::tempdir().expect("a directory");
    let (mut log, found) = open(dir.path(), 300).expect("opens");
    assert!(found.is_empty() && log.is_new());
    let places = (2..40).map(|revision| append(&mut log, revision, format!("record {revision}").as_bytes())).collect::<Vec<_>>();
    let mut compaction = Batch::default();
    compaction.push(&Entry::Compacted(Revision(30)));
    log.append(&compaction, marks(39)).expect("appends");
    assert!(segment(dir.path(), 4).exists(), "there are several");
    assert_eq!(contents(&places[5]), b"record 7");
    let bytes = log.bytes();
    drop(log);
    let mut told = None;
    let log = Log::open(dir.path(), 300, |item| {
        if let Item::Marks(marks) = item {
            told = Some(marks);
        }
        Ok(())
    });
    assert_eq!(log.expect("opens again").bytes(), bytes);
    assert_eq!(told.expect("once").compacted, Revision(30));
    assert!(told.expect("once").current > Revision(30), "as when the newest was begun");
    assert_eq!(open(dir.path(), 300).expect("opens again").1, (2..40).collect::<Vec<_>>());
}

#[test]
fn a_write_that_broke_off_at_any_byte_is_cut_off() {
    let dir = tempfile::tempdir().expect("a directory");
    let ends = three_batches(dir.path(), 1);
    let file = segment(dir.path(), 1);
    let whole = std::fs::read(&file).expect("reads");
    let (begin, end) = (usize::try_from(ends[1]).expect("small"), whole.len());
    for at in begin..end {
        let mut flipped = whole.clone();
        flipped[at] ^= 0x55;
        let mut zeros = whole.clone();
        zeros[at..].fill(0);
        let mut longer = zeros.clone();
        longer.resize(end + 100, 0);
        for torn in [whole[..at].to_vec(), flipped, zeros, longer] {
            if torn == whole {
                continue;
            }
            std::fs::write(&file, &torn).expect("writes");
            let (mut log, found) = open(dir.path(), BIG).expect("opens");
            assert_eq!(found, [2, 3], "torn at {at}");
            assert_eq!(std::fs::metadata(&file).expect("is there").len(), ends[1]);
            append(&mut log, 4, b"again");
            drop(log);
            assert_eq!(open(dir.path(), BIG).expect("opens").1, [2, 3, 4]);
        }
    }
}

#[test]
fn pages_of_one_write_may_reach_the_disk_in_any_order() {
    let dir = tempfile::tempdir().expect("a directory");
    let ends = three_batches(dir.path(), 4);
    let file = segment(dir.path(), 1);
    let mut torn = std::fs::read(&file).expect("reads");
    let length = (torn.len() - usize::try_from(ends[1]).expect("small")) / 4;
    // The second of four records is lost, those behind it are whole.
    let second = usize::try_from(ends[1]).expect("small") + length;
    torn[second..second + length].fill(0);
    std::fs::write(&file, &torn).expect("writes");
    assert_eq!(open(dir.path(), BIG).expect("opens").1, [2, 3, 4], "nobody was told of the rest");
}

#[test]
fn damage_of_what_was_durable_is_refused_by_file_and_place_and_left_alone() {
    let dir = tempfile::tempdir().expect("a directory");
    let ends = three_batches(dir.path(), 2);
    let file = segment(dir.path(), 1);
    let whole = std::fs::read(&file).expect("reads");
    let second = usize::try_from(ends[0]).expect("small");
    for at in 0..usize::try_from(ends[1]).expect("small") {
        let mut damaged = whole.clone();
        damaged[at] ^= 0x10;
        std::fs::write(&file, &damaged).expect("writes");
        let error = open(dir.path(), BIG).err().expect("is refused");
        let LogError::Damaged { path, at: told, .. } = &error else { panic!("{error}") };
        let frame = if at < super::segment::HEAD {
            0
        } else if at < second {
            super::segment::HEAD
        } else {
            second
        };
        assert_eq!((path, *told), (&file, frame as u64), "damaged at {at}");
        assert_eq!(std::fs::read(&file).expect("reads"), damaged);
    }
}

#[test]
fn earlier_segments_have_no_torn_ends_and_none_may_be_missing() {
    let dir = tempfile::tempdir().expect("a directory");
    let (mut log, _) = open(dir.path(), 1).expect("opens");
    for revision in 2..6 {
        append(&mut log, revision, b"a record");
    }
    drop(log);
    let file = segment(dir.path(), 2);
    let whole = std::fs::read(&file).expect("reads");
    for cut in 0..whole.len() {
        std::fs::write(&file, &whole[..cut]).expect("writes");
        let refused = open(dir.path(), 1);
        // Cut at its end it cannot be told from one that ends there.
        assert_eq!(refused.is_err(), cut != super::segment::HEAD, "cut at {cut}");
    }
    std::fs::remove_file(&file).expect("removes");
    let error = open(dir.path(), 1).err().expect("is refused").to_string();
    assert!(error.contains("number 2, is missing"), "{error}");
    std::fs::write(&file, &whole).expect("writes");
    std::fs::write(dir.path().join("0000000000000009.new"), "half").expect("writes");
    assert_eq!(open(dir.path(), 1).expect("opens").1, [2, 3, 4, 5], "what was to become a segment is none");
    assert!(!dir.path().join("0000000000000009.new").exists());
}

#[test]
fn what_clients_store_cannot_pass_for_a_frame() {
    let dir = tempfile::tempdir().expect("a directory");
    three_batches(dir.path(), 1);
    let frames = std::fs::read(segment(dir.path(), 1)).expect("reads")[super::segment::HEAD..].to_vec();
    let (mut log, _) = open(dir.path(), BIG).expect("opens");
    append(&mut log, 5, &frames);
    drop(log);
    let file = segment(dir.path(), 1);
    let whole = std::fs::read(&file).expect("reads");
    std::fs::write(&file, &whole[..whole.len() - 1]).expect("writes");
    assert_eq!(open(dir.path(), BIG).expect("opens").1, [2, 3, 4], "a torn write, whatever was in it");
}

#[test]
fn segments_are_dropped_oldest_first_and_readable_for_who_holds_them() {
    let dir = tempfile::tempdir().expect("a directory");
    let (mut log, _) = open(dir.path(), 1).expect("opens");
    let first = append(&mut log, 2, b"first");
    assert!(log.oldest().is_none(), "the one that is appended to stays");
    append(&mut log, 3, b"second");
    first.need();
    assert!(log.oldest().is_some_and(|(oldest, _)| oldest.number == 1 && oldest.needed() == first.length()));
    first.let_go();
    assert!(log.oldest().is_some_and(|(oldest, _)| oldest.needed() == 0));
    let before = log.bytes();
    log.drop_oldest().expect("drops");
    log.drop_oldest().expect("there is none to drop");
    assert!(!segment(dir.path(), 1).exists() && segment(dir.path(), 2).exists());
    assert!(log.bytes() < before);
    assert_eq!(contents(&first), b"first");
    append(&mut log, 4, b"third");
    drop(log);
    assert_eq!(open(dir.path(), 1).expect("opens").1, [3, 4]);
}

#[test]
fn what_a_full_disk_cut_short_has_not_happened() {
    SmallDisk::with(16, |disk| {
        let path = disk.store();
        let (mut log, _) = open(&path, BIG).expect("opens");
        append(&mut log, 2, b"kept");
        let whole = log.bytes();
        disk.fill(64 << 10);
        let large = vec![7; 1 << 20];
        let error = log.append(&batch([(3, &large[..])]), marks(2)).expect_err("there is no room");
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        log.mend().expect("a full disk lets a file shrink");
        assert_eq!(std::fs::metadata(segment(&path, 1)).expect("is there").len(), whole);
        // As it is where a process was killed before it could mend.
        assert!(log.append(&batch([(3, &large[..])]), marks(2)).is_err());
        assert_eq!(open(&path, BIG).expect("opens").1, [2]);
        disk.free();
        append(&mut log, 3, &large);
        append(&mut log, 4, b"next");
        assert!(segment(&path, 2).exists());
        disk.fill(0);
        let more = log.append(&batch([(5, &large[..])]), marks(4));
        assert!(more.is_err());
        drop(log);
        assert_eq!(open(&path, BIG).expect("opens").1, [2, 3, 4]);
    });
}
