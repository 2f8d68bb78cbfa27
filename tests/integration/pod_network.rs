//! This process in the networks of pods: sockets there, without programs in the pods.

use std::{
    io::{self, Read, Write},
    net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use troupe_net::netns;

use crate::cluster::Cluster;

/// A pod, in whose network this process works.
#[derive(Clone)]
pub struct Pod {
    pub ip: IpAddr,
    network: PathBuf,
}

impl Pod {
    /// A pod that runs.
    pub fn of(cluster: &Cluster, namespace: &str, name: &str) -> Self {
        let ip = cluster.kubectl(&format!("-n {namespace} get pod {name} -o jsonpath={{.status.podIP}}"));
        let process = cluster.process_of(namespace, name);
        Pod { ip: ip.parse().expect("an address"), network: PathBuf::from(format!("/proc/{process}/ns/net")) }
    }

    /// Does something in the pod's network; sockets that are made there stay there.
    pub fn within<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        netns::run(&self.network, work).expect("the pod's network is there")
    }

    pub fn connect(&self, address: SocketAddr, patience: Duration) -> io::Result<TcpStream> {
        self.within(|| TcpStream::connect_timeout(&address, patience))
    }

    /// Whether somebody answers within a second.
    pub fn connects(&self, address: SocketAddr) -> bool {
        self.connect(address, Duration::from_secs(1)).is_ok()
    }

    pub fn listener(&self, port: u16) -> TcpListener {
        self.within(|| TcpListener::bind(("0.0.0.0", port))).expect("binds")
    }

    /// A socket for datagrams that waits a moment for each.
    pub fn datagrams(&self, port: u16) -> UdpSocket {
        let socket = self.within(|| UdpSocket::bind(("0.0.0.0", port))).expect("binds");
        socket.set_read_timeout(Some(Duration::from_millis(150))).expect("takes it");
        socket
    }
}

/// What a thread has to tell.
#[derive(Debug, Default)]
pub struct Tally {
    pub count: u64,
    pub longest: Duration,
    pub faults: Vec<String>,
}

/// Threads that go on until they are to end, or this is dropped.
pub struct Threads {
    over: Arc<AtomicBool>,
    threads: Vec<JoinHandle<Tally>>,
}

impl Threads {
    pub fn new() -> Self {
        Threads { over: Arc::new(AtomicBool::new(false)), threads: Vec::new() }
    }

    /// Does something again and again, unless it finds a fault.
    pub fn repeat(&mut self, mut work: impl FnMut(&mut Tally) + Send + 'static) {
        let over = self.over.clone();
        let until_over = move || {
            let mut tally = Tally::default();
            while !over.load(Ordering::Relaxed) && tally.faults.is_empty() {
                work(&mut tally);
            }
            tally
        };
        self.threads.push(thread::spawn(until_over));
    }

    /// Gives back whatever comes over connections.
    pub fn serve(&mut self, listener: TcpListener) {
        listener.set_nonblocking(true).expect("takes it");
        self.repeat(move |_| match listener.accept() {
            Ok((stream, _)) => drop(thread::spawn(move || give_back(&stream))),
            Err(_) => thread::sleep(Duration::from_millis(5)),
        });
    }

    /// Gives back whatever datagrams come.
    pub fn serve_datagrams(&mut self, socket: UdpSocket) {
        self.repeat(move |_| {
            let mut buffer = [0; 64];
            if let Ok((count, from)) = socket.recv_from(&mut buffer) {
                // Who asked may be gone.
                let _ = socket.send_to(&buffer[..count], from);
            }
        });
    }

    /// One of them has found a fault.
    pub fn are_broken(&self) -> bool {
        self.threads.iter().any(JoinHandle::is_finished)
    }

    /// Ends them; gives what all have to tell.
    pub fn end(mut self) -> Tally {
        self.over.store(true, Ordering::Relaxed);
        let mut all = Tally::default();
        for thread in self.threads.drain(..) {
            let one = thread.join().expect("does not panic");
            all.count += one.count;
            all.longest = all.longest.max(one.longest);
            all.faults.extend(one.faults);
        }
        all
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
    }
}

/// Gives back what comes until nothing does.
fn give_back(stream: &TcpStream) -> io::Result<()> {
    // What listens does not block, and some systems hand that on.
    stream.set_nonblocking(false)?;
    stream.set_nodelay(true)?;
    let (mut from, mut to, mut buffer) = (stream, stream, [0; 64]);
    loop {
        match from.read(&mut buffer)? {
            0 => return Ok(()),
            count => to.write_all(&buffer[..count])?,
        }
    }
}
