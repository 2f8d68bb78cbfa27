//! The server over real sockets, with an API server and an upstream made here.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use hickory_proto::{
    op::{Message, MessageType, OpCode, Query, ResponseCode},
    rr::{Name, RData, Record, RecordType, rdata::A},
};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream, UdpSocket},
    sync::watch,
    time::timeout,
};
use tokio_rustls::{TlsAcceptor, rustls::ServerConfig};
use troupe_net::dns::cluster_addresses::SourceKind;

use crate::{
    api::Api,
    forwarding::Forwarding,
    health,
    options::Options,
    reflector::{self, Followers},
    server::Server,
    state::State,
    upstream::Upstream,
};

const LOCAL: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// Answers each list with two objects and each watch with what is published, as an API server would.
struct FakeApi {
    account: tempfile::TempDir,
    port: u16,
    events: watch::Sender<String>,
    written: Written,
    asked: Asked,
}

/// The first lines of all requests.
type Asked = Arc<parking_lot::Mutex<Vec<String>>>;

/// The bodies of what was written.
type Written = Arc<parking_lot::Mutex<Vec<serde_json::Value>>>;

impl FakeApi {
    async fn start() -> Self {
        let key = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).expect("a certificate");
        let account = tempfile::tempdir().expect("a directory");
        std::fs::write(account.path().join("ca.crt"), key.cert.pem()).expect("writes");
        std::fs::write(account.path().join("token"), "secret\n").expect("writes");
        let private = tokio_rustls::rustls::pki_types::PrivateKeyDer::try_from(key.signing_key.serialize_der()).expect("a key");
        let config = ServerConfig::builder().with_no_client_auth().with_single_cert(vec![key.cert.der().clone()], private).expect("a configuration");
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind(LOCAL).await.expect("binds");
        let port = listener.local_addr().expect("is bound").port();
        let (events, receiver) = watch::channel(String::new());
        let (written, asked) = (Written::default(), Asked::default());
        let (kept, heard) = (written.clone(), asked.clone());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, receiver, kept, heard) = (acceptor.clone(), receiver.clone(), kept.clone(), heard.clone());
                tokio::spawn(async move {
                    // Clients leave as they like.
                    let _ = FakeApi::answer(acceptor, stream, receiver, (&kept, &heard)).await;
                });
            }
        });
        FakeApi { account, port, events, written, asked }
    }

    async fn answer(
        acceptor: TlsAcceptor,
        stream: TcpStream,
        mut events: watch::Receiver<String>,
        (written, asked): (&Written, &Asked),
    ) -> std::io::Result<()> {
        let mut stream = BufReader::new(acceptor.accept(stream).await?);
        let (mut first, mut line, mut known, mut length) = (String::new(), String::new(), false, 0);
        stream.read_line(&mut first).await?;
        asked.lock().push(first.clone());
        while stream.read_line(&mut line).await? > 2 {
            known |= line.to_lowercase().trim() == "authorization: bearer secret";
            if let Some(text) = line.to_lowercase().strip_prefix("content-length:") {
                length = text.trim().parse().expect("a number");
            }
            line.clear();
        }
        if !known {
            return stream.write_all(b"HTTP/1.1 401 Unauthorized\r\ncontent-length: 0\r\n\r\n").await;
        }
        if first.starts_with("POST") {
            let mut body = vec![0; length];
            stream.read_exact(&mut body).await?;
            let mut object: serde_json::Value = serde_json::from_slice(&body).expect("is JSON");
            object["metadata"]["resourceVersion"] = "9".into();
            written.lock().push(object);
            stream.write_all(format!("HTTP/1.1 201 Created\r\ncontent-length: {length}\r\n\r\n").as_bytes()).await?;
            stream.write_all(&body).await?;
            return stream.flush().await;
        }
        if first.contains("watch=1") {
            stream.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").await?;
            stream.flush().await?;
            loop {
                if events.changed().await.is_err() {
                    return Ok(());
                }
                let line = events.borrow().clone();
                if first.contains("/services") || first.contains("/customresourcedefinitions") {
                    stream.write_all(format!("{:x}\r\n{line}\n\r\n", line.len() + 1).as_bytes()).await?;
                    stream.flush().await?;
                }
            }
        }
        let items = match first.split_whitespace().nth(1).unwrap_or_default() {
            "/api/v1/namespaces" => r#"{"metadata":{"name":"default"}}"#.to_owned(),
            "/api/v1/services" => format!("{ODD},{}", service("web", "10.96.0.20")),
            _ => String::new(),
        };
        let body = format!(r#"{{"metadata":{{"resourceVersion":"5"}},"items":[{items}]}}"#);
        stream.write_all(format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len()).as_bytes()).await?;
        stream.flush().await
    }
}

/// A Service that is none: it stands in nobody's way.
const ODD: &str = r#"{"metadata":{"name":"odd","namespace":"default","resourceVersion":"6"},"spec":{"ports":[{"port":70000}]}}"#;

fn service(name: &str, ip: &str) -> String {
    format!(r#"{{"metadata":{{"name":"{name}","namespace":"default","resourceVersion":"7"}},"spec":{{"type":"ClusterIP","clusterIP":"{ip}"}}}}"#)
}

/// An upstream that knows every name under one address, and answers one with another question.
async fn fake_upstream() -> SocketAddr {
    let socket = UdpSocket::bind(LOCAL).await.expect("binds");
    let address = socket.local_addr().expect("is bound");
    tokio::spawn(async move {
        let mut buffer = [0; 1024];
        while let Ok((length, from)) = socket.recv_from(&mut buffer).await {
            let query = Message::from_vec(&buffer[..length]).expect("a query");
            let mut reply = Message::response(query.metadata.id, OpCode::Query);
            let odd = query.queries[0].name().to_ascii().starts_with("other.question");
            let questions = if odd { vec![Query::query(Name::root(), RecordType::A)] } else { query.queries.clone() };
            reply.add_queries(questions);
            reply.add_answer(Record::from_rdata(query.queries[0].name().clone(), 60, RData::A(A(Ipv4Addr::new(198, 51, 100, 1)))));
            socket.send_to(&reply.to_vec().expect("encodes"), from).await.expect("sends");
        }
    });
    address
}

async fn serve(state: Arc<State>, resolvers: Vec<SocketAddr>) -> Server {
    let forwarding = Arc::new(Forwarding::new(Upstream::new(resolvers)));
    Server::bind(LOCAL, state, forwarding, Arc::default(), Arc::default()).await.expect("binds")
}

/// An upstream that answers so many queries, each with the next address for a second, and is gone then.
async fn counting_upstream(answers: u8) -> SocketAddr {
    let socket = UdpSocket::bind(LOCAL).await.expect("binds");
    let address = socket.local_addr().expect("is bound");
    tokio::spawn(async move {
        let mut buffer = [0; 1024];
        for count in 1..=answers {
            let (length, from) = socket.recv_from(&mut buffer).await.expect("receives");
            let query = Message::from_vec(&buffer[..length]).expect("a query");
            let mut reply = Message::response(query.metadata.id, OpCode::Query);
            reply.add_queries(query.queries.clone());
            reply.add_answer(Record::from_rdata(query.queries[0].name().clone(), 1, RData::A(A(Ipv4Addr::new(198, 51, 100, count)))));
            socket.send_to(&reply.to_vec().expect("encodes"), from).await.expect("sends");
        }
    });
    address
}

fn query(name: &str) -> Vec<u8> {
    let mut message = Message::new(77, MessageType::Query, OpCode::Query);
    message.add_query(Query::query(Name::from_ascii(name).expect("a name"), RecordType::A));
    message.to_vec().expect("encodes")
}

async fn ask(server: SocketAddr, name: &str) -> Message {
    let socket = UdpSocket::bind(LOCAL).await.expect("binds");
    socket.send_to(&query(name), server).await.expect("sends");
    let mut buffer = [0; 4096];
    let length = timeout(Duration::from_secs(30), socket.recv(&mut buffer)).await.expect("answers in time").expect("receives");
    Message::from_vec(&buffer[..length]).expect("a reply")
}

async fn ask_tcp(server: SocketAddr, name: &str) -> Message {
    let mut stream = TcpStream::connect(server).await.expect("connects");
    let query = query(name);
    stream.write_u16(query.len() as u16).await.expect("writes");
    stream.write_all(&query).await.expect("writes");
    let mut reply = vec![0; usize::from(stream.read_u16().await.expect("a length"))];
    stream.read_exact(&mut reply).await.expect("a reply");
    Message::from_vec(&reply).expect("a reply")
}

fn addresses(reply: &Message) -> Vec<String> {
    reply.answers.iter().map(|record| record.data.to_string()).collect()
}

/// The first line of the answer.
async fn get(address: SocketAddr, path: &str) -> String {
    whole(address, path).await.lines().next().unwrap_or_default().to_owned()
}

async fn whole(address: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(address).await.expect("connects");
    stream.write_all(format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n").as_bytes()).await.expect("writes");
    let mut reply = String::new();
    stream.read_to_string(&mut reply).await.expect("reads");
    reply
}

async fn until(what: &str, check: impl AsyncFn() -> bool) {
    for _ in 0..500 {
        if check().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{what} did not happen");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_follow_the_api_and_others_go_upstream() {
    let state = Arc::new(State::new("cluster.local").expect("a domain"));
    let server = serve(state.clone(), vec![fake_upstream().await]).await;
    let address = server.address();
    server.spawn();
    let health = health::serve(LOCAL, state.clone(), Arc::default()).await.expect("binds");
    assert_eq!(ask(address, "web.default.svc.cluster.local.").await.metadata.response_code, ResponseCode::ServFail);
    assert_eq!(get(health, "/ready").await, "HTTP/1.1 503 Service Unavailable");
    assert_eq!(get(health, "/health").await, "HTTP/1.1 200 OK");

    let fake = FakeApi::start().await;
    let followers = Followers { state: state.clone(), domains: Arc::default() };
    reflector::spawn_all(&Api::new("127.0.0.1", fake.port, fake.account.path()), &followers);
    until("the first lists", async || state.is_synced()).await;
    assert_eq!(get(health, "/ready").await, "HTTP/1.1 200 OK");
    assert_eq!(addresses(&ask(address, "web.default.svc.cluster.local.").await), ["10.96.0.20"]);
    assert_eq!(addresses(&ask_tcp(address, "web.default.svc.cluster.local.").await), ["10.96.0.20"]);
    let forwarded = ask(address, "example.com.").await;
    assert_eq!((forwarded.metadata.id, addresses(&forwarded)), (77, vec!["198.51.100.1".to_owned()]));

    // The watch may begin a moment after the list: publish until it has been seen.
    until("the event", async || {
        fake.events.send_replace(format!(r#"{{"type":"MODIFIED","object":{ODD}}}"#));
        tokio::time::sleep(Duration::from_millis(5)).await;
        fake.events.send_replace(format!(r#"{{"type":"ADDED","object":{}}}"#, service("new", "10.96.0.21")));
        addresses(&ask(address, "new.default.svc.cluster.local.").await) == ["10.96.0.21"]
    })
    .await;
    fake.events.send_replace(format!(r#"{{"type":"DELETED","object":{}}}"#, service("new", "10.96.0.21")));
    until("the removal", async || ask(address, "new.default.svc.cluster.local.").await.metadata.response_code == ResponseCode::NXDomain).await;

    state.leave();
    assert_eq!(get(health, "/ready").await, "HTTP/1.1 503 Service Unavailable");
    assert_eq!(addresses(&ask(address, "web.default.svc.cluster.local.").await), ["10.96.0.20"]);
}

#[tokio::test]
async fn replies_of_upstream_are_kept_and_outlive_it() {
    let server = serve(Arc::new(State::new("cluster.local").expect("a domain")), vec![counting_upstream(2).await]).await;
    let address = server.address();
    server.spawn();
    assert_eq!(addresses(&ask(address, "example.com.").await), ["198.51.100.1"]);
    let again = ask(address, "Example.com.").await;
    assert_eq!((again.metadata.id, addresses(&again)), (77, vec!["198.51.100.1".to_owned()]));
    assert_eq!(addresses(&ask_tcp(address, "example.com.").await), ["198.51.100.1"]);
    tokio::time::sleep(Duration::from_millis(1100)).await;
    assert_eq!(addresses(&ask(address, "example.com.").await), ["198.51.100.2"], "a second is over");
    tokio::time::sleep(Duration::from_millis(1100)).await;
    let stale = ask(address, "example.com.").await;
    assert_eq!((addresses(&stale), stale.answers[0].ttl), (vec!["198.51.100.2".to_owned()], 30), "upstream is gone");
    assert_eq!(ask(address, "other.example.com.").await.metadata.response_code, ResponseCode::ServFail);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_domain_names_lead_to_is_followed_while_policies_have_some() {
    let fake = FakeApi::start().await;
    let followers = Followers { state: Arc::new(State::new("cluster.local").expect("a domain")), domains: Arc::default() };
    reflector::spawn_all(&Api::new("127.0.0.1", fake.port, fake.account.path()), &followers);
    let asked = |part: &str| fake.asked.lock().iter().filter(|line| line.contains(part)).count();
    // A list without policies is taken in before the watch begins.
    until("the policies are followed", async || asked("/clusternetworkpolicies?") > 0).await;
    until("the slices of Services are", async || asked("/v1/endpointslices?") > 0).await;
    assert_eq!(asked("troupe-domain-names"), 0);
    let spec = serde_json::json!({"egress": [{"action": "Accept", "to": [{"domainNames": ["example.com"]}]}]});
    let policy = || serde_json::from_value(serde_json::json!({"metadata": {"name": "p"}, "spec": spec})).expect("a policy");
    followers.domains.set_policy(policy());
    until("those of names are", async || asked("troupe-domain-names/endpointslices?") == 1).await;
    followers.domains.remove_policy("p");
    tokio::time::sleep(Duration::from_millis(50)).await;
    followers.domains.set_policy(policy());
    until("they are again", async || asked("troupe-domain-names/endpointslices?") == 2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_policies_name_is_told_to_nodes() {
    let (fake, domains) = (FakeApi::start().await, Arc::<crate::domains::Domains>::default());
    let forwarding = Arc::new(Forwarding::new(Upstream::new(vec![fake_upstream().await])));
    let state = Arc::new(State::new("cluster.local").expect("a domain"));
    let server = Server::bind(LOCAL, state, forwarding, Arc::default(), domains.clone()).await.expect("binds");
    let address = server.address();
    server.spawn();
    tokio::spawn(domains.clone().write_all(Api::new("127.0.0.1", fake.port, fake.account.path())));
    // Which addresses the cluster has.
    for kind in [SourceKind::Node, SourceKind::ServiceRange] {
        domains.replace_cluster(kind, Vec::<(String, Vec<String>)>::new());
    }
    let spec = serde_json::json!({"egress": [{"action": "Accept", "to": [{"domainNames": ["*.example.com"]}]}]});
    domains.set_policy(serde_json::from_value(serde_json::json!({"metadata": {"name": "p"}, "spec": spec})).expect("a policy"));
    for asked in ["www.example.com.", "www.example.com.", "example.com."] {
        assert_eq!(addresses(&ask(address, asked).await), ["198.51.100.1"]);
    }
    until("the slice", async || !fake.written.lock().is_empty()).await;
    let written = fake.written.lock().clone();
    assert_eq!(written.len(), 1, "{written:?}");
    assert_eq!(written[0]["endpoints"], serde_json::json!([{"addresses": ["198.51.100.1"]}]));
    assert_eq!(written[0]["metadata"]["annotations"]["networkpolicy.troupe.dev/domain-name"], "*.example.com");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kind_that_nobody_defines_is_asked_for_when_somebody_does() {
    let fake = FakeApi::start().await;
    let api = Api::new("127.0.0.1", fake.port, fake.account.path());
    let waiting = tokio::spawn(async move { reflector::definition_changes(&api, reflector::kinds::POLICIES_DEFINED).await });
    let publish = async |kind: &str| {
        fake.events.send_replace(format!(r#"{{"type":"{kind}","object":{{"metadata":{{"name":"d","resourceVersion":"8"}}}}}}"#));
        tokio::time::sleep(Duration::from_millis(5)).await;
    };
    for _ in 0..40 {
        publish("BOOKMARK").await;
    }
    assert!(!waiting.is_finished(), "nothing has changed");
    until("the definition", async || {
        publish("ADDED").await;
        waiting.is_finished()
    })
    .await;
    waiting.await.expect("ends").expect("looks");
}

/// The value of a series, 0 where there is none.
fn series(page: &str, series: &str) -> u64 {
    let value = page.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    value.map_or(0, |value| value.parse().expect("a number"))
}

#[tokio::test]
async fn what_is_asked_is_counted_by_the_names_of_coredns() {
    let (state, upstream) = (Arc::new(State::new("cluster.local").expect("a domain")), fake_upstream().await);
    let (forwarding, cache) = (Arc::new(Forwarding::new(Upstream::new(vec![upstream]))), Arc::<crate::cache::Cache>::default());
    let server = Server::bind(LOCAL, state.clone(), forwarding, cache.clone(), Arc::default()).await.expect("binds");
    let address = server.address();
    server.spawn();
    let metrics = health::serve(LOCAL, state, cache).await.expect("binds");
    // Other tests of this process count beside this one.
    let before = whole(metrics, "/metrics").await;
    assert!(before.starts_with("HTTP/1.1 200 OK"));
    ask(address, "counted.example.").await;
    ask(address, "counted.example.").await;
    ask_tcp(address, "unknown.default.svc.cluster.local.").await;
    ask(address, "other.question.").await;
    crate::metrics::METRICS.programmed(Duration::from_millis(3));
    let after = whole(metrics, "/metrics").await;
    let server = "server=\"dns://:53\",zone=\".\",view=\"\"";
    let cached = "server=\"dns://:53\",zones=\".\",view=\"\"";
    for (name, least) in [
        (format!("coredns_dns_requests_total{{{server},proto=\"udp\",family=\"1\",type=\"A\"}}"), 2),
        (format!("coredns_dns_requests_total{{{server},proto=\"tcp\",family=\"1\",type=\"A\"}}"), 1),
        (format!("coredns_dns_responses_total{{{server},rcode=\"NOERROR\",plugin=\"forward\"}}"), 1),
        (format!("coredns_dns_responses_total{{{server},rcode=\"NOERROR\",plugin=\"cache\"}}"), 1),
        (format!("coredns_dns_responses_total{{{server},rcode=\"SERVFAIL\",plugin=\"kubernetes\"}}"), 1),
        (format!("coredns_dns_request_duration_seconds_count{{{server}}}"), 3),
        (format!("coredns_dns_request_duration_seconds_bucket{{{server},le=\"+Inf\"}}"), 3),
        (format!("coredns_dns_request_size_bytes_bucket{{{server},proto=\"udp\",le=\"100\"}}"), 2),
        (format!("coredns_dns_response_size_bytes_count{{{server},proto=\"tcp\"}}"), 1),
        (format!("coredns_cache_hits_total{{{cached},type=\"success\"}}"), 1),
        (format!("coredns_cache_misses_total{{{cached}}}"), 1),
        (format!("coredns_cache_requests_total{{{cached}}}"), 2),
        (format!("coredns_cache_drops_total{{{cached}}}"), 1),
        ("coredns_kubernetes_dns_programming_duration_seconds_bucket{service_kind=\"headless_with_selector\",le=\"0.004\"}".to_owned(), 1),
    ] {
        assert!(series(&after, &name) >= series(&before, &name) + least, "{name}\n{after}");
    }
    // Nobody else knows this cache and this upstream.
    assert_eq!(series(&after, &format!("coredns_cache_entries{{{cached},type=\"success\"}}")), 1);
    assert_eq!(series(&after, &format!("coredns_forward_requests_total{{to=\"{upstream}\"}}")), 2);
    for kind in ["success", "denial"] {
        assert!(after.contains(&format!("coredns_cache_evictions_total{{{cached},type=\"{kind}\"}} 0\n")), "{after}");
    }
    for name in ["coredns_forward_request_duration_seconds_count{", "coredns_proxy_request_duration_seconds_count{proxy_name=\"forward\","] {
        assert_eq!(series(&after, &format!("{name}to=\"{upstream}\",rcode=\"NOERROR\"}}")), 2, "{after}");
    }
    for line in after.lines().skip_while(|line| !line.starts_with('#')).filter(|line| !line.starts_with('#')) {
        let (_, value) = line.rsplit_once(' ').expect("a series and its value");
        assert!(value.parse::<f64>().is_ok(), "{line}");
    }
}

#[tokio::test]
async fn whoever_holds_connections_keeps_nobody_else_from_an_answer() {
    let server = serve(Arc::new(State::new("cluster.local").expect("a domain")), Vec::new()).await;
    let address = server.address();
    server.spawn();
    let mut held = Vec::new();
    for _ in 0..600 {
        held.push(TcpStream::connect(address).await.expect("connects"));
    }
    let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
    socket.bind("127.0.0.2:0".parse().expect("an address")).expect("binds");
    let mut other = socket.connect(address).await.expect("connects");
    let query = query("nobody.example.");
    other.write_u16(u16::try_from(query.len()).expect("is short")).await.expect("sends");
    other.write_all(&query).await.expect("sends");
    let length = timeout(Duration::from_secs(8), other.read_u16()).await.expect("is answered").expect("is answered");
    assert!(length > 12);
}

#[tokio::test]
async fn whoever_holds_the_ports_of_probes_keeps_no_probe_from_an_answer() {
    let state = Arc::new(State::new("cluster.local").expect("a domain"));
    let health = health::serve(LOCAL, state, Arc::default()).await.expect("binds");
    let mut held = Vec::new();
    for number in 10..30 {
        for _ in 0..8 {
            let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
            socket.bind(SocketAddr::from(([127, 0, 0, number], 0))).expect("binds");
            held.push(socket.connect(health).await.expect("connects"));
        }
    }
    let reply = timeout(Duration::from_secs(4), get(health, "/health")).await.expect("is answered at once");
    assert_eq!(reply, "HTTP/1.1 200 OK");
    // One address has its share.
    let mut more = Vec::new();
    for _ in 0..9 {
        more.push(TcpStream::connect(health).await.expect("connects"));
    }
    let mut buffer = [0; 16];
    let ended = timeout(Duration::from_secs(4), more[8].read(&mut buffer)).await.expect("is not kept waiting");
    assert!(matches!(ended, Ok(0) | Err(_)));
}

#[tokio::test]
async fn rubbish_is_answered_with_an_error_or_not_at_all() {
    let state = Arc::new(State::new("cluster.local").expect("a domain"));
    let server = serve(state, Vec::new()).await;
    let address = server.address();
    server.spawn();
    let socket = UdpSocket::bind(LOCAL).await.expect("binds");
    socket.send_to(b"x", address).await.expect("sends");
    let mut bad = query("web.default.svc.cluster.local.");
    bad.truncate(20);
    socket.send_to(&bad, address).await.expect("sends");
    let mut buffer = [0; 512];
    let length = timeout(Duration::from_secs(30), socket.recv(&mut buffer)).await.expect("answers in time").expect("receives");
    let reply = Message::from_vec(&buffer[..length]).expect("a reply");
    assert_eq!((reply.metadata.id, reply.metadata.response_code), (77, ResponseCode::FormErr));
    assert_eq!(ask(address, "example.com.").await.metadata.response_code, ResponseCode::ServFail, "no upstream is known");
}

#[test]
fn options_come_in_both_spellings() {
    let words = ["--domain=example.org.", "--listen", "127.0.0.1:5353", "--lameduck-seconds=0"].map(str::to_owned);
    let options = Options::parse(words.into_iter()).expect("parses");
    assert_eq!((options.domain.as_str(), options.listen.port(), options.lameduck), ("example.org", 5353, Duration::ZERO));
    assert!(Options::parse(["--nonsense=1".to_owned()].into_iter()).is_err());
    assert!(Options::parse(["--domain".to_owned()].into_iter()).is_err());
}
