//! What becomes of an event that may be like others: client-go's filter, aggregation and counting. Pure; time is an input.
//!
//! One source may tell 25 things about an object at once and one every five minutes from then on. Ten events in ten minutes
//! that differ in their text only become one, which shows the newest text. The same event again is counted.

use jiff::{SignedDuration, Timestamp};

use super::{Post, Recent};

/// Events that a source may tell of an object at once.
const BURST: f64 = 25.0;
/// Seconds until it may tell one more.
const REFILL: f64 = 300.0;
/// From so many texts on, events of a reason are told as one.
const SIMILAR: usize = 10;
/// Texts are forgotten when none came for so long.
const SIMILAR_FOR: SignedDuration = SignedDuration::from_mins(10);
const PREFIX: &str = "(combined from similar events): ";

/// What to do with an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// There were too many.
    Skip,
    /// It is the first of its kind.
    Create { key: Key, message: String },
    /// It is another one of an event that was written under this name.
    Count { key: Key, name: String, count: i32, message: String },
}

/// What makes two events the same.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    about: About,
    reason: String,
    /// Empty for events that are told as one.
    message: String,
    field_path: String,
}

/// An object and the tone in which it is told of.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct About {
    kind: String,
    namespace: String,
    name: String,
    uid: String,
    api_version: String,
    tone: &'static str,
}

#[derive(Clone, Debug)]
struct Bucket {
    tokens: f64,
    at: Timestamp,
}

#[derive(Clone, Debug)]
struct Similar {
    messages: Vec<String>,
    at: Timestamp,
}

#[derive(Clone, Debug)]
struct Known {
    name: String,
    count: i32,
}

/// What a source has told. Everything is remembered of the newest few thousand objects and events only.
#[derive(Debug, Default)]
pub struct Correlator {
    buckets: Recent<About, Bucket>,
    similar: Recent<(About, String), Similar>,
    known: Recent<Key, Known>,
}

impl Correlator {
    /// Looks at an event that is to be written.
    pub fn take(&mut self, post: &Post, now: Timestamp) -> Outcome {
        let about = about(post);
        if !self.has_token(&about, now) {
            return Outcome::Skip;
        }
        let (message, joined) =
            if self.is_one_of_many(&about, post, now) { (format!("{PREFIX}{}", post.message), true) } else { (post.message.clone(), false) };
        let field_path = post.about.field_path.clone().filter(|_| !joined).unwrap_or_default();
        let key = Key { about, reason: post.reason.clone(), message: if joined { String::new() } else { message.clone() }, field_path };
        match self.known.get_mut(&key) {
            Some(known) => {
                known.count += 1;
                Outcome::Count { name: known.name.clone(), count: known.count, key, message }
            }
            None => Outcome::Create { key, message },
        }
    }

    /// An event was written.
    pub fn wrote(&mut self, key: Key, name: String) {
        self.known.insert(key, Known { name, count: 1 });
    }

    fn has_token(&mut self, about: &About, now: Timestamp) -> bool {
        let mut bucket = self.buckets.get_mut(about).cloned().unwrap_or(Bucket { tokens: BURST, at: now });
        let passed = now.duration_since(bucket.at).as_secs_f64().max(0.0);
        bucket = Bucket { tokens: (bucket.tokens + passed / REFILL).min(BURST), at: now };
        let has = bucket.tokens >= 1.0;
        if has {
            bucket.tokens -= 1.0;
        }
        self.buckets.insert(about.clone(), bucket);
        has
    }

    fn is_one_of_many(&mut self, about: &About, post: &Post, now: Timestamp) -> bool {
        let key = (about.clone(), post.reason.clone());
        let known = self.similar.get_mut(&key).cloned().filter(|similar| now.duration_since(similar.at) <= SIMILAR_FOR);
        let mut messages = known.map(|similar| similar.messages).unwrap_or_default();
        if !messages.contains(&post.message) {
            messages.push(post.message.clone());
        }
        let many = messages.len() >= SIMILAR;
        if many {
            messages.remove(0);
        }
        self.similar.insert(key, Similar { messages, at: now });
        many
    }
}

fn about(post: &Post) -> About {
    let text = |field: &Option<String>| field.clone().unwrap_or_default();
    About {
        kind: text(&post.about.kind),
        namespace: text(&post.about.namespace),
        name: text(&post.about.name),
        uid: text(&post.about.uid),
        api_version: text(&post.about.api_version),
        tone: post.kind,
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::ObjectReference;

    use super::*;

    fn post(name: &str, reason: &str, message: impl Into<String>) -> Post {
        let about = ObjectReference { name: Some(name.into()), ..ObjectReference::default() };
        Post { about, kind: "Normal", reason: reason.into(), message: message.into(), action: "" }
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_000_000 + seconds).expect("a time")
    }

    #[test]
    fn the_same_event_is_counted_and_not_written_again() {
        let mut correlator = Correlator::default();
        let Outcome::Create { key, message } = correlator.take(&post("a", "Pulled", "image"), at(0)) else { panic!("it is the first") };
        assert_eq!(message, "image");
        correlator.wrote(key, "a.1".into());
        for wanted in 2..4 {
            let Outcome::Count { name, count, .. } = correlator.take(&post("a", "Pulled", "image"), at(1)) else { panic!("it was there") };
            assert_eq!((name.as_str(), count), ("a.1", wanted));
        }
        assert!(matches!(correlator.take(&post("b", "Pulled", "image"), at(1)), Outcome::Create { .. }), "another object");
    }

    #[test]
    fn many_events_that_differ_in_their_text_become_one() {
        let mut correlator = Correlator::default();
        let mut told = Vec::new();
        for number in 0..12 {
            match correlator.take(&post("a", "FailedCreate", format!("error {number}")), at(number)) {
                Outcome::Create { key, message } => {
                    correlator.wrote(key, format!("a.{number}"));
                    told.push(message);
                }
                Outcome::Count { name, count, message, .. } => told.push(format!("{name} {count} {message}")),
                Outcome::Skip => panic!("it is within the burst"),
            }
        }
        assert_eq!(told[8], "error 8");
        assert_eq!(told[9], "(combined from similar events): error 9");
        assert_eq!(told[10..], ["a.9 2 (combined from similar events): error 10", "a.9 3 (combined from similar events): error 11"]);
        let later = correlator.take(&post("a", "FailedCreate", "error 12"), at(11 + 601));
        assert!(matches!(later, Outcome::Create { message, .. } if message == "error 12"), "after ten minutes of peace it starts over");
    }

    #[test]
    fn a_source_that_talks_too_much_about_an_object_is_cut_off() {
        let mut correlator = Correlator::default();
        let heard = |correlator: &mut Correlator, seconds| !matches!(correlator.take(&post("a", "Unhealthy", "no"), at(seconds)), Outcome::Skip);
        assert_eq!((0..40).filter(|_| heard(&mut correlator, 0)).count(), 25);
        assert!(!heard(&mut correlator, 299));
        assert!(heard(&mut correlator, 301));
        assert!(!heard(&mut correlator, 302));
        assert!(matches!(correlator.take(&post("b", "Unhealthy", "no"), at(302)), Outcome::Create { .. }));
    }
}
