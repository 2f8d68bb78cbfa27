//! Queries over UDP and TCP.

mod resolver;

use std::{
    collections::VecDeque,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Context;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream, UdpSocket},
    sync::{OwnedSemaphorePermit, Semaphore},
    task::AbortHandle,
    time::timeout,
};

use self::resolver::{Resolver, Step};
use crate::{
    cache::Cache,
    domains::Domains,
    failures::Failures,
    forwarding::Forwarding,
    metrics::{Came, METRICS, Reply},
    shares::Shares,
    state::State,
};

/// How long an idle TCP client may stay.
const TCP_IDLE: Duration = Duration::from_secs(10);
const MAX_TCP_CLIENTS: usize = 512;
/// Of them those of one address.
const TCP_SHARE: usize = 32;
const UDP_READERS: usize = 2;
/// The largest query that is read over UDP.
const MAX_QUERY: usize = 4096;
/// Replies that could not be sent.
static REPLIES: Failures = Failures::new();

/// The two sockets of one address.
#[derive(Debug)]
pub struct Server {
    udp: Arc<UdpSocket>,
    tcp: TcpListener,
    resolver: Arc<Resolver>,
}

impl Server {
    /// Binds both sockets; with port 0 both get the same free one.
    pub async fn bind(
        address: SocketAddr,
        state: Arc<State>,
        forwarding: Arc<Forwarding>,
        cache: Arc<Cache>,
        domains: Arc<Domains>,
    ) -> anyhow::Result<Self> {
        let tcp = TcpListener::bind(address).await.with_context(|| format!("listening on {address} (TCP)"))?;
        let bound = tcp.local_addr()?;
        let udp = UdpSocket::bind(bound).await.with_context(|| format!("listening on {bound} (UDP)"))?;
        Ok(Server { udp: Arc::new(udp), tcp, resolver: Arc::new(Resolver::new(state, forwarding, cache, domains)) })
    }

    pub fn address(&self) -> SocketAddr {
        self.tcp.local_addr().expect("the socket is bound")
    }

    /// Answers until the runtime ends.
    pub fn spawn(self) {
        for _ in 0..UDP_READERS {
            tokio::spawn(serve_udp(self.udp.clone(), self.resolver.clone()));
        }
        tokio::spawn(serve_tcp(self.tcp, self.resolver));
    }
}

async fn serve_udp(socket: Arc<UdpSocket>, resolver: Arc<Resolver>) {
    let mut buffer = vec![0; MAX_QUERY];
    loop {
        // An error here is about an earlier reply whose client has gone.
        let Ok((length, client)) = socket.recv_from(&mut buffer).await else { continue };
        let came = Came { begun: Instant::now(), tcp: false, client: client.ip(), size: length };
        match resolver.begin(&buffer[..length], client.ip(), false) {
            Step::Ignore => {}
            Step::Now(reply) => send(&socket, &came, &reply, client).await,
            Step::Later(pending) => {
                // Who asks faster than upstream answers waits for nobody else's memory.
                let free = resolver.asking.claim(client.ip()).zip(resolver.forwards.clone().try_acquire_owned().ok());
                let Some(place) = free else {
                    if let Some(reply) = resolver.at_once(*pending, false) {
                        send(&socket, &came, &reply, client).await;
                    }
                    continue;
                };
                let (socket, resolver, query) = (socket.clone(), resolver.clone(), buffer[..length].to_vec());
                tokio::spawn(async move {
                    if let Some(reply) = resolver.finish(*pending, &query, false).await {
                        send(&socket, &came, &reply, client).await;
                    }
                    drop(place);
                });
            }
        }
    }
}

async fn send(socket: &UdpSocket, came: &Came, reply: &Reply, client: SocketAddr) {
    METRICS.answered(came, reply);
    if let Err(error) = socket.send_to(&reply.bytes, client).await {
        REPLIES.tell(|| format!("replying to {client}: {error}"));
    }
}

async fn serve_tcp(listener: TcpListener, resolver: Arc<Resolver>) {
    let clients = Arc::new(Semaphore::new(MAX_TCP_CLIENTS));
    let shares = Shares::new(TCP_SHARE);
    let mut under_way: VecDeque<AbortHandle> = VecDeque::new();
    loop {
        match listener.accept().await {
            Ok((stream, client)) => {
                let Some(share) = shares.claim(client.ip()) else { continue };
                under_way.retain(|other| !other.is_finished());
                let Some(permit) = place(&clients, &mut under_way).await else { return };
                let resolver = resolver.clone();
                let serving = tokio::spawn(async move {
                    // A client that breaks off has nobody left to tell.
                    let _ = serve_client(stream, client.ip(), &resolver).await;
                    drop((permit, share));
                });
                under_way.push_back(serving.abort_handle());
            }
            Err(error) => {
                eprintln!("accepting a client: {error}");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// A place for one more client: where there is none the oldest goes.
pub async fn place(clients: &Arc<Semaphore>, under_way: &mut VecDeque<AbortHandle>) -> Option<OwnedSemaphorePermit> {
    if clients.available_permits() == 0
        && let Some(oldest) = under_way.pop_front()
    {
        oldest.abort();
    }
    clients.clone().acquire_owned().await.ok()
}

async fn serve_client(mut stream: TcpStream, client: IpAddr, resolver: &Arc<Resolver>) -> anyhow::Result<()> {
    loop {
        let length = timeout(TCP_IDLE, stream.read_u16()).await??;
        let mut query = vec![0; usize::from(length)];
        timeout(TCP_IDLE, stream.read_exact(&mut query)).await??;
        let came = Came { begun: Instant::now(), tcp: true, client, size: query.len() };
        let reply = match resolver.begin(&query, client, true) {
            Step::Ignore => return Ok(()),
            Step::Now(reply) => Some(reply),
            Step::Later(pending) => match resolver.asking.claim(client) {
                Some(_asking) => resolver.finish(*pending, &query, true).await,
                None => resolver.at_once(*pending, true),
            },
        };
        let Some(reply) = reply else { return Ok(()) };
        METRICS.answered(&came, &reply);
        let mut framed = u16::try_from(reply.bytes.len())?.to_be_bytes().to_vec();
        framed.extend_from_slice(&reply.bytes);
        timeout(TCP_IDLE, stream.write_all(&framed)).await??;
    }
}
