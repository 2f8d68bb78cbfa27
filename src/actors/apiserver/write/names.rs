//! Names and namespaces: what the URL says and what the body says must agree; generated names.

use rand::Rng;
use troupe_api::{meta::Object, service::Target, status::Status};

/// Upstream's alphabet: no vowels, so that no words come out, and no look-alikes.
const ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
const SUFFIX: usize = 5;
const MAX_BASE: usize = 63 - SUFFIX;
/// What is said to a body in another namespace than the URL.
const OTHER_NAMESPACE: &str = "the namespace of the provided object does not match the namespace sent on the request";

/// `base` with five characters from `random` behind it, at most 63 long.
pub fn generate(base: &str, random: &mut impl Rng) -> String {
    let mut end = base.len().min(MAX_BASE);
    while !base.is_char_boundary(end) {
        end -= 1;
    }
    let suffix = (0..SUFFIX).map(|_| char::from(ALPHABET[random.random_range(0..ALPHABET.len())]));
    base[..end].chars().chain(suffix).collect()
}

/// Sets the object's namespace from the URL, or refuses another one.
pub fn settle_namespace(target: &Target, object: &mut Object) -> Result<(), Status> {
    if !target.resource.namespaced || target.namespace.is_empty() {
        object.remove(&["metadata", "namespace"]);
        return Ok(());
    }
    if object.namespace().is_empty() {
        object.set(&["metadata", "namespace"], &*target.namespace);
        return Ok(());
    }
    if object.namespace() != &*target.namespace {
        return Err(Status::bad_request(OTHER_NAMESPACE));
    }
    Ok(())
}

/// 400 unless the body's name (and namespace, if it has one) is the URL's.
pub fn check_update(target: &Target, object: &Object) -> Result<(), Status> {
    let (name, wanted) = (object.name(), &*target.name);
    if name.is_empty() {
        let why = "name must be provided";
        return Err(Status::bad_request(format!("the name of the object ({wanted} based on URL) was undeterminable: {why}")));
    }
    if name != wanted {
        return Err(Status::bad_request(format!("the name of the object ({name}) does not match the name on the URL ({wanted})")));
    }
    let (namespace, wanted) = (object.namespace(), &*target.namespace);
    if !wanted.is_empty() && !namespace.is_empty() && namespace != wanted {
        return Err(Status::bad_request(OTHER_NAMESPACE));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generated_names_stay_within_63_characters() {
        let name = generate("web-", &mut rand::rng());
        assert_eq!(name.len(), 9);
        assert!(name.starts_with("web-"));
        assert_eq!(generate(&"x".repeat(100), &mut rand::rng()).len(), 63);
    }
}
