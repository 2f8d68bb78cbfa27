use std::{sync::Arc, time::Duration};

use k8s_openapi::api::core::v1::Service;
use serde_json::{Value, json};
use troupe_api::{
    meta::{Object, ObjectKey},
    service::{DeleteOptions, ListOptions, PatchType},
};
use troupe_net::announce::FakeLinkAddresses;

use super::*;
use crate::{
    apiserver::testing::{TestApi, boot},
    controllers::service_lb::ServiceLoadBalancerController,
    runtime::{cache::Caches, controller},
};

struct World {
    api: TestApi,
    caches: Caches,
    links: Vec<(&'static str, Arc<FakeLinkAddresses>)>,
}

/// The controller with a pool of two, and announcers of two nodes.
async fn world() -> World {
    world_that(true).await
}

/// The same, where links are asked who has an address or not.
async fn world_that(asks: bool) -> World {
    let api = boot().await;
    let caches = Caches::new(api.server.system().clone(), api.client.clone());
    let pool = Some("192.0.2.10-192.0.2.11".parse().expect("a pool"));
    controller::start(api.server.system(), &caches, api.client.clone(), ServiceLoadBalancerController::new(&caches, pool));
    let mut links = Vec::new();
    for (name, ip) in [("one", [192_u8, 0, 2, 1]), ("two", [192, 0, 2, 2])] {
        node(&api, name).await;
        let fake = Arc::new(FakeLinkAddresses::new(vec![format!("{}/24", IpAddr::from(ip)).parse().expect("a network")]));
        let options = AnnouncerOptions {
            node_name: name.into(),
            node_ips: vec![ip.into()],
            services: caches.cache(),
            slices: caches.cache(),
            nodes: caches.cache(),
            links: fake.clone(),
            client: api.client.clone(),
            events: EventRecorder::on_host(api.server.system(), &api.client, "load-balancer", name),
            told_after: SignedDuration::ZERO,
            asks,
        };
        let policy = Policy::default();
        api.server.system().spawn(format!("{}-{name}", Announcer::PATH), policy, move |_| Announcer::new(options.clone()));
        links.push((name, fake));
    }
    World { api, caches, links }
}

async fn node(api: &TestApi, name: &str) {
    api.create(json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}})).await;
    ready(api, name, "True").await;
}

async fn ready(api: &TestApi, name: &str, status: &str) {
    let status = json!({"status": {"conditions": [{"type": "Ready", "status": status}]}});
    api.patch(api.subresource("nodes", "", name, "status"), PatchType::Merge, status).await.expect("is written");
}

async fn service(api: &TestApi, name: &str, more: Value) {
    let mut spec = json!({"type": "LoadBalancer", "ports": [{"port": 80}]});
    for (field, value) in more.as_object().into_iter().flatten() {
        spec[field] = value.clone();
    }
    api.create(json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": "default"}, "spec": spec})).await;
}

async fn eventually(what: &str, done: impl Fn() -> bool) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    while !done() {
        assert!(tokio::time::Instant::now() < deadline, "{what} does not happen");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

impl World {
    fn address(&self, name: &str) -> Option<String> {
        let service = self.caches.cache::<Service>().get(&ObjectKey::new("default", name))?;
        service.object.status.as_ref()?.load_balancer.as_ref()?.ingress.as_ref()?.first()?.ip.clone()
    }

    fn announcers(&self, address: &str) -> Vec<&'static str> {
        let address: IpAddr = address.parse().expect("an address");
        self.links.iter().filter(|(_, links)| links.announced().contains(&address)).map(|(name, _)| *name).collect()
    }
}

#[actix::test]
async fn an_address_is_given_announced_by_one_node_and_moves_when_that_is_lost() {
    let world = world().await;
    service(&world.api, "a", json!({})).await;
    eventually("a gets an address", || world.address("a").as_deref() == Some("192.0.2.10")).await;
    eventually("one node announces it", || world.announcers("192.0.2.10").len() == 1).await;
    let first = world.announcers("192.0.2.10")[0];
    assert!(world.links.iter().find(|(name, _)| *name == first).expect("there").1.lifetime().is_some(), "the other could take over");
    let other = if first == "one" { "two" } else { "one" };
    ready(&world.api, first, "Unknown").await;
    eventually("the other one announces it", || world.announcers("192.0.2.10") == [other]).await;
    ready(&world.api, first, "True").await;
    eventually("it moves back", || world.announcers("192.0.2.10") == [first]).await;
}

#[actix::test]
async fn addresses_are_released_and_given_to_who_waits() {
    let world = world().await;
    service(&world.api, "a", json!({"loadBalancerIP": "192.0.2.11"})).await;
    eventually("a gets what it asks for", || world.address("a").as_deref() == Some("192.0.2.11")).await;
    service(&world.api, "b", json!({})).await;
    eventually("b gets the other", || world.address("b").as_deref() == Some("192.0.2.10")).await;
    service(&world.api, "c", json!({})).await;
    service(&world.api, "foreign", json!({"loadBalancerClass": "example.com/other"})).await;
    world.api.delete("services", "default", "a", DeleteOptions::default()).await.expect("is deleted");
    eventually("a is gone", || world.caches.cache::<Service>().get(&ObjectKey::new("default", "a")).is_none()).await;
    eventually("c gets its address", || world.address("c").as_deref() == Some("192.0.2.11")).await;
    assert_eq!(world.address("foreign"), None);
    let plain = json!({"spec": {"type": "ClusterIP", "ports": [{"port": 80, "nodePort": null}]}});
    world.api.patch(world.api.target("services", "default", "b"), PatchType::Merge, plain).await.expect("is written");
    eventually("b gives its address back", || world.address("b").is_none()).await;
    eventually("nobody announces it", || world.announcers("192.0.2.10").is_empty()).await;
    let b = world.caches.cache::<Service>().get(&ObjectKey::new("default", "b")).expect("there");
    assert_eq!(b.object.metadata.finalizers.clone().unwrap_or_default(), Vec::<String>::new());
}

#[actix::test]
async fn an_address_that_a_stranger_answers_for_is_left_to_it() {
    let world = world().await;
    let stranger = |answers: bool| {
        world.links.iter().for_each(|(_, links)| links.set_stranger([192, 0, 2, 10].into(), answers));
    };
    stranger(true);
    service(&world.api, "a", json!({})).await;
    eventually("a gets the other address", || world.address("a").as_deref() == Some("192.0.2.11")).await;
    eventually("one node announces it", || world.announcers("192.0.2.11").len() == 1).await;
    assert!(world.announcers("192.0.2.10").is_empty());
    service(&world.api, "b", json!({})).await;
    let told = async || {
        let events = world.api.list("events", "default", ListOptions::default()).await.expect("listed");
        let of = |event: &Object, reason: &str| event.str(&["reason"]) == reason;
        let events: Vec<Object> = events.items.iter().map(|event| event.to_object()).collect();
        ["LoadBalancerAddressInUse", "SyncLoadBalancerFailed"].map(|reason| events.iter().any(|event| of(event, reason)))
    };
    for _ in 0..1000 {
        if told().await == [true, true] {
            break;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(told().await, [true, true], "the one of the conflict, and that b waits");
    assert_eq!(world.address("b"), None);
}

#[actix::test]
async fn addresses_are_announced_whoever_answers_where_nobody_is_to_be_asked() {
    let world = world_that(false).await;
    world.links.iter().for_each(|(_, links)| links.set_stranger([192, 0, 2, 10].into(), true));
    service(&world.api, "a", json!({})).await;
    eventually("a gets the first address", || world.address("a").as_deref() == Some("192.0.2.10")).await;
    eventually("one node announces it", || world.announcers("192.0.2.10").len() == 1).await;
}

#[actix::test]
async fn a_machine_that_answers_for_all_is_told_of_with_its_link() {
    let api = boot().await;
    let caches = Caches::new(api.server.system().clone(), api.client.clone());
    let pool = Some("192.0.2.10-192.0.2.30".parse().expect("a pool"));
    controller::start(api.server.system(), &caches, api.client.clone(), ServiceLoadBalancerController::new(&caches, pool));
    node(&api, "one").await;
    let fake = Arc::new(FakeLinkAddresses::new(vec!["192.0.2.1/24".parse().expect("a network")]));
    (10..=30_u8).for_each(|last| fake.set_stranger([192, 0, 2, last].into(), true));
    let options = AnnouncerOptions {
        node_name: "one".into(),
        node_ips: vec![[192, 0, 2, 1].into()],
        services: caches.cache(),
        slices: caches.cache(),
        nodes: caches.cache(),
        links: fake,
        client: api.client.clone(),
        events: EventRecorder::on_host(api.server.system(), &api.client, "load-balancer", "one"),
        told_after: SignedDuration::ZERO,
        asks: true,
    };
    Announcer::start(options, api.server.system());
    service(&api, "a", json!({})).await;
    let told = async || {
        let events = api.list("events", "default", ListOptions::default()).await.expect("listed").items;
        let event = events.iter().map(|event| event.to_object()).find(|event| event.str(&["reason"]) == "LoadBalancerLinkAnswersForAll")?;
        Some((event.str(&["involvedObject", "name"]).to_owned(), event.str(&["message"]).to_owned()))
    };
    for _ in 0..4000 {
        if told().await.is_some() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let (node, message) = told().await.expect("it is told");
    assert_eq!(node, "one");
    assert!(message.starts_with("On the link eth0 one machine (02:00:00:00:00:99) answers for 8 addresses"), "{message}");
    assert!(message.contains("--load-balancer-conflict-detection=false"), "{message}");
}
