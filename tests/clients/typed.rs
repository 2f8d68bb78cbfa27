//! A typed client that speaks protobuf, as client-go's do: k8s-pb's messages over plain HTTPS.

use std::sync::Arc;

use bytes::{Buf, Bytes, BytesMut};
use http_body_util::{BodyExt, Full};
use hyper::{Request, Response, body::Incoming, client::conn::http1::SendRequest};
use hyper_util::rt::TokioIo;
use k8s_pb::{
    api::{apps::v1 as apps, core::v1 as core},
    apimachinery::pkg::{apis::meta::v1 as meta, runtime},
};
use prost::Message;
use troupe_api::auth::tls;

use crate::control_plane::ControlPlane;

const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";
const ACCEPT: &str = "application/vnd.kubernetes.protobuf,application/json";
const MAPS: &str = "/api/v1/namespaces/default/configmaps";

struct TypedClient(SendRequest<Full<Bytes>>);

impl TypedClient {
    async fn connect(plane: &ControlPlane) -> Self {
        let config = tls::client_config(&plane.ca_pem, Some(&plane.admin)).expect("a TLS configuration");
        let tcp = tokio::net::TcpStream::connect(plane.address).await.expect("connects");
        let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
        let stream = connector.connect(plane.address.ip().into(), tcp).await.expect("a TLS session");
        let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.expect("speaks HTTP");
        tokio::spawn(connection);
        TypedClient(sender)
    }

    async fn start(&mut self, method: &str, path: &str, body: Bytes) -> Response<Incoming> {
        let request = Request::builder().method(method).uri(path).header("host", "api").header("accept", ACCEPT).header("content-type", PROTOBUF);
        self.0.ready().await.expect("connected");
        self.0.send_request(request.body(Full::new(body)).expect("well formed")).await.expect("a reply")
    }

    /// Sends an enveloped message and opens the reply.
    async fn send<M: Message + Default>(&mut self, method: &str, path: &str, body: Bytes, code: u16) -> M {
        let reply = self.start(method, path, body).await;
        assert_eq!((reply.status().as_u16(), &reply.headers()["content-type"]), (code, &PROTOBUF.parse().expect("text")), "{method} {path}");
        opened(&reply.into_body().collect().await.expect("a body").to_bytes())
    }
}

fn opened<M: Message + Default>(bytes: &[u8]) -> M {
    let envelope = runtime::Unknown::decode(bytes.strip_prefix(b"k8s\0").expect("the mark")).expect("an envelope");
    M::decode(&envelope.raw.expect("content")[..]).expect("its kind")
}

fn enveloped(api_version: &str, kind: &str, message: &impl Message) -> Bytes {
    let type_meta = runtime::TypeMeta { api_version: Some(api_version.into()), kind: Some(kind.into()) };
    let unknown = runtime::Unknown { type_meta: Some(type_meta), raw: Some(message.encode_to_vec()), ..Default::default() };
    [b"k8s\0".to_vec(), unknown.encode_to_vec()].concat().into()
}

fn named(name: &str) -> Option<meta::ObjectMeta> {
    Some(meta::ObjectMeta { name: Some(name.into()), ..Default::default() })
}

#[test]
fn a_protobuf_client_lives_through_its_first_minute() {
    let plane = ControlPlane::start();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let mut client = TypedClient::connect(&plane).await;
        makes_and_deletes(&mut client).await;
        watches(&plane, &mut client).await;
        deploys(&mut client).await;
    });
}

async fn makes_and_deletes(client: &mut TypedClient) {
    let map = core::ConfigMap { metadata: named("p"), data: [("k".into(), "v".into())].into(), ..Default::default() };
    let made: core::ConfigMap = client.send("POST", MAPS, enveloped("v1", "ConfigMap", &map), 201).await;
    let metadata = made.metadata.clone().expect("metadata");
    assert!(metadata.uid.is_some_and(|uid| uid.len() == 36) && metadata.creation_timestamp.and_then(|time| time.seconds) > Some(0));
    let changed = core::ConfigMap { data: [("k".into(), "w".into())].into(), ..made.clone() };
    let put: core::ConfigMap = client.send("PUT", &format!("{MAPS}/p"), enveloped("v1", "ConfigMap", &changed), 200).await;
    assert_eq!(put.data["k"], "w");
    let stale: meta::Status = client.send("PUT", &format!("{MAPS}/p"), enveloped("v1", "ConfigMap", &made), 409).await;
    assert_eq!(stale.reason.as_deref(), Some("Conflict"));
    let list: core::ConfigMapList = client.send("GET", &format!("{MAPS}?limit=1"), Bytes::new(), 200).await;
    assert_eq!(list.items.len(), 1);
    let conditions = meta::Preconditions { uid: Some("another".into()), ..Default::default() };
    let options = meta::DeleteOptions { preconditions: Some(conditions), ..Default::default() };
    let refused: meta::Status = client.send("DELETE", &format!("{MAPS}/p"), enveloped("v1", "DeleteOptions", &options), 409).await;
    assert!(refused.message.is_some_and(|message| message.contains("the UID in the precondition (another) does not match the UID in record")));
    let options = meta::DeleteOptions { propagation_policy: Some("Background".into()), ..Default::default() };
    let deleted: meta::Status = client.send("DELETE", &format!("{MAPS}/p"), enveloped("v1", "DeleteOptions", &options), 200).await;
    assert_eq!((deleted.status.as_deref(), deleted.details.and_then(|details| details.name).as_deref()), (Some("Success"), Some("p")));
}

async fn watches(plane: &ControlPlane, client: &mut TypedClient) {
    let mut watcher = TypedClient::connect(plane).await;
    let path = "/api/v1/namespaces/default/secrets?watch=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true";
    let reply = watcher.start("GET", path, Bytes::new()).await;
    assert_eq!(reply.headers()["content-type"], "application/vnd.kubernetes.protobuf;stream=watch");
    let (mut body, mut buffer) = (reply.into_body(), BytesMut::new());
    let (kind, end) = event(&mut body, &mut buffer).await;
    assert_eq!((kind.as_str(), end.metadata.expect("metadata").annotations["k8s.io/initial-events-end"].as_str()), ("BOOKMARK", "true"));
    let secret = core::Secret { metadata: named("p"), data: [("k".into(), vec![0, 255])].into(), ..Default::default() };
    let _: core::Secret = client.send("POST", "/api/v1/namespaces/default/secrets", enveloped("v1", "Secret", &secret), 201).await;
    let (kind, added) = event(&mut body, &mut buffer).await;
    assert_eq!((kind.as_str(), &added.data["k"][..], added.r#type.as_deref()), ("ADDED", &[0, 255][..], Some("Opaque")));
}

async fn event(body: &mut Incoming, buffer: &mut BytesMut) -> (String, core::Secret) {
    loop {
        if let Some(length) = buffer.first_chunk::<4>().map(|length| u32::from_be_bytes(*length) as usize)
            && buffer.len() >= 4 + length
        {
            buffer.advance(4);
            let event = meta::WatchEvent::decode(&buffer.split_to(length)[..]).expect("an event");
            return (event.r#type.expect("typed"), opened(&event.object.and_then(|object| object.raw).expect("an object")));
        }
        let frame =
            tokio::time::timeout(std::time::Duration::from_secs(20), body.frame()).await.expect("in time").expect("goes on").expect("a frame");
        buffer.extend_from_slice(&frame.into_data().unwrap_or_default());
    }
}

async fn deploys(client: &mut TypedClient) {
    let labels = || [("app".to_owned(), "p".to_owned())].into();
    let container = core::Container { name: Some("c".into()), image: Some("example/web".into()), ..Default::default() };
    let template = core::PodTemplateSpec {
        metadata: Some(meta::ObjectMeta { labels: labels(), ..Default::default() }),
        spec: Some(core::PodSpec { containers: vec![container], ..Default::default() }),
    };
    let selector = meta::LabelSelector { match_labels: labels(), ..Default::default() };
    let spec = apps::DeploymentSpec { replicas: Some(2), selector: Some(selector), template: Some(template), ..Default::default() };
    let deployment = apps::Deployment { metadata: named("p"), spec: Some(spec), status: None };
    let path = "/apis/apps/v1/namespaces/default/deployments";
    let made: apps::Deployment = client.send("POST", path, enveloped("apps/v1", "Deployment", &deployment), 201).await;
    let strategy = made.spec.and_then(|spec| spec.strategy).expect("a default");
    let surge = strategy.rolling_update.and_then(|rolling| rolling.max_surge).expect("a default");
    assert_eq!((surge.r#type, surge.str_val.as_deref()), (Some(1), Some("25%")));
    for _ in 0..200 {
        let pods: core::PodList = client.send("GET", "/api/v1/namespaces/default/pods?labelSelector=app%3Dp", Bytes::new(), 200).await;
        if pods.items.len() == 2 {
            let tolerations = pods.items[0].spec.as_ref().map(|spec| spec.tolerations.len());
            assert_eq!(tolerations, Some(2));
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    panic!("no controller made the pods");
}
