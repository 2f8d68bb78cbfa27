//! Connections and requests that cost their senders little: floods of them keep nobody else out, and each ends in time.

use std::{
    io::{Read, Write},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use troupe_api::auth::pki::{LeafSpec, Pki};

use crate::{
    caller::{Caller, Session},
    cluster::Cluster,
    stage,
    stalls::Stalls,
};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const REVIEWS: &str = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";

/// A client with a certificate of the cluster that goes on with its work.
struct Bystander {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Vec<Duration>>,
    stalls: Stalls,
}

impl Bystander {
    /// The kubelet of the cluster's node, asking for its Node.
    fn kubelet(cluster: &Cluster) -> Self {
        let pki = Pki::open(&cluster.path("data/pki")).expect("the cluster's CA");
        let spec = LeafSpec {
            file: "attacked-node".into(),
            common_name: "system:node:it".into(),
            organizations: vec!["system:nodes".into()],
            client: true,
            ..LeafSpec::default()
        };
        let caller = Caller::with_certificate(cluster, &pki.leaf(&spec).expect("a certificate"));
        Bystander::asking(caller, "/api/v1/nodes/it", Stalls::on(cluster.dir()))
    }

    fn asking(caller: Caller, path: &'static str, stalls: Stalls) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = std::thread::spawn(move || {
            let mut waits = Vec::new();
            while !stopped.load(Ordering::Relaxed) {
                let reply = caller.get(path);
                assert_eq!(reply.status, 200, "a bystander is refused: {reply:?}");
                waits.push(reply.took);
                std::thread::sleep(Duration::from_millis(50));
            }
            waits
        });
        Bystander { stop, thread, stalls }
    }

    /// Nothing went wrong, and nothing took long, beside what the machine itself held up.
    fn was_not_bothered(self) {
        self.stop.store(true, Ordering::Relaxed);
        let mut waits = self.thread.join().expect("no request of a bystander fails");
        waits.sort_unstable();
        let p99 = waits[(waits.len() * 99 / 100).min(waits.len() - 1)];
        let stalled = self.stalls.longest();
        assert!(p99 < Duration::from_secs(1) + stalled, "a bystander waited {p99:?}, of which the machine took {stalled:?}");
    }
}

/// Announces a body, sends some of it and leaves it at that.
fn half_a_request(caller: &Caller, path: &str) -> Session {
    let head = caller.head("POST", path, &[("Content-Type", "application/json"), ("Content-Length", "100000")]);
    let mut session = caller.session().expect("the server takes connections");
    // It may be refused already.
    let _ = session.write_all(head.as_bytes()).and_then(|()| session.write_all(b"{\"kind\":")).and_then(|()| session.flush());
    session
}

/// How long it takes until the server ends a connection.
fn ends(session: &mut impl Read) -> Duration {
    let began = Instant::now();
    let mut bytes = Vec::new();
    // However it ends.
    let _ = session.read_to_end(&mut bytes);
    began.elapsed()
}

#[test]
fn bodies_that_nobody_finishes_keep_no_node_waiting() {
    let stage = stage::shared();
    let nobody = Caller::nobody(&stage);
    let ((), toll) = stage.attack(|| {
        let kubelet = Bystander::kubelet(&stage);
        let held: Vec<Session> = (0..700).map(|_| half_a_request(&nobody, MAPS)).collect();
        std::thread::sleep(Duration::from_secs(5));
        kubelet.was_not_bothered();
        drop(held);
    });
    println!("700 bodies of nobody that do not come: {toll:?}");
    assert!(toll.memory < 128 << 20, "{toll:?}");
}

#[test]
fn bodies_that_a_stranger_does_not_finish_keep_nobody_waiting() {
    let stage = stage::shared();
    let room = stage.room("slow-bodies");
    let (stranger, other) = (stage.stranger(&room.name), stage.stranger("default"));
    let ((), toll) = stage.attack(|| {
        let kubelet = Bystander::kubelet(&stage);
        let mut held: Vec<Session> = (0..700).map(|_| half_a_request(&stranger, REVIEWS)).collect();
        let review = serde_json::json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": {"verb": "get", "resource": "pods"}}});
        let stalls = Stalls::on(stage.dir());
        let serve = |_| {
            let reply = other.json("POST", REVIEWS, &review);
            assert_eq!(reply.status, 201, "another account is served: {reply:?}");
            reply.took
        };
        let slowest = (0..20).map(serve).max().expect("some were sent");
        let stalled = stalls.longest();
        assert!(slowest < Duration::from_secs(1) + stalled, "another account waited {slowest:?}, of which the machine took {stalled:?}");
        let given_up = ends(&mut held[0]);
        assert!(given_up < Duration::from_secs(15), "a body that does not come is waited for {given_up:?}");
        kubelet.was_not_bothered();
    });
    println!("700 bodies of a stranger that do not come: {toll:?}");
    assert!(toll.memory < 128 << 20, "{toll:?}");
}

#[test]
fn heads_and_handshakes_that_never_end_are_given_up() {
    let stage = stage::shared();
    let nobody = Caller::nobody(&stage);
    let ((), toll) = stage.attack(|| {
        let kubelet = Bystander::kubelet(&stage);
        let silent: Vec<_> = (0..600).map(|_| nobody.tcp().expect("connects")).collect();
        let mut first = nobody.session().expect("connects");
        first.write_all(b"GET /version HTTP/1.1\r\nHost: k").expect("is sent");
        let mut second = nobody.session().expect("connects");
        second.write_all(nobody.head("GET", "/version", &[]).as_bytes()).expect("is sent");
        second.write_all(b"GET /version HTTP/1.1\r\nHost: k").expect("is sent");
        let mut dripping = nobody.session().expect("connects");
        dripping.write_all(nobody.head("GET", "/version", &[]).as_bytes()).expect("is sent");
        let drip = std::thread::spawn(move || {
            let began = Instant::now();
            let mut buffer = [0; 4096];
            while dripping.read(&mut buffer).is_ok_and(|count| count > 0) && !buffer.contains(&b'}') {}
            dripping.write_all(b"GET /version HTTP/1.1\r\nX-Drip: ").expect("is sent");
            // Until the server has enough of it.
            while began.elapsed() < Duration::from_secs(60) && dripping.write_all(b"x").and_then(|()| dripping.flush()).is_ok() {
                std::thread::sleep(Duration::from_millis(500));
            }
            began.elapsed()
        });
        for mut stream in silent.into_iter().take(3) {
            let took = ends(&mut stream);
            assert!(took < Duration::from_secs(15), "a handshake that never begins is waited for {took:?}");
        }
        for (session, what) in [(&mut first, "a head"), (&mut second, "a second head")] {
            let took = ends(session);
            assert!(took < Duration::from_secs(20), "{what} is waited for {took:?}");
        }
        let dripped = drip.join().expect("does not panic");
        assert!(dripped < Duration::from_secs(25), "a head that drips was read for {dripped:?}");
        kubelet.was_not_bothered();
    });
    println!("heads and handshakes that never end: {toll:?}");
}

/// A frame of HTTP/2.
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("is short").to_be_bytes();
    let mut bytes = vec![length[1], length[2], length[3], kind, flags];
    bytes.extend_from_slice(&stream.to_be_bytes());
    bytes.extend_from_slice(payload);
    bytes
}

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const CONTINUATION: u8 = 9;
/// `GET https://a/`, compressed.
const GET: &[u8] = b"\x82\x87\x84\x41\x01a";
/// `POST https://a/`, compressed.
const POST: &[u8] = b"\x83\x87\x84\x41\x01a";

/// What a flood sends for each number.
type Flood = Box<dyn FnMut(u32) -> Vec<u8>>;

/// Floods a connection of nobody's with what `flood` makes of each number, until the server ends it.
fn flooded(nobody: &Caller, mut flood: impl FnMut(u32) -> Vec<u8>) -> Duration {
    let began = Instant::now();
    let mut session = nobody.session_speaking("h2").expect("connects");
    session.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").and_then(|()| session.write_all(&frame(SETTINGS, 0, 0, &[]))).expect("is sent");
    session.sock.set_write_timeout(Some(Duration::from_secs(20))).expect("a socket");
    for number in 0..2_000_000 {
        if began.elapsed() > Duration::from_secs(40) || session.write_all(&flood(number)).is_err() {
            break;
        }
    }
    began.elapsed()
}

#[test]
fn floods_of_frames_end_their_connection_alone() {
    let stage = stage::shared();
    let nobody = Caller::nobody(&stage);
    let continued = frame(CONTINUATION, 0, 1, &b"\x00\x01x\x01y".repeat(1000));
    let floods: [(&str, Flood); 5] = [
        ("pings", Box::new(|_| frame(PING, 0, 0, b"12345678"))),
        ("settings", Box::new(|_| frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 255, 255]))),
        ("streams reset at once", Box::new(|n| [frame(HEADERS, 5, 2 * n + 1, GET), frame(RST_STREAM, 0, 2 * n + 1, &[0, 0, 0, 8])].concat())),
        ("headers without an end", Box::new(move |n| if n == 0 { frame(HEADERS, 0, 1, GET) } else { continued.clone() })),
        ("a body that is not wanted", Box::new(|n| if n == 0 { frame(HEADERS, 4, 1, POST) } else { frame(DATA, 0, 1, &[0; 16_384]) })),
    ];
    for (what, flood) in floods {
        let (took, toll) = stage.attack(|| flooded(&nobody, flood));
        println!("{what} for {took:?}: {toll:?}");
        assert!(took < Duration::from_secs(30), "{what} went on for {took:?}");
        assert!(toll.memory < 32 << 20, "{what}: {toll:?}");
    }
}

/// Whether a request cost next to nothing: its processor time, and the memory that some of them together took.
fn is_little((each, memory): &(Duration, u64)) -> bool {
    *each < Duration::from_millis(5) && *memory < 8 << 20
}

#[test]
fn a_refused_request_costs_nearly_nothing() {
    let stage = stage::shared();
    let nobody = Caller::nobody(&stage);
    let body = vec![b'x'; 1 << 20];
    let requests = [
        ("DELETE", format!("{MAPS}/none")),
        ("DELETE", MAPS.to_owned()),
        ("POST", MAPS.to_owned()),
        ("PATCH", format!("{MAPS}/none")),
        ("PUT", format!("{MAPS}/none")),
        ("POST", REVIEWS.to_owned()),
        ("POST", "/api/v1/namespaces/default/pods/none/proxy/x".to_owned()),
    ];
    let send = |(method, path): &(&str, String)| nobody.send(method, path, "application/yaml", &body);
    requests.iter().for_each(|request| assert_eq!(send(request).status, 403, "{request:?}"));
    let (count, idle) = (15, stage.toll_of(|| std::thread::sleep(Duration::from_secs(5))).1);
    for request in &requests {
        let measured = || {
            let (slowest, toll) = stage.toll_of(|| {
                // All at once: one after the other they would take seconds, and what else the daemon does meanwhile would count as theirs.
                let replies: Vec<_> = std::thread::scope(|scope| {
                    let senders: Vec<_> = (0..count).map(|_| scope.spawn(|| send(request))).collect();
                    senders.into_iter().map(|sender| sender.join().expect("a reply or none")).collect()
                });
                // Who still writes when the connection is let go may miss the reply.
                let (refused, cut) = (replies.iter().filter(|reply| reply.status == 403), replies.iter().filter(|reply| reply.status == 0));
                let (refused, cut) = (refused.count(), cut.count());
                assert!(refused + cut == replies.len() && cut <= 2, "{replies:?}");
                replies.into_iter().map(|reply| reply.took).max().expect("some were sent")
            });
            let rest = idle.processor.mul_f64(toll.took.as_secs_f64() / idle.took.as_secs_f64());
            let each = toll.processor.saturating_sub(rest) / count;
            println!(
                "{} {}: {each:?} of processor time and {} KiB for {count} together, slowest {slowest:?}",
                request.0,
                request.1,
                toll.memory >> 10
            );
            (each, toll.memory)
        };
        // The daemon has other work too: what a request costs, it costs each time.
        let mut costs = Vec::new();
        while costs.len() < 6 && !costs.last().is_some_and(is_little) {
            costs.push(measured());
        }
        assert!(costs.last().is_some_and(is_little), "{request:?} costs {costs:?}");
    }
}
