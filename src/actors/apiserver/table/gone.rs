//! Metrics of custom resources go with them: whoever makes and deletes definitions again and again leaves no series behind.

use std::{collections::BTreeSet, sync::Arc};

use troupe_api::{
    metrics::{Collect, Departures, SeriesLabels},
    resources::Resource,
};
use troupe_api_server::{conversion, http::monitor};

use crate::apiserver::cache::metrics::COLLECTORS;

/// Group, plural and version.
type Key = (Arc<str>, Arc<str>, Arc<str>);

/// The versions of custom resources that are served, and those that were.
#[derive(Debug, Default)]
pub(super) struct Gone(Departures<Key>);

impl Gone {
    /// Takes in what is served now, and forgets the series of what is not any more.
    pub fn follow(&mut self, custom: &[Arc<Resource>]) {
        let keys = custom.iter().flat_map(|row| row.served.iter().map(|served| (row.group.clone(), row.plural.clone(), served.version.clone())));
        if self.0.follow(keys.collect::<BTreeSet<Key>>()) {
            let families = monitor::COLLECTORS.iter().chain(&COLLECTORS).chain(&conversion::metrics::COLLECTORS);
            families.for_each(|family: &&dyn Collect| family.forget(&|labels| self.is_gone(labels)));
        }
    }

    /// Whether a series is of something that is gone.
    fn is_gone(&self, labels: &SeriesLabels<'_>) -> bool {
        if let Some(definition) = labels.get("crd_name") {
            let is_of = |(group, plural, _): &Key| definition.strip_prefix(&**plural).and_then(|rest| rest.strip_prefix('.')) == Some(&**group);
            let versions = [labels.get("from_version"), labels.get("to_version")];
            return self.0.gone().any(|key| is_of(key) && versions.contains(&Some(&*key.2)));
        }
        let (Some(group), Some(plural)) = (labels.get("group"), labels.get("resource")) else { return false };
        let is_of = |key: &Key| *key.0 == *group && *key.1 == *plural;
        match labels.get("version") {
            Some(version) => self.0.gone().any(|key| is_of(key) && *key.2 == *version),
            // It counts all versions together.
            None => self.0.gone().any(is_of) && !self.0.is_present(is_of),
        }
    }
}
