//! Files of a volume that stand in each other's place: two at one path, or one where another's directory is.
//!
//! Paths are looked up by their parts, so that many of them cost what their text does.

use std::collections::HashMap;

use super::full;
use crate::resources::validation::Field;

/// What is said about the files of volumes that are made of the API's objects.
pub fn all(warnings: &mut Vec<String>, volumes: &Field<'_>) {
    for volume in volumes.each() {
        let mut named = |kind: &str, source: &Field<'_>, name: &str| {
            let described = if name.is_empty() { kind.to_owned() } else { format!("{kind} {:?}", source.child(name).text()) };
            let files = source.child("items");
            let files: Vec<File<'_>> = files.items().iter().map(|item| File::new(text(item, "path"), "")).collect();
            tell(warnings, volume.child("name").text(), &described, &files);
        };
        named("ConfigMap", &volume.child("configMap"), "name");
        named("Secret", &volume.child("secret"), "secretName");
        named("DownwardAPI", &volume.child("downwardAPI"), "");
        projected(warnings, &volume);
    }
}

fn projected(warnings: &mut Vec<String>, volume: &Field<'_>) {
    let name = volume.child("name");
    let sources = volume.child("projected");
    let sources = sources.child("sources");
    let mut files = Vec::new();
    for source in sources.each() {
        if source.value.as_object().is_none_or(|kinds| kinds.values().all(serde_json::Value::is_null)) {
            warnings.push(format!("volume {:?} (Projected) has no sources provided", name.text()));
            continue;
        }
        files.extend(projected_files(&source));
    }
    tell(warnings, name.text(), "Projected", &files);
}

/// The files of one source, of the first kind that it has.
fn projected_files<'a>(source: &Field<'a>) -> Vec<File<'a>> {
    let at = |name: &str| source.value.get(name).filter(|value| !value.is_null());
    let items = |value: &'a serde_json::Value, described: &str| -> Option<Vec<File<'a>>> {
        let items = value.get("items")?.as_array()?;
        Some(items.iter().map(|item| File::new(text(item, "path"), described)).collect())
    };
    let of_object = |name: &str, kind: &str| at(name).and_then(|value| items(value, &format!("{kind} {:?}", text(value, "name"))));
    if let Some(files) = of_object("configMap", "ConfigMap").or_else(|| of_object("secret", "Secret")) {
        return files;
    }
    if let Some(files) = at("downwardAPI").and_then(|value| items(value, "DownwardAPI")) {
        return files;
    }
    if let Some(token) = at("serviceAccountToken") {
        return vec![File::new(text(token, "path"), "ServiceAccountToken")];
    }
    if let Some(bundle) = at("clusterTrustBundle") {
        let name = if bundle.get("name").is_some_and(serde_json::Value::is_string) { "name" } else { "signerName" };
        return vec![File::new(text(bundle, "path"), &format!("ClusterTrustBundle {:?}", text(bundle, name)))];
    }
    let certificate = at("podCertificate").unwrap_or(&serde_json::Value::Null);
    let parts = [
        ("certificateChainPath", "PodCertificate chain"),
        ("keyPath", "PodCertificate key"),
        ("credentialBundlePath", "PodCertificate credential bundle"),
    ];
    parts.iter().filter(|(part, _)| !text(certificate, part).is_empty()).map(|(part, what)| File::new(text(certificate, part), what)).collect()
}

fn text<'a>(value: &'a serde_json::Value, name: &str) -> &'a str {
    value.get(name).and_then(serde_json::Value::as_str).unwrap_or_default()
}

/// A file of a volume.
struct File<'a> {
    /// Without a slash at the end.
    path: &'a str,
    /// What it comes from, where a volume has several sources.
    source: String,
}

impl<'a> File<'a> {
    fn new(path: &'a str, source: &str) -> Self {
        File { path: path.trim_end_matches('/'), source: source.to_owned() }
    }

    fn shown(&self) -> String {
        if self.source.is_empty() { format!("{:?}", self.path) } else { format!("{:?} ({})", self.path, self.source) }
    }
}

/// Tells of each file which earlier ones it gets in the way of.
fn tell(warnings: &mut Vec<String>, volume: &str, described: &str, files: &[File<'_>]) {
    let mut tree = Tree::default();
    for (at, file) in files.iter().enumerate().filter(|(_, file)| !file.path.is_empty()) {
        let mut met = tree.insert(file.path, at);
        met.sort_unstable();
        for other in met {
            if full(warnings) {
                return;
            }
            warnings.push(format!("volume {volume:?} ({described}): overlapping paths: {} with {}", file.shown(), files[other].shown()));
        }
    }
}

/// Paths by their parts.
struct Tree<'a> {
    places: Vec<Place<'a>>,
}

#[derive(Default)]
struct Place<'a> {
    below: HashMap<&'a str, usize>,
    /// The files that stand here.
    files: Vec<usize>,
}

impl Default for Tree<'_> {
    fn default() -> Self {
        Tree { places: vec![Place::default()] }
    }
}

impl<'a> Tree<'a> {
    /// Adds a file; gives the files above, at and below its path, as many as anybody is told of.
    fn insert(&mut self, path: &'a str, file: usize) -> Vec<usize> {
        let (mut at, mut met) = (0, Vec::new());
        for part in path.split('/') {
            met.extend(&self.places[at].files);
            let next = self.places.len();
            at = *self.places[at].below.entry(part).or_insert(next);
            if at == next {
                self.places.push(Place::default());
            }
        }
        let mut left = vec![at];
        while let Some(place) = left.pop().filter(|_| met.len() < super::MOST) {
            met.extend(&self.places[place].files);
            left.extend(self.places[place].below.values());
        }
        self.places[at].files.push(file);
        met
    }
}
