//! The webhooks of all configurations of a kind, compiled anew when one of them changed.

use std::sync::Arc;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use troupe_api::{
    meta::{GroupResource, Revision},
    metrics::Departures,
    service::Listers,
    status::Status,
};

use super::{
    GROUP,
    configuration::{Hook, hooks},
    metrics,
};

/// See the module. Looking at it costs a request two looks at tables.
pub struct Index {
    resource: GroupResource,
    compiled: ArcSwap<Compiled>,
    /// As metrics name the kind.
    kind: &'static str,
    names: Mutex<Departures<Box<str>>>,
}

#[derive(Default)]
struct Compiled {
    /// Of the configurations it was made of.
    version: Option<Revision>,
    hooks: Arc<[Arc<Hook>]>,
}

impl Index {
    pub fn new(plural: &str, kind: &'static str) -> Self {
        Index { resource: GroupResource::new(GROUP, plural), compiled: ArcSwap::default(), kind, names: Mutex::default() }
    }

    /// All webhooks, by the names of their configurations and then in order.
    ///
    /// # Errors
    /// 503 when a configuration cannot be read.
    pub fn hooks(&self, listers: &dyn Listers) -> Result<Arc<[Arc<Hook>]>, Status> {
        // Asked before the list, which may be newer: then it is made once more.
        let version = listers.version(&self.resource);
        let compiled = self.compiled.load();
        if version.is_some() && compiled.version == version {
            return Ok(compiled.hooks.clone());
        }
        listers.require(&self.resource)?;
        let configurations = listers.list(&self.resource, "");
        let hooks: Arc<[Arc<Hook>]> = configurations.iter().flat_map(|stored| hooks(&stored.to_object())).map(Arc::new).collect();
        self.compiled.store(Arc::new(Compiled { version, hooks: hooks.clone() }));
        let mut names = self.names.lock();
        if names.follow(hooks.iter().map(|hook| hook.name.as_str().into()).collect()) {
            metrics::forget(self.kind, &names);
        }
        drop(names);
        Ok(hooks)
    }
}
