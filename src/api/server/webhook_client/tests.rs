use std::{collections::HashMap, sync::Arc, time::Duration};

use serde_json::{Value, json};
use troupe_api::{
    meta::{Cause, GroupResource, Object, ObjectKey, SystemClock},
    resources::{
        Registry, builtin,
        webhook_config::{Address, ClientConfig},
    },
    service::Listers,
    spans::{Place, SpanKind, Tracer, within},
    stored::StoredObject,
};

use super::{
    Client, Endpoint,
    destination::{Destination, find, resolve},
    testing::Server,
};

/// What a cluster has, by plural and name.
#[derive(Default)]
struct Known(HashMap<(&'static str, &'static str), Arc<StoredObject>>);

impl Known {
    fn with(mut self, plural: &'static str, name: &'static str, object: Value) -> Self {
        let mut object = Object::from_value(object).expect("an object");
        let row = Registry::new(builtin()).by_resource("", plural).expect("is served");
        object.set_gvk(&row.storage_gvk());
        self.0.insert((plural, name), Arc::new(StoredObject::from_object(&object).expect("is stored")));
        self
    }
}

impl Listers for Known {
    fn get(&self, resource: &GroupResource, key: &ObjectKey) -> Option<Arc<StoredObject>> {
        self.0.iter().find(|((plural, name), _)| **plural == *resource.resource && **name == *key.name).map(|(_, object)| object.clone())
    }

    fn list(&self, _: &GroupResource, _: &str) -> Vec<Arc<StoredObject>> {
        Vec::new()
    }
}

fn of_service(port: u16) -> Address {
    Address::Service { namespace: "n".into(), name: "s".into(), path: "/".into(), port }
}

#[test]
fn a_service_leads_to_a_pod_that_is_ready_behind_it() {
    let metadata = |name: &str| json!({"name": name, "namespace": "n"});
    let service =
        json!({"metadata": metadata("s"), "spec": {"type": "ClusterIP", "clusterIP": "10.96.0.9", "ports": [{"name": "web", "port": 443}]}});
    let subsets =
        |addresses: Value| json!({"metadata": metadata("s"), "subsets": [{"addresses": addresses, "ports": [{"name": "web", "port": 8443}]}]});
    let pod = json!({"metadata": metadata("p"), "status": {"podIPs": [{"ip": "10.0.0.7"}]}});
    let known = || Known::default().with("services", "s", service.clone()).with("pods", "p", pod.clone());
    let to = |host: &str, port: u16| Ok(Destination { host: host.into(), port });
    let of_pod = |ip: &str| json!([{"ip": ip, "targetRef": {"kind": "Pod", "name": "p"}}]);
    assert_eq!(find(&of_service(443), &known().with("endpoints", "s", subsets(of_pod("10.0.0.7")))), to("10.0.0.7", 8443));
    // Who says that another address is the pod's leads nobody there but through the service proxy.
    assert_eq!(find(&of_service(443), &known().with("endpoints", "s", subsets(of_pod("10.0.0.1")))), to("10.96.0.9", 443));
    let none = Err("no endpoints available for service \"s\"".to_owned());
    assert_eq!(find(&of_service(443), &known().with("endpoints", "s", subsets(json!([])))), none);
    assert_eq!(find(&of_service(443), &known()), none);
    assert_eq!(find(&of_service(80), &known()), Err("no service port 80 found for service \"s\"".to_owned()));
    assert_eq!(find(&of_service(443), &Known::default()), Err("service \"s\" not found".to_owned()));
}

#[test]
fn a_url_leads_to_its_host() {
    for (url, host, port) in
        [("https://a.example.com/x", "a.example.com", 443), ("https://10.0.0.1:8443", "10.0.0.1", 8443), ("https://[fd00::1]:1/", "fd00::1", 1)]
    {
        assert_eq!(find(&Address::Url(url.into()), &Known::default()), Ok(Destination { host: host.into(), port }), "{url}");
    }
}

#[tokio::test]
async fn nothing_leads_to_this_machine_or_to_the_metadata_of_its_cloud() {
    for host in ["127.0.0.1", "localhost", "::1", "::ffff:127.0.0.1", "0.0.0.0", "169.254.169.254", "fe80::1"] {
        let destination = Destination { host: host.into(), port: 443 };
        assert!(resolve(&destination, false).await.is_err(), "{host}");
    }
    let there = Destination { host: "192.0.2.1".into(), port: 443 };
    assert_eq!(resolve(&there, false).await.map(|found| found.len()), Ok(1));
}

#[test]
fn a_configuration_names_a_url_or_a_service() {
    let service = json!({"service": {"namespace": "n", "name": "s", "path": "/x"}, "caBundle": "IAo="});
    let read = ClientConfig::read(&service);
    assert_eq!(read.address, Address::Service { namespace: "n".into(), name: "s".into(), path: "/x".into(), port: 443 });
    assert!(read.authorities.is_empty(), "nothing but space stands for nothing");
    let read = ClientConfig::read(&json!({"url": "https://a.example.com/x", "caBundle": "Y2E="}));
    assert_eq!((read.address, &*read.authorities), (Address::Url("https://a.example.com/x".into()), &b"ca"[..]));
}

#[tokio::test]
async fn a_kubeconfigs_server_may_have_signed_its_certificate_itself() {
    for server in [Server::serve(|_, _| (200, "fine".to_owned())).await, Server::serve_alone(|_, _| (200, "fine".to_owned())).await] {
        let endpoint = Endpoint::of_kubeconfig(&server.kubeconfig).expect("works");
        let answer = endpoint.post("{}".into(), Duration::from_secs(10), 100).await;
        assert_eq!(answer.as_deref(), Ok(&b"fine"[..]));
        assert_eq!(server.asked().len(), 1);
    }
}

#[tokio::test]
async fn a_server_that_another_than_the_named_one_vouches_for_is_not_asked() {
    let (server, other) = (Server::serve_alone(|_, _| (200, "fine".to_owned())).await, Server::serve_alone(|_, _| (200, "fine".to_owned())).await);
    let port = |server: &Server| format!(":{}/", server.port);
    let text = std::fs::read_to_string(&other.kubeconfig).expect("reads");
    std::fs::write(&other.kubeconfig, text.replace(&port(&other), &port(&server))).expect("writes");
    let endpoint = Endpoint::of_kubeconfig(&other.kubeconfig).expect("works");
    let answer = endpoint.post("{}".into(), Duration::from_secs(10), 100).await;
    assert!(answer.as_ref().is_err_and(|why| why.contains("certificate")), "{answer:?}");
    assert!(server.asked().is_empty());
}

#[tokio::test]
async fn an_answer_is_taken_whatever_it_says_its_type_is() {
    let server = Server::serve(|_, _| (200, "{}".to_owned())).await;
    let address = Address::Url(format!("https://127.0.0.1:{}/here", server.port));
    let config = ClientConfig { address, authorities: server.ca_pem.clone().into() };
    let client = Client::new(Arc::new(Known::default()), tokio::runtime::Handle::current(), true);
    assert_eq!(client.post(&config, b"{}".to_vec(), Duration::from_secs(10), 100).await.as_deref(), Ok(&b"{}"[..]));
}

#[tokio::test]
async fn what_is_sampled_is_asked_with_its_trace() {
    let (tracer, mut spans) = Tracer::new("apiserver", 0, Arc::new(SystemClock));
    let server = Server::serve(|_, _| (500, "{}".to_owned())).await;
    let address = Address::Url(format!("https://127.0.0.1:{}/here", server.port));
    let config = ClientConfig { address, authorities: server.ca_pem.clone().into() };
    let client = Client::new(Arc::new(Known::default()), tokio::runtime::Handle::current(), true);
    let ask = || client.post(&config, b"{}".to_vec(), Duration::from_secs(10), 100);
    let request = tracer.begin("POST", SpanKind::Server, Place { trace: 7, parent: 0, link: None });
    ask().await.expect_err("it fails");
    within(request.scope(), ask()).await.expect_err("it fails");
    let call = spans.try_recv().expect("the call");
    assert_eq!((&*call.name, call.kind, call.trace, call.parent), ("HTTP POST", SpanKind::Client, 7, request.cause().span));
    assert!(call.failure.is_some());
    assert!(spans.try_recv().is_err(), "the other call was not sampled");
    let sampled = Cause { trace: 7, span: call.span, sampled: true, object: None };
    assert_eq!(server.traces(), [None, sampled.traceparent()]);
}

#[tokio::test]
async fn only_so_many_questions_wait_for_one_webhook() {
    let server = Server::serve(|_, _| {
        std::thread::sleep(std::time::Duration::from_millis(200));
        (200, "{}".to_owned())
    })
    .await;
    let address = Address::Url(format!("https://127.0.0.1:{}/here", server.port));
    let config = ClientConfig { address, authorities: server.ca_pem.clone().into() };
    let client = Client::new(Arc::new(Known::default()), tokio::runtime::Handle::current(), true).asking_at_most(2);
    let patience = std::time::Duration::from_secs(10);
    let ask = || client.post(&config, b"{}".to_vec(), patience, 100);
    let answers: [_; 3] = tokio::join!(ask(), ask(), ask()).into();
    let refused: Vec<_> = answers.into_iter().filter_map(Result::err).collect();
    assert_eq!(refused.len(), 1, "{refused:?}");
    assert!(refused[0].ends_with(": 2 calls wait for its answer already"), "{refused:?}");
    ask().await.expect("they do not any more");
}
