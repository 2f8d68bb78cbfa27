//! The story of an object out of records of hops, of one process or of many. Pure.
//!
//! Hops hang together in two ways: by the span of the hop that sent a message or made a call, and by the object version that
//! one committed and that led to another. Each process is asked for what may belong to the story ([`related`]); when nothing
//! new turns up, [`chain`] keeps what led to the object and what came of it.

use std::collections::{BTreeSet, HashMap};

use serde::{Deserialize, Serialize};
use troupe_api::meta::ObjectKey;

use super::HopRecord;

/// An object as records name it, without its revision: `pods default/web`.
pub fn object_name(resource: &str, key: &ObjectKey) -> String {
    format!("{resource} {key}")
}

/// What is asked for: an object, and what is known of its story already.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wanted {
    pub object: String,
    pub traces: BTreeSet<String>,
    /// `resource key@revision`, each.
    pub versions: BTreeSet<String>,
}

impl Wanted {
    /// Everything about an object.
    pub fn object(object: impl Into<String>) -> Self {
        Wanted { object: object.into(), ..Wanted::default() }
    }

    /// Adds what records tell of further traces and versions. `false` when nothing was new, or enough is known.
    pub fn learn(&mut self, records: &[HopRecord], most: usize) -> bool {
        let before = (self.traces.len(), self.versions.len());
        let committed: BTreeSet<&str> = records.iter().filter_map(|record| record.produced.as_deref()).collect();
        // The newest first: of a long story its end is what people ask for.
        for record in records.iter().rev() {
            if self.traces.len() < most && !record.trace.is_empty() {
                self.traces.insert(record.trace.clone());
            }
            // Who committed what led to this is still to be found.
            if let Some(object) = record.object.as_ref().filter(|object| !committed.contains(object.as_str()))
                && self.versions.len() < most
            {
                self.versions.insert(object.clone());
            }
        }
        before != (self.traces.len(), self.versions.len())
    }
}

fn is_about(object: &str, version: Option<&String>) -> bool {
    version.and_then(|version| version.strip_prefix(object)).is_some_and(|rest| rest.starts_with('@'))
}

/// The records that may belong to the story: about the object, in a trace that touched it, or joined to such by a version.
pub fn related(records: Vec<HopRecord>, wanted: &Wanted) -> Vec<HopRecord> {
    let Wanted { object, mut traces, mut versions } = wanted.clone();
    let mut chosen = vec![false; records.len()];
    loop {
        let mut grew = false;
        for (record, chosen) in records.iter().zip(&mut chosen) {
            let known = |version: &Option<String>| version.as_ref().is_some_and(|version| versions.contains(version));
            let about = is_about(&object, record.object.as_ref()) || is_about(&object, record.produced.as_ref());
            if *chosen || !(about || traces.contains(&record.trace) || known(&record.produced) || known(&record.object)) {
                continue;
            }
            (*chosen, grew) = (true, true);
            if !record.trace.is_empty() {
                traces.insert(record.trace.clone());
            }
            versions.extend(record.object.clone());
            versions.extend(record.produced.clone());
        }
        if !grew {
            return records.into_iter().zip(chosen).filter_map(|(record, chosen)| chosen.then_some(record)).collect();
        }
    }
}

/// Keeps what led to the object and what came of it, in time order, and names the senders that other records tell of.
pub fn chain(mut records: Vec<HopRecord>, object: &str) -> Vec<HopRecord> {
    records.sort_by_key(|record| record.at_us);
    let links = Links::of(&records);
    let about = |record: &HopRecord| is_about(object, record.object.as_ref()) || is_about(object, record.produced.as_ref());
    let seeds: Vec<usize> = (0..records.len()).filter(|at| about(&records[*at])).collect();
    let mut kept = vec![false; records.len()];
    spread(seeds.clone(), &mut kept, |at| links.leading_to(&records[at]));
    let mut came = vec![false; records.len()];
    spread(seeds, &mut came, |at| links.coming_of(&records[at]));
    let senders: Vec<Option<String>> = records.iter().map(|record| links.sender(&records, record)).collect();
    let kept = kept.into_iter().zip(came).map(|(led, came)| led || came);
    let told = records.into_iter().zip(senders).zip(kept).filter_map(|((record, sender), kept)| kept.then_some((record, sender)));
    told.map(|(record, sender)| HopRecord { from: sender.unwrap_or_else(|| record.from.clone()), ..record }).collect()
}

/// Marks what can be reached.
fn spread(mut open: Vec<usize>, marked: &mut [bool], next: impl Fn(usize) -> Vec<usize>) {
    for at in &open {
        marked[*at] = true;
    }
    while let Some(at) = open.pop() {
        for at in next(at) {
            if !std::mem::replace(&mut marked[at], true) {
                open.push(at);
            }
        }
    }
}

/// Records by what joins them.
struct Links {
    by_span: HashMap<String, usize>,
    by_parent: HashMap<String, Vec<usize>>,
    by_product: HashMap<String, Vec<usize>>,
    by_object: HashMap<String, Vec<usize>>,
}

impl Links {
    fn of(records: &[HopRecord]) -> Self {
        let mut links = Links { by_span: HashMap::new(), by_parent: HashMap::new(), by_product: HashMap::new(), by_object: HashMap::new() };
        for (at, record) in records.iter().enumerate() {
            if !record.span.is_empty() {
                links.by_span.insert(record.span.clone(), at);
            }
            if !record.parent.is_empty() {
                links.by_parent.entry(record.parent.clone()).or_default().push(at);
            }
            for (version, index) in [(&record.produced, &mut links.by_product), (&record.object, &mut links.by_object)] {
                if let Some(version) = version {
                    index.entry(version.clone()).or_default().push(at);
                }
            }
        }
        links
    }

    fn leading_to(&self, record: &HopRecord) -> Vec<usize> {
        let commits = record.object.as_ref().and_then(|version| self.by_product.get(version));
        self.by_span.get(&record.parent).into_iter().chain(commits.into_iter().flatten()).copied().collect()
    }

    fn coming_of(&self, record: &HopRecord) -> Vec<usize> {
        let sent = Some(&record.span).filter(|span| !span.is_empty()).and_then(|span| self.by_parent.get(span));
        let woken = record.produced.as_ref().and_then(|version| self.by_object.get(version));
        sent.into_iter().flatten().chain(woken.into_iter().flatten()).copied().collect()
    }

    /// Who sent it, where the hop itself does not say.
    fn sender(&self, records: &[HopRecord], record: &HopRecord) -> Option<String> {
        (record.from == "outside").then(|| self.by_span.get(&record.parent).map(|at| records[*at].to.clone())).flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::recorder::Outcome;

    fn hop(at_us: i64, trace: &str, parent: &str, span: &str, to: &str) -> HopRecord {
        let text = str::to_owned;
        HopRecord {
            process: String::new(),
            at_us,
            trace: text(trace),
            parent: text(parent),
            span: text(span),
            from: text("outside"),
            to: text(to),
            message: text("m"),
            waited_us: 0,
            handled_us: 0,
            outcome: Outcome::Done,
            object: None,
            produced: None,
        }
    }

    fn because(record: HopRecord, object: &str) -> HopRecord {
        HopRecord { object: Some(object.into()), ..record }
    }

    fn wrote(record: HopRecord, produced: &str) -> HopRecord {
        HopRecord { produced: Some(produced.into()), ..record }
    }

    /// A ReplicaSet made two pods; one was bound, and its container started by another process.
    fn story() -> Vec<HopRecord> {
        vec![
            hop(9, "t", "s4", "", "containerd"),
            wrote(hop(1, "t", "s1", "", "apiserver/rs"), "rs n/web@1"),
            because(hop(2, "t", "s1", "s2", "replicaset"), "rs n/web@1"),
            wrote(hop(3, "t", "s2", "", "apiserver/pods"), "pods n/a@2"),
            wrote(hop(4, "t", "s2", "", "apiserver/pods"), "pods n/b@3"),
            because(hop(5, "t", "s2", "s3", "scheduler"), "pods n/a@2"),
            wrote(hop(6, "t", "s3", "", "apiserver/pods"), "pods n/a@4"),
            because(hop(8, "u", "", "s4", "worker"), "pods n/a@4"),
            wrote(hop(7, "v", "", "", "apiserver/nodes"), "nodes one@5"),
            hop(0, "t", "", "s1", "apiserver"),
        ]
    }

    #[test]
    fn the_chain_has_what_led_to_an_object_and_what_came_of_it_but_no_siblings() {
        let steps = chain(story(), "pods n/a");
        let seen: Vec<(i64, &str, &str)> = steps.iter().map(|step| (step.at_us, step.from.as_str(), step.to.as_str())).collect();
        let wanted = [
            (0, "outside", "apiserver"),
            (1, "apiserver", "apiserver/rs"),
            (2, "apiserver", "replicaset"),
            (3, "replicaset", "apiserver/pods"),
            (5, "replicaset", "scheduler"),
            (6, "scheduler", "apiserver/pods"),
            (8, "outside", "worker"),
            (9, "worker", "containerd"),
        ];
        assert_eq!(seen, wanted);
        let whole: Vec<i64> = chain(story(), "rs n/web").iter().map(|step| step.at_us).collect();
        assert_eq!(whole, [0, 1, 2, 3, 4, 5, 6, 8, 9]);
        assert!(chain(story(), "pods n/").is_empty(), "a name is not the beginning of another one");
    }

    #[test]
    fn processes_are_asked_until_nothing_new_turns_up() {
        let (server, node): (Vec<_>, Vec<_>) = story().into_iter().partition(|record| record.trace != "u" && record.to != "containerd");
        let mut wanted = Wanted::object("pods n/a");
        let mut rounds = 0;
        let found = loop {
            let found = [related(server.clone(), &wanted), related(node.clone(), &wanted)].concat();
            rounds += 1;
            if !wanted.learn(&found, 10) {
                break found;
            }
        };
        assert_eq!((rounds, found.len()), (2, 9), "{wanted:?}");
        assert_eq!(chain(found, "pods n/a"), chain(story(), "pods n/a"));
        assert!(!Wanted::object("pods n/a").learn(&story(), 0), "there is a limit");
    }
}
