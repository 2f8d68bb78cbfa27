//! Logs of services: from the machine's journal where it has them, else from the files where services write.

use std::{
    io,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use bytes::Bytes;
use tokio::{
    io::{AsyncRead, AsyncReadExt},
    process::Command,
    sync::mpsc,
    time::timeout,
};

use super::{CHUNK, query::LogQuery};
use crate::files::{Directory, blocking};

/// What reads the journal.
pub const PROGRAM: &str = "journalctl";
/// No answer takes longer.
const PATIENCE: Duration = Duration::from_secs(30);

type Out = mpsc::Sender<Bytes>;

/// What the services of a query wrote, as fast as it is taken.
pub fn read(program: &str, root: &Path, query: LogQuery) -> mpsc::Receiver<Bytes> {
    let (out, receiver) = mpsc::channel(2);
    let (program, root) = (program.to_owned(), root.to_owned());
    tokio::spawn(async move {
        // What was not written by then is left out, as upstream leaves it out.
        let _ = timeout(PATIENCE, copy(&program, &root, &query, &out)).await;
    });
    receiver
}

async fn copy(program: &str, root: &Path, query: &LogQuery, out: &Out) {
    let units = if query.services.is_empty() { String::new() } else { units(program).await };
    let (native, others): (Vec<String>, Vec<String>) =
        query.services.iter().cloned().partition(|service| units.contains(&format!("{service}.service")));
    if !others.is_empty() && query.has_options() {
        let others = others.join(" ");
        return say(out, format!("\noptions present and query resolved to log files for [{others}]\ntry without specifying options\n")).await;
    }
    if others.is_empty() {
        return from_journal(program, &query.arguments(&native), out).await;
    }
    for service in others {
        from_file(root, &service, out).await;
    }
}

/// The units that the journal knows; none where there is no journal.
async fn units(program: &str) -> String {
    let asked = Command::new(program).args(["--field", "_SYSTEMD_UNIT"]).stdin(Stdio::null()).kill_on_drop(true).output().await;
    match asked {
        Ok(output) if output.status.success() => String::from_utf8_lossy(&output.stdout).into_owned(),
        _ => String::new(),
    }
}

async fn from_journal(program: &str, arguments: &[String], out: &Out) {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    match command.spawn() {
        Ok(mut child) => {
            tokio::join!(pump(child.stdout.take(), out), pump(child.stderr.take(), out));
            // It wrote all that it had; how it ended tells nothing more.
            let _ = child.wait().await;
        }
        Err(_) => say(out, "\nerror: journal output not available\n".to_owned()).await,
    }
}

async fn pump(from: Option<impl AsyncRead + Unpin>, out: &Out) {
    let Some(mut from) = from else { return };
    let mut chunk = vec![0; CHUNK];
    while let Ok(count @ 1..) = from.read(&mut chunk).await {
        if out.send(Bytes::copy_from_slice(&chunk[..count])).await.is_err() {
            return;
        }
    }
}

/// The first of the files in which a service of this name may write.
async fn from_file(root: &Path, service: &str, out: &Out) {
    let (root, name) = (root.to_owned(), service.to_owned());
    match blocking(move || file_of(&root, &name)).await {
        Ok(file) => {
            let mut chunks = super::read(file);
            while let Some(chunk) = chunks.recv().await {
                if out.send(chunk).await.is_err() {
                    return;
                }
            }
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => say(out, format!("\nlog not found for {service}\n")).await,
        Err(error) => say(out, format!("\nerror getting log for {service}: {error}\n")).await,
    }
}

fn file_of(root: &Path, service: &str) -> io::Result<std::fs::File> {
    let root = Directory::open(root)?;
    for name in [service.to_owned(), format!("{service}.log"), format!("{service}/{service}.log")] {
        let path: PathBuf = [".", name.as_str()].iter().collect();
        if root.find_dir(&path).is_ok() {
            continue;
        }
        match root.read(&path) {
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {}
            outcome => return outcome,
        }
    }
    Err(io::ErrorKind::NotFound.into())
}

async fn say(out: &Out, text: String) {
    // Who asked may have gone.
    let _ = out.send(text.into()).await;
}
