//! Forwarding to the machine's own resolvers.

use std::{
    hash::{BuildHasher, Hasher, RandomState},
    io,
    net::{IpAddr, SocketAddr},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use hickory_proto::{
    op::{Message, MessageType, OpCode, Query},
    rr::{Name, RecordType},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpStream, UdpSocket},
    sync::Semaphore,
    time::timeout,
};
use troupe_net::{dns::decode, resolv::ResolvConf};

use crate::{
    failures::Failures,
    metrics::{METRICS, To},
};

const PATIENCE: Duration = Duration::from_secs(2);
const ROUNDS: usize = 2;
/// Queries under way at most; more are refused rather than queued.
const MAX_PENDING: usize = 1024;
pub const DNS_PORT: u16 = 53;
/// A resolver that failed so often in a row, and does not answer a question of ours, is asked only where no other is left (CoreDNS' `max_fails`).
const MAX_FAILS: u32 = 2;
/// Until it answers a question about the root, asked so often (CoreDNS' `health_check`).
const HEALTH_CHECK: Duration = Duration::from_millis(500);
const HEALTH_PATIENCE: Duration = Duration::from_secs(1);

/// The resolvers that other names are asked of.
#[derive(Debug)]
pub struct Upstream {
    servers: Vec<Arc<Resolver>>,
    /// The one that answered last is asked first.
    preferred: AtomicUsize,
    pending: Semaphore,
    /// Queries that none of them answered.
    pub failures: Failures,
}

/// One resolver and how it fares.
#[derive(Debug)]
struct Resolver {
    address: SocketAddr,
    /// Failures in a row.
    fails: AtomicU32,
    checked: AtomicBool,
    counts: Arc<To>,
}

impl Resolver {
    fn is_down(&self) -> bool {
        self.fails.load(Ordering::Relaxed) >= MAX_FAILS
    }

    fn answered(&self) {
        self.fails.store(0, Ordering::Relaxed);
    }

    /// A question was not answered, which somebody may have asked for that reason: names can be had that nobody answers for. So it is asked
    /// for something of ours at once, and again until it answers; only what it does not answer then counts.
    fn failed(self: &Arc<Self>) {
        if !self.checked.swap(true, Ordering::Relaxed) {
            let resolver = Arc::downgrade(self);
            tokio::spawn(async move {
                loop {
                    let Some(current) = resolver.upgrade() else { return };
                    if current.is_well().await {
                        current.answered();
                        current.checked.store(false, Ordering::Relaxed);
                        return;
                    }
                    current.counts.is_not_well();
                    // The question is the first that it did not answer.
                    current.fails.fetch_add(MAX_FAILS, Ordering::Relaxed);
                    drop(current);
                    tokio::time::sleep(HEALTH_CHECK).await;
                }
            });
        }
    }

    /// Any answer will do: it is there.
    async fn is_well(&self) -> bool {
        let mut question = Message::new(0, MessageType::Query, OpCode::Query);
        question.add_query(Query::query(Name::root(), RecordType::NS));
        match question.to_vec() {
            Ok(bytes) => timeout(HEALTH_PATIENCE, ask_udp(self.address, &bytes)).await.is_ok_and(|reply| reply.is_ok()),
            Err(_) => false,
        }
    }
}

impl Upstream {
    pub fn new(servers: Vec<SocketAddr>) -> Self {
        let resolver =
            |address| Arc::new(Resolver { address, fails: AtomicU32::new(0), checked: AtomicBool::new(false), counts: METRICS.to(address) });
        let servers = servers.into_iter().map(resolver).collect();
        Upstream { servers, preferred: AtomicUsize::new(0), pending: Semaphore::new(MAX_PENDING), failures: Failures::new() }
    }

    /// The servers of a `resolv.conf`. Loopback addresses would lead back to ourselves, so they are left out.
    pub fn from_file(path: &Path) -> Self {
        let conf = ResolvConf::read(path).unwrap_or_else(|error| {
            eprintln!("reading {}: {error}", path.display());
            ResolvConf::default()
        });
        let servers: Vec<SocketAddr> = usable(&conf.servers).map(|ip| SocketAddr::new(ip, DNS_PORT)).collect();
        if servers.is_empty() {
            eprintln!("{} names no resolver that a pod can reach: only names of the cluster are answered", path.display());
        }
        Upstream::new(servers)
    }

    /// Asks with the bytes of a query as they came; the reply has the query's id. Over TCP the reply is never cut.
    pub async fn ask(&self, query: &[u8], tcp: bool) -> anyhow::Result<Vec<u8>> {
        let permit = self.pending.try_acquire().inspect_err(|_| METRICS.rejected());
        let _permit = permit.context("too many queries under way")?;
        if self.servers.is_empty() {
            bail!("no upstream resolver");
        }
        let mut last = None;
        for at in self.order() {
            let server = &self.servers[at];
            let begun = Instant::now();
            server.counts.asked();
            let asked = timeout(PATIENCE, async { if tcp { ask_tcp(server.address, query).await } else { ask_udp(server.address, query).await } });
            match asked.await.map_err(anyhow::Error::from).and_then(|reply| reply) {
                Ok(reply) => {
                    server.answered();
                    server.counts.answered(&reply, begun.elapsed());
                    self.preferred.store(at, Ordering::Relaxed);
                    return Ok(reply);
                }
                Err(error) => {
                    server.failed();
                    last = Some(error);
                }
            }
        }
        Err(last.context("no upstream resolver")?)
    }

    /// Whether none of them answered lately: who asks waits, and most likely for nothing.
    pub fn is_down(&self) -> bool {
        self.servers.iter().all(|server| server.is_down())
    }

    /// The resolvers in the order in which they are asked: those that are up, some more than once; all where none is.
    fn order(&self) -> Vec<usize> {
        let count = self.servers.len();
        let first = self.preferred.load(Ordering::Relaxed);
        let all = (0..count).map(|attempt| (first + attempt) % count);
        let up: Vec<usize> = all.clone().filter(|at| !self.servers[*at].is_down()).collect();
        if up.is_empty() {
            METRICS.all_are_down();
            return all.collect();
        }
        up.repeat(ROUNDS)
    }

    /// Who is asked.
    #[cfg(test)]
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.servers.iter().map(|server| server.address).collect()
    }

    /// Asks with a message of our own and decodes the reply.
    pub async fn resolve(&self, query: &Message) -> anyhow::Result<Message> {
        let bytes = query.to_vec()?;
        let decoded = |reply: Vec<u8>| decode(&reply).context("upstream's reply is no message");
        let reply = decoded(self.ask(&bytes, false).await?)?;
        if reply.metadata.truncation { decoded(self.ask(&bytes, true).await?) } else { Ok(reply) }
    }
}

fn usable(servers: &[IpAddr]) -> impl Iterator<Item = IpAddr> {
    servers.iter().copied().filter(|ip| !ip.is_loopback() && !ip.is_unspecified())
}

async fn ask_udp(server: SocketAddr, query: &[u8]) -> anyhow::Result<Vec<u8>> {
    let any: SocketAddr = if server.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { ([0u16; 8], 0).into() };
    // A socket per query: a port and an id that an outsider would both have to guess.
    let socket = UdpSocket::bind(any).await?;
    socket.connect(server).await?;
    let id = RandomState::new().build_hasher().finish().to_be_bytes();
    let mut sent = query.to_vec();
    sent.get_mut(..2).context("the query is too short")?.copy_from_slice(&id[..2]);
    socket.send(&sent).await?;
    loop {
        // Whoever waits holds no room for what may come.
        socket.readable().await?;
        let mut buffer = vec![0; 65_535];
        let length = match socket.try_recv(&mut buffer) {
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
            Err(error) => return Err(error.into()),
        };
        if length >= 12 && buffer[..2] == id[..2] {
            buffer.truncate(length);
            buffer.shrink_to_fit();
            buffer[..2].copy_from_slice(&query[..2]);
            return Ok(buffer);
        }
    }
}

async fn ask_tcp(server: SocketAddr, query: &[u8]) -> anyhow::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(server).await?;
    stream.write_u16(u16::try_from(query.len())?).await?;
    stream.write_all(query).await?;
    let length = stream.read_u16().await?;
    let mut reply = vec![0; usize::from(length)];
    stream.read_exact(&mut reply).await?;
    if reply.get(..2) != query.get(..2) {
        bail!("the reply answers another query");
    }
    Ok(reply)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_resolvers_are_never_asked() {
        let servers = ["127.0.0.53", "10.0.0.2", "::1"].map(|ip| ip.parse().expect("an address"));
        assert_eq!(usable(&servers).collect::<Vec<_>>(), [servers[1]]);
    }

    #[tokio::test]
    async fn a_resolver_that_is_down_is_left_out_until_it_answers_again() {
        let down = UdpSocket::bind("127.0.0.1:0").await.expect("binds");
        let address = down.local_addr().expect("is bound");
        let upstream = Upstream::new(vec![address, ([127, 0, 0, 1], 1).into()]);
        assert_eq!(upstream.order(), [0, 1, 0, 1]);
        upstream.servers[0].failed();
        upstream.servers[0].failed();
        assert_eq!(upstream.order(), [0, 1, 0, 1], "it may be for what was asked");
        let left_out = async {
            while upstream.order() != [1, 1] {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        timeout(Duration::from_secs(10), left_out).await.expect("does not answer what it is asked to see whether it is well");
        assert!(!upstream.is_down());
        upstream.servers[1].fails.store(MAX_FAILS, Ordering::Relaxed);
        assert!(upstream.is_down());
        assert_eq!(upstream.order(), [0, 1], "rather one that may be down than none");
        tokio::spawn(answer_all(down));
        let asked = async {
            while upstream.order() != [0, 0] {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        timeout(Duration::from_secs(10), asked).await.expect("it answers");
    }

    async fn answer_all(socket: UdpSocket) {
        let mut buffer = [0; 512];
        while let Ok((length, from)) = socket.recv_from(&mut buffer).await {
            buffer[2] |= 0x80;
            socket.send_to(&buffer[..length], from).await.expect("sends");
        }
    }

    #[tokio::test]
    async fn names_that_nobody_answers_for_take_no_resolver_from_others() {
        let resolver = UdpSocket::bind("127.0.0.1:0").await.expect("binds");
        let upstream = Upstream::new(vec![resolver.local_addr().expect("is bound")]);
        tokio::spawn(answer_all(resolver));
        for _ in 0..50 {
            upstream.servers[0].failed();
            assert!(!upstream.is_down());
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        assert!(!upstream.is_down());
    }
}
