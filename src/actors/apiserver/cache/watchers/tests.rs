use std::{sync::Arc, time::Instant};

use proptest::prelude::*;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use troupe_api::{
    meta::{Cause, FieldSelector, LabelSelector, Object, Revision},
    resources::{Registry, Resource, builtin},
    service::{Target, WatchItem},
    stored::StoredObject,
};

use super::{
    super::{
        Delivery,
        queue::{QUEUE, Queued, queue},
    },
    *,
};
use crate::apiserver::selection::selection;

fn pods() -> Arc<Resource> {
    Registry::new(builtin()).by_kind("", "Pod").expect("a kind")
}

fn select(resource: &Arc<Resource>, namespace: &str, labels: &str, fields: &str) -> Arc<Selection> {
    let target = Target { resource: resource.clone(), version: "v1".into(), namespace: namespace.into(), name: "".into(), subresource: "".into() };
    let labels = LabelSelector::parse(labels).expect("labels");
    Arc::new(selection(&target, &labels, &FieldSelector::parse(fields).expect("fields")))
}

fn pod(name: &str, namespace: &str, labels: Value, node: &str) -> Arc<StoredObject> {
    let metadata = json!({"name": name, "namespace": namespace, "labels": labels});
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {"nodeName": node}});
    Arc::new(StoredObject::from_object(&Object::from_value(pod).expect("an object")).expect("the store's form"))
}

fn change(revision: u64, previous: Option<&Arc<StoredObject>>, current: Option<&Arc<StoredObject>>) -> Change {
    Change { revision: Revision(revision), previous: previous.cloned(), current: current.cloned(), cause: Cause::default() }
}

/// A unit without its host.
fn watchers() -> Watchers {
    Watchers::new(CacheCounts::of(&pods()))
}

fn watch(watchers: &mut Watchers, selection: &Arc<Selection>, from: u64) -> mpsc::Receiver<Queued> {
    let (sender, receiver) = queue();
    let watcher = Watcher::new(sender, Revision(from), None, Instant::now());
    hear(watchers, News::Watcher(selection.clone(), watcher));
    receiver
}

fn hear(watchers: &mut Watchers, news: News) {
    watchers.hear(Told { anew: false, news });
}

/// What a watcher was told: revisions, and whether its watch has ended.
fn told(receiver: &mut mpsc::Receiver<Queued>) -> (Vec<u64>, bool) {
    let mut revisions = Vec::new();
    loop {
        match receiver.try_recv().map(Queued::take) {
            Ok(Delivery::Item(WatchItem::Event { cause, .. })) => revisions.push(cause.span),
            Ok(other) => panic!("told {other:?}"),
            Err(error) => return (revisions, error == mpsc::error::TryRecvError::Disconnected),
        }
    }
}

/// A change that its watchers can tell apart from others.
fn numbered(revision: u64, previous: Option<&Arc<StoredObject>>, current: Option<&Arc<StoredObject>>) -> Change {
    Change { cause: Cause { span: revision, ..Cause::default() }, ..change(revision, previous, current) }
}

fn moment(revision: u64, changed: u64) -> Moment {
    Moment { revision: Revision(revision), changed: Revision(changed), now: Instant::now() }
}

fn time(revision: u64) -> News {
    News::Time(moment(revision, revision))
}

fn tell_all(watchers: &mut Watchers) {
    while !watchers.slice() {}
}

#[test]
fn whoever_wants_to_know_how_far_it_is_gets_a_bookmark_after_changes_that_it_was_not_told_of() {
    let (resource, mut groups) = (pods(), Groups::default());
    let begun = Instant::now();
    let mut add = |node: &str, progress: bool| {
        let (sender, receiver) = queue();
        let watcher = Watcher::new(sender, Revision(5), Some(None), begun);
        let watcher = if progress { watcher.with_progress(Revision(5)) } else { watcher };
        groups.add(select(&resource, "", "", &format!("spec.nodeName={node}")), watcher);
        receiver
    };
    let (mut here, mut there, mut upstreams) = (add("here", true), add("there", true), add("elsewhere", false));
    let bookmarks = |receiver: &mut mpsc::Receiver<Queued>| {
        let items = std::iter::from_fn(|| receiver.try_recv().ok().map(Queued::take));
        let revisions = items.filter_map(|item| match item {
            Delivery::Item(WatchItem::Bookmark { revision, .. }) => Some(revision.0),
            _ => None,
        });
        revisions.collect::<Vec<_>>()
    };
    let told_of = change(7, None, Some(&pod("a", "x", json!({}), "here")));
    for id in groups.concerned(&told_of).cheap {
        groups.tell(id, &told_of);
    }
    for moment in [moment(9, 7), moment(12, 7)] {
        for id in groups.everybody().cheap {
            groups.bookmark(id, Moment { now: begun, ..moment });
        }
    }
    assert!(bookmarks(&mut here).is_empty(), "the event said how far it is");
    assert_eq!(bookmarks(&mut there), [9], "once for one change");
    assert!(bookmarks(&mut upstreams).is_empty(), "others have theirs now and then");
}

#[test]
fn a_change_concerns_the_watchers_of_its_node_and_no_other_of_ten_thousand() {
    let (resource, mut groups) = (pods(), Groups::default());
    let mut queues = Vec::new();
    for at in 0..10_000 {
        let (sender, receiver) = queue();
        queues.push(receiver);
        groups.add(select(&resource, "", "", &format!("spec.nodeName=n{at}")), Watcher::new(sender, Revision(0), None, Instant::now()));
    }
    let (on_one, on_other) = (pod("a", "x", json!({}), "n17"), pod("a", "x", json!({}), "n4711"));
    assert_eq!(groups.concerned(&change(1, None, Some(&on_one))).cheap, [17]);
    assert_eq!(groups.concerned(&change(1, Some(&on_one), Some(&on_other))).cheap, [17, 4711]);
    assert!(groups.concerned(&change(1, None, Some(&pod("a", "x", json!({}), "n10000")))).cheap.is_empty());
}

#[test]
fn names_labels_and_namespaces_lead_to_few_as_well() {
    let (resource, mut groups) = (pods(), Groups::default());
    let mut queues = Vec::new();
    let mut add = |namespace: &str, labels: &str, fields: &str| {
        let (sender, receiver) = queue();
        queues.push(receiver);
        groups.add(select(&resource, namespace, labels, fields), Watcher::new(sender, Revision(0), None, Instant::now()));
    };
    for at in 0..100 {
        add("x", "", &format!("metadata.name=p{at}"));
        add("", &format!("app=a{at}"), "");
        add(&format!("ns{at}"), "!hidden", "");
        add("x", &format!("has-{at}"), "");
    }
    let object = pod("p7", "x", json!({"app": "a3", "has-9": ""}), "");
    let concerned = groups.concerned(&change(1, Some(&object), None));
    assert_eq!(concerned.cheap, [3 * 4 + 1, 7 * 4, 9 * 4 + 3]);
    assert_eq!(groups.concerned(&change(1, None, Some(&pod("q", "ns5", json!({}), "")))).cheap, [5 * 4 + 2]);
}

#[test]
fn equal_selectors_are_asked_once_and_forgotten_with_their_last_watcher() {
    let (resource, mut watchers) = (pods(), watchers());
    let mut one = watch(&mut watchers, &select(&resource, "x", "a=b,c!=d", ""), 0);
    let mut other = watch(&mut watchers, &select(&resource, "x", "c notin (d),a in (b)", ""), 5);
    assert_eq!((watchers.groups.len(), watchers.groups.watchers()), (1, 2));
    let object = pod("a", "x", json!({"a": "b"}), "");
    hear(&mut watchers, News::Changes(vec![numbered(4, None, Some(&object)), numbered(6, Some(&object), Some(&object))]));
    tell_all(&mut watchers);
    assert_eq!((told(&mut one).0, told(&mut other).0), (vec![4, 6], vec![6]), "the later one knows what was before");
    drop((one, other));
    hear(&mut watchers, time(6));
    tell_all(&mut watchers);
    assert!(watchers.groups.is_forgotten());
}

/// A selector that says something of so many labels that it takes long.
fn expensive(resource: &Arc<Resource>, number: usize) -> Arc<Selection> {
    let labels: Vec<_> = (0..40).map(|at| format!("!l{number}-{at}")).collect();
    select(resource, "", &labels.join(","), "")
}

#[test]
fn whoever_has_an_expensive_selector_waits_for_those_who_have_not() {
    let (resource, mut watchers) = (pods(), watchers());
    let mut slow: Vec<_> = (0..200).map(|at| watch(&mut watchers, &expensive(&resource, at), 0)).collect();
    let mut quick = watch(&mut watchers, &select(&resource, "", "", ""), 0);
    let object = pod("a", "x", json!({}), "");
    hear(&mut watchers, News::Changes(vec![numbered(1, None, Some(&object)), numbered(2, Some(&object), None)]));
    assert!(!watchers.slice(), "so many expensive selectors take more than a slice");
    assert_eq!(told(&mut quick).0, [1, 2]);
    hear(&mut watchers, News::Changes(vec![numbered(3, None, Some(&object))]));
    watchers.slice();
    assert_eq!(told(&mut quick).0, [3], "also when others are in the middle of theirs");
    tell_all(&mut watchers);
    assert!(slow.iter_mut().all(|receiver| told(receiver).0 == [1, 2, 3]), "in order, later");
}

#[test]
fn watches_that_lag_too_far_behind_end_and_the_others_go_on() {
    let (resource, mut watchers) = (pods(), watchers());
    let mut slow: Vec<_> = (0..200).map(|at| watch(&mut watchers, &expensive(&resource, at), 0)).collect();
    let mut quick = watch(&mut watchers, &select(&resource, "", "", "metadata.name=other"), 0);
    let (object, other) = (pod("a", "x", json!({}), ""), pod("other", "x", json!({}), ""));
    let many = 2 * u64::try_from(MOST_EXPENSIVE).expect("a number");
    for revision in 1..=many {
        hear(&mut watchers, News::Changes(vec![numbered(revision, Some(&object), Some(&object))]));
        watchers.slice();
    }
    hear(&mut watchers, News::Changes(vec![numbered(many + 1, None, Some(&other))]));
    tell_all(&mut watchers);
    assert_eq!(told(&mut quick), (vec![many + 1], false));
    for receiver in &mut slow {
        let (revisions, has_ended) = told(receiver);
        assert!(has_ended && revisions.len() < QUEUE, "{}", revisions.len());
        assert!(revisions.iter().zip(1..).all(|(revision, wanted)| *revision == wanted), "without a gap");
    }
}

#[test]
fn all_watches_end_when_something_was_missed() {
    let (resource, mut watchers) = (pods(), watchers());
    let mut before = watch(&mut watchers, &select(&resource, "", "", ""), 0);
    let object = pod("a", "x", json!({}), "");
    hear(&mut watchers, News::Changes(vec![numbered(1, None, Some(&object))]));
    watchers.hear(Told { anew: true, news: News::Changes(vec![numbered(3, Some(&object), None)]) });
    let mut after = watch(&mut watchers, &select(&resource, "", "", ""), 3);
    hear(&mut watchers, News::Changes(vec![numbered(4, None, Some(&object))]));
    tell_all(&mut watchers);
    assert_eq!((told(&mut before), told(&mut after)), ((vec![], true), (vec![4], false)));
}

fn a_selector() -> impl Strategy<Value = (String, String, String)> {
    let requirement = prop::sample::select(vec!["a=1", "a=2", "a in (1,2)", "a", "!a", "a!=1", "b=1", "b notin (1,2)", "a>1", "b"]);
    let field = prop::sample::select(vec!["spec.nodeName=n1", "spec.nodeName!=n1", "spec.nodeName=", "metadata.name=p1", "metadata.namespace=x"]);
    let join = |parts: Vec<&str>| parts.join(",");
    (prop::sample::select(vec!["", "x", "y"]), prop::collection::vec(requirement, 0..3), prop::collection::vec(field, 0..2))
        .prop_map(move |(namespace, labels, fields)| (namespace.to_owned(), join(labels), join(fields)))
}

fn a_pod(key: (String, String)) -> impl Strategy<Value = Option<Arc<StoredObject>>> {
    let labels = prop::collection::btree_map("[ab]", "[0-2]", 0..3);
    prop::option::of((labels, "(n1|n2)?").prop_map(move |(labels, node)| pod(&key.0, &key.1, json!(labels), &node)))
}

proptest! {
    #[test]
    fn who_is_told_something_was_found_by_the_index(
        selectors in prop::collection::vec(a_selector(), 1..20),
        (before, after) in ("p[12]", "[xyz]").prop_flat_map(|key| (a_pod(key.clone()), a_pod(key))),
    ) {
        let (resource, mut groups) = (pods(), Groups::default());
        let selections: Vec<_> = selectors.iter().map(|(namespace, labels, fields)| select(&resource, namespace, labels, fields)).collect();
        let mut distinct: Vec<Arc<Selection>> = Vec::new();
        let mut queues = Vec::new();
        for selection in &selections {
            if !distinct.contains(selection) {
                distinct.push(selection.clone());
            }
            let (sender, receiver) = queue();
            queues.push(receiver);
            groups.add(selection.clone(), Watcher::new(sender, Revision(0), None, Instant::now()));
        }
        let change = change(1, before.as_ref(), after.as_ref());
        let concerned = groups.concerned(&change).cheap;
        for (id, selection) in (0..).zip(&distinct) {
            prop_assert!(selection.deliver(&change).is_none() || concerned.contains(&id), "{selection:?} is not among {concerned:?}");
        }
        drop(queues);
        for id in groups.everybody().cheap {
            groups.bookmark(id, moment(1, 1));
        }
        prop_assert!(groups.is_forgotten());
    }
}
