//! `pods/log` towards a kubelet whose certificate nobody vouches for.

use std::sync::Arc;

use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};
use troupe_api::{
    auth::{
        pki::{LeafSpec, Pki},
        tls,
    },
    meta::{GroupResource, Object, ObjectKey},
    metrics::{CONTENT_TYPE, parse::Samples, render},
    service::Listers,
    stored::StoredObject,
};

use super::{client::Door, fake::FakeService};
use crate::http::{
    ExtraRoute,
    streaming::{COLLECTORS, KubeletConnect, KubeletDialer},
};

const LOG: &str = "/api/v1/namespaces/default/pods/p/log";

/// A pod and its node.
struct OneNode {
    pod: Arc<StoredObject>,
    node: Arc<StoredObject>,
}

impl OneNode {
    /// The node's kubelet listens on this machine.
    fn at(port: u16) -> Self {
        let stored = |object: Value| Arc::new(StoredObject::from_object(&Object::from_value(object).expect("an object")).expect("the store's form"));
        OneNode {
            pod: stored(json!({
                "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": "default"},
                "spec": {"nodeName": "n", "containers": [{"name": "c"}]},
            })),
            node: stored(json!({
                "apiVersion": "v1", "kind": "Node", "metadata": {"name": "n"},
                "status": {"addresses": [{"type": "InternalIP", "address": "127.0.0.1"}], "daemonEndpoints": {"kubeletEndpoint": {"Port": port}}},
            })),
        }
    }
}

impl Listers for OneNode {
    fn get(&self, resource: &GroupResource, key: &ObjectKey) -> Option<Arc<StoredObject>> {
        let known = [("pods", &self.pod), ("nodes", &self.node)];
        known.into_iter().find(|(plural, object)| *resource.resource == **plural && object.key == *key).map(|(_, object)| object.clone())
    }

    fn list(&self, _: &GroupResource, _: &str) -> Vec<Arc<StoredObject>> {
        Vec::new()
    }
}

/// Answers whoever shakes hands with a log; its certificate is of an authority of its own.
async fn kubelet() -> u16 {
    let dir = tempfile::tempdir().expect("a directory");
    let pki = Pki::open(dir.path()).expect("a CA");
    let spec = LeafSpec { file: "kubelet".into(), common_name: "anybody".into(), server: true, ..LeafSpec::default() };
    let config = tls::server_config(&pki.leaf(&spec).expect("a leaf"), pki.ca_pem()).expect("a TLS configuration");
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let port = listener.local_addr().expect("bound").port();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            let Ok(mut stream) = acceptor.accept(tcp).await else { continue };
            let (mut head, mut byte) = (Vec::new(), [0]);
            while !head.ends_with(b"\r\n\r\n") && stream.read_exact(&mut byte).await.is_ok() {
                head.push(byte[0]);
            }
            // Who asked may have gone.
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nhello\n").await;
            let _ = stream.shutdown().await;
        }
    });
    port
}

#[actix_web::test]
async fn a_log_of_an_unverified_kubelet_is_for_those_who_ask_for_it() {
    let port = kubelet().await;
    let door = Door::open(FakeService::new(), |options| {
        let pki = Pki::open(tempfile::tempdir().expect("a directory").path()).expect("a CA");
        let dialer = KubeletDialer::new(Arc::new(tls::client_config(pki.ca_pem(), None).expect("a TLS configuration")));
        options.connect = Some(Arc::new(KubeletConnect::new(Arc::new(OneNode::at(port)), dialer).reaching_loopback()));
        options.routes = vec![ExtraRoute::document("/metrics", CONTENT_TYPE, || render(&COLLECTORS))];
    });
    let mut admin = door.connect(true).await;
    let refused = admin.get(LOG).await;
    let message = refused.json()["message"].as_str().expect("a message").to_owned();
    assert!(refused.status == 500 && message.contains("tls: "), "{message}");
    let taken = admin.get(&format!("{LOG}?insecureSkipTLSVerifyBackend=true")).await;
    assert_eq!((taken.status.as_u16(), &taken.body[..]), (200, &b"hello\n"[..]));
    let metrics = admin.get("/metrics").await;
    let samples = Samples::parse(std::str::from_utf8(&metrics.body).expect("text")).expect("a scrape parses");
    let asked = |usage| samples.value("kube_apiserver_pod_logs_insecure_backend_total", &[("usage", usage)]);
    assert_eq!((asked("enforce_tls"), asked("skip_tls_allowed")), (Some(1.0), Some(1.0)));
    assert_eq!(samples.value("kube_apiserver_pod_logs_backend_tls_failure_total", &[]), Some(1.0));
    door.handle.stop().await;
}
