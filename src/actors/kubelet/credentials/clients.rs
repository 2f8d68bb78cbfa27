//! Credentials in configurations of registry clients on this node, which all of its pods may use: `config.json` in the kubelet's directory, where it
//! was started, in `~/.docker` or `/.docker`, or else an older `.dockercfg`. As upstream, the first one that can be read counts alone; each pull reads
//! it anew.

use std::{
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
};

use serde_json::Value;

use super::{
    keyring::Keyring,
    model::Credential,
    secrets::{auth, places},
};
use crate::files::blocking;

const NEWER: &str = "config.json";
const OLDER: &str = ".dockercfg";
/// Bytes of a file that are read.
const LONGEST: u64 = 10 << 20;

/// Where such files are looked for, in this order. The default looks nowhere.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientFiles {
    newer: Vec<PathBuf>,
    older: Vec<PathBuf>,
}

impl ClientFiles {
    /// Those of a kubelet with this directory, started there, by a user with this home.
    pub fn of_node(root: &Path, started: Option<&Path>, home: Option<&Path>) -> Self {
        let both = || std::iter::once(root).chain(started);
        let homes = home.into_iter().chain([Path::new("/")]);
        ClientFiles {
            newer: both().map(|folder| folder.join(NEWER)).chain(homes.clone().map(|folder| folder.join(".docker").join(NEWER))).collect(),
            older: both().chain(homes).map(|folder| folder.join(OLDER)).collect(),
        }
    }

    /// All that the first of them has.
    pub async fn keyring(&self) -> Keyring {
        if self.newer.is_empty() && self.older.is_empty() {
            return Keyring::default();
        }
        let files = self.clone();
        blocking(move || files.read()).await
    }

    fn read(&self) -> Keyring {
        let newer = self.newer.iter().find_map(|path| read(path, true));
        newer.or_else(|| self.older.iter().find_map(|path| read(path, false))).unwrap_or_default()
    }
}

/// What a file has; `None` for one that is not there or is none.
fn read(path: &Path, is_newer: bool) -> Option<Keyring> {
    let config = match decoded(path) {
        Ok(config) => config,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
        Err(error) => {
            tracing::debug!(%error, path = %path.display(), "a configuration of a registry client that cannot be read");
            return None;
        }
    };
    let mut keyring = Keyring::default();
    for (place, entry) in places(config, is_newer) {
        match auth(entry) {
            Ok(auth) => keyring.add(&place, Credential::new(auth, None)),
            // Why could quote what is in it.
            Err(()) => tracing::warn!(path = %path.display(), place, "credentials that cannot be read"),
        }
    }
    Some(keyring)
}

fn decoded(path: &Path) -> io::Result<Value> {
    let mut text = Vec::new();
    File::open(path)?.take(LONGEST).read_to_end(&mut text)?;
    // Why could quote what is in it.
    serde_json::from_slice(&text).map_err(|_| io::Error::other("it is no JSON"))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use serde_json::json;

    use super::*;

    fn users(files: &ClientFiles) -> Vec<(String, bool)> {
        let found = files.read().lookup("registry.example/a");
        found.into_iter().map(|credential| (credential.auth.username, credential.source.is_none())).collect()
    }

    fn write(path: PathBuf, config: &Value) {
        fs::create_dir_all(path.parent().expect("a folder")).expect("makes");
        fs::write(path, config.to_string()).expect("writes");
    }

    #[tokio::test]
    async fn the_first_configuration_that_can_be_read_counts() {
        let place = tempfile::tempdir().expect("a directory");
        let (root, home) = (place.path().join("kubelet"), place.path().join("home"));
        let files = ClientFiles { newer: Vec::new(), older: Vec::new() };
        assert_eq!(files.keyring().await, Keyring::default());
        let files = ClientFiles::of_node(&root, None, Some(&home));
        let entry = |user: &str| json!({"registry.example": {"username": user, "password": "p"}});
        write(home.join(".dockercfg"), &entry("oldest"));
        assert_eq!(users(&files), [("oldest".to_owned(), true)], "all pods of the node may use it");
        write(home.join(".docker/config.json"), &json!({"auths": entry("home"), "HttpHeaders": {"A": "b"}}));
        assert_eq!(users(&files), [("home".to_owned(), true)]);
        write(root.join("config.json"), &json!({"auths": entry("node")}));
        assert_eq!(users(&files), [("node".to_owned(), true)]);
        fs::write(root.join("config.json"), "{").expect("writes");
        assert_eq!(users(&files), [("home".to_owned(), true)], "what is none is passed over");
    }

    #[test]
    fn files_are_looked_for_where_upstream_looks() {
        let files = ClientFiles::of_node(Path::new("/k"), Some(Path::new("/w")), Some(Path::new("/root")));
        let paths = |all: &[&str]| all.iter().map(PathBuf::from).collect::<Vec<_>>();
        assert_eq!(files.newer, paths(&["/k/config.json", "/w/config.json", "/root/.docker/config.json", "/.docker/config.json"]));
        assert_eq!(files.older, paths(&["/k/.dockercfg", "/w/.dockercfg", "/root/.dockercfg", "/.dockercfg"]));
    }
}
