//! The log file: appended to, and set aside when it is full.
//!
//! Files that were set aside carry the time in their names (`audit-2026-01-01T00-00-00.000.log`), as upstream's do.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, BufWriter, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use troupe_api::meta::time::shifted_by_seconds;

const TIME_FORMAT: &str = "%Y-%m-%dT%H-%M-%S%.3f";
/// A file's size in megabytes when nothing is said.
const DEFAULT_MEGABYTES: u64 = 100;

/// Where to write and how much to keep; 0 keeps everything.
#[derive(Clone, Debug, Default)]
pub struct LogOptions {
    /// `-` is the standard output.
    pub path: PathBuf,
    /// Megabytes before a file is set aside; 0 stands for 100.
    pub max_size: u64,
    /// Old files kept.
    pub max_backups: usize,
    /// Days old files are kept.
    pub max_age: u64,
}

/// An open log.
pub struct LogFile {
    options: LogOptions,
    out: BufWriter<Box<dyn Write + Send>>,
    size: u64,
}

impl LogFile {
    /// Opens or makes the file; only its owner may read it.
    pub fn open(options: LogOptions) -> io::Result<Self> {
        let (out, size) = open(&options.path)?;
        Ok(LogFile { options, out, size })
    }

    /// Appends a whole line.
    pub fn append(&mut self, line: &[u8], now: jiff::Timestamp) -> io::Result<()> {
        let length = line.len() as u64;
        if self.size > 0 && self.size + length > self.limit() && self.is_file() {
            self.set_aside(now)?;
        }
        self.out.write_all(line)?;
        self.size += length;
        Ok(())
    }

    pub fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }

    fn is_file(&self) -> bool {
        self.options.path.as_os_str() != "-"
    }

    fn limit(&self) -> u64 {
        let megabytes = if self.options.max_size == 0 { DEFAULT_MEGABYTES } else { self.options.max_size };
        megabytes << 20
    }

    fn set_aside(&mut self, now: jiff::Timestamp) -> io::Result<()> {
        self.out.flush()?;
        let path = &self.options.path;
        fs::rename(path, backup_path(path, now))?;
        (self.out, self.size) = open(path)?;
        for old in superfluous(backups(path)?, &self.options, now) {
            fs::remove_file(old)?;
        }
        Ok(())
    }
}

fn open(path: &Path) -> io::Result<(BufWriter<Box<dyn Write + Send>>, u64)> {
    if path.as_os_str() == "-" {
        return Ok((BufWriter::new(Box::new(io::stdout())), 0));
    }
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    let file: File = OpenOptions::new().append(true).create(true).mode(0o600).open(path)?;
    let size = file.metadata()?.len();
    Ok((BufWriter::new(Box::new(file)), size))
}

/// Stem and extension of a log's name.
fn name_parts(path: &Path) -> (String, String) {
    let text = |part: Option<&std::ffi::OsStr>| part.unwrap_or_default().to_string_lossy().into_owned();
    let extension = text(path.extension());
    (text(path.file_stem()), if extension.is_empty() { extension } else { format!(".{extension}") })
}

fn backup_path(path: &Path, now: jiff::Timestamp) -> PathBuf {
    let (stem, extension) = name_parts(path);
    path.with_file_name(format!("{stem}-{}{extension}", now.strftime(TIME_FORMAT)))
}

/// The files that were set aside, newest first, with when that was.
fn backups(path: &Path) -> io::Result<Vec<(PathBuf, jiff::Timestamp)>> {
    let (stem, extension) = name_parts(path);
    let mut found = Vec::new();
    for entry in fs::read_dir(path.parent().unwrap_or(Path::new(".")))? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let time = name.strip_prefix(&format!("{stem}-")).and_then(|rest| rest.strip_suffix(&extension));
        let time = time.and_then(|text| jiff::civil::DateTime::strptime(TIME_FORMAT, text).ok());
        if let Some(time) = time.and_then(|time| time.to_zoned(jiff::tz::TimeZone::UTC).ok()) {
            found.push((entry.path(), time.timestamp()));
        }
    }
    found.sort_by_key(|(_, time)| std::cmp::Reverse(*time));
    Ok(found)
}

/// Which old files go. Pure.
fn superfluous(backups: Vec<(PathBuf, jiff::Timestamp)>, options: &LogOptions, now: jiff::Timestamp) -> Vec<PathBuf> {
    let oldest = shifted_by_seconds(now, i64::try_from(options.max_age.saturating_mul(86_400)).unwrap_or(i64::MAX).saturating_neg());
    let goes = |at: usize, time: jiff::Timestamp| {
        let too_many = options.max_backups > 0 && at >= options.max_backups;
        too_many || options.max_age > 0 && time < oldest
    };
    backups.into_iter().enumerate().filter(|(at, (_, time))| goes(*at, *time)).map(|(_, (path, _))| path).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn time(text: &str) -> jiff::Timestamp {
        text.parse().expect("a time")
    }

    #[test]
    fn a_full_file_is_set_aside_and_only_so_many_are_kept() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("audit.log");
        let options = LogOptions { path: path.clone(), max_size: 1, max_backups: 2, max_age: 0 };
        let mut log = LogFile::open(options).expect("opens");
        let line = [b'x'; 700 << 10];
        for second in 0..5 {
            log.append(&line, time(&format!("2026-01-01T00:00:0{second}.5Z"))).expect("appends");
        }
        log.flush().expect("flushes");
        let mut names: Vec<_> = fs::read_dir(dir.path()).expect("lists").map(|entry| entry.expect("an entry").file_name()).collect();
        names.sort();
        assert_eq!(names, ["audit-2026-01-01T00-00-03.500.log", "audit-2026-01-01T00-00-04.500.log", "audit.log"]);
        assert_eq!(fs::metadata(&path).expect("is there").len(), 700 << 10);
    }

    #[test]
    fn old_files_go_by_age() {
        let backups = vec![(PathBuf::from("new"), time("2026-01-09T00:00:00Z")), (PathBuf::from("old"), time("2026-01-01T00:00:00Z"))];
        let options = LogOptions { max_age: 5, ..LogOptions::default() };
        assert_eq!(superfluous(backups, &options, time("2026-01-10T00:00:00Z")), [PathBuf::from("old")]);
    }

    #[test]
    fn an_existing_log_is_continued() {
        let dir = tempfile::tempdir().expect("a directory");
        let options = LogOptions { path: dir.path().join("logs/audit.log"), ..LogOptions::default() };
        for line in ["a\n", "b\n"] {
            let mut log = LogFile::open(options.clone()).expect("opens");
            log.append(line.as_bytes(), time("2026-01-01T00:00:00Z")).expect("appends");
            log.flush().expect("flushes");
        }
        assert_eq!(fs::read_to_string(&options.path).expect("reads"), "a\nb\n");
    }
}
