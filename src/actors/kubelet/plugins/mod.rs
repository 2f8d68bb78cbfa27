//! Plugins of this node: whoever makes a socket in `plugins_registry` is asked what it is (`pluginregistration/v1`), and told
//! whether it is known from now on.
//!
//! The directory is looked at every second. A socket that is there again after it was gone, or was made anew, is another plugin.

pub mod proto;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    os::unix::fs::{FileTypeExt, MetadataExt},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use serde_json::{Value, json};
use troupe_unix_grpc::{Service, words};

use self::proto::{InfoRequest, PluginInfo, RegistrationStatus, RegistrationStatusResponse};
use crate::{
    files::blocking,
    runtime::host::{Unit, UnitContext},
};

const LOOK: Duration = Duration::from_secs(1);
/// How long a plugin may take to say what it is.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long one that failed is left alone, at first and at most.
const FIRST_RETRY: Duration = Duration::from_millis(500);
const LONGEST_RETRY: Duration = Duration::from_secs(122);
/// More sockets than this are nobody's plugins.
const MOST: usize = 1000;

/// A plugin as it says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plugin {
    pub kind: String,
    pub name: String,
    pub endpoint: PathBuf,
    pub versions: Vec<String>,
}

/// Whoever wants to know of plugins of one kind.
#[async_trait]
pub trait Handler: Send + Sync + 'static {
    /// # Errors
    /// Why a plugin is not one of these.
    fn validate(&self, plugin: &Plugin) -> Result<(), String>;
    /// # Errors
    /// Why it is not known now; it is tried again.
    async fn register(&self, plugin: &Plugin) -> Result<(), String>;
    /// Its socket is gone.
    async fn deregister(&self, name: &str, endpoint: &Path);
}

/// By kind: `CSIPlugin`, `DRAPlugin`, `DevicePlugin`.
pub type Handlers = BTreeMap<&'static str, Arc<dyn Handler>>;

/// Which file a socket is.
type Made = (u64, u64, i64, i64);

/// What is known of a socket.
#[derive(Clone, Debug)]
struct Known {
    made: Made,
    plugin: Option<Plugin>,
    /// Since the last success, and when the next try is due.
    failures: u32,
    retry_at: Instant,
}

/// The unit that watches the directory.
pub struct PluginWatcher {
    directory: PathBuf,
    handlers: Arc<Handlers>,
    known: BTreeMap<PathBuf, Known>,
    /// Those of which something is under way.
    busy: BTreeSet<PathBuf>,
}

/// What is to be done about sockets.
#[derive(Debug, Default, PartialEq)]
struct Plan {
    gone: Vec<PathBuf>,
    new: Vec<(PathBuf, Made)>,
}

fn plan(known: &BTreeMap<PathBuf, Known>, busy: &BTreeSet<PathBuf>, found: &BTreeMap<PathBuf, Made>, now: Instant) -> Plan {
    let mut plan = Plan::default();
    for (path, known) in known.iter().filter(|(path, _)| !busy.contains(*path)) {
        if found.get(path) != Some(&known.made) {
            plan.gone.push(path.clone());
        }
    }
    for (path, made) in found.iter().filter(|(path, _)| !busy.contains(*path)) {
        let is_due = match known.get(path) {
            Some(known) if known.made == *made => known.plugin.is_none() && known.retry_at <= now,
            // It goes before it comes again.
            Some(_) => false,
            None => true,
        };
        if is_due {
            plan.new.push((path.clone(), *made));
        }
    }
    plan
}

/// The sockets below a directory, two levels deep as upstream looks; names that begin with a dot are being made.
fn sockets(directory: &Path) -> BTreeMap<PathBuf, Made> {
    let mut found = BTreeMap::new();
    let mut folders = vec![(directory.to_owned(), 0)];
    while let Some((folder, depth)) = folders.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            let path = entry.path();
            let is_hidden = entry.file_name().to_string_lossy().starts_with('.');
            let Ok(meta) = fs::symlink_metadata(&path) else { continue };
            if meta.is_dir() && depth < 2 && !is_hidden {
                folders.push((path, depth + 1));
            } else if meta.file_type().is_socket() && !is_hidden && found.len() < MOST {
                found.insert(path, (meta.dev(), meta.ino(), meta.ctime(), meta.ctime_nsec()));
            }
        }
    }
    found
}

/// Asks who is behind a socket, and makes it known.
async fn register(socket: &Path, handlers: &Handlers) -> Result<Plugin, String> {
    let service = Service::new(socket, PATIENCE);
    let asked: Result<PluginInfo, _> = service.ask("/pluginregistration.Registration/GetInfo", InfoRequest {}).await;
    let info =
        asked.map_err(|status| format!("failed to get plugin info using RPC GetInfo at socket {}, err: {}", socket.display(), words(&status)))?;
    let endpoint = if info.endpoint.is_empty() { socket.to_owned() } else { PathBuf::from(info.endpoint.trim_start_matches("unix://")) };
    let plugin = Plugin { kind: info.kind, name: info.name, endpoint, versions: info.supported_versions };
    let outcome = match handlers.get(plugin.kind.as_str()) {
        None => Err(format!("no handler registered for plugin type: {} at socket {}", plugin.kind, socket.display())),
        Some(handler) => match handler.validate(&plugin) {
            Ok(()) => handler.register(&plugin).await,
            Err(why) => Err(why),
        },
    };
    let error = outcome.as_ref().err().cloned().unwrap_or_default();
    let status = RegistrationStatus { plugin_registered: outcome.is_ok(), error };
    let told: Result<RegistrationStatusResponse, _> = service.ask("/pluginregistration.Registration/NotifyRegistrationStatus", status).await;
    outcome?;
    if let Err(status) = told {
        // It is known here; upstream takes it as registered, too.
        tracing::debug!(plugin = plugin.name, error = words(&status), "a plugin was not told that it is registered");
    }
    Ok(plugin)
}

impl PluginWatcher {
    pub fn new(directory: PathBuf, handlers: Arc<Handlers>) -> Self {
        PluginWatcher { directory, handlers, known: BTreeMap::new(), busy: BTreeSet::new() }
    }

    fn look(&mut self, cx: &mut UnitContext<'_, Self>) {
        let directory = self.directory.clone();
        let find = async move { blocking(move || sockets(&directory)).await };
        cx.spawn_then(find, |watcher, found, cx| {
            let plan = plan(&watcher.known, &watcher.busy, &found, Instant::now());
            for path in plan.gone {
                let known = watcher.known.remove(&path);
                if let Some(plugin) = known.and_then(|known| known.plugin) {
                    watcher.busy.insert(path.clone());
                    let handlers = watcher.handlers.clone();
                    let work = async move {
                        if let Some(handler) = handlers.get(plugin.kind.as_str()) {
                            handler.deregister(&plugin.name, &plugin.endpoint).await;
                        }
                    };
                    cx.spawn_then(work, move |watcher, (), _| {
                        watcher.busy.remove(&path);
                    });
                }
            }
            for (path, made) in plan.new {
                watcher.busy.insert(path.clone());
                let (handlers, socket) = (watcher.handlers.clone(), path.clone());
                cx.spawn_then(async move { register(&socket, &handlers).await }, move |watcher, plugin, _| {
                    watcher.busy.remove(&path);
                    watcher.note(path, made, plugin);
                });
            }
            cx.after(LOOK, Self::look);
        });
    }

    fn note(&mut self, path: PathBuf, made: Made, plugin: Result<Plugin, String>) {
        let failures = self.known.get(&path).filter(|known| known.made == made).map_or(0, |known| known.failures);
        let known = match plugin {
            Ok(plugin) => Known { made, plugin: Some(plugin), failures: 0, retry_at: Instant::now() },
            Err(error) => {
                if failures == 0 {
                    tracing::warn!(error, socket = %path.display(), "plugin not registered");
                }
                let pause = FIRST_RETRY.saturating_mul(1 << failures.min(10)).min(LONGEST_RETRY);
                Known { made, plugin: None, failures: failures + 1, retry_at: Instant::now() + pause }
            }
        };
        self.known.insert(path, known);
    }
}

impl Unit for PluginWatcher {
    fn started(&mut self, cx: &mut UnitContext<'_, Self>) {
        self.look(cx);
    }

    fn observe(&self) -> Value {
        let all = self.known.iter().map(|(path, known)| {
            let plugin = known.plugin.as_ref();
            json!({"socket": path, "kind": plugin.map(|plugin| &plugin.kind), "name": plugin.map(|plugin| &plugin.name), "failures": known.failures})
        });
        json!({"plugins": all.collect::<Vec<_>>()})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_is_asked_once_unless_it_failed_or_is_another() {
        let now = Instant::now();
        let plugin = Plugin { kind: "CSIPlugin".into(), name: "d".into(), endpoint: "/e".into(), versions: Vec::new() };
        let (one, other): (Made, Made) = ((1, 1, 1, 1), (1, 2, 1, 1));
        let path = PathBuf::from("/r/s");
        let with = |plugin: Option<Plugin>, retry_at| BTreeMap::from([(path.clone(), Known { made: one, plugin, failures: 0, retry_at })]);
        let found = |made| BTreeMap::from([(path.clone(), made)]);
        let new = |made| Plan { gone: Vec::new(), new: vec![(path.clone(), made)] };
        let none = BTreeSet::new();
        let busy = BTreeSet::from([path.clone()]);
        assert_eq!(plan(&BTreeMap::new(), &busy, &found(one), now), Plan::default());
        assert_eq!(plan(&BTreeMap::new(), &none, &found(one), now), new(one));
        assert_eq!(plan(&with(Some(plugin.clone()), now), &none, &found(one), now), Plan::default());
        assert_eq!(plan(&with(None, now + LOOK), &none, &found(one), now), Plan::default(), "it failed a moment ago");
        assert_eq!(plan(&with(None, now), &none, &found(one), now), new(one));
        assert_eq!(plan(&with(Some(plugin.clone()), now), &none, &found(other), now), Plan { gone: vec![path.clone()], new: Vec::new() });
        assert_eq!(plan(&with(Some(plugin), now), &none, &BTreeMap::new(), now), Plan { gone: vec![path.clone()], new: Vec::new() });
    }

    #[test]
    fn only_sockets_count_and_not_those_that_are_being_made() {
        let place = tempfile::tempdir().expect("a directory");
        fs::create_dir(place.path().join("d")).expect("makes");
        let bind = |name: &str| std::os::unix::net::UnixListener::bind(place.path().join(name)).expect("binds");
        let _sockets = [bind("a.sock"), bind(".b.sock"), bind("d/c.sock")];
        fs::write(place.path().join("file"), "").expect("writes");
        let found: Vec<_> = sockets(place.path()).into_keys().collect();
        assert_eq!(found, [place.path().join("a.sock"), place.path().join("d/c.sock")]);
    }
}
