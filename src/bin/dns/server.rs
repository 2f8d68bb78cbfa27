//! Queries over UDP and TCP.

use std::{
    collections::VecDeque,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::Context;
use hickory_proto::{
    op::{Message, MessageType, Query, ResponseCode},
    rr::{Name, RecordType},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream, UdpSocket},
    sync::{OwnedSemaphorePermit, Semaphore},
    task::AbortHandle,
    time::timeout,
};
use troupe_net::dns::{Answer, answer, decode, decode_query, servfail, truncated};

use crate::{
    cache::{Cache, Key, denies},
    domains::{Domains, News},
    forwarding::Forwarding,
    metrics::{Came, METRICS, Plugin, Reply},
    shares::Shares,
    state::State,
};

#[cfg(test)]
mod tests;

/// How long an idle TCP client may stay.
const TCP_IDLE: Duration = Duration::from_secs(10);
const MAX_TCP_CLIENTS: usize = 512;
/// Of them those of one address.
const TCP_SHARE: usize = 32;
const UDP_READERS: usize = 2;
/// Queries over UDP that wait for upstream.
const MAX_FORWARDS: usize = 2000;
/// Of them, and of those over TCP, those of one address.
const FORWARD_SHARE: usize = 200;
/// The largest query that is read over UDP.
const MAX_QUERY: usize = 4096;

/// The two sockets of one address.
#[derive(Debug)]
pub struct Server {
    udp: Arc<UdpSocket>,
    tcp: TcpListener,
    resolver: Arc<Resolver>,
}

/// Finds replies, whatever they travel over.
#[derive(Debug)]
struct Resolver {
    state: Arc<State>,
    forwarding: Arc<Forwarding>,
    cache: Arc<Cache>,
    domains: Arc<Domains>,
    turn: AtomicUsize,
    forwards: Arc<Semaphore>,
    asking: Arc<Shares>,
}

/// What a query leads to.
enum Step {
    /// Nothing to say: not a query.
    Ignore,
    /// The reply, now.
    Now(Reply),
    /// Somebody has to be waited for.
    Later(Box<Pending>),
}

struct Pending {
    query: Message,
    client: IpAddr,
    next: Next,
}

/// What a reply waits for.
enum Next {
    /// Upstream has to be asked.
    Forward,
    /// The same of what an alias leads to.
    Chase(Box<Chase>),
    /// The reply is kept, and nodes are to be told of addresses in it.
    Tell(Box<(Message, News)>),
}

/// An alias of the zone that leads elsewhere.
struct Chase {
    reply: Message,
    /// What is asked of upstream to complete the reply.
    question: Message,
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
        Ok(Server {
            udp: Arc::new(udp),
            tcp,
            resolver: Arc::new(Resolver {
                state,
                forwarding,
                cache,
                domains,
                turn: AtomicUsize::new(0),
                forwards: Arc::new(Semaphore::new(MAX_FORWARDS)),
                asking: Shares::new(FORWARD_SHARE),
            }),
        })
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
        eprintln!("replying to {client}: {error}");
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

impl Resolver {
    /// What can be said without asking anybody.
    fn begin(self: &Arc<Self>, bytes: &[u8], client: IpAddr, tcp: bool) -> Step {
        let Some(query) = decode_query(bytes) else { return malformed(bytes) };
        if query.metadata.message_type != MessageType::Query {
            return Step::Ignore;
        }
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let zone = self.state.zone.read();
        let answered = answer(&zone, &query, turn);
        drop(zone);
        let (reply, by) = match answered {
            Answer::Forward => match self.kept(&query) {
                Some(reply) => match self.domains.learn(client, &query, &reply) {
                    None => (reply, Plugin::Cache),
                    Some(news) => return Step::Later(Box::new(Pending { query, client, next: Next::Tell(Box::new((reply, news))) })),
                },
                None => return Step::Later(Box::new(Pending { query, client, next: Next::Forward })),
            },
            Answer::Chase { reply, target, kind } => {
                let question = question(&query, target, kind);
                match self.kept(&question) {
                    Some(found) => (completed(reply, found), Plugin::Kubernetes),
                    None => return Step::Later(Box::new(Pending { query, client, next: Next::Chase(Box::new(Chase { reply, question })) })),
                }
            }
            // Not knowing the cluster yet is no reason to deny a name.
            Answer::Reply(_) if !self.state.is_synced() => (servfail(&query), Plugin::Kubernetes),
            // Only what the zone has is said with authority.
            Answer::Reply(reply) if reply.metadata.authoritative => (reply, Plugin::Kubernetes),
            Answer::Reply(reply) => (reply, Plugin::None),
        };
        encode(&query, &reply, tcp, by).map_or(Step::Ignore, Step::Now)
    }

    /// A reply of upstream that still counts; one that is much used is asked for anew before it ends.
    fn kept(self: &Arc<Self>, query: &Message) -> Option<Message> {
        let (key, now) = (Key::of(query)?, Instant::now());
        let fresh = self.cache.get(&key, query, now);
        METRICS.cache.looked(fresh.as_ref().map(|hit| denies(&hit.reply)));
        let hit = match fresh {
            Some(hit) => hit,
            // Clients give up before it is certain that nobody answers.
            None if self.is_down(query) => {
                let old = self.cache.old(&key, query, now)?;
                METRICS.cache.served_stale();
                old
            }
            None => return None,
        };
        if hit.refresh {
            self.ask_again(&key, query);
        }
        Some(hit.reply)
    }

    /// Whether nobody answered lately of those whom a query goes to.
    fn is_down(&self, query: &Message) -> bool {
        query.queries.first().is_some_and(|question| self.forwarding.of(question.name()).is_down())
    }

    /// Asks upstream in the background, if there is room for that.
    fn ask_again(self: &Arc<Self>, key: &Key, query: &Message) {
        let Ok(place) = self.forwards.clone().try_acquire_owned() else { return self.cache.release(key) };
        METRICS.cache.prefetched();
        let (resolver, query) = (self.clone(), query.clone());
        tokio::spawn(async move {
            // Where nobody answers now, whoever asks next asks again.
            let _ = resolver.resolve(&query).await;
            drop(place);
        });
    }

    /// What can be said where nobody may be waited for: what is kept, although nodes may not know of it yet or it has ended.
    fn at_once(&self, pending: Pending, tcp: bool) -> Option<Reply> {
        let Pending { query, client, next } = pending;
        let (reply, by) = match next {
            Next::Tell(told) => return encode(&query, &told.0, tcp, Plugin::Cache),
            Next::Forward => {
                let stale = self.ended(&query);
                // Nodes are told, and the reply does not wait for that.
                drop(stale.as_ref().and_then(|stale| self.domains.learn(client, &query, stale)));
                (stale, Plugin::Cache)
            }
            Next::Chase(chase) => {
                let Chase { reply, question } = *chase;
                (self.ended(&question).map(|found| completed(reply, found)), Plugin::Kubernetes)
            }
        };
        METRICS.rejected();
        match reply {
            Some(reply) => encode(&query, &reply, tcp, by),
            None => encode(&query, &servfail(&query), tcp, Plugin::Forward),
        }
    }

    /// What upstream adds, once nodes know of it.
    async fn finish(&self, pending: Pending, bytes: &[u8], tcp: bool) -> Option<Reply> {
        let Pending { query, client, next } = pending;
        let chase = match next {
            Next::Forward => return self.forward(&query, client, bytes, tcp).await,
            Next::Tell(told) => {
                let (reply, news) = *told;
                news.told().await;
                return encode(&query, &reply, tcp, Plugin::Cache);
            }
            Next::Chase(chase) => chase,
        };
        let Chase { reply, question } = *chase;
        let reply = match self.resolve(&question).await {
            Ok(found) => completed(reply, found),
            Err(error) => {
                eprintln!("following an alias: {error:#}");
                let mut reply = reply;
                reply.metadata.response_code = ResponseCode::ServFail;
                reply
            }
        };
        encode(&query, &reply, tcp, Plugin::Kubernetes)
    }

    /// Passes a query on as it came, and the reply back.
    async fn forward(&self, query: &Message, client: IpAddr, bytes: &[u8], tcp: bool) -> Option<Reply> {
        let asked = match query.queries.first() {
            Some(question) => self.forwarding.of(question.name()).ask(bytes, tcp).await,
            None => return encode(query, &servfail(query), tcp, Plugin::None),
        };
        let passed = |reply: Vec<u8>, code: ResponseCode| Some(Reply::new(query, reply, code, Plugin::Forward));
        let failure = match asked {
            Ok(reply) => match decode(&reply) {
                Some(message) if message.metadata.response_code == ResponseCode::ServFail => Ok(reply),
                Some(message) => {
                    let code = message.metadata.response_code;
                    let news = self.domains.learn(client, query, &message);
                    self.keep(query, message, reply.len());
                    if let Some(news) = news {
                        news.told().await;
                    }
                    return passed(reply, code);
                }
                None => {
                    let code = ResponseCode::from_low(reply.get(3).map_or(0, |flags| flags & 0x0f));
                    return passed(reply, code);
                }
            },
            Err(error) => Err(error),
        };
        // Better what was true a while ago than nothing.
        if let Some(stale) = self.ended(query) {
            if let Some(news) = self.domains.learn(client, query, &stale) {
                news.told().await;
            }
            return encode(query, &stale, tcp, Plugin::Cache);
        }
        match failure {
            Ok(reply) => passed(reply, ResponseCode::ServFail),
            Err(error) => {
                eprintln!("asking upstream for {}: {error:#}", query.queries.first().map(|query| query.name().to_ascii()).unwrap_or_default());
                encode(query, &servfail(query), tcp, Plugin::Forward)
            }
        }
    }

    /// A reply that has ended, for want of a newer one.
    fn ended(&self, query: &Message) -> Option<Message> {
        let stale = self.cache.stale(&Key::of(query)?, query, Instant::now())?;
        METRICS.cache.served_stale();
        Some(stale)
    }

    /// Asks upstream with a message of our own.
    async fn resolve(&self, question: &Message) -> anyhow::Result<Message> {
        let name = question.queries.first().context("a question")?.name();
        let asked = self.forwarding.of(name).resolve(question).await;
        match asked {
            Ok(found) if found.metadata.response_code != ResponseCode::ServFail => {
                let size = found.to_vec().map_or(usize::MAX, |bytes| bytes.len());
                self.keep(question, found.clone(), size);
                Ok(found)
            }
            failed => match self.ended(question) {
                Some(stale) => Ok(stale),
                None => failed,
            },
        }
    }

    /// Keeps a reply, if it is one to this query.
    fn keep(&self, query: &Message, reply: Message, size: usize) {
        let Some(key) = Key::of(query) else { return };
        if Key::of(&reply).is_some_and(|answered| key.asks_the_same(&answered)) {
            self.cache.put(key, reply, size, Instant::now());
        } else {
            METRICS.cache.dropped();
        }
    }
}

/// A question to upstream on behalf of a query.
fn question(query: &Message, target: Name, kind: RecordType) -> Message {
    let mut question = Message::new(query.metadata.id, MessageType::Query, query.metadata.op_code);
    question.metadata.recursion_desired = true;
    question.add_query(Query::query(target, kind));
    question
}

/// A reply with what its alias leads to.
fn completed(mut reply: Message, found: Message) -> Message {
    reply.metadata.response_code = found.metadata.response_code;
    reply.add_answers(found.answers);
    reply
}

fn encode(query: &Message, reply: &Message, tcp: bool, by: Plugin) -> Option<Reply> {
    let encoded = if tcp { reply.to_vec() } else { truncated(query, reply) };
    let bytes = encoded.inspect_err(|error| eprintln!("encoding a reply: {error}")).ok()?;
    Some(Reply::new(query, bytes, reply.metadata.response_code, by))
}

/// FORMERR for what has at least a header of a query.
fn malformed(bytes: &[u8]) -> Step {
    const IS_RESPONSE: u8 = 0x80;
    match bytes {
        [a, b, flags, ..] if bytes.len() >= 12 && flags & IS_RESPONSE == 0 => {
            let id = u16::from_be_bytes([*a, *b]);
            let reply = Message::error_msg(id, hickory_proto::op::OpCode::Query, ResponseCode::FormErr);
            reply.to_vec().map_or(Step::Ignore, |bytes| Step::Now(Reply::malformed(bytes)))
        }
        _ => Step::Ignore,
    }
}
