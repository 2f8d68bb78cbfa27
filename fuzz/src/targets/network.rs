//! What comes from the network and from other programs of the machine.

use std::sync::LazyLock;

use hickory_proto::op::Message;
use troupe_net::{
    dns::{self, Answer, Zone},
    iptables::Observed,
    resolv::ResolvConf,
};

use crate::budget;

static ZONE: LazyLock<Zone> = LazyLock::new(|| Zone::new("cluster.local").expect("a name"));

/// Every query that decodes gets an answer that encodes.
pub fn dns(data: &[u8]) {
    let zone = &*ZONE;
    let Some(query) = budget::hold(data.len(), || dns::decode(data)) else { return };
    let answer = budget::hold(data.len(), || dns::answer(zone, &query, 1));
    let (Answer::Reply(reply) | Answer::Chase { reply, .. }) = answer else { return };
    // A name that is no name cannot be encoded; whoever asked gets nothing.
    let Ok(encoded) = reply.to_vec() else { return };
    Message::from_vec(&encoded).expect("what is answered decodes");
    if let Ok(short) = dns::truncated(&query, &reply) {
        Message::from_vec(&short).expect("what is answered decodes");
    }
}

pub fn iptables_save(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let observed = budget::hold(data.len(), || {
        let mut observed = Observed::default();
        observed.read(text);
        observed
    });
    let mut twice = observed.clone();
    twice.read("");
    assert_eq!(twice, observed);
}

pub fn resolv(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let conf = budget::hold(data.len(), || ResolvConf::parse(text));
    assert!(!conf.is_stub() || !conf.servers.is_empty());
}
