//! `troupe backup`: the whole state at one revision in a file; from the running cluster, else from where its state lies.

use std::{
    fs::{self, File},
    io::{BufWriter, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use troupe_api::meta::Revision;
use troupe_api_server::store::backup::{self, BackupWriter, Frame, Head};

use crate::{config::Config, remote::Remote, state, up::doors};

/// Takes a backup.
pub async fn run(config: &Config, file: &Path) -> Result<()> {
    let draft = Draft::new(file)?;
    let (draft, revision, records) = if config.serving_pid().is_some() {
        from_cluster(&Remote::open(&config.kubeconfig)?, draft).await?
    } else {
        from_store(config, draft).await?
    };
    draft.keep()?;
    println!("  ✔ {} holds {records} objects at revision {revision}", file.display());
    Ok(())
}

async fn from_store(config: &Config, draft: Draft) -> Result<(Draft, Revision, u64)> {
    let dir = state::embedded_dir(config);
    if config.etcd.is_none() && !dir.exists() {
        bail!("there is nothing to back up: no cluster runs here and {} does not exist", dir.display());
    }
    let store = state::open(config).await?;
    Ok(backup::export(&*store, draft).await?)
}

/// Reads page after page through the API server's door.
async fn from_cluster(remote: &Remote, draft: Draft) -> Result<(Draft, Revision, u64)> {
    let mut page = read_page(remote, doors::BACKUP.to_owned()).await?.into_iter();
    let Some(Frame::Head(head)) = page.next() else { bail!("the server answered with no backup") };
    let revision = head.revision;
    let mut writer = BackupWriter::new(draft, head)?;
    loop {
        let mut last = None;
        for frame in page {
            let Frame::Record(kv) = frame else { bail!("the server answered with no records") };
            last = Some(kv.key.clone());
            writer.record(kv)?;
        }
        let Some(last) = last else { break };
        page = read_page(remote, format!("{}?revision={revision}&after={}", doors::BACKUP, hex::encode(last))).await?.into_iter();
    }
    let (draft, records) = writer.finish()?;
    Ok((draft, revision, records))
}

async fn read_page(remote: &Remote, path: String) -> Result<Vec<Frame>> {
    let (code, body) = remote.get(&path).await?;
    if code != 200 {
        let status: serde_json::Value = serde_json::from_slice(&body).unwrap_or_default();
        bail!("{}", status["message"].as_str().unwrap_or("the server refused"));
    }
    frames(body)
}

fn frames(body: Bytes) -> Result<Vec<Frame>> {
    let (mut input, mut raw, mut frames) = (&*body, Vec::new(), Vec::new());
    while let Some(frame) = backup::read_frame(&mut input, 0, &mut raw).context("the reply broke off")? {
        frames.push(frame);
    }
    Ok(frames)
}

/// A page as the door sends it: the head first where it is the first one.
pub fn encode_page(page: backup::Page, first: bool) -> Bytes {
    let mut out = Vec::new();
    if first {
        backup::write_frame(&mut out, &Frame::Head(Head::now(page.revision)));
    }
    for kv in page.items {
        backup::write_frame(&mut out, &Frame::Record(kv));
    }
    out.into()
}

/// The file in the making, readable by its owner only: it holds every secret. It takes its name when it is complete.
struct Draft {
    out: BufWriter<File>,
    path: PathBuf,
    name: PathBuf,
}

impl Draft {
    fn new(name: &Path) -> Result<Self> {
        let mut partial = name.file_name().with_context(|| format!("{} is no file name", name.display()))?.to_owned();
        partial.push(".partial");
        let path = name.with_file_name(partial);
        let _ = fs::remove_file(&path); // of a backup that broke off; its mode may be another
        let file = File::options().write(true).create_new(true).mode(0o600).open(&path);
        let file = file.with_context(|| format!("cannot write {}", path.display()))?;
        Ok(Draft { out: BufWriter::new(file), path, name: name.to_owned() })
    }

    fn keep(mut self) -> Result<()> {
        self.out.flush().and_then(|()| self.out.get_ref().sync_all()).with_context(|| format!("cannot write {}", self.path.display()))?;
        fs::rename(&self.path, &self.name).with_context(|| format!("cannot write {}", self.name.display()))?;
        let dir = self.name.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
        File::open(dir).and_then(|dir| dir.sync_all()).with_context(|| format!("cannot write {}", dir.display()))
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path); // it has its own name, or is worth nothing
    }
}

impl Write for Draft {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.out.write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.out.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use troupe_api_server::store::{Store, memory::MemoryStore};

    use super::*;

    #[tokio::test]
    async fn pages_of_the_door_make_the_whole_backup() {
        let store = MemoryStore::new();
        for n in 0..450 {
            store.create(format!("/registry/pods/a/{n:03}").into(), "{}".into(), None).await.expect("creates");
        }
        let (mut last, mut records, mut first) = (None::<Bytes>, 0, true);
        loop {
            let page = backup::page(&store, Some(Revision(451)), last.as_deref()).await.expect("reads");
            let read = frames(encode_page(page, first)).expect("whole frames");
            assert_eq!(matches!(read.first(), Some(Frame::Head(head)) if head.revision == Revision(451)), first);
            let mut keys = read.iter().filter_map(|frame| if let Frame::Record(kv) = frame { Some(kv.key.clone()) } else { None });
            let Some(next) = keys.next_back() else { break };
            records += keys.count() + 1;
            last = Some(next);
            first = false;
        }
        assert_eq!(records, 450);
    }

    #[test]
    fn the_file_has_its_name_when_it_is_whole_and_only_its_owner_reads_it() {
        let dir = tempfile::tempdir().expect("a directory");
        let name = dir.path().join("state.backup");
        let mut draft = Draft::new(&name).expect("writes");
        draft.write_all(b"half").expect("writes");
        drop(draft);
        assert_eq!(fs::read_dir(dir.path()).expect("lists").count(), 0);
        let mut draft = Draft::new(&name).expect("writes");
        draft.write_all(b"whole").expect("writes");
        draft.keep().expect("keeps");
        assert_eq!(fs::read(&name).expect("reads"), b"whole");
        assert_eq!(fs::metadata(&name).expect("exists").permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(dir.path()).expect("lists").count(), 1);
    }
}
