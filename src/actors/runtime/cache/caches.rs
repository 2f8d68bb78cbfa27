//! The caches of a process: one per kind and selection, made when first asked for, and looked at together.

use std::{
    any::{Any, TypeId},
    collections::HashMap,
    sync::Arc,
};

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use parking_lot::Mutex;
use troupe_api::{
    meta::{FieldSelector, GroupResource, ObjectKey},
    resources,
    service::WatchOptions,
    stored::KubeObject,
};
use troupe_api_client::{Api, Client};

use super::{
    Cache,
    definition::Definition,
    looking::Lags,
    reflector::{reflect, reflect_defined, reflect_if_allowed},
};
use crate::runtime::system::{System, TaskHandle};

/// Shared caches under one identity. Cheap to clone.
#[derive(Clone)]
pub struct Caches(Arc<Inner>);

struct Inner {
    system: System,
    client: Client,
    made: Mutex<HashMap<(TypeId, String), Made>>,
    lags: Lags,
}

struct Made {
    /// A `Cache<K>` of the key's type.
    cache: Box<dyn Any + Send>,
    _reflector: TaskHandle,
}

impl Caches {
    /// Caches that list and watch as `client`.
    pub fn new(system: System, client: Client) -> Self {
        Caches(Arc::new(Inner { lags: Lags::new(&system, &client), system, client, made: Mutex::default() }))
    }

    pub fn system(&self) -> &System {
        &self.0.system
    }

    pub fn client(&self) -> &Client {
        &self.0.client
    }

    /// Looks how far what watches under this identity feed is behind.
    pub fn lags(&self) -> &Lags {
        &self.0.lags
    }

    /// The cache of all objects of a kind.
    pub fn cache<K: KubeObject>(&self) -> Cache<K> {
        self.selected("", WatchOptions::default())
    }

    /// A cache of the objects that `selection` selects, shared by all who ask for the same `name`. Of a kind that is not built in it is empty
    /// while nobody defines that, or nobody lets us look.
    pub fn selected<K: KubeObject>(&self, name: &str, selection: WatchOptions) -> Cache<K> {
        let definition = (!resources::is_builtin(K::GROUP, K::KIND)).then(|| self.definition_of::<K>());
        self.fed(name, move |system, task, api, fed| match definition {
            None => system.spawn_task(task, move || reflect(api.clone(), selection.clone(), fed.clone())),
            Some(definition) => system.spawn_task(task, move || reflect_defined(definition.clone(), api.clone(), selection.clone(), fed.clone())),
        })
    }

    fn definition_of<K: KubeObject>(&self) -> Definition {
        let name = format!("{}.{}", K::URL_PATH_SEGMENT, K::GROUP);
        let fields = FieldSelector::parse(&format!("metadata.name={name}")).expect("the name of a definition is a valid field value");
        let selection = WatchOptions { fields, ..WatchOptions::default() };
        let cache: Cache<CustomResourceDefinition> = self.fed(&format!(" {name}"), move |system, task, api, fed| {
            system.spawn_task(task, move || reflect_if_allowed(api.clone(), selection.clone(), fed.clone()))
        });
        Definition::new(cache, ObjectKey::cluster(name.as_str()), K::VERSION)
    }

    /// The cache of a kind under a name; where there is none yet, `feed` starts what keeps it fed, as a task of the name it is given.
    fn fed<K: KubeObject>(&self, name: &str, feed: impl FnOnce(&System, &str, Api<K>, Cache<K>) -> TaskHandle) -> Cache<K> {
        let mut made = self.0.made.lock();
        let entry = made.entry((TypeId::of::<K>(), name.to_owned())).or_insert_with(|| {
            let path = format!("caches/{}{name}", K::KIND);
            let cache = Cache::<K>::named(path.as_str());
            self.0.lags.follow(cache.freshness(), GroupResource::new(K::GROUP, K::URL_PATH_SEGMENT));
            let reflector = feed(&self.0.system, &path, self.0.client.all::<K>(), cache.clone());
            Made { cache: Box::new(cache), _reflector: reflector }
        });
        entry.cache.downcast_ref::<Cache<K>>().expect("filed under its own type").clone()
    }
}
