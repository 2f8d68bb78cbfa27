//! Credentials by the places that they are for, and which of them are for an image (upstream's `BasicDockerKeyring`). Pure.

use std::collections::BTreeMap;

use super::{matching::Place, model::Credential};

/// Docker Hub, as configurations of clients call it.
const DEFAULT_REGISTRY: &str = "index.docker.io";

/// See the module.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Keyring {
    places: BTreeMap<String, Vec<Credential>>,
}

impl Keyring {
    /// Adds what is for a place: a host or the beginning of a path in it, with a scheme or without.
    pub fn add(&mut self, place: &str, credential: Credential) {
        let bare = place.strip_prefix("https://").or_else(|| place.strip_prefix("http://")).unwrap_or(place);
        let (host, path) = bare.split_at(bare.find('/').unwrap_or(bare.len()));
        // The versions of the registry's protocol stand for the whole host.
        let path = if path.starts_with("/v1/") || path.starts_with("/v2/") { &path[3..] } else { path };
        let key = if path == "/" { host.to_owned() } else { format!("{host}{path}") };
        self.places.entry(key).or_default().push(credential);
    }

    /// All that are for a repository, those of more exact places first.
    pub fn lookup(&self, repository: &str) -> Vec<Credential> {
        let Ok(image) = Place::parse(repository) else { return Vec::new() };
        let is_there = |place: &str| Place::parse(place).is_ok_and(|place| place.has(&image));
        let found: Vec<Credential> = self.places.iter().rev().filter(|(place, _)| is_there(place)).flat_map(|(_, all)| all.clone()).collect();
        if !found.is_empty() || !repository.starts_with("docker.io/") {
            return found;
        }
        self.places.get(DEFAULT_REGISTRY).cloned().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn users(keyring: &Keyring, repository: &str) -> Vec<String> {
        keyring.lookup(repository).into_iter().map(|credential| credential.auth.username).collect()
    }

    #[test]
    fn more_exact_places_come_first_and_schemes_and_versions_do_not_matter() {
        let mut keyring = Keyring::default();
        for (place, user) in [
            ("registry.example", "host"),
            ("https://registry.example/team/", "team"),
            ("http://other.example/v1/", "other"),
            ("registry.example", "two"),
        ] {
            keyring.add(place, Credential::basic(user, "p", None));
        }
        assert_eq!(users(&keyring, "registry.example/team/a"), ["team", "host", "two"]);
        assert_eq!(users(&keyring, "registry.example/a"), ["host", "two"]);
        assert_eq!(users(&keyring, "other.example/a"), ["other"]);
        assert_eq!(users(&keyring, "third.example/a"), [""; 0]);
    }

    #[test]
    fn docker_hub_has_two_names() {
        let mut keyring = Keyring::default();
        keyring.add("https://index.docker.io/v1/", Credential::basic("hub", "p", None));
        assert_eq!(users(&keyring, "docker.io/library/busybox"), ["hub"]);
        assert_eq!(users(&keyring, "quay.io/a"), [""; 0]);
        keyring.add("docker.io", Credential::basic("exact", "p", None));
        assert_eq!(users(&keyring, "docker.io/library/busybox"), ["exact"]);
    }
}
