//! Why a message was sent: the causal context that every envelope and every API call carries.

use std::sync::Arc;

use super::{ObjectKey, Revision};

/// One version of one object: the join key of traces.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ObjectVersion {
    /// `resource.group`, as `GroupResource` prints it.
    pub resource: Arc<str>,
    pub key: ObjectKey,
    pub revision: Revision,
}

/// The cause of a message: W3C trace context plus the object version that led to it. Cheap to clone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cause {
    /// W3C trace id; 0 means "not part of a trace yet".
    pub trace: u128,
    /// The hop that sent this message.
    pub span: u64,
    /// The object version that led to it, where there is one.
    pub object: Option<Arc<ObjectVersion>>,
    /// Whether what comes of it is exported as spans (`crate::spans`).
    pub sampled: bool,
}

impl Cause {
    /// The beginning of a new trace.
    pub fn root() -> Self {
        Cause { trace: rand::random(), span: rand::random(), ..Cause::default() }
    }

    /// The same trace, caused by `object`.
    pub fn with_object(&self, object: Arc<ObjectVersion>) -> Self {
        Cause { object: Some(object), ..self.clone() }
    }

    /// The W3C `traceparent` header, or `None` outside a trace.
    pub fn traceparent(&self) -> Option<String> {
        (self.trace != 0).then(|| format!("00-{:032x}-{:016x}-{:02x}", self.trace, self.span, u8::from(self.sampled)))
    }

    /// The W3C `tracestate` header, which carries the object version, or `None` without one.
    pub fn tracestate(&self) -> Option<String> {
        let version = self.object.as_ref()?;
        let mut value = format!("{MEMBER}={}:", version.resource);
        for character in version.key.to_string().chars() {
            match character {
                // What a member's value may not hold, and our own escape.
                ',' | '=' | '%' => value.push_str(&format!("%{:02X}", u32::from(character))),
                ' '..='~' => value.push(character),
                _ => return None,
            }
        }
        value.push_str(&format!("@{}", version.revision));
        Some(value)
    }

    /// The same cause with the object version that a `tracestate` header carries, if it does.
    pub fn with_tracestate(self, header: &str) -> Self {
        let members = header.split(',').filter_map(|member| member.trim().split_once('='));
        let ours = members.into_iter().find(|(name, _)| *name == MEMBER).and_then(|(_, value)| parse_version(value));
        match ours {
            Some(version) => self.with_object(Arc::new(version)),
            None => self,
        }
    }

    /// Reads a W3C `traceparent` header; anything malformed yields `None`.
    pub fn from_traceparent(header: &str) -> Option<Self> {
        let mut parts = header.split('-');
        let (_version, trace, span, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next());
        if trace.len() != 32 || span.len() != 16 {
            return None;
        }
        let trace = u128::from_str_radix(trace, 16).ok()?;
        let span = u64::from_str_radix(span, 16).ok()?;
        let sampled = flags.and_then(|flags| u8::from_str_radix(flags, 16).ok()).is_some_and(|flags| flags & 1 == 1);
        (trace != 0).then_some(Cause { trace, span, sampled, object: None })
    }
}

/// The header by which a watch of ours asks for the causes of its events, each of which comes with a `traceparent` in the field `cause` then,
/// and for bookmarks that say how far it is soon after changes.
pub const CAUSES_HEADER: &str = "troupe-causes";

/// Our member of `tracestate`.
const MEMBER: &str = "troupe";

/// `deployments.apps:namespace/name@7`
fn parse_version(text: &str) -> Option<ObjectVersion> {
    let (resource, rest) = text.split_once(':')?;
    let (key, revision) = rest.rsplit_once('@')?;
    let key = key.replace("%2C", ",").replace("%3D", "=").replace("%25", "%");
    let (namespace, name) = key.split_once('/').unwrap_or(("", &key));
    Some(ObjectVersion { resource: resource.into(), key: ObjectKey::new(namespace, name), revision: revision.parse().ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_traceparent_survives_the_round_trip() {
        let cause = Cause::root();
        let read = Cause::from_traceparent(&cause.traceparent().expect("a root has a trace")).expect("well formed");
        assert_eq!((read.trace, read.span), (cause.trace, cause.span));
        let sampled = Cause { sampled: true, ..cause };
        let header = sampled.traceparent().expect("a root has a trace");
        assert!(header.ends_with("-01"), "{header}");
        assert_eq!(Cause::from_traceparent(&header).expect("well formed"), sampled);
        assert_eq!(Cause::from_traceparent("00-zz-01"), None);
    }

    #[test]
    fn the_object_version_travels_in_the_tracestate() {
        for key in [ObjectKey::new("default", "web"), ObjectKey::cluster("system:a=b,c%2C@d")] {
            let version = Arc::new(ObjectVersion { resource: "deployments.apps".into(), key, revision: Revision(7) });
            let cause = Cause::root().with_object(version.clone());
            let header = format!("other=1, {}", cause.tracestate().expect("an object led to it"));
            assert_eq!(Cause::root().with_tracestate(&header).object, Some(version), "{header}");
        }
        assert_eq!(Cause::root().tracestate(), None);
        assert_eq!(Cause::root().with_tracestate("troupe=nonsense,x").object, None);
    }
}
