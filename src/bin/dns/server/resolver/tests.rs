use std::{
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use hickory_proto::{
    op::OpCode,
    rr::{RData, Record, rdata::A},
};
use serde_json::json;

use super::*;
use crate::upstream::Upstream;

const NAME: &str = "www.example.com.";

fn query(name: &str) -> Message {
    let mut query = Message::new(77, MessageType::Query, OpCode::Query);
    query.add_query(Query::query(Name::from_ascii(name).expect("a name"), RecordType::A));
    query
}

fn reply(query: &Message, seconds: u32) -> Message {
    let mut reply = Message::response(77, OpCode::Query);
    reply.add_queries(query.queries.clone());
    reply.add_answer(Record::from_rdata(query.queries[0].name().clone(), seconds, RData::A(A(Ipv4Addr::new(198, 51, 100, 1)))));
    reply
}

/// The code of what is said at once, and how many answers that has.
fn at_once(resolver: &Arc<Resolver>, query: &Message) -> (ResponseCode, usize) {
    let client = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let Step::Later(pending) = resolver.begin(&query.to_vec().expect("encodes"), client, false) else { panic!("nobody is waited for") };
    let reply = resolver.at_once(*pending, false).expect("is said");
    let reply = Message::from_vec(&reply.bytes).expect("a reply");
    (reply.metadata.response_code, reply.answers.len())
}

#[tokio::test]
async fn what_is_kept_is_said_where_nobody_may_be_waited_for() {
    let (state, domains) = (Arc::new(State::new("cluster.local").expect("a domain")), Arc::<Domains>::default());
    // Nobody is asked.
    let forwarding = Arc::new(Forwarding::new(Upstream::new(vec![SocketAddr::from((Ipv4Addr::LOCALHOST, 9))])));
    let (resolver, query) = (&Arc::new(Resolver::new(state, forwarding, Arc::default(), domains.clone())), query(NAME));
    assert_eq!(at_once(resolver, &query), (ResponseCode::ServFail, 0), "nothing is kept");
    resolver.keep(&query, reply(&query, 1), 64);
    let spec = json!({"egress": [{"action": "Accept", "to": [{"domainNames": ["www.example.com"]}]}]});
    domains.set_policy(serde_json::from_value(json!({"metadata": {"name": "p"}, "spec": spec})).expect("a policy"));
    assert_eq!(at_once(resolver, &query), (ResponseCode::NoError, 1), "nodes are not told yet");
    tokio::time::sleep(Duration::from_millis(1100)).await;
    assert_eq!(at_once(resolver, &query), (ResponseCode::NoError, 1), "it has ended");
}
