//! A typed client that speaks protobuf, as client-go's do: k8s-pb's messages over plain HTTPS.

use std::{sync::Arc, time::Duration};

use bytes::{Buf, Bytes, BytesMut};
use futures::StreamExt;
use http_body_util::{BodyExt, Full};
use hyper::{Request, Response, body::Incoming, client::conn::http1::SendRequest};
use hyper_util::rt::TokioIo;
use k8s_pb::{
    api::{apps::v1 as apps, core::v1 as core},
    apimachinery::pkg::{apis::meta::v1 as meta, runtime},
};
use prost::Message;
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::tungstenite::{self, client::IntoClientRequest};
use troupe_api::auth::{kubeconfig::Kubeconfig, tls};

use crate::stage::Corner;

const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";
const ACCEPT: &str = "application/vnd.kubernetes.protobuf,application/json";
/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// A namespace of a cluster, and who is there.
#[derive(Clone)]
struct Place {
    access: Kubeconfig,
    namespace: String,
}

impl Place {
    async fn dial(&self) -> TlsStream<TcpStream> {
        let config = tls::client_config(&self.access.ca_pem, Some(&self.access.identity)).expect("a TLS configuration");
        let tcp = TcpStream::connect(self.authority()).await.expect("connects");
        let ip = tcp.peer_addr().expect("connected").ip();
        tokio_rustls::TlsConnector::from(Arc::new(config)).connect(ip.into(), tcp).await.expect("a TLS session")
    }

    fn authority(&self) -> &str {
        self.access.server.trim_start_matches("https://")
    }

    /// The path of a core resource.
    fn core(&self, resource: &str) -> String {
        format!("/api/v1/namespaces/{}/{resource}", self.namespace)
    }

    fn apps(&self, resource: &str) -> String {
        format!("/apis/apps/v1/namespaces/{}/{resource}", self.namespace)
    }
}

struct TypedClient(SendRequest<Full<Bytes>>);

impl TypedClient {
    async fn connect(place: &Place) -> Self {
        let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(place.dial().await)).await.expect("speaks HTTP");
        tokio::spawn(connection);
        TypedClient(sender)
    }

    async fn start(&mut self, method: &str, path: &str, content_type: &str, body: Bytes) -> Response<Incoming> {
        let request = Request::builder().method(method).uri(path).header("host", "api").header("accept", ACCEPT);
        self.0.ready().await.expect("connected");
        self.0.send_request(request.header("content-type", content_type).body(Full::new(body)).expect("well formed")).await.expect("a reply")
    }

    /// Sends an enveloped message and opens the reply.
    async fn send<M: Message + Default>(&mut self, method: &str, path: &str, body: Bytes, code: u16) -> M {
        let reply = self.start(method, path, PROTOBUF, body).await;
        assert_eq!((reply.status().as_u16(), &reply.headers()["content-type"]), (code, &PROTOBUF.parse().expect("text")), "{method} {path}");
        opened(&whole(reply).await)
    }

    /// Applies JSON, as client-go does too: there are no protobuf patches. The reply is a message.
    async fn apply<M: Message + Default>(&mut self, path: &str, body: serde_json::Value) -> (u16, M) {
        let reply = self.start("PATCH", path, "application/apply-patch+yaml", body.to_string().into()).await;
        (reply.status().as_u16(), opened(&whole(reply).await))
    }
}

async fn whole(reply: Response<Incoming>) -> Bytes {
    reply.into_body().collect().await.expect("a body").to_bytes()
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

pub fn first_minute(corner: &Corner) {
    let place = Place { access: corner.access(), namespace: corner.namespace.clone() };
    corner.run(async move || {
        let mut client = TypedClient::connect(&place).await;
        makes_and_deletes(&place, &mut client).await;
        watches(&place, &mut client).await;
        applies(&place, &mut client).await;
        deploys(&place, &mut client).await;
        executes_and_reads_logs(&place, &mut client).await;
    });
}

async fn makes_and_deletes(place: &Place, client: &mut TypedClient) {
    let maps = place.core("configmaps");
    let map = core::ConfigMap { metadata: named("p"), data: [("k".into(), "v".into())].into(), ..Default::default() };
    let made: core::ConfigMap = client.send("POST", &maps, enveloped("v1", "ConfigMap", &map), 201).await;
    let metadata = made.metadata.clone().expect("metadata");
    assert!(metadata.uid.is_some_and(|uid| uid.len() == 36) && metadata.creation_timestamp.and_then(|time| time.seconds) > Some(0));
    let changed = core::ConfigMap { data: [("k".into(), "w".into())].into(), ..made.clone() };
    let put: core::ConfigMap = client.send("PUT", &format!("{maps}/p"), enveloped("v1", "ConfigMap", &changed), 200).await;
    assert_eq!(put.data["k"], "w");
    let stale: meta::Status = client.send("PUT", &format!("{maps}/p"), enveloped("v1", "ConfigMap", &made), 409).await;
    assert_eq!(stale.reason.as_deref(), Some("Conflict"));
    let list: core::ConfigMapList = client.send("GET", &format!("{maps}?limit=1"), Bytes::new(), 200).await;
    assert_eq!(list.items.len(), 1);
    let conditions = meta::Preconditions { uid: Some("another".into()), ..Default::default() };
    let options = meta::DeleteOptions { preconditions: Some(conditions), ..Default::default() };
    let refused: meta::Status = client.send("DELETE", &format!("{maps}/p"), enveloped("v1", "DeleteOptions", &options), 409).await;
    assert!(refused.message.is_some_and(|message| message.contains("the UID in the precondition (another) does not match the UID in record")));
    let options = meta::DeleteOptions { propagation_policy: Some("Background".into()), ..Default::default() };
    let deleted: meta::Status = client.send("DELETE", &format!("{maps}/p"), enveloped("v1", "DeleteOptions", &options), 200).await;
    assert_eq!((deleted.status.as_deref(), deleted.details.and_then(|details| details.name).as_deref()), (Some("Success"), Some("p")));
}

async fn watches(place: &Place, client: &mut TypedClient) {
    let mut watcher = TypedClient::connect(place).await;
    let secrets = place.core("secrets");
    let path = format!("{secrets}?watch=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true");
    let reply = watcher.start("GET", &path, PROTOBUF, Bytes::new()).await;
    assert_eq!(reply.headers()["content-type"], "application/vnd.kubernetes.protobuf;stream=watch");
    let (mut body, mut buffer) = (reply.into_body(), BytesMut::new());
    let (kind, end) = event(&mut body, &mut buffer).await;
    assert_eq!((kind.as_str(), end.metadata.expect("metadata").annotations["k8s.io/initial-events-end"].as_str()), ("BOOKMARK", "true"));
    let secret = core::Secret { metadata: named("p"), data: [("k".into(), vec![0, 255])].into(), ..Default::default() };
    let _: core::Secret = client.send("POST", &secrets, enveloped("v1", "Secret", &secret), 201).await;
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
        let frame = tokio::time::timeout(PATIENCE, body.frame()).await.expect("in time").expect("goes on").expect("a frame");
        buffer.extend_from_slice(&frame.into_data().unwrap_or_default());
    }
}

async fn applies(place: &Place, client: &mut TypedClient) {
    let path = place.core("configmaps/applied");
    let map = |value: &str| serde_json::json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "applied"}, "data": {"k": value}});
    let (code, made): (u16, core::ConfigMap) = client.apply(&format!("{path}?fieldManager=protobuf"), map("v")).await;
    let manager = &made.metadata.expect("metadata").managed_fields[0];
    let fields = manager.fields_v1.as_ref().and_then(|fields| fields.raw.as_deref()).expect("fields");
    assert_eq!((code, manager.manager.as_deref(), fields), (201, Some("protobuf"), &br#"{"f:data":{"f:k":{}}}"#[..]));
    let (code, refused): (u16, meta::Status) = client.apply(&format!("{path}?fieldManager=other"), map("w")).await;
    assert_eq!((code, refused.details.expect("details").causes[0].field.as_deref()), (409, Some(".data.k")));
    let (code, taken): (u16, core::ConfigMap) = client.apply(&format!("{path}?fieldManager=other&force=true"), map("w")).await;
    assert_eq!((code, taken.data["k"].as_str()), (200, "w"));
}

fn sleeper(script: &str) -> core::PodSpec {
    let command = ["sh", "-c", script].map(str::to_owned).to_vec();
    let container = core::Container { name: Some("c".into()), image: Some("busybox:1.35".into()), command, ..Default::default() };
    core::PodSpec { containers: vec![container], termination_grace_period_seconds: Some(0), ..Default::default() }
}

async fn deploys(place: &Place, client: &mut TypedClient) {
    let labels = || [("app".to_owned(), "p".to_owned())].into();
    let metadata = meta::ObjectMeta { labels: labels(), ..Default::default() };
    let template = core::PodTemplateSpec { metadata: Some(metadata), spec: Some(sleeper("sleep infinity")) };
    let selector = meta::LabelSelector { match_labels: labels(), ..Default::default() };
    let spec = apps::DeploymentSpec { replicas: Some(2), selector: Some(selector), template: Some(template), ..Default::default() };
    let deployment = apps::Deployment { metadata: named("p"), spec: Some(spec), status: None };
    let path = place.apps("deployments");
    let made: apps::Deployment = client.send("POST", &path, enveloped("apps/v1", "Deployment", &deployment), 201).await;
    let strategy = made.spec.and_then(|spec| spec.strategy).expect("a default");
    let surge = strategy.rolling_update.and_then(|rolling| rolling.max_surge).expect("a default");
    assert_eq!((surge.r#type, surge.str_val.as_deref()), (Some(1), Some("25%")));
    let ready = |deployment: &apps::Deployment| deployment.status.as_ref().and_then(|status| status.ready_replicas) == Some(2);
    until(client, &format!("{path}/p"), "two pods are ready", ready).await;
    let pods: core::PodList = client.send("GET", &place.core("pods?labelSelector=app%3Dp"), Bytes::new(), 200).await;
    let tolerations = pods.items[0].spec.as_ref().map(|spec| spec.tolerations.len());
    assert_eq!((pods.items.len(), tolerations), (2, Some(2)));
    let _: meta::Status = client.send("DELETE", &format!("{path}/p"), Bytes::new(), 200).await;
}

/// Reads an object until it is as it should be.
async fn until<M: Message + Default>(client: &mut TypedClient, path: &str, what: &str, wanted: impl Fn(&M) -> bool) {
    let reads = async {
        while !wanted(&client.send("GET", path, Bytes::new(), 200).await) {
            tokio::time::sleep(Duration::from_millis(50)).await
        }
    };
    tokio::time::timeout(PATIENCE, reads).await.unwrap_or_else(|_| panic!("not within a minute: {what}"));
}

async fn executes_and_reads_logs(place: &Place, client: &mut TypedClient) {
    let spec = core::PodSpec { restart_policy: Some("Never".into()), ..sleeper("echo first; until [ -e /tmp/over ]; do sleep 0.1; done; echo last") };
    let pod = core::Pod { metadata: named("p"), spec: Some(spec), status: None };
    let _: core::Pod = client.send("POST", &place.core("pods"), enveloped("v1", "Pod", &pod), 201).await;
    let ready = |pod: &core::Pod| {
        let conditions = pod.status.iter().flat_map(|status| &status.conditions);
        conditions.into_iter().any(|condition| condition.r#type.as_deref() == Some("Ready") && condition.status.as_deref() == Some("True"))
    };
    until(client, &place.core("pods/p"), "the pod is ready", ready).await;
    let failing = "echo%20out%3B%20echo%20err%20%3E%262%3B%20exit%203";
    let [out, err, status] = execute(place, &format!("command=sh&command=-c&command={failing}")).await;
    assert_eq!((&out[..], &err[..]), (&b"out\n"[..], &b"err\n"[..]));
    let status: serde_json::Value = serde_json::from_slice(&status).expect("JSON");
    assert_eq!((&status["reason"], &status["details"]["causes"][0]["message"]), (&"NonZeroExitCode".into(), &"3".into()));

    let follower = TypedClient::connect(place).await.start("GET", &place.core("pods/p/log?follow=true"), PROTOBUF, Bytes::new()).await;
    assert_eq!((follower.status().as_u16(), &follower.headers()["content-type"]), (200, &"text/plain".parse().expect("text")));
    let [.., status] = execute(place, "command=touch&command=/tmp/over").await;
    assert!(status.windows(9).any(|word| word == b"\"Success\""), "{status:?}");
    let logs = tokio::time::timeout(PATIENCE, whole(follower)).await.expect("logs end with the container");
    assert_eq!(logs, "first\nlast\n");
    let deleted: core::Pod = client.send("DELETE", &place.core("pods/p"), Bytes::new(), 200).await;
    assert_eq!(deleted.metadata.and_then(|metadata| metadata.name).as_deref(), Some("p"));
}

/// Runs a command in the pod over a WebSocket; what came on its output, its errors and its status.
async fn execute(place: &Place, command: &str) -> [Vec<u8>; 3] {
    let path = place.core(&format!("pods/p/exec?stdout=true&stderr=true&{command}"));
    let mut request = format!("wss://{}{path}", place.authority()).into_client_request().expect("a request");
    request.headers_mut().insert("sec-websocket-protocol", "v5.channel.k8s.io".parse().expect("text"));
    let (mut socket, reply) = tokio_tungstenite::client_async(request, place.dial().await).await.expect("a WebSocket");
    assert_eq!(reply.headers()["sec-websocket-protocol"], "v5.channel.k8s.io");
    let mut channels = [const { Vec::new() }; 3];
    while let Some(message) = tokio::time::timeout(PATIENCE, socket.next()).await.expect("in time") {
        match message.expect("a frame") {
            tungstenite::Message::Binary(frame) => match frame[0] {
                channel @ 1..=3 => channels[usize::from(channel) - 1].extend_from_slice(&frame[1..]),
                255 => {}
                other => panic!("nothing is sent on channel {other}"),
            },
            tungstenite::Message::Close(_) => break,
            _ => {}
        }
    }
    // The server may have gone first.
    let _ = socket.close(None).await;
    channels
}
