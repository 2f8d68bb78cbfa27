//! Groups and versions that other servers answer for, as API services say, and how all of them are ordered. Pure.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use bytes::Bytes;

use super::{Resource, discovered, discovered::DiscoveredVersion, priorities::Priority};

/// What is known of the OpenAPI documents of a version.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Documents {
    pub v3: Option<DocumentV3>,
    /// The v2 document as JSON, cut down to the version's own paths.
    pub v2: Option<Bytes>,
}

/// A document of OpenAPI v3.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DocumentV3 {
    /// The server has it, in the version that this hash names.
    AtServer { hash: String },
    /// It was made of the server's v2 document.
    Made(Bytes),
}

/// A version of a group that another server answers for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemoteVersion {
    pub discovered: DiscoveredVersion,
    pub priority: Priority,
    pub documents: Documents,
}

impl RemoteVersion {
    /// One of which nothing is known but that its server cannot be asked.
    pub fn stale(group: &Arc<str>, version: &Arc<str>) -> Self {
        let discovered = DiscoveredVersion { group: group.clone(), version: version.clone(), resources: Vec::new(), stale: true };
        RemoteVersion { discovered, priority: Priority::CUSTOM, documents: Documents::default() }
    }

    fn api_version(&self) -> String {
        format!("{}/{}", self.discovered.group, self.discovered.version)
    }
}

/// By group, then by version: looked up without allocating.
type ByVersion<T> = HashMap<Arc<str>, HashMap<Arc<str>, T>>;

/// All of them at one moment. Immutable.
#[derive(Debug, Default)]
pub struct Aggregated {
    versions: Vec<Arc<RemoteVersion>>,
    by_version: ByVersion<Arc<RemoteVersion>>,
    /// What API services say of versions that are served here, where it is not what they say by themselves.
    priorities: ByVersion<Priority>,
    rows: Vec<Arc<Resource>>,
    /// What a client was told that its server serves, by group and version.
    told: HashMap<Arc<str>, HashSet<Arc<str>>>,
}

impl Aggregated {
    pub fn new(versions: Vec<Arc<RemoteVersion>>, priorities: impl Iterator<Item = (Arc<str>, Arc<str>, Priority)>) -> Self {
        let mut all = Aggregated { versions, ..Aggregated::default() };
        for version in &all.versions {
            let (group, name) = (version.discovered.group.clone(), version.discovered.version.clone());
            all.by_version.entry(group).or_default().insert(name, version.clone());
        }
        for (group, version, priority) in priorities {
            all.priorities.entry(group).or_default().insert(version, priority);
        }
        all.rows = discovered::rows(all.versions.iter().map(|version| &version.discovered), |_, _| false);
        all
    }

    /// What a client knows whose server tells it of these.
    pub fn told(versions: &[DiscoveredVersion]) -> Self {
        let stale = versions.iter().filter(|version| version.stale).map(|version| Arc::new(RemoteVersion::stale(&version.group, &version.version)));
        // Nothing of them is served elsewhere: the server that tells it is asked for them.
        let mut all = Aggregated { versions: stale.collect(), ..Aggregated::default() };
        for version in versions {
            all.told.entry(version.group.clone()).or_default().insert(version.version.clone());
        }
        all
    }

    /// Whether a client was told that its server serves the version.
    pub fn is_told(&self, group: &str, version: &str) -> bool {
        self.told.get(group).is_some_and(|versions| versions.contains(version))
    }

    pub fn versions(&self) -> &[Arc<RemoteVersion>] {
        &self.versions
    }

    /// The version, where another server answers for it.
    pub fn version(&self, group: &str, version: &str) -> Option<&Arc<RemoteVersion>> {
        self.by_version.get(group)?.get(version)
    }

    /// What an API service says of a version that is served here.
    pub fn priority(&self, group: &str, version: &str) -> Option<Priority> {
        self.priorities.get(group)?.get(version).copied()
    }

    /// The resources that other servers have.
    pub fn rows(&self) -> &[Arc<Resource>] {
        &self.rows
    }

    /// The versions whose servers cannot be asked, as `apiVersion` names them, in their order.
    pub fn stale(&self) -> Vec<String> {
        let mut stale: Vec<String> = self.versions.iter().filter(|version| version.discovered.stale).map(|version| version.api_version()).collect();
        stale.sort_unstable();
        stale
    }
}
