//! New connections a second, through a Service with a hundred endpoints beside such that go to the endpoints themselves.

use std::{
    io::{self, Read, Write},
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    ops::RangeInclusive,
    os::fd::AsFd,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Instant,
};

use nix::{
    poll::{PollFd, PollFlags, poll},
    sys::socket::{setsockopt, sockopt::Linger},
};

use super::{End, PATIENCE, in_turns};
use crate::{
    cluster::{Cluster, apply, eventually},
    figures::{Budget, report},
};

/// The endpoints are ports of one pod.
const PORTS: RangeInclusive<u16> = 7200..=7299;
/// Connections of one round. What the kernel remembers of all rounds must fit into its table.
pub const COUNT: usize = 3_000;

/// From one pod to the other, both of one node.
pub fn measure(cluster: &Cluster, from: &End, to: &End) {
    let slices: String = PORTS.map(|port| slice(to.ip, port)).collect();
    apply(cluster, &format!("{SERVICE}{slices}"));
    let service = cluster.kubectl("get service hundred -o jsonpath={.spec.clusterIP}");
    let service = SocketAddr::new(service.parse().expect("an address"), 80);
    let endpoints: Vec<SocketAddr> = PORTS.map(|port| SocketAddr::new(to.ip, port)).collect();
    eventually("the kernel has all endpoints", || {
        let rules = cluster.rules();
        endpoints.iter().all(|endpoint| rules.contains(&endpoint.to_string()))
    });
    let _acceptor = Acceptor::at(to, PORTS);
    from.await_answer(service);
    let (rate, ratio) = in_turns(|| per_second(from, &[service], COUNT), || per_second(from, &endpoints, COUNT));
    report("new connections through a ClusterIP with 100 endpoints, one client", rate, "/s", Budget::None);
    report("new connections through a ClusterIP with 100 endpoints / direct", ratio, "", Budget::AtLeast(0.9));
}

const SERVICE: &str = "
apiVersion: v1
kind: Service
metadata: {name: hundred}
spec: {ports: [{name: many, port: 80, targetPort: 7200}]}
";

fn slice(ip: IpAddr, port: u16) -> String {
    format!(
        "---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {{name: hundred-{port}, labels: {{kubernetes.io/service-name: \
         hundred}}}}\naddressType: IPv4\nports: [{{name: many, port: {port}, protocol: TCP}}]\nendpoints: [{{addresses: ['{ip}'], conditions: {{ready: \
         true}}}}]\n"
    )
}

/// How many connections a second one thread makes, to one address after the other. Each has ended before the next begins.
pub fn per_second(from: &End, addresses: &[SocketAddr], count: usize) -> f64 {
    from.within(|| {
        let begun = Instant::now();
        for address in addresses.iter().cycle().take(count) {
            let mut stream = TcpStream::connect_timeout(address, PATIENCE).expect("connects");
            stream.set_read_timeout(Some(PATIENCE)).expect("takes it");
            stream.write_all(&[0]).expect("is connected");
            // It is reset by whoever took it.
            let end = stream.read_exact(&mut [0]).map_err(|error| error.kind());
            assert_ne!(end, Err(io::ErrorKind::WouldBlock), "nobody takes the connection");
        }
        count as f64 / begun.elapsed().as_secs_f64()
    })
}

/// Takes connections at ports of an end and resets them, until it is dropped.
pub struct Acceptor {
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Acceptor {
    pub fn at(end: &End, ports: RangeInclusive<u16>) -> Self {
        let listeners: Vec<TcpListener> = end.within(|| ports.map(listener).collect());
        let over = Arc::new(AtomicBool::new(false));
        let told = over.clone();
        Acceptor { over, thread: Some(thread::spawn(move || accept_all(&listeners, &told))) }
    }
}

impl Drop for Acceptor {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        // What went wrong there its clients have noticed.
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

fn listener(port: u16) -> TcpListener {
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).expect("the port is free");
    listener.set_nonblocking(true).expect("takes it");
    listener
}

/// Ends a connection once its client knows that it is there, and has said something. Its port is free at once.
fn reset(mut stream: TcpStream) {
    stream.set_read_timeout(Some(PATIENCE)).expect("takes it");
    // Some only see whether anybody answers.
    let _ = stream.read_exact(&mut [0]);
    setsockopt(&stream, Linger, &libc::linger { l_onoff: 1, l_linger: 0 }).expect("a socket takes it");
}

fn accept_all(listeners: &[TcpListener], over: &AtomicBool) {
    while !over.load(Ordering::Relaxed) {
        let mut waiting: Vec<PollFd<'_>> = listeners.iter().map(|listener| PollFd::new(listener.as_fd(), PollFlags::POLLIN)).collect();
        // Every now and then it looks whether this is over.
        poll(&mut waiting, 50_u16).expect("the kernel waits");
        for (listener, state) in listeners.iter().zip(&waiting) {
            if state.any() == Some(true) {
                while let Ok((stream, _)) = listener.accept() {
                    reset(stream);
                }
            }
        }
    }
}
