//! The layout of the store's keys, spelled here and nowhere else.
//!
//! A key is `/registry/<storage prefix>/[<namespace>/]<name>`. Storage prefixes are upstream's (`minions`,
//! `services/specs`, …; custom resources `<group>/<plural>`) and have one or two segments.

use std::{net::IpAddr, time::Duration};

use bytes::Bytes;
use troupe_api::meta::ObjectKey;

/// What every key of the API begins with.
pub const ROOT: &str = "/registry/";
const SERVER_LEASES: &str = "masterleases/";

/// The key of an object. `prefix` is the resource's storage prefix.
pub fn object(prefix: &str, key: &ObjectKey) -> Bytes {
    match &*key.namespace {
        "" => format!("{ROOT}{prefix}/{}", key.name),
        namespace => format!("{ROOT}{prefix}/{namespace}/{}", key.name),
    }
    .into()
}

/// What the keys of all objects of a resource begin with.
pub fn resource(prefix: &str) -> Bytes {
    format!("{ROOT}{prefix}/").into()
}

/// What the keys of a resource's objects in one namespace begin with; of all its objects when `namespace` is empty.
pub fn namespace(prefix: &str, namespace: &str) -> Bytes {
    match namespace {
        "" => resource(prefix),
        namespace => format!("{ROOT}{prefix}/{namespace}/").into(),
    }
}

/// How long events are kept where nothing is said.
pub const EVENT_TTL: Duration = Duration::from_secs(3600);

/// How long a value under `key` lives without another write: as upstream, `events` as long as is said, leases of API servers
/// fifteen seconds, all others for ever.
pub fn time_to_live(key: &[u8], events: Duration) -> Option<Duration> {
    let rest = key.strip_prefix(ROOT.as_bytes())?;
    if rest.starts_with(SERVER_LEASES.as_bytes()) {
        return Some(Duration::from_secs(15));
    }
    rest.starts_with(b"events/").then_some(events)
}

/// The key of the lease that an API server keeps under its address. It is no object of the API.
pub fn server_lease(address: IpAddr) -> Bytes {
    format!("{ROOT}{SERVER_LEASES}{address}").into()
}

/// What the keys of all API servers' leases begin with.
pub fn server_leases() -> Bytes {
    format!("{ROOT}{SERVER_LEASES}").into()
}

/// The address of the API server whose lease lies under `key`.
pub fn leasing_server(key: &[u8]) -> Option<IpAddr> {
    std::str::from_utf8(key).ok()?.strip_prefix(ROOT)?.strip_prefix(SERVER_LEASES)?.parse().ok()
}

/// Reads a key of one resource back; `None` where it is no key of that resource.
pub fn parse(prefix: &str, key: &[u8]) -> Option<ObjectKey> {
    let rest = std::str::from_utf8(key).ok()?.strip_prefix(ROOT)?.strip_prefix(prefix)?.strip_prefix('/')?;
    object_key(rest)
}

/// Finds the resource of a key: `lookup` answers for storage prefixes it knows. One-segment prefixes are tried first.
pub fn locate<T>(key: &[u8], lookup: impl Fn(&str) -> Option<T>) -> Option<(T, ObjectKey)> {
    let rest = std::str::from_utf8(key).ok()?.strip_prefix(ROOT)?;
    rest.match_indices('/').take(2).find_map(|(at, _)| {
        let found = lookup(&rest[..at])?;
        Some((found, object_key(&rest[at + 1..])?))
    })
}

/// Finds the storage prefix that a key, or the start of a resource's range, begins with.
pub fn prefix_of<T>(key: &[u8], lookup: impl Fn(&str) -> Option<T>) -> Option<T> {
    let rest = std::str::from_utf8(key).ok()?.strip_prefix(ROOT)?;
    rest.match_indices('/').take(2).find_map(|(at, _)| lookup(&rest[..at]))
}

/// `namespace/name` or `name`.
fn object_key(text: &str) -> Option<ObjectKey> {
    let key = match text.split_once('/') {
        Some((namespace, name)) => ObjectKey::new(namespace, name),
        None => ObjectKey::cluster(text),
    };
    let whole = !key.name.is_empty() && !key.name.contains('/') && (!key.namespace.is_empty() || !text.contains('/'));
    whole.then_some(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_upstreams_and_read_back() {
        let pod = ObjectKey::new("default", "web-0");
        let node = ObjectKey::cluster("n1");
        assert_eq!(object("pods", &pod), "/registry/pods/default/web-0");
        assert_eq!(object("minions", &node), "/registry/minions/n1");
        assert_eq!(parse("pods", &object("pods", &pod)), Some(pod));
        assert_eq!(parse("minions", &object("minions", &node)), Some(node));
        assert_eq!(namespace("services/specs", "kube-system"), "/registry/services/specs/kube-system/");
        assert_eq!(namespace("pods", ""), "/registry/pods/");
    }

    #[test]
    fn leases_of_servers_are_short_and_name_their_addresses() {
        for address in ["192.0.2.1", "2001:db8::1"] {
            let address = address.parse().expect("an address");
            let key = server_lease(address);
            assert_eq!(leasing_server(&key), Some(address));
            assert_eq!(time_to_live(&key, EVENT_TTL), Some(Duration::from_secs(15)));
            assert!(key.starts_with(&server_leases()));
        }
        assert_eq!(leasing_server(b"/registry/pods/default/192.0.2.1"), None);
    }

    #[test]
    fn events_live_an_hour_and_everything_else_for_ever() {
        assert_eq!(time_to_live(b"/registry/events/default/a", EVENT_TTL), Some(Duration::from_secs(3600)));
        assert_eq!(time_to_live(b"/registry/events/default/a", Duration::from_secs(7)), Some(Duration::from_secs(7)));
        for key in ["/registry/eventsx/a", "/registry/pods/events/a", "/other/events/a"] {
            assert_eq!(time_to_live(key.as_bytes(), EVENT_TTL), None, "{key}");
        }
    }

    #[test]
    fn keys_of_other_resources_and_broken_keys_do_not_parse() {
        for key in [
            "/registry/podsandmore/default/x",
            "/registry/pods/",
            "/registry/pods/a/",
            "/registry/pods/a/b/c",
            "/other/pods/a/b",
            "/registry/pods//b",
        ] {
            assert_eq!(parse("pods", key.as_bytes()), None, "{key}");
        }
    }

    #[test]
    fn the_resource_of_a_key_is_found_by_its_prefix() {
        let known = |prefix: &str| ["pods", "services/specs", "example.com/widgets"].contains(&prefix).then(|| prefix.to_owned());
        assert_eq!(locate(b"/registry/pods/ns/a", known), Some(("pods".into(), ObjectKey::new("ns", "a"))));
        assert_eq!(locate(b"/registry/services/specs/ns/a", known), Some(("services/specs".into(), ObjectKey::new("ns", "a"))));
        assert_eq!(locate(b"/registry/example.com/widgets/w", known), Some(("example.com/widgets".into(), ObjectKey::cluster("w"))));
        assert_eq!(locate(b"/registry/unknown/ns/a", known), None);
    }
}
