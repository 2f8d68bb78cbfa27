use std::{net::IpAddr, sync::Arc, time::Duration};

use hickory_proto::{
    op::{Message, MessageType, OpCode, Query},
    rr::{Name, RData, Record, RecordType, rdata::A},
};
use serde_json::{Value, json};
use tokio::time::{Instant, timeout};
use troupe_net::{
    dns::domain_names::{DomainName, MOST_ADDRESSES, UNTIL_ANNOTATION},
    iptables::Family,
};

use super::{
    book::{Book, Lesson},
    entries::{Asked, Entries},
    *,
};

fn policy(name: &str, action: &str, domains: &[&str]) -> NamingPolicy {
    let spec = json!({"egress": [{"action": action, "to": [{"networks": ["10.0.0.0/8"]}, {"domainNames": domains}]}]});
    serde_json::from_value(json!({"metadata": {"name": name}, "spec": spec})).expect("a policy")
}

/// Nobody tells of addresses of the cluster.
const EMPTY: [(String, Vec<String>); 0] = [];

fn naming(domains: &[&str]) -> Book {
    let mut book = Book::default();
    for kind in [SourceKind::Node, SourceKind::ServiceRange] {
        book.replace_cluster(kind, EMPTY);
    }
    book.set_policy(policy("names", "Accept", domains));
    book
}

fn ip(last: u16) -> IpAddr {
    let [high, low] = last.to_be_bytes();
    IpAddr::from([203, 0, high, low])
}

const CLIENT: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 244, 0, 5));
const OTHER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 244, 0, 9));

fn learn(book: &mut Book, asked: &str, addresses: &[(IpAddr, u32)], now: u64) -> Lesson {
    learn_of(book, CLIENT, asked, addresses, now)
}

fn learn_of(book: &mut Book, client: IpAddr, asked: &str, addresses: &[(IpAddr, u32)], now: u64) -> Lesson {
    let full = asked_for(&Name::from_ascii(asked).expect("a name"));
    let names = book.names_of(&full);
    book.learn(&names, &Asked::new(&full, client), addresses, now)
}

/// Writes all that is to be written, as an API server would take it; gives the objects.
fn written(book: &mut Book, now: u64) -> Vec<Value> {
    let mut all = Vec::new();
    while let Some(draft) = book.draft(now) {
        let mut object = draft.body;
        object["metadata"]["resourceVersion"] = "7".into();
        book.set_slice(serde_json::from_value(object.clone()).expect("a slice"));
        all.push(object);
    }
    all
}

fn until(slice: &Value) -> Value {
    serde_json::from_str(slice["metadata"]["annotations"][UNTIL_ANNOTATION].as_str().expect("says until when")).expect("is JSON")
}

#[test]
fn an_address_is_told_once_and_again_when_half_of_its_time_is_over() {
    let mut book = naming(&["www.example.com", "*.example.com"]);
    let lesson = learn(&mut book, "WWW.example.com.", &[(ip(1), 5), (ip(2), 300)], 1000);
    assert_eq!((lesson.is_news, lesson.unknown.len()), (true, 4), "two names cover what was asked for");
    assert!(!book.has(&lesson.unknown));
    let slices = written(&mut book, 1000);
    assert_eq!(slices.len(), 2);
    // A minute at least, and some time on top.
    assert_eq!(until(&slices[0]), json!({"203.0.0.1": 1360, "203.0.0.2": 1600}));
    assert_eq!(slices[0]["endpoints"], json!([{"addresses": ["203.0.0.1"]}, {"addresses": ["203.0.0.2"]}]));
    assert!(book.has(&lesson.unknown));
    assert_eq!(learn(&mut book, "www.example.com.", &[(ip(1), 5), (ip(2), 300)], 1180), Lesson::default());
    let again = learn(&mut book, "www.example.com.", &[(ip(1), 5)], 1190);
    assert_eq!((again.is_news, again.unknown.len()), (true, 0), "nobody waits for what is known");
    assert_eq!(until(&written(&mut book, 1190)[0]), json!({"203.0.0.1": 1550, "203.0.0.2": 1600}));
    let late = learn(&mut book, "www.example.com.", &[(ip(2), 60)], 1580);
    assert!(late.is_news);
    assert_eq!(until(&written(&mut book, 1580)[0]), json!({"203.0.0.2": 1940}), "what is over goes");
}

#[test]
fn only_names_that_rules_accept_are_learned() {
    let mut book = naming(&["example.com"]);
    book.set_policy(policy("denied", "Deny", &["example.org"]));
    for other in ["example.org.", "www.example.com.", "com."] {
        assert_eq!(learn(&mut book, other, &[(ip(1), 60)], 1000), Lesson::default(), "{other}");
    }
    assert!(learn(&mut book, "example.com.", &[(ip(1), 60)], 1000).is_news);
    book.remove_policy("names");
    assert!(book.draft(1000).is_none(), "its policy is gone");
    assert_eq!(learn(&mut book, "example.com.", &[(ip(1), 60)], 1000), Lesson::default());
}

#[test]
fn whoever_owns_a_domain_takes_no_memory_and_no_time_from_others() {
    let mut book = naming(&["*.evil.example", "good.example.com"]);
    for last in 0..2000 {
        learn(&mut book, &format!("n{last}.evil.example."), &[(ip(last), u32::MAX)], 1000 + u64::from(last));
    }
    learn(&mut book, "good.example.com.", &[(ip(1), 60)], 3000);
    let slices = written(&mut book, 3000);
    let mut sizes: Vec<usize> = slices.iter().map(|slice| slice["endpoints"].as_array().expect("a list").len()).collect();
    sizes.sort_unstable();
    assert_eq!(sizes, [1, MOST_ADDRESSES]);
    let evil = slices.iter().map(until).find(|until| until.as_object().is_some_and(|all| all.len() > 1)).expect("is told");
    assert_eq!(evil["203.0.7.207"], json!(2999 + 3600 + 300), "an hour at most, and the newest stay");
}

/// What was measured: 14 names with 20 addresses for an hour each, asked for by a pod that no policy is about, took a name's only address for the
/// rest of that hour.
#[test]
fn whoever_owns_one_name_below_a_star_takes_no_other_ones_address() {
    let mut book = naming(&["*.example.com"]);
    learn(&mut book, "good.example.com.", &[(ip(0), 30)], 1000);
    written(&mut book, 1000);
    let mut last = Value::Null;
    for name in 0..14u16 {
        let evil: Vec<(IpAddr, u32)> = (0..20).map(|at| (ip(1000 + name * 20 + at), 3600)).collect();
        learn_of(&mut book, OTHER, &format!("evil-x{name}.example.com."), &evil, 1001);
        last = written(&mut book, 1001).pop().expect("is told");
    }
    assert_eq!(last["endpoints"].as_array().map(Vec::len), Some(MOST_ADDRESSES));
    assert_eq!(until(&last)["203.0.0.0"], json!(1360));
    assert_eq!(learn(&mut book, "good.example.com.", &[(ip(0), 30)], 1002), Lesson::default());

    // Thousands of names, and two servers that write in turn: the pod takes its own addresses' room.
    for at in 0..2000u16 {
        learn_of(&mut book, OTHER, &format!("evil-{at}.example.com."), &[(ip(2000 + at), 3600)], 1003 + u64::from(at) / 100);
        if at % 50 == 49 {
            last = written(&mut book, 1023).pop().expect("is told");
            let mut next = naming(&["*.example.com"]);
            next.set_slice(serde_json::from_value(last.clone()).expect("a slice"));
            book = next;
        }
    }
    assert_eq!(last["endpoints"].as_array().map(Vec::len), Some(MOST_ADDRESSES));
    assert_eq!(until(&last)["203.0.0.0"], json!(1360));
    assert_eq!(until(&last)["203.0.15.159"], json!(1022 + 3900), "what was asked last comes in");
}

#[test]
fn nothing_is_written_before_nodes_are_listed_again() {
    let mut book = naming(&["example.com"]);
    book.follow_no_more();
    learn(&mut book, "example.com.", &[(ip(1), 60)], 1000);
    assert!(book.draft(1000).is_none(), "a node may have come meanwhile");
    book.replace_cluster(SourceKind::ServiceRange, EMPTY);
    assert!(book.replace_cluster(SourceKind::Node, [("two".to_owned(), vec!["198.51.102.2"])]), "something waits for it");
    assert_eq!(written(&mut book, 1000).len(), 1);
}

#[test]
fn strangers_have_one_share_together() {
    let (mut book, stranger): (_, IpAddr) = (naming(&["*.example.com"]), [192, 0, 2, 77].into());
    assert_eq!((book.asker(CLIENT), book.asker(stranger)), (CLIENT, stranger), "nobody tells where pods are");
    let range = format!("{CLIENT}/24");
    book.set_cluster(Source::new(SourceKind::Node, "one"), [range.as_str(), "198.51.102.2"]);
    let of_node = [198, 51, 102, 2].into();
    assert_eq!((book.asker(CLIENT), book.asker(of_node)), (CLIENT, of_node));
    assert_eq!(book.asker(stranger), book.asker([192, 0, 2, 78].into()));
    assert_ne!(book.asker(stranger), stranger);
}

#[test]
fn what_leads_into_the_cluster_is_not_told_and_goes_when_a_node_comes() {
    let mut book = Book::default();
    book.set_policy(policy("names", "Accept", &["*.example.com"]));
    learn(&mut book, "early.example.com.", &[(ip(1), 300), (ip(7), 300)], 1000);
    assert!(book.draft(1000).is_none(), "nobody knows yet which addresses the cluster has");
    book.replace_cluster(SourceKind::ServiceRange, [("kubernetes".to_owned(), vec!["10.96.0.0/16"])]);
    assert!(book.draft(1000).is_none(), "nor about all of them");
    assert!(book.replace_cluster(SourceKind::Node, [("one".to_owned(), vec!["198.51.102.2", "10.244.0.0/24", "203.0.0.7"])]));
    let slices = written(&mut book, 1000);
    assert_eq!(slices[0]["endpoints"], json!([{"addresses": ["203.0.0.1"]}]));

    let inside = ["198.51.102.2", "10.96.0.1", "10.244.0.5"].map(|ip| (ip.parse::<IpAddr>().expect("an address"), 300));
    let lesson = learn(&mut book, "ip.example.com.", &inside, 1001);
    assert_eq!((lesson.is_news, lesson.unknown.len(), lesson.refused.len()), (false, 0, 3));
    assert_eq!(learn(&mut book, "ip.example.com.", &inside, 1002), Lesson::default(), "that is said once");
    assert!(book.draft(1002).is_none());

    assert!(book.set_cluster(Source::new(SourceKind::Node, "two"), ["203.0.0.1"]));
    let slices = written(&mut book, 1003);
    assert_eq!((slices.len(), &slices[0]["endpoints"]), (1, &json!([])), "it is a node's from now on");
    assert!(!book.set_cluster(Source::new(SourceKind::Node, "two"), ["203.0.0.1"]) && book.draft(1004).is_none());
    // A server that has not heard of the node writes it again.
    let mut theirs = Entries::default();
    theirs.put(&Asked::new("early.example.com", OTHER), ip(1), 1005, 1605);
    let name = DomainName::parse("*.example.com").expect("a name");
    let theirs = super::slice::body(&name, Family::V4, &theirs, Some("9"));
    assert!(book.set_slice(serde_json::from_value(theirs).expect("a slice")));
    assert_eq!(written(&mut book, 1006)[0]["endpoints"], json!([]));
}

#[test]
fn what_cannot_be_written_stays_and_lets_others_pass() {
    let mut book = naming(&["a.example.com", "b.example.com"]);
    learn(&mut book, "a.example.com.", &[(ip(1), 60)], 1000);
    learn(&mut book, "b.example.com.", &[(ip(2), 60)], 1000);
    let first = book.draft(1000).expect("something to write");
    let slice = first.slice.clone();
    assert!(!first.replaces);
    book.put_back(first);
    let second = book.draft(1000).expect("something to write");
    assert_ne!(second.slice, slice);
    assert_eq!(book.draft(1000).map(|draft| draft.slice), Some(slice));
    // Another server wrote it meanwhile, with what it has learned.
    let name = ["a.example.com", "b.example.com"].map(|name| DomainName::parse(name).expect("a name"));
    let name = name.iter().find(|name| name.slice(Family::V4) == second.slice).expect("is one of them");
    let mut entries = Entries::default();
    entries.put(&Asked::new("b.example.com", OTHER), ip(9), 1000, 1500);
    let theirs = super::slice::body(name, Family::V4, &entries, Some("8"));
    book.set_slice(serde_json::from_value(theirs).expect("a slice"));
    book.put_back(second);
    let merged = book.draft(1000).expect("something to write");
    assert!(merged.replaces);
    assert_eq!(merged.body["metadata"]["resourceVersion"], "8");
    assert_eq!(merged.body["endpoints"].as_array().map(Vec::len), Some(2));
}

fn reply() -> (Message, Message) {
    let name = Name::from_ascii("example.com.").expect("a name");
    let mut query = Message::new(1, MessageType::Query, OpCode::Query);
    query.add_query(Query::query(name.clone(), RecordType::A));
    let mut reply = Message::response(1, OpCode::Query);
    reply.add_queries(query.queries.clone());
    reply.add_answer(Record::from_rdata(name, 60, RData::A(A([203, 0, 113, 7].into()))));
    (query, reply)
}

#[tokio::test(start_paused = true)]
async fn a_reply_waits_until_nodes_know_it_and_not_for_long() {
    let (domains, (query, reply)) = (Arc::new(Domains::default()), reply());
    assert!(domains.learn(CLIENT, &query, &reply).is_none(), "no policy names it");
    domains.set_policy(policy("names", "Accept", &["example.com"]));
    for kind in [SourceKind::Node, SourceKind::ServiceRange] {
        domains.replace_cluster(kind, EMPTY);
    }
    let begun = Instant::now();
    domains.learn(CLIENT, &query, &reply).expect("is news").told().await;
    assert!((PATIENCE..PATIENCE * 2).contains(&begun.elapsed()), "nobody writes it");

    let waiting = tokio::spawn(domains.learn(CLIENT, &query, &reply).expect("is news still").told());
    tokio::task::yield_now().await;
    let draft = domains.book.lock().draft(now()).expect("something to write");
    domains.set_slice(serde_json::from_value(draft.body).expect("a slice"));
    timeout(Duration::from_millis(200), waiting).await.expect("is told").expect("does not panic");
    assert!(domains.learn(CLIENT, &query, &reply).is_none(), "nobody waits for what is known");
}
