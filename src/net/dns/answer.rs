//! From a query message to a reply message.

use hickory_proto::{
    op::{Edns, Message, MessageType, Metadata, OpCode, ResponseCode},
    rr::{DNSClass, Name, Record, RecordType},
};

use super::zone::{Lookup, Zone};

/// The largest UDP payload we send: it fits every path without fragments.
const MAX_UDP: u16 = 1232;
/// A record takes so many bytes at least: its name, type, class, time to live and length.
const SHORTEST_RECORD: usize = 11;
/// How many aliases are followed within the zone.
const MAX_ALIASES: usize = 8;

/// How a query is dealt with.
#[derive(Clone, Debug)]
pub enum Answer {
    /// Send this.
    Reply(Message),
    /// The name is not ours: ask upstream with the query as it is.
    Forward,
    /// Our reply so far; the records of `target` (asked upstream with type `kind`) complete it.
    Chase { reply: Message, target: Name, kind: RecordType },
}

/// Answers a query from the zone. `turn` rotates equal answers, so that clients that take the first one spread out.
pub fn answer(zone: &Zone, query: &Message, turn: usize) -> Answer {
    let mut reply = reply_to(query);
    if query.metadata.op_code != OpCode::Query {
        return refuse(reply, ResponseCode::NotImp);
    }
    let [question] = query.queries.as_slice() else { return refuse(reply, ResponseCode::FormErr) };
    if query.edns.as_ref().is_some_and(|edns| edns.version() > 0) {
        return refuse(reply, ResponseCode::BADVERS);
    }
    if matches!(question.query_type(), RecordType::AXFR | RecordType::IXFR) || question.query_class() != DNSClass::IN {
        return refuse(reply, ResponseCode::Refused);
    }
    let kind = question.query_type();
    let mut name = question.name().clone();
    reply.metadata.authoritative = true;
    for _ in 0..MAX_ALIASES {
        match zone.lookup(&name, kind) {
            Lookup::Found { mut answers, additionals } => {
                let count = answers.len();
                answers.rotate_left(turn % count);
                reply.add_answers(answers);
                reply.add_additionals(additionals);
                return Answer::Reply(reply);
            }
            Lookup::NoData => return negative(zone, reply, ResponseCode::NoError),
            Lookup::NoName => return negative(zone, reply, ResponseCode::NXDomain),
            Lookup::Alias { alias, target } => {
                reply.add_answer(*alias);
                if kind == RecordType::CNAME {
                    return Answer::Reply(reply);
                }
                name = target;
            }
            Lookup::Elsewhere if reply.answers.is_empty() => return Answer::Forward,
            Lookup::Elsewhere => return Answer::Chase { reply, target: name, kind },
        }
    }
    refuse(reply, ResponseCode::ServFail)
}

/// A reply that says that upstream could not be asked.
pub fn servfail(query: &Message) -> Message {
    let mut reply = reply_to(query);
    reply.metadata.response_code = ResponseCode::ServFail;
    reply
}

/// The wire form of `reply` for UDP. When it is larger than the client takes it has as many answers as fit, and says that TCP brings all: some
/// clients know UDP alone and make do with what they get.
///
/// # Errors
/// When it cannot be written.
pub fn truncated(query: &Message, reply: &Message) -> Result<Vec<u8>, hickory_proto::ProtoError> {
    let limit = usize::from(query.edns.as_ref().map_or(512, |edns| edns.max_payload().clamp(512, MAX_UDP)));
    // What is certainly too long is not written in vain.
    if (reply.answers.len() + reply.authorities.len() + reply.additionals.len()) * SHORTEST_RECORD <= limit {
        let bytes = reply.to_vec()?;
        if bytes.len() <= limit {
            return Ok(bytes);
        }
    }
    cut(reply, limit)
}

/// The longest beginning of the answers that fits, marked as such.
fn cut(reply: &Message, limit: usize) -> Result<Vec<u8>, hickory_proto::ProtoError> {
    let mut shorter = reply.truncate();
    let mut bytes = shorter.to_vec()?;
    let (mut fits, mut exceeds) = (0, reply.answers.len().min(limit / SHORTEST_RECORD) + 1);
    while exceeds - fits > 1 {
        let count = usize::midpoint(fits, exceeds);
        shorter.answers = reply.answers[..count].to_vec();
        let longer = shorter.to_vec()?;
        if longer.len() <= limit {
            (fits, bytes) = (count, longer);
        } else {
            exceeds = count;
        }
    }
    Ok(bytes)
}

fn reply_to(query: &Message) -> Message {
    let mut reply = Message::response(query.metadata.id, query.metadata.op_code);
    reply.metadata = Metadata::response_from_request(&query.metadata);
    reply.metadata.message_type = MessageType::Response;
    reply.metadata.recursion_available = true;
    reply.add_queries(query.queries.iter().cloned());
    if query.edns.is_some() {
        let mut edns = Edns::new();
        edns.set_max_payload(MAX_UDP);
        reply.set_edns(edns);
    }
    reply
}

fn refuse(mut reply: Message, code: ResponseCode) -> Answer {
    reply.metadata.response_code = code;
    if let Some(edns) = &mut reply.edns {
        edns.set_rcode_high(code.high());
    }
    Answer::Reply(reply)
}

fn negative(zone: &Zone, mut reply: Message, code: ResponseCode) -> Answer {
    let soa: Record = zone.soa();
    reply.metadata.response_code = code;
    reply.add_authority(soa);
    Answer::Reply(reply)
}
