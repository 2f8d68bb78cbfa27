//! `/logs/`: the machine's own logs, listed and read as upstream's file server does. No link leads out of their directory.

use std::{
    io::{self, Read},
    path::{Path, PathBuf},
};

use bytes::Bytes;
use hyper::{Response, header};
use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};
use tokio::sync::mpsc;

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

/// Answers for a path below `/logs/`, as it stands in the request.
pub async fn answer(path: &str) -> Response<Body> {
    serve(Path::new(ROOT), path).await
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
    let below: PathBuf = [Path::new("."), Path::new(wanted.trim_matches('/'))].iter().collect();
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
        let response = serve(root, path).await;
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
}
