//! `/logs/`: the machine's own logs, listed and read as upstream's file server does, and those of its services. No link leads out of
//! their directory.

mod journal;
mod query;

use std::{
    io::{self, Read},
    path::{Path, PathBuf},
};

use bytes::Bytes;
use hyper::{Response, header};
use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};
use tokio::sync::mpsc;

use self::query::LogQuery;
use crate::{
    files::{Directory, blocking},
    serving::{Body, document, streaming, text},
};

/// Where machines keep their logs.
const ROOT: &str = "/var/log";
const CHUNK: usize = 64 << 10;
/// What a name in a link cannot hold as it is.
const IN_LINKS: &AsciiSet = &CONTROLS.add(b' ').add(b'"').add(b'#').add(b'%').add(b'<').add(b'>').add(b'?').add(b'`').add(b':');

enum Found {
    Listing(String),
    /// A directory that was asked for as if it were a file.
    Directory,
    File(std::fs::File),
}

/// Answers for a path below `/logs/`, as it stands in the request, and for the request's parameters where they count.
pub async fn answer(path: &str, parameters: Option<&str>) -> Response<Body> {
    let root = Path::new(ROOT);
    match parameters {
        Some(parameters) => queried(root, journal::PROGRAM, path, parameters).await,
        None => serve(root, path).await,
    }
}

/// Answers a query; without one, as for the path.
async fn queried(root: &Path, program: &str, path: &str, parameters: &str) -> Response<Body> {
    let query = match LogQuery::parse(parameters) {
        Ok(query) => query,
        Err(why) => return text(400, why + "\n"),
    };
    if let Err(why) = query.check() {
        return text(406, why + "\n");
    }
    if !query.services.is_empty() || matches!(path, "journal" | "journal/") {
        return streaming(journal::read(program, root, query));
    }
    let Some(file) = query.files.first().cloned() else { return serve(root, path).await };
    let (below, wanted) = (root.to_owned(), file.clone());
    match blocking(move || Directory::open(&below)?.find(&path_of(&wanted))).await {
        Ok(_) => serve(root, &utf8_percent_encode(file.trim_start_matches('/'), IN_LINKS).to_string()).await,
        Err(error) => text(406, query.no_file(&error) + "\n"),
    }
}

fn path_of(wanted: &str) -> PathBuf {
    [Path::new("."), Path::new(wanted.trim_matches('/'))].iter().collect()
}

async fn serve(root: &Path, path: &str) -> Response<Body> {
    let Ok(decoded) = percent_decode_str(path).decode_utf8() else { return text(400, "invalid URL escape\n") };
    let (root, wanted) = (root.to_owned(), decoded.into_owned());
    match blocking(move || find(&root, &wanted)).await {
        Ok(Found::Listing(page)) => document(200, "text/html; charset=utf-8", page),
        Ok(Found::Directory) => {
            let mut response = text(301, "");
            let last = path.rsplit('/').next().unwrap_or_default();
            if let Ok(location) = format!("{last}/").parse() {
                response.headers_mut().insert(header::LOCATION, location);
            }
            response
        }
        Ok(Found::File(file)) => streaming(read(file)),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => text(403, "403 Forbidden\n"),
        Err(_) => text(404, "404 page not found\n"),
    }
}

fn find(root: &Path, wanted: &str) -> io::Result<Found> {
    let root = Directory::open(root)?;
    let below = path_of(wanted);
    match root.find_dir(&below) {
        Ok(directory) if wanted.is_empty() || wanted.ends_with('/') => Ok(Found::Listing(listing(&directory)?)),
        Ok(_) => Ok(Found::Directory),
        Err(_) => Ok(Found::File(root.read(&below)?)),
    }
}

fn listing(directory: &Directory) -> io::Result<String> {
    let mut names: Vec<String> =
        directory.entries()?.into_iter().map(|entry| entry.name.to_string_lossy().into_owned() + if entry.is_dir { "/" } else { "" }).collect();
    names.sort_unstable();
    let links = names.iter().map(|name| {
        let shown = name.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&#34;").replace('\'', "&#39;");
        format!("<a href=\"{}\">{shown}</a>\n", utf8_percent_encode(name, IN_LINKS))
    });
    Ok(format!("<!doctype html>\n<meta name=\"viewport\" content=\"width=device-width\">\n<pre>\n{}</pre>\n", links.collect::<String>()))
}

/// What the file holds now, as fast as it is taken.
fn read(file: std::fs::File) -> mpsc::Receiver<Bytes> {
    let (sender, receiver) = mpsc::channel(2);
    tokio::task::spawn_blocking(move || {
        let length = file.metadata().map_or(0, |metadata| metadata.len());
        let mut rest = file.take(length);
        let mut chunk = vec![0; CHUNK];
        while let Ok(count @ 1..) = rest.read(&mut chunk) {
            if sender.blocking_send(Bytes::copy_from_slice(&chunk[..count])).is_err() {
                return;
            }
        }
    });
    receiver
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    async fn get(root: &Path, path: &str) -> (u16, String) {
        body(serve(root, path).await).await
    }

    async fn body(response: Response<Body>) -> (u16, String) {
        let code = response.status().as_u16();
        let bytes = response.into_body().collect().await.expect("a body").to_bytes();
        (code, String::from_utf8_lossy(&bytes).into_owned())
    }

    #[tokio::test]
    async fn logs_are_listed_and_read_and_nothing_else_is() {
        let place = tempfile::tempdir().expect("a directory");
        let root = place.path().join("log");
        std::fs::create_dir_all(root.join("pods")).expect("makes");
        std::fs::write(root.join("syslog"), "line\n".repeat(50_000)).expect("writes");
        std::fs::write(root.join("<a b>"), "odd").expect("writes");
        std::fs::write(place.path().join("secret"), "no").expect("writes");
        std::os::unix::fs::symlink("../secret", root.join("out")).expect("links");
        let (code, page) = get(&root, "").await;
        assert_eq!(code, 200);
        assert!(page.contains("<a href=\"%3Ca%20b%3E\">&lt;a b&gt;</a>\n") && page.contains("<a href=\"pods/\">pods/</a>\n"), "{page}");
        assert_eq!(get(&root, "syslog").await, (200, "line\n".repeat(50_000)));
        assert_eq!(get(&root, "%3Ca%20b%3E").await, (200, "odd".into()));
        assert_eq!(get(&root, "pods").await.0, 301);
        assert_eq!(get(&root, "pods/").await.0, 200);
        for outside in ["out", "../secret", "%2e%2e/secret", "pods/../../secret", "missing"] {
            assert_eq!(get(&root, outside).await.0, 404, "{outside}");
        }
    }

    #[tokio::test]
    async fn logs_of_services_come_from_the_journal_or_their_files() {
        let place = tempfile::tempdir().expect("a directory");
        let root = place.path().join("log");
        std::fs::create_dir_all(root.join("nested")).expect("makes");
        std::fs::write(root.join("plain.log"), "of a file\n").expect("writes");
        std::fs::write(root.join("nested/nested.log"), "of a directory\n").expect("writes");
        std::fs::write(place.path().join("secret.log"), "no").expect("writes");
        let (script, program) = (place.path().join("script"), place.path().join("journal"));
        std::fs::write(&script, "#!/bin/sh\ncase $1 in --field) echo kubelet.service;; *) echo \"$*\"; echo odd >&2;; esac\n").expect("writes");
        // Another process copies it: what this one has open for writing while another test forks cannot be run.
        assert!(std::process::Command::new("cp").args([&script, &program]).status().expect("runs").success());
        std::fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("is a program");
        let program = program.to_str().expect("a path");
        let ask = async |path: &str, parameters: &str| body(queried(&root, program, path, parameters).await).await;
        let (code, said) = ask("", "query=kubelet&boot=0").await;
        assert!(code == 200 && said.contains("--utc --no-pager --unit=kubelet --boot 0 --output=short-precise\n"), "{said}");
        assert!(said.contains("odd\n"), "{said}");
        assert!(ask("journal", "").await.1.contains("--utc --no-pager --output=short-precise\n"));
        assert_eq!(ask("", "query=plain").await, (200, "of a file\n".into()));
        assert_eq!(ask("", "query=nested").await, (200, "of a directory\n".into()));
        assert_eq!(ask("", "query=missing").await, (200, "\nlog not found for missing\n".into()));
        assert!(ask("", "query=plain&boot=0").await.1.contains("query resolved to log files for [plain]"));
        assert_eq!(ask("", "query=/plain.log").await, (200, "of a file\n".into()));
        assert_eq!(ask("plain.log", "").await, (200, "of a file\n".into()));
        assert_eq!(ask("", "query").await.0, 400);
        for refused in ["query=/missing.log", "query=/../secret.log", "query=kubelet&boot=1"] {
            assert_eq!(ask("", refused).await.0, 406, "{refused}");
        }
        let without = body(queried(&root, "/nowhere/journalctl", "journal", "").await).await;
        assert_eq!(without, (200, "\nerror: journal output not available\n".into()));
    }
}
