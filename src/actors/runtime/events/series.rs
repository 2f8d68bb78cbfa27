//! Events of the form that `events.k8s.io` introduced: the same again begins a series. Pure; time is an input.
//!
//! The second of its kind is written as the series' beginning, further ones are only counted here. Series are written again
//! from time to time so that they do not expire, and once more when nothing was added for a while: then they are over.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::ObjectReference;

use super::{Post, Recent};

/// A series to which nothing was added for so long is over.
pub const FINISHED: SignedDuration = SignedDuration::from_mins(6);

/// What makes events those of one series: everything but the text.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    /// The whole reference, version of the object included.
    about: String,
    kind: &'static str,
    action: &'static str,
    reason: String,
}

/// What to do with an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    Create(Key),
    /// The series is to be written.
    Write(Written),
    /// It is counted, and that is all for now.
    Nothing,
}

/// A series as it is to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    pub namespace: String,
    pub name: String,
    pub count: i32,
    pub last: Timestamp,
}

#[derive(Clone, Debug)]
struct Known {
    namespace: String,
    name: String,
    count: i32,
    last: Timestamp,
}

impl Known {
    fn written(&self) -> Written {
        Written { namespace: self.namespace.clone(), name: self.name.clone(), count: self.count, last: self.last }
    }
}

/// All series of a source.
#[derive(Debug, Default)]
pub struct Series {
    known: Recent<Key, Known>,
}

impl Series {
    /// Looks at an event that is to be written.
    pub fn take(&mut self, post: &Post, now: Timestamp) -> Outcome {
        let key = key(post);
        let Some(known) = self.known.get_mut(&key) else { return Outcome::Create(key) };
        known.count += 1;
        known.last = now;
        if known.count == 2 { Outcome::Write(known.written()) } else { Outcome::Nothing }
    }

    /// An event was written.
    pub fn wrote(&mut self, key: Key, namespace: String, name: String, now: Timestamp) {
        self.known.insert(key, Known { namespace, name, count: 1, last: now });
    }

    /// The event of a series is gone: what comes next is written anew.
    pub fn lost(&mut self, name: &str) {
        self.known.retain(|known| known.name != name);
    }

    /// All series, to be written again.
    pub fn all(&self) -> Vec<Written> {
        self.known.values().filter(|known| known.count > 1).map(Known::written).collect()
    }

    /// Takes out those that are over, with their last count.
    pub fn finish(&mut self, now: Timestamp) -> Vec<Written> {
        let over = |known: &Known| now.duration_since(known.last) > FINISHED;
        let finished = self.known.values().filter(|known| over(known) && known.count > 1).map(Known::written).collect();
        self.known.retain(|known| !over(known));
        finished
    }
}

fn key(post: &Post) -> Key {
    Key { about: reference(&post.about), kind: post.kind, action: post.action, reason: post.reason.clone() }
}

fn reference(about: &ObjectReference) -> String {
    let fields = [&about.api_version, &about.kind, &about.namespace, &about.name, &about.uid, &about.resource_version, &about.field_path];
    fields.map(|field| field.as_deref().unwrap_or_default()).join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn post(version: &str, message: &str) -> Post {
        let about = ObjectReference { name: Some("web".into()), resource_version: Some(version.into()), ..ObjectReference::default() };
        Post { about, kind: "Warning", reason: "FailedScheduling".into(), message: message.into(), action: "Scheduling" }
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_000_000 + seconds).expect("a time")
    }

    #[test]
    fn the_second_event_begins_a_series_and_the_end_tells_how_many_there_were() {
        let mut series = Series::default();
        let Outcome::Create(key) = series.take(&post("1", "no node"), at(0)) else { panic!("it is the first") };
        series.wrote(key, "default".into(), "web.1".into(), at(0));
        let Outcome::Write(begun) = series.take(&post("1", "still none"), at(1)) else { panic!("a series begins") };
        assert_eq!((begun.name.as_str(), begun.count, begun.last), ("web.1", 2, at(1)));
        assert_eq!(series.take(&post("1", "still none"), at(2)), Outcome::Nothing);
        assert!(matches!(series.take(&post("2", "no node"), at(2)), Outcome::Create(_)), "another version of the object");
        assert_eq!(series.finish(at(300)), []);
        assert_eq!(series.all().len(), 1);
        let finished = series.finish(at(363));
        assert_eq!((finished.len(), finished[0].count, finished[0].last), (1, 3, at(2)));
        assert!(matches!(series.take(&post("1", "no node"), at(364)), Outcome::Create(_)), "the next one is news again");
    }

    #[test]
    fn a_series_whose_event_is_gone_begins_anew() {
        let mut series = Series::default();
        let Outcome::Create(key) = series.take(&post("1", "no node"), at(0)) else { panic!("it is the first") };
        series.wrote(key, "default".into(), "web.1".into(), at(0));
        series.lost("web.1");
        assert!(matches!(series.take(&post("1", "no node"), at(1)), Outcome::Create(_)));
    }
}
