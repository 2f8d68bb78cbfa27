//! What ended containers left behind: their termination message, or the end of their log.

use std::{
    collections::BTreeMap,
    fs,
    io::{self, Read, Seek, SeekFrom},
    path::{Path, PathBuf},
};

use super::observed::{ContainerView, Observed, RunState};

/// As much of a termination message as the API takes.
const LONGEST: u64 = 4096;
/// The end of a log that stands in for a missing message.
const LOG_LINES: usize = 80;
const LOG_BYTES: u64 = 2048;

/// Reads the messages of containers that ended since `before`.
pub(super) async fn last_words(observed: &Observed, before: Option<&Observed>) -> BTreeMap<String, String> {
    let known = |seen: &ContainerView| before.is_some_and(|before| before.containers.contains(seen));
    let ended: Vec<_> = observed.containers.iter().filter(|seen| seen.state == RunState::Exited && !known(seen)).cloned().collect();
    if ended.is_empty() {
        return BTreeMap::new();
    }
    let read = move || ended.iter().filter_map(|seen| Some((seen.id.clone(), message(seen)?))).collect();
    tokio::task::spawn_blocking(read).await.unwrap_or_default()
}

fn message(seen: &ContainerView) -> Option<String> {
    let path = PathBuf::from(seen.termination_file.as_ref()?);
    let text = read_start(&path).unwrap_or_default();
    if !text.is_empty() || seen.termination_policy != "FallbackToLogsOnError" || seen.exit_code == 0 {
        return Some(text).filter(|text| !text.is_empty());
    }
    log_end(Path::new(&seen.log_path)).ok().filter(|text| !text.is_empty())
}

fn read_start(path: &Path) -> io::Result<String> {
    let mut data = Vec::new();
    fs::File::open(path)?.take(LONGEST).read_to_end(&mut data)?;
    Ok(String::from_utf8_lossy(&data).into_owned())
}

/// The last lines of a log, without what the runtime puts before each.
fn log_end(path: &Path) -> io::Result<String> {
    let mut file = fs::File::open(path)?;
    let size = file.metadata()?.len();
    file.seek(SeekFrom::Start(size.saturating_sub(4 * LOG_BYTES)))?;
    let mut data = Vec::new();
    file.read_to_end(&mut data)?;
    let text = String::from_utf8_lossy(&data).into_owned();
    let lines: Vec<_> = text.lines().filter_map(|line| line.splitn(4, ' ').nth(3)).collect();
    let mut end = String::new();
    for line in lines.iter().rev().take(LOG_LINES) {
        if (end.len() + line.len()) as u64 > LOG_BYTES {
            break;
        }
        end = format!("{line}\n{end}");
    }
    Ok(end)
}
