//! Forwarding to the machine's own resolvers.

use std::{
    hash::{BuildHasher, Hasher, RandomState},
    net::{IpAddr, SocketAddr},
    path::Path,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use anyhow::{Context, bail};
use hickory_proto::op::Message;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpStream, UdpSocket},
    sync::Semaphore,
    time::timeout,
};
use troupe_net::{dns::decode, resolv::ResolvConf};

const PATIENCE: Duration = Duration::from_secs(2);
const ROUNDS: usize = 2;
/// Queries under way at most; more are refused rather than queued.
const MAX_PENDING: usize = 1024;
const DNS_PORT: u16 = 53;

/// The resolvers that other names are asked of.
#[derive(Debug)]
pub struct Upstream {
    servers: Vec<SocketAddr>,
    /// The one that answered last is asked first.
    preferred: AtomicUsize,
    pending: Semaphore,
}

impl Upstream {
    pub fn new(servers: Vec<SocketAddr>) -> Self {
        Upstream { servers, preferred: AtomicUsize::new(0), pending: Semaphore::new(MAX_PENDING) }
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
        let _permit = self.pending.try_acquire().context("too many queries under way")?;
        if self.servers.is_empty() {
            bail!("no upstream resolver");
        }
        let first = self.preferred.load(Ordering::Relaxed);
        let mut last = None;
        for attempt in 0..self.servers.len() * ROUNDS {
            let at = (first + attempt) % self.servers.len();
            let asked =
                timeout(PATIENCE, async { if tcp { ask_tcp(self.servers[at], query).await } else { ask_udp(self.servers[at], query).await } });
            match asked.await.map_err(anyhow::Error::from).and_then(|reply| reply) {
                Ok(reply) => {
                    self.preferred.store(at, Ordering::Relaxed);
                    return Ok(reply);
                }
                Err(error) => last = Some(error),
            }
        }
        Err(last.context("no upstream resolver")?)
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
    let mut buffer = vec![0; 65_535];
    loop {
        let length = socket.recv(&mut buffer).await?;
        if length >= 12 && buffer[..2] == id[..2] {
            buffer.truncate(length);
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
}
