//! Two API servers on one etcd: what one acknowledges the other knows, and they never hand out the same thing twice.

mod history;

use std::{cell::Cell, rc::Rc, sync::Arc, time::Duration};

use futures::{StreamExt, future::join_all};
use serde_json::{Value, json};
use troupe_api::{
    meta::Revision,
    service::{DeleteOptions, EventType, ListOptions, WatchItem, WatchOptions, WatchStream},
};
use troupe_api_server::store::etcd::testing::EtcdCluster;

use crate::apiserver::{
    ApiServerOptions,
    testing::{TestApi, boot_with},
};

/// Servers on a cluster of `size` members, which lives as long as they do.
struct Replicas {
    cluster: EtcdCluster,
    apis: Vec<Rc<TestApi>>,
    _dir: tempfile::TempDir,
}

async fn replicas(size: usize) -> Replicas {
    let dir = tempfile::tempdir().expect("a directory");
    let cluster = EtcdCluster::start(dir.path(), size);
    let mut apis = Vec::new();
    for _ in 0..2 {
        apis.push(Rc::new(boot_with(ApiServerOptions::new(Arc::new(cluster.connect().await))).await));
    }
    Replicas { cluster, apis, _dir: dir }
}

fn config_map(name: &str, value: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": "default"}, "data": {"v": value}})
}

async fn next(watch: &mut WatchStream) -> (EventType, String, Revision) {
    loop {
        match tokio::time::timeout(Duration::from_secs(10), watch.next()).await.expect("in time").expect("open") {
            WatchItem::Event { event, object, .. } => return (event, object.key.name.to_string(), object.revision),
            WatchItem::Bookmark { .. } => {}
            WatchItem::End(status) => panic!("ended: {status}"),
        }
    }
}

#[actix::test]
async fn what_one_server_acknowledges_the_other_reads_at_once() {
    let replicas = replicas(1).await;
    for n in 0..40 {
        let (here, there) = (&replicas.apis[n % 2], &replicas.apis[(n + 1) % 2]);
        let name = format!("a{n}");
        here.create(config_map(&name, "1")).await;
        let read = there.get("configmaps", "default", &name).await.expect("is there");
        there.try_update(config_map(&name, "2")).await.expect("updates");
        assert_eq!(here.get("configmaps", "default", &name).await.expect("is there").str(&["data", "v"]), "2");
        let mut stale = config_map(&name, "3");
        stale["metadata"]["resourceVersion"] = json!(read.resource_version());
        assert_eq!(here.try_update(stale).await.expect_err("conflicts").code, 409);
        // What was written back meanwhile is no change to who remembers it.
        here.try_update(config_map(&name, "1")).await.expect("updates");
        there.try_update(config_map(&name, "2")).await.expect("updates");
        assert_eq!(here.get("configmaps", "default", &name).await.expect("is there").str(&["data", "v"]), "2");
        assert!(there.names("configmaps", "default").await.contains(&name));
        here.delete("configmaps", "default", &name, DeleteOptions::default()).await.expect("deletes");
        assert_eq!(there.get("configmaps", "default", &name).await.expect_err("is gone").code, 404);
    }
}

#[actix::test]
async fn a_watch_goes_on_at_the_other_server_where_it_was() {
    let replicas = replicas(1).await;
    let (here, there) = (&replicas.apis[0], &replicas.apis[1]);
    let mut watch = here.watch("configmaps", "default", WatchOptions::default()).await;
    here.create(config_map("a", "1")).await;
    let (_, _, mut seen) = next(&mut watch).await;
    for n in 0..20 {
        drop(watch);
        let server = if n % 2 == 0 { there } else { here };
        here.try_update(config_map("a", &format!("before {n}"))).await.expect("updates");
        let options = WatchOptions { resource_version: Some(seen), ..WatchOptions::default() };
        watch = server.watch("configmaps", "default", options).await;
        let second = there.try_update(config_map("a", &format!("after {n}"))).await.expect("updates");
        let (_, _, first) = next(&mut watch).await;
        let (event, _, last) = next(&mut watch).await;
        assert!(first > seen && last > first);
        assert_eq!((event, last.to_string()), (EventType::Modified, second.resource_version().to_owned()));
        seen = last;
    }
}

#[actix::test]
async fn no_address_or_node_port_is_handed_out_twice() {
    let replicas = replicas(1).await;
    let service = |name: String| {
        json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": "default"},
            "spec": {"type": "NodePort", "selector": {"app": "web"}, "ports": [{"port": 80, "protocol": "TCP"}]}})
    };
    let creates = (0..60).map(|n| {
        let api = replicas.apis[n % 2].clone();
        async move { api.create(service(format!("s{n}"))).await }
    });
    let services = join_all(creates).await;
    let mut ips: Vec<_> = services.iter().map(|service| service.str(&["spec", "clusterIP"]).to_owned()).collect();
    let mut ports: Vec<_> = services.iter().map(|service| service.list(&["spec", "ports"])[0]["nodePort"].as_u64().expect("a port")).collect();
    ips.sort();
    ips.dedup();
    ports.sort_unstable();
    ports.dedup();
    assert_eq!((ips.len(), ports.len()), (60, 60));
    // Both want the same port and address now that they are free: one gets them.
    let (here, there) = (&replicas.apis[0], &replicas.apis[1]);
    here.delete("services", "default", "s0", DeleteOptions::default()).await.expect("deletes");
    let mut wanted = service("x".into());
    wanted["spec"]["clusterIP"] = json!(services[0].str(&["spec", "clusterIP"]));
    wanted["spec"]["ports"][0]["nodePort"] = services[0].list(&["spec", "ports"])[0]["nodePort"].clone();
    let mut other = wanted.clone();
    other["metadata"]["name"] = json!("y");
    let (left, right) = futures::join!(here.try_create(wanted), there.try_create(other));
    assert!(left.is_ok() != right.is_ok(), "{left:?} {right:?}");
}

/// Reads on and on until told to stop; how many there were, and what failed.
async fn read_on(api: Rc<TestApi>, stop: Rc<Cell<bool>>) -> (usize, Vec<String>) {
    let (mut reads, mut failures) = (0, Vec::new());
    while !stop.get() {
        reads += 1;
        let read = if reads % 2 == 0 {
            api.get("configmaps", "default", "a").await.map(drop)
        } else {
            api.list("configmaps", "default", ListOptions::default()).await.map(drop)
        };
        failures.extend(read.err().map(|status| status.to_string()));
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    (reads, failures)
}

#[actix::test]
async fn reads_wait_while_etcd_changes_its_leader() {
    let mut replicas = replicas(3).await;
    replicas.apis[0].create(config_map("a", "1")).await;
    for round in 0..2 {
        let leader = loop {
            match replicas.cluster.leader().await {
                Some(leader) => break leader,
                None => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        };
        let stop = Rc::new(Cell::new(false));
        let readers: Vec<_> = replicas.apis.iter().map(|api| actix_rt::spawn(read_on(api.clone(), stop.clone()))).collect();
        replicas.cluster.kill(leader);
        let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
        while let Err(status) = replicas.apis[round].try_update(config_map("a", &format!("{round}"))).await {
            assert!(tokio::time::Instant::now() < deadline, "{status}");
        }
        stop.set(true);
        for reader in readers {
            let (reads, failures) = reader.await.expect("no panic");
            assert!(reads > 0 && failures.is_empty(), "of {reads} reads failed: {failures:?}");
        }
        replicas.cluster.restart(leader);
    }
}

#[actix::test]
async fn events_that_expire_together_leave_the_caches_together() {
    let replicas = replicas(1).await;
    let store = replicas.cluster.connect().await;
    let ttl = Some(Duration::from_secs(3));
    for n in 0..50 {
        let event = json!({"kind": "Event", "apiVersion": "v1", "metadata": {"name": format!("e{n}"), "namespace": "default", "uid": "u"}});
        let key = format!("/registry/events/default/e{n}");
        troupe_api_server::store::Store::create(&store, key.into(), event.to_string().into(), ttl).await.expect("creates");
    }
    let api = &replicas.apis[0];
    assert_eq!(api.names("events", "default").await.len(), 50);
    let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
    while !api.names("events", "default").await.is_empty() {
        assert!(tokio::time::Instant::now() < deadline, "some are left: {:?}", api.names("events", "default").await);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
