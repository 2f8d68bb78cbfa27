//! What ended containers left behind: their termination message, or the end of their log.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, Read, Seek, SeekFrom},
    path::PathBuf,
};

use troupe_cri::names::PodIdentity;

use super::observed::{ContainerView, Observed, RunState};
use crate::{
    files::{blocking, open_file_of_container},
    kubelet::{context::NodeContext, server::logs::format::parse},
};

/// As much of a termination message as the API takes.
const LONGEST: u64 = 4096;
/// The end of a log that stands in for a missing message.
const LOG_LINES: usize = 80;
const LOG_BYTES: usize = 2048;
/// As much of a log as surely holds its last whole record and that end.
const LOG_TAIL: u64 = 64 << 10;

/// Reads the messages of containers that ended since `before`.
pub(super) async fn termination_messages(
    context: &NodeContext,
    id: &PodIdentity,
    observed: &Observed,
    before: Option<&Observed>,
) -> BTreeMap<String, String> {
    let known = |seen: &ContainerView| before.is_some_and(|before| before.containers.contains(seen));
    let ended: Vec<_> = observed.containers.iter().filter(|seen| seen.state == RunState::Exited && !known(seen)).cloned().collect();
    if ended.is_empty() {
        return BTreeMap::new();
    }
    let paths = context.paths(&id.uid);
    let files = ended.into_iter().map(|seen| Files {
        words: paths.termination_file(&seen.name, seen.attempt),
        log: id.log_file(&context.log_root, &seen.name, seen.attempt),
        seen,
    });
    let files: Vec<Files> = files.collect();
    blocking(move || files.iter().filter_map(|files| Some((files.seen.id.clone(), files.message()?))).collect()).await
}

/// A container and what it wrote, where the kubelet and the runtime put it.
struct Files {
    seen: ContainerView,
    words: PathBuf,
    log: PathBuf,
}

impl Files {
    fn message(&self) -> Option<String> {
        let text = open_file_of_container(&self.words).and_then(|mut file| end(&mut file, LONGEST)).unwrap_or_default();
        let text = String::from_utf8_lossy(&text).into_owned();
        if !text.is_empty() || self.seen.termination_policy != "FallbackToLogsOnError" || self.seen.exit_code == 0 {
            return Some(text).filter(|text| !text.is_empty());
        }
        let tail = open_file_of_container(&self.log).and_then(|mut file| end(&mut file, LOG_TAIL)).ok()?;
        Some(log_end(&tail)).filter(|text| !text.is_empty())
    }
}

/// The end of a file.
fn end(file: &mut File, longest: u64) -> io::Result<Vec<u8>> {
    let size = file.metadata()?.len();
    file.seek(SeekFrom::Start(size.saturating_sub(longest)))?;
    let mut data = Vec::new();
    file.take(longest).read_to_end(&mut data)?;
    Ok(data)
}

/// The last lines of the end of a log, without what the runtime puts before each. A record that is cut off at its beginning is none.
fn log_end(tail: &[u8]) -> String {
    let mut text = Vec::new();
    for line in tail.split_inclusive(|byte| *byte == b'\n').filter_map(parse) {
        text.extend_from_slice(line.text);
    }
    let body = text.strip_suffix(b"\n").unwrap_or(&text);
    let newlines = body.iter().enumerate().rev().filter(|(_, byte)| **byte == b'\n');
    let lines_from = newlines.map(|(at, _)| at + 1).nth(LOG_LINES - 1).unwrap_or(0);
    let from = lines_from.max(text.len().saturating_sub(LOG_BYTES));
    String::from_utf8_lossy(&text[from..]).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_log_has_so_many_lines_and_bytes() {
        let record = |text: &str| format!("2026-01-01T00:00:01.5Z stdout F {text}\n");
        let log: String = std::iter::once("cut off\n".to_owned()).chain((0..100).map(|line| record(&format!("line {line}")))).collect();
        let end = log_end(log.as_bytes());
        assert_eq!(end.lines().count(), LOG_LINES);
        assert!(end.starts_with("line 20\n") && end.ends_with("line 99\n"), "{end}");
        assert_eq!(log_end(record(&"x".repeat(5000)).as_bytes()).len(), LOG_BYTES);
        assert_eq!(log_end(b"2026-01-01T00:00:01Z stdout P part\n2026-01-01T00:00:01Z stdout F ed\n"), "parted\n");
    }

    #[test]
    fn a_message_file_that_became_a_pipe_or_a_link_is_not_opened() {
        let place = tempfile::tempdir().expect("a directory");
        let folder = place.path().join("pod/containers/c");
        std::fs::create_dir_all(&folder).expect("makes");
        nix::unistd::mkfifo(&folder.join("pipe"), nix::sys::stat::Mode::S_IRWXU).expect("makes");
        std::os::unix::fs::symlink("/etc/passwd", folder.join("link")).expect("links");
        std::fs::write(folder.join("file"), "y".repeat(5000)).expect("writes");
        let message = |name: &str| {
            let files = Files { seen: ContainerView::default(), words: folder.join(name), log: folder.join("0.log") };
            files.message()
        };
        assert_eq!((message("pipe"), message("link"), message("none")), (None, None, None));
        assert_eq!(message("file").map(|text| text.len()), Some(4096));
    }
}
