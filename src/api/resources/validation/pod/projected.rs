//! Projected volumes: several sources in one directory.

use std::collections::BTreeSet;

use super::{
    super::{Field, certificates, labels, path, pod_certificates},
    references, volumes,
};
use crate::{meta::names, status::FieldError};

const KEY_TYPES: [&str; 6] = ["RSA3072", "RSA4096", "ECDSAP256", "ECDSAP384", "ECDSAP521", "ED25519"];
const SHORTEST_TOKEN: i64 = 600;
const LONGEST_TOKEN: i64 = 1 << 32;

/// Files of a volume, none of them twice.
struct Files<'a> {
    volume: &'a Field<'a>,
    seen: BTreeSet<String>,
}

impl Files<'_> {
    fn add(&mut self, errors: &mut Vec<FieldError>, path: &str, shown: &str) {
        if !self.seen.insert(path.to_owned()) {
            errors.push(self.volume.invalid_as(shown, "conflicting duplicate paths"));
        }
    }
}

/// Checks a projected volume.
pub fn projected(errors: &mut Vec<FieldError>, volume: &Field<'_>) {
    path::mode(errors, &volume.child("defaultMode"));
    let mut files = Files { volume, seen: BTreeSet::new() };
    for source in volume.child("sources").each() {
        let mut count = 0;
        for kind in ["secret", "configMap", "downwardAPI", "serviceAccountToken", "clusterTrustBundle", "podCertificate"] {
            let projection = source.child(kind);
            if !projection.is_set() {
                continue;
            }
            count += 1;
            match kind {
                "downwardAPI" => downward(errors, &projection, &mut files),
                "serviceAccountToken" => token(errors, volume, &projection),
                "clusterTrustBundle" => trust_bundle(errors, &projection, &mut files),
                "podCertificate" => certificate(errors, &projection, &mut files),
                _ => keys(errors, &projection, &mut files),
            }
        }
        if count > 1 {
            errors.push(source.forbidden("may not specify more than 1 volume type per source"));
        }
    }
}

fn keys(errors: &mut Vec<FieldError>, projection: &Field<'_>, files: &mut Files<'_>) {
    let name = projection.child("name");
    name.check_required(errors);
    for item in projection.child("items").each() {
        volumes::key_to_path(errors, &item);
        let path = item.child("path").text();
        if !path.is_empty() {
            files.add(errors, path, name.text());
        }
    }
}

fn downward(errors: &mut Vec<FieldError>, projection: &Field<'_>, files: &mut Files<'_>) {
    for file in projection.child("items").each() {
        references::downward_file(errors, projection, &file);
        let path = file.child("path").text();
        if !path.is_empty() {
            files.add(errors, path, path);
        }
    }
}

/// As upstream, errors about the path name the volume.
fn token(errors: &mut Vec<FieldError>, volume: &Field<'_>, token: &Field<'_>) {
    let seconds = token.child("expirationSeconds");
    if seconds.int() < SHORTEST_TOKEN {
        errors.push(seconds.invalid_as(seconds.int(), "may not specify a duration less than 10 minutes"));
    }
    if seconds.int() > LONGEST_TOKEN {
        errors.push(seconds.invalid("may not specify a duration larger than 2^32 seconds"));
    }
    let file = volume.child("path");
    let file = file.with(token.value.get("path").unwrap_or(&serde_json::Value::Null));
    if file.text().is_empty() {
        errors.push(file.required(""));
    } else {
        path::local(errors, &file);
    }
}

fn trust_bundle(errors: &mut Vec<FieldError>, bundle: &Field<'_>, files: &mut Files<'_>) {
    let (name, signer, selector) = (bundle.child("name"), bundle.child("signerName"), bundle.child("labelSelector"));
    match (name.is_set(), signer.is_set()) {
        (true, true) => errors.push(bundle.invalid("only one of name and signerName may be used")),
        (true, false) => {
            if name.text().is_empty() {
                errors.push(name.required("must be a valid object name"));
            }
            let own = name.text().rsplit_once(':').map_or(name.text(), |(_, own)| own);
            let messages = names::subdomain(own, false);
            name.judge(errors, messages.into_iter().map(|why| format!("not a valid clustertrustbundlename: {why}")).collect());
            if selector.is_set() {
                errors.push(selector.invalid("labelSelector must be unset if name is specified"));
            }
        }
        (false, true) => {
            certificates::signer_name(errors, &signer.to_string(), signer.text());
            labels::selector(errors, &selector.to_string(), selector.value);
        }
        (false, false) => errors.push(bundle.required("either name or signerName must be specified")),
    }
    let file = bundle.child("path");
    file.check_required(errors);
    path::local(errors, &file);
    files.add(errors, file.text(), file.text());
}

fn certificate(errors: &mut Vec<FieldError>, certificate: &Field<'_>, files: &mut Files<'_>) {
    let signer = certificate.child("signerName");
    certificates::signer_name(errors, &signer.to_string(), signer.text());
    pod_certificates::user_annotations(errors, &certificate.child("userAnnotations"));
    let kind = certificate.child("keyType");
    if !KEY_TYPES.contains(&kind.text()) {
        errors.push(kind.with(&kind.text().into()).not_supported(&KEY_TYPES));
    }
    let seconds = certificate.child("maxExpirationSeconds");
    if let Some(number) = seconds.number() {
        let most = pod_certificates::longest(signer.text());
        if number < pod_certificates::SHORTEST {
            errors.push(seconds.invalid("if provided, maxExpirationSeconds must be >= 3600"));
        }
        if number > most {
            errors.push(seconds.invalid(format!("if provided, maxExpirationSeconds must be <= {most}")));
        }
    }
    let mut paths = 0;
    for name in ["credentialBundlePath", "keyPath", "certificateChainPath"] {
        let file = certificate.child(name);
        if !file.text().is_empty() {
            paths += 1;
            path::local(errors, &file);
            files.add(errors, file.text(), file.text());
        }
    }
    if paths == 0 {
        errors.push(certificate.required("specify at least one of credentialBundlePath, keyPath, and certificateChainPath"));
    }
}
