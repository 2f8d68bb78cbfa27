//! Writes whose replies got lost: nobody knows whether they were taken. Before a key is planned again the caches show what they did, if anything.

use std::{collections::BTreeSet, time::Duration};

use futures::future::{BoxFuture, join_all};
use tokio::time::{sleep, timeout};
use troupe_api::{
    meta::{GroupResource, Revision},
    service::{ListOptions, Operation, ReplyBody, Target},
    stored::KubeObject,
};
use troupe_api_client::Client;

use crate::runtime::cache::Cache;

/// In which a server tells its watches what it has taken. Who cannot be asked is asked again after as long.
const TOLD_WITHIN: Duration = Duration::from_secs(1);
/// A watch that is stuck is replaced in this time.
const PATIENCE: Duration = Duration::from_secs(30);

/// A cache that a controller reads, whatever its kind.
pub(super) struct ReadCache {
    resource: GroupResource,
    version: &'static str,
    reaches: Box<Reaches>,
}

/// Waits until the cache shows everything up to a revision.
type Reaches = dyn Fn(Revision) -> BoxFuture<'static, ()> + Send + Sync;

impl ReadCache {
    pub fn of<K: KubeObject>(cache: &Cache<K>) -> Self {
        let cache = cache.clone();
        let reaches = move |revision: Revision| -> BoxFuture<'static, ()> {
            let cache = cache.clone();
            Box::pin(async move {
                cache.wait_for(revision, PATIENCE).await;
            })
        };
        ReadCache { resource: GroupResource::new(K::GROUP, K::URL_PATH_SEGMENT), version: K::VERSION, reaches: Box::new(reaches) }
    }
}

/// Waits until `caches` show what writes of these resources did, for [`PATIENCE`] at most: the server may be away for long.
pub(super) async fn shown(client: &Client, resources: &BTreeSet<GroupResource>, caches: &[ReadCache]) {
    let all = resources.iter().map(|resource| async move {
        let read: Vec<_> = caches.iter().filter(|cache| cache.resource == *resource).collect();
        let Some(first) = read.first() else { return };
        let revision = taken(client, first).await;
        join_all(read.iter().map(|cache| (cache.reaches)(revision))).await;
    });
    let _ = timeout(PATIENCE, join_all(all)).await;
}

/// Up to where watches like this cache's show everything that the server has taken by now.
async fn taken(client: &Client, cache: &ReadCache) -> Revision {
    loop {
        let listed = newest(client, cache).await;
        sleep(TOLD_WITHIN).await;
        let Some(listed) = listed else { continue };
        let told = client.service().announced(vec![cache.resource.clone()]).await;
        // Servers of others do not say what they have told.
        return told.revisions.first().copied().flatten().unwrap_or(listed);
    }
}

/// The revision of a list as it is now; `None` where there is no answer.
async fn newest(client: &Client, cache: &ReadCache) -> Option<Revision> {
    let resource = client.service().registry().by_resource(&cache.resource.group, &cache.resource.resource)?;
    let target = Target { resource, version: cache.version.into(), namespace: "".into(), name: "".into(), subresource: "".into() };
    let reply = client.call(target, Operation::List(ListOptions { limit: 1, ..ListOptions::default() })).await.ok()?;
    let ReplyBody::List(list) = reply.body else { return None };
    Some(list.revision)
}
