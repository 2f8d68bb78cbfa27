//! Bundles of trust anchors: a name that tells the signer, and certificates of authorities in PEM, none of them twice.

use std::collections::HashMap;

use x509_parser::prelude::{FromDer, X509Certificate};

use super::{IMMUTABLE, certificates::signer_name, invalid_each};
use crate::{
    certificates::{PemBlock, pem_blocks},
    meta::{Object, names},
    status::FieldError,
};

/// Bytes of all anchors of a bundle.
const LONGEST: usize = 1 << 20;
const ANCHORS: &str = "spec.trustBundle";
const SIGNER: &str = "spec.signerName";

/// What a new bundle has wrong beside its metadata.
pub fn create(bundle: &Object) -> Vec<FieldError> {
    let mut errors = named(bundle);
    anchors(&mut errors, bundle.str(&["spec", "trustBundle"]));
    errors
}

/// What an update has wrong. Anchors that stay as they are are not read again.
pub fn update(new: &Object, old: &Object) -> Vec<FieldError> {
    let mut errors = named(new);
    let (signer, anchors_of) = (|bundle: &Object| bundle.str(&["spec", "signerName"]).to_owned(), ["spec", "trustBundle"]);
    if new.str(&anchors_of) != old.str(&anchors_of) {
        anchors(&mut errors, new.str(&anchors_of));
    }
    if signer(new) != signer(old) {
        errors.push(FieldError::invalid(SIGNER, signer(new), IMMUTABLE));
    }
    errors
}

/// The name, which begins with the signer's where there is one, and the signer's own.
fn named(bundle: &Object) -> Vec<FieldError> {
    let (mut errors, signer) = (Vec::new(), bundle.str(&["spec", "signerName"]));
    let generate = bundle.str(&["metadata", "generateName"]);
    if !generate.is_empty() {
        invalid_each(&mut errors, "metadata.generateName", generate, name_faults(signer, generate, true));
    }
    if !bundle.name().is_empty() {
        invalid_each(&mut errors, "metadata.name", bundle.name(), name_faults(signer, bundle.name(), false));
    }
    if !signer.is_empty() {
        signer_name(&mut errors, SIGNER, signer);
    }
    errors
}

fn name_faults(signer: &str, name: &str, prefix: bool) -> Vec<String> {
    if signer.is_empty() {
        return match name.contains(':') {
            true => vec!["ClusterTrustBundle without signer name must not have \":\" in its name".into()],
            false => names::subdomain(name, prefix),
        };
    }
    let beginning = format!("{}:", signer.replace('/', ":"));
    match name.strip_prefix(&beginning) {
        Some(own) => names::subdomain(own, prefix),
        None => vec![format!("ClusterTrustBundle for signerName {signer} must be named with prefix {beginning}")],
    }
}

fn anchors(errors: &mut Vec<FieldError>, text: &str) {
    if text.len() > LONGEST {
        return errors.push(FieldError::too_long(ANCHORS, LONGEST));
    }
    let fault = |why: String| FieldError::invalid(ANCHORS, "<value omitted>", why);
    let blocks = pem_blocks(text);
    let malformed: Vec<FieldError> = blocks.iter().enumerate().filter_map(|(at, block)| block_fault(at, block)).map(fault).collect();
    if !malformed.is_empty() {
        return errors.extend(malformed);
    }
    if blocks.is_empty() {
        errors.push(fault("at least one trust anchor must be provided".into()));
    }
    errors.extend(repeated(&blocks).into_iter().map(|places| fault(format!("duplicate trust anchor (indices [{places}])"))));
}

fn block_fault(at: usize, block: &PemBlock) -> Option<String> {
    if block.label != "CERTIFICATE" {
        return Some(format!("entry {at} has bad block type: {}", block.label));
    }
    if block.has_headers {
        return Some(format!("entry {at} has PEM block headers"));
    }
    match X509Certificate::from_der(&block.contents) {
        Ok(([], certificate)) if certificate.is_ca() => None,
        Ok(([], _)) => Some(format!("entry {at} does not have the CA bit set")),
        _ => Some(format!("entry {at} does not parse as X.509")),
    }
}

/// Where anchors stand that stand in several places: `0 2`.
fn repeated(blocks: &[PemBlock]) -> Vec<String> {
    let mut places: HashMap<&[u8], Vec<usize>> = HashMap::new();
    for (at, block) in blocks.iter().enumerate() {
        places.entry(&block.contents).or_default().push(at);
    }
    let mut several: Vec<Vec<usize>> = places.into_values().filter(|places| places.len() > 1).collect();
    several.sort_unstable();
    several.iter().map(|places| places.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")).collect()
}

#[cfg(test)]
mod tests {
    use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair};
    use serde_json::json;

    use super::*;

    fn certificate(is_ca: bool) -> String {
        let mut params = CertificateParams::default();
        if is_ca {
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        }
        let key = KeyPair::generate().expect("a key");
        params.self_signed(&key).expect("a certificate").pem()
    }

    fn bundle(name: &str, signer: &str, anchors: &str) -> Object {
        let value = json!({"metadata": {"name": name}, "spec": {"signerName": signer, "trustBundle": anchors}});
        Object::from_value(value).expect("an object")
    }

    fn messages(errors: &[FieldError]) -> Vec<String> {
        errors.iter().map(ToString::to_string).collect()
    }

    fn of_anchors(anchors: &str) -> Vec<String> {
        messages(&create(&bundle("b", "", anchors)))
    }

    #[test]
    fn a_name_begins_with_the_signer_where_there_is_one_and_has_no_colon_elsewhere() {
        let anchors = certificate(true);
        let said = |name: &str, signer: &str| messages(&create(&bundle(name, signer, &anchors)));
        assert!(said("b.c", "").is_empty() && said("example.com:s:v1", "example.com/s").is_empty());
        let without = "ClusterTrustBundle without signer name must not have \":\" in its name";
        assert_eq!(said("a:b", ""), [format!("metadata.name: Invalid value: \"a:b\": {without}")]);
        let prefix = "ClusterTrustBundle for signerName example.com/s must be named with prefix example.com:s:";
        assert_eq!(said("v1", "example.com/s"), [format!("metadata.name: Invalid value: \"v1\": {prefix}")]);
        let own = said("example.com:s:V1", "example.com/s");
        assert!(own.len() == 1 && own[0].contains("a lowercase RFC 1123 subdomain"), "{own:?}");
        let odd = said("s:v1", "s");
        assert_eq!(odd.len(), 1, "{odd:?}");
        assert!(odd[0].starts_with("spec.signerName: Invalid value: \"s\": must be a fully qualified domain and path"), "{odd:?}");
        let mut generated = bundle("example.com:s:x12345", "example.com/s", &anchors);
        generated.set(&["metadata", "generateName"], "example.com:s:x-");
        assert_eq!(messages(&create(&generated)), Vec::<String>::new());
        generated.set(&["metadata", "generateName"], "x-");
        assert_eq!(messages(&create(&generated)), [format!("metadata.generateName: Invalid value: \"x-\": {prefix}")]);
    }

    #[test]
    fn anchors_are_certificates_of_authorities_and_each_stands_once() {
        let (one, two) = (certificate(true), certificate(true));
        assert_eq!(of_anchors(&format!("# one\n{one}# two\n{two}")), Vec::<String>::new());
        let fault = |why: &str| format!("spec.trustBundle: Invalid value: \"<value omitted>\": {why}");
        for nothing in ["", "no certificate"] {
            assert_eq!(of_anchors(nothing), [fault("at least one trust anchor must be provided")]);
        }
        let twice = format!("{one}{two}{two}{one}{two}");
        assert_eq!(of_anchors(&twice), [fault("duplicate trust anchor (indices [0 3])"), fault("duplicate trust anchor (indices [1 2 4])")]);
        let key = "-----BEGIN PRIVATE KEY-----\nAQID\n-----END PRIVATE KEY-----\n";
        let junk = "-----BEGIN CERTIFICATE-----\nAQID\n-----END CERTIFICATE-----\n";
        let headed = one.replace("-----BEGIN CERTIFICATE-----\n", "-----BEGIN CERTIFICATE-----\nA: b\n\n");
        assert_eq!(
            of_anchors(&format!("{one}{key}{junk}{headed}{}", certificate(false))),
            [
                fault("entry 1 has bad block type: PRIVATE KEY"),
                fault("entry 2 does not parse as X.509"),
                fault("entry 3 has PEM block headers"),
                fault("entry 4 does not have the CA bit set"),
            ]
        );
        assert_eq!(of_anchors(&"a".repeat(LONGEST + 1)), ["spec.trustBundle: Too long: may not be more than 1048576 bytes"]);
    }

    #[test]
    fn the_signer_stays_and_only_new_anchors_are_read() {
        let anchors = certificate(true);
        let old = bundle("b", "", "older rules took this");
        let mut new = old.clone();
        new.set(&["metadata", "labels"], json!({"a": "b"}));
        assert_eq!(messages(&update(&new, &old)), Vec::<String>::new());
        new.set(&["spec", "trustBundle"], "nor this");
        assert_eq!(update(&new, &old).len(), 1);
        let (old, new) = (bundle("example.com:s:a", "example.com/s", &anchors), bundle("example.com:s:a", "example.com:s/a", &anchors));
        let said = messages(&update(&new, &old));
        assert!(said.contains(&"spec.signerName: Invalid value: \"example.com:s/a\": field is immutable".to_owned()), "{said:?}");
    }
}
