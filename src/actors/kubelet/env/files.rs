//! Variables out of files that containers leave in their pod's volumes (KEP-3721). The files are the pod's: whatever is in them, or in their
//! place, is read no further than is allowed.

use std::{
    collections::BTreeMap,
    io::{self, Read},
    path::Path,
};

use k8s_openapi::api::core::v1::{Container, FileKeySelector, Volume};

use crate::{
    files::{Directory, blocking},
    kubelet::volumes::{self, PodPaths},
};

/// The bytes of one file.
const MOST: u64 = 1 << 20;
/// The bytes of a line, as upstream's reader has it.
const MOST_OF_A_LINE: usize = 64 << 10;

/// The contents of files, or why they cannot be read, by volume and path.
pub type Files = BTreeMap<(String, String), Result<String, String>>;

/// Reads the files that a container's variables name.
pub async fn read(paths: &PodPaths, all: &[Volume], container: &Container) -> Files {
    let named = container.env.iter().flatten().filter_map(|variable| variable.value_from.as_ref()?.file_key_ref.as_ref());
    let wanted: BTreeMap<_, _> = named
        .map(|reference| {
            let volume = all.iter().find(|volume| volume.name == reference.volume_name);
            (place(reference), volume.and_then(|volume| volumes::host_path(paths, volume)))
        })
        .collect();
    if wanted.is_empty() {
        return Files::new();
    }
    let one = |((volume, path), directory): ((String, String), Option<std::path::PathBuf>)| {
        let content = match directory {
            Some(directory) => content(&directory, &path).map_err(|error| error.to_string()),
            None => Err(format!("there is no volume {volume:?}")),
        };
        ((volume, path), content)
    };
    blocking(move || wanted.into_iter().map(one).collect()).await
}

fn place(reference: &FileKeySelector) -> (String, String) {
    (reference.volume_name.clone(), reference.path.clone())
}

/// A link counts as long as it stays in the volume; a pipe or a device is no file.
fn content(volume: &Path, path: &str) -> io::Result<String> {
    // As upstream joins them: what is absolute starts at the volume.
    let file = Directory::open(volume)?.read_linked(Path::new(path.trim_start_matches('/')))?;
    let mut bytes = Vec::new();
    file.take(MOST + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MOST {
        return Err(io::Error::new(io::ErrorKind::InvalidData, format!("it is larger than {MOST} bytes")));
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The value of a reference; `None` where it is missing and may be.
///
/// # Errors
/// Upstream's words for a file that cannot be read as variables, and for a variable that is not in it.
pub fn value(files: &Files, reference: &FileKeySelector) -> Result<Option<String>, String> {
    let found = match files.get(&place(reference)) {
        Some(Ok(text)) => find(text, &reference.key),
        Some(Err(why)) => Err(why.clone()),
        None => Err("it was not read".to_owned()),
    };
    match found.map_err(|why| format!("couldn't parse env file: {why}"))? {
        Some(value) if !value.is_empty() => Ok(Some(value)),
        _ if reference.optional == Some(true) => Ok(None),
        _ => Err(format!("environment variable key {:?} not found in file {:?}", reference.key, reference.path)),
    }
}

/// A variable of a file of lines `NAME='value'`: what stands between the quotes, over several lines too, counts as it is; comments and empty lines
/// are passed over. Nothing is read after the one that is looked for.
fn find(text: &str, key: &str) -> Result<Option<String>, String> {
    let invalid = |line: usize, why: &str| Err(format!("invalid environment variable format at line {line}: {why}"));
    let mut lines = text.lines().zip(1..);
    while let Some((line, number)) = lines.next() {
        if line.len() > MOST_OF_A_LINE {
            return invalid(number, "the line is too long");
        }
        let line = line.trim_start_matches([' ', '\t']);
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let Some((name, value)) = line.split_once('=') else { return invalid(number, "missing '='") };
        match name.trim_end_matches([' ', '\t']) {
            "" => return invalid(number, "empty variable name"),
            trimmed if trimmed != name => return invalid(number, "whitespace before '=' is not allowed"),
            _ => {}
        }
        if value.starts_with([' ', '\t']) {
            // What follows is no part of the value, as in a shell.
            if name == key {
                return Ok(None);
            }
            continue;
        }
        let Some(mut rest) = value.strip_prefix('\'') else { return invalid(number, "value must be enclosed in single quotes") };
        let mut last = number;
        let mut found = String::new();
        let after = loop {
            if let Some((inside, after)) = rest.split_once('\'') {
                found.push_str(inside);
                break after;
            }
            found.push_str(rest);
            found.push('\n');
            let Some((next, number)) = lines.next() else {
                return Err(format!("invalid environment variable format starting at line {number}: unclosed single quote"));
            };
            (rest, last) = (next, number);
        };
        let after = after.trim_start_matches([' ', '\t']);
        if !after.is_empty() && !after.starts_with('#') {
            return invalid(last, "unexpected content after closing quote");
        }
        if name == key {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# made by init\n\n  A='1'  # one\nB='two\n  lines'\nEMPTY= 'x'\nC='it # stays'\nbroken\nLATE='x'\n";

    #[test]
    fn variables_are_found_as_upstream_reads_them() {
        let found = |key: &str| find(TEXT, key).map(Option::unwrap_or_default);
        assert_eq!(found("A"), Ok("1".into()));
        assert_eq!(found("B"), Ok("two\n  lines".into()));
        assert_eq!(found("EMPTY"), Ok(String::new()));
        assert_eq!(found("C"), Ok("it # stays".into()), "what comes later is not read");
        assert_eq!(found("LATE"), Err("invalid environment variable format at line 8: missing '='".into()));
        for (text, why) in [
            ("A =''", "at line 1: whitespace before '=' is not allowed"),
            ("='x'", "at line 1: empty variable name"),
            ("A=x", "at line 1: value must be enclosed in single quotes"),
            ("A='x' y", "at line 1: unexpected content after closing quote"),
            ("\nA='x\ny", "starting at line 2: unclosed single quote"),
        ] {
            assert_eq!(find(text, "A"), Err(format!("invalid environment variable format {why}")), "{text}");
        }
    }

    #[tokio::test]
    async fn a_file_of_the_pods_is_read_and_nothing_else() {
        let root = tempfile::tempdir().expect("a directory");
        let paths = PodPaths::new(root.path(), "uid");
        let volume: Volume = serde_json::from_value(serde_json::json!({"name": "v", "emptyDir": {}})).expect("a volume");
        let directory = volumes::host_path(&paths, &volume).expect("has a place");
        std::fs::create_dir_all(&directory).expect("makes it");
        std::fs::write(directory.join("env"), "A='1'\n").expect("writes");
        std::fs::write(root.path().join("secret"), "A='secret'\n").expect("writes");
        std::os::unix::fs::symlink("env", directory.join("inside")).expect("links");
        std::os::unix::fs::symlink(root.path().join("secret"), directory.join("outside")).expect("links");
        nix::unistd::mkfifo(&directory.join("pipe"), nix::sys::stat::Mode::S_IRWXU).expect("makes a pipe");
        std::fs::write(directory.join("large"), vec![b'#'; 2 << 20]).expect("writes");
        let all = [volume];
        let ask = async |volume: &str, path: &str, optional: bool| {
            let reference = FileKeySelector { key: "A".into(), optional: Some(optional), path: path.into(), volume_name: volume.into() };
            let env = serde_json::json!([{"name": "X", "valueFrom": {"fileKeyRef": reference}}]);
            let container: Container = serde_json::from_value(serde_json::json!({"name": "c", "env": env})).expect("a container");
            value(&read(&paths, &all, &container).await, &reference)
        };
        assert_eq!(ask("v", "env", false).await, Ok(Some("1".into())));
        assert_eq!(ask("v", "/inside", false).await, Ok(Some("1".into())));
        for (volume, path) in [("v", "outside"), ("v", "pipe"), ("v", "large"), ("v", "nothing"), ("w", "env")] {
            let refused = ask(volume, path, true).await.expect_err("it is refused");
            assert!(refused.starts_with("couldn't parse env file: "), "{path}: {refused}");
        }
        std::fs::write(directory.join("env"), "B='1'\n").expect("writes");
        assert_eq!(ask("v", "env", true).await, Ok(None));
        assert_eq!(ask("v", "env", false).await, Err("environment variable key \"A\" not found in file \"env\"".into()));
    }
}
