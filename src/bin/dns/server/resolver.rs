//! What a query is answered, whatever it travels over: out of the zone, out of what is kept, or by upstream.

use std::{
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Instant,
};

use anyhow::Context;
use hickory_proto::{
    op::{Message, MessageType, Query, ResponseCode},
    rr::{Name, RecordType},
};
use tokio::sync::Semaphore;
use troupe_net::dns::{Answer, answer, decode, decode_query, servfail, truncated};

use crate::{
    cache::{Cache, Key, denies},
    domains::{Domains, News},
    forwarding::Forwarding,
    metrics::{METRICS, Plugin, Reply},
    shares::Shares,
    state::State,
};

#[cfg(test)]
mod tests;

/// Queries over UDP that wait for upstream.
const MAX_FORWARDS: usize = 2000;
/// Of them, and of those over TCP, those of one address.
const FORWARD_SHARE: usize = 200;

/// Finds replies, whatever they travel over.
#[derive(Debug)]
pub(super) struct Resolver {
    state: Arc<State>,
    forwarding: Arc<Forwarding>,
    cache: Arc<Cache>,
    domains: Arc<Domains>,
    turn: AtomicUsize,
    pub(super) forwards: Arc<Semaphore>,
    pub(super) asking: Arc<Shares>,
}

/// What a query leads to.
pub(super) enum Step {
    /// Nothing to say: not a query.
    Ignore,
    /// The reply, now.
    Now(Reply),
    /// Somebody has to be waited for.
    Later(Box<Pending>),
}

pub(super) struct Pending {
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

impl Resolver {
    pub(super) fn new(state: Arc<State>, forwarding: Arc<Forwarding>, cache: Arc<Cache>, domains: Arc<Domains>) -> Self {
        Resolver {
            state,
            forwarding,
            cache,
            domains,
            turn: AtomicUsize::new(0),
            forwards: Arc::new(Semaphore::new(MAX_FORWARDS)),
            asking: Shares::new(FORWARD_SHARE),
        }
    }

    /// What can be said without asking anybody.
    pub(super) fn begin(self: &Arc<Self>, bytes: &[u8], client: IpAddr, tcp: bool) -> Step {
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
    pub(super) fn at_once(&self, pending: Pending, tcp: bool) -> Option<Reply> {
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
    pub(super) async fn finish(&self, pending: Pending, bytes: &[u8], tcp: bool) -> Option<Reply> {
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
                self.tell_failure(&question, &error);
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
                self.tell_failure(query, &error);
                encode(query, &servfail(query), tcp, Plugin::Forward)
            }
        }
    }

    /// Tells people that upstream did not answer; not of every query.
    fn tell_failure(&self, query: &Message, error: &anyhow::Error) {
        let Some(question) = query.queries.first() else { return };
        let upstream = self.forwarding.of(question.name());
        upstream.failures.tell(|| format!("asking upstream for {}: {error:#}", question.name().to_ascii()));
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
