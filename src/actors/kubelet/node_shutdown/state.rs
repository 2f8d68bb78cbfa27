//! When this node last shut down, on disk as upstream's `graceful_node_shutdown_state`: the next process tells it in metrics.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::Path,
};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

const FILE: &str = "graceful_node_shutdown_state";
/// A moment that has not come, as Go writes it.
const NEVER: &str = "0001-01-01T00:00:00Z";

/// The last shutdown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct State {
    start_time: String,
    end_time: String,
}

impl State {
    pub fn new(start: Timestamp, end: Option<Timestamp>) -> Self {
        State { start_time: start.to_string(), end_time: end.map_or_else(|| NEVER.to_owned(), |end| end.to_string()) }
    }

    /// When it began and ended, where it did.
    pub fn times(&self) -> (Option<Timestamp>, Option<Timestamp>) {
        let time = |text: &String| text.parse().ok().filter(|_| text != NEVER);
        (time(&self.start_time), time(&self.end_time))
    }

    /// What an earlier process wrote; `None` when nobody did. Blocking.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn load(root: &Path) -> io::Result<Option<Self>> {
        match fs::read(root.join(FILE)) {
            Ok(text) => serde_json::from_slice(&text).map(Some).map_err(io::Error::other),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Writes it whole or not at all, so that it outlives the machine's end. Blocking.
    ///
    /// # Errors
    /// When the disk does not take it.
    pub fn store(&self, root: &Path) -> io::Result<()> {
        let unfinished = root.join(format!(".tmp-{FILE}"));
        let mut file = File::create(&unfinished)?;
        file.write_all(&serde_json::to_vec(self).map_err(io::Error::other)?)?;
        file.sync_all()?;
        fs::rename(unfinished, root.join(FILE))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_shutdown_is_known_to_the_next_process() {
        let place = tempfile::tempdir().expect("a directory");
        assert_eq!(State::load(place.path()).expect("nobody wrote it"), None);
        let [start, end] = [100, 130].map(|second| Timestamp::from_second(second).expect("a time"));
        State::new(start, None).store(place.path()).expect("writes");
        let text = fs::read_to_string(place.path().join(FILE)).expect("is there");
        assert_eq!(text, r#"{"startTime":"1970-01-01T00:01:40Z","endTime":"0001-01-01T00:00:00Z"}"#);
        assert_eq!(State::load(place.path()).expect("reads").map(|state| state.times()), Some((Some(start), None)));
        State::new(start, Some(end)).store(place.path()).expect("writes");
        assert_eq!(State::load(place.path()).expect("reads").map(|state| state.times()), Some((Some(start), Some(end))));
        fs::write(place.path().join(FILE), "{").expect("writes");
        assert!(State::load(place.path()).is_err());
    }
}
