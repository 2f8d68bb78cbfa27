use std::{net::IpAddr, sync::Arc, time::Duration};

use hickory_proto::{
    op::{Message, MessageType, OpCode, Query},
    rr::{Name, RData, Record, RecordType, rdata::A},
};
use serde_json::{Value, json};
use tokio::time::{Instant, timeout};
use troupe_net::dns::domain_names::{DomainName, MOST_ADDRESSES, UNTIL_ANNOTATION};

use super::{
    book::{Book, Lesson},
    *,
};

fn policy(name: &str, action: &str, domains: &[&str]) -> NamingPolicy {
    let spec = json!({"egress": [{"action": action, "to": [{"networks": ["10.0.0.0/8"]}, {"domainNames": domains}]}]});
    serde_json::from_value(json!({"metadata": {"name": name}, "spec": spec})).expect("a policy")
}

fn naming(domains: &[&str]) -> Book {
    let mut book = Book::default();
    book.set_policy(policy("names", "Accept", domains));
    book
}

fn ip(last: u16) -> IpAddr {
    let [high, low] = last.to_be_bytes();
    IpAddr::from([203, 0, high, low])
}

fn learn(book: &mut Book, asked: &str, addresses: &[(IpAddr, u32)], now: u64) -> Lesson {
    let names = book.names_of(&asked_for(&Name::from_ascii(asked).expect("a name")));
    book.learn(&names, addresses, now)
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
    let name = name.iter().find(|name| name.slice(troupe_net::iptables::Family::V4) == second.slice).expect("is one of them");
    let theirs = super::slice::body(name, troupe_net::iptables::Family::V4, &[(ip(9), 1500)].into(), Some("8"));
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
    assert!(domains.learn(&query, &reply).is_none(), "no policy names it");
    domains.set_policy(policy("names", "Accept", &["example.com"]));
    let begun = Instant::now();
    domains.learn(&query, &reply).expect("is news").told().await;
    assert!((PATIENCE..PATIENCE * 2).contains(&begun.elapsed()), "nobody writes it");

    let waiting = tokio::spawn(domains.learn(&query, &reply).expect("is news still").told());
    tokio::task::yield_now().await;
    let draft = domains.book.lock().draft(now()).expect("something to write");
    domains.set_slice(serde_json::from_value(draft.body).expect("a slice"));
    timeout(Duration::from_millis(200), waiting).await.expect("is told").expect("does not panic");
    assert!(domains.learn(&query, &reply).is_none(), "nobody waits for what is known");
}
