//! `troupe restore`: puts a backup in the place of an empty state, in the data directory or in etcd.

use std::{
    fs::File,
    io::BufReader,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use clap::Args;
use troupe_api_server::store::{
    backup::{self, BackupReader, RestoreError, RestoreOptions, Restored},
    embedded::EmbeddedStore,
    etcd::EtcdStore,
};

use crate::{config::Config, state};

/// `troupe restore …`
#[derive(Debug, Args)]
pub struct RestoreArgs {
    /// The backup
    file: PathBuf,
    /// Replace the state that is there
    #[arg(long)]
    force: bool,
    /// How far behind the backup's revision the new ones begin; more than were handed out since it was taken
    #[arg(long, default_value_t = RestoreOptions::default().margin)]
    revision_margin: u64,
}

/// Restores a backup.
pub async fn run(config: &Config, arguments: &RestoreArgs) -> Result<()> {
    if let Some(pid) = config.serving_pid() {
        bail!("troupe runs on this machine (pid {pid}); stop it before its state is replaced");
    }
    let open = || open(&arguments.file);
    // All of it, before anything is touched.
    let (head, records) = backup::verify(open()?).with_context(|| format!("{} cannot be restored", arguments.file.display()))?;
    println!("  ✔ {} is whole: {records} objects at revision {}, taken {}", arguments.file.display(), head.revision, head.taken);
    let mut reader = BackupReader::new(open()?)?;
    let options = RestoreOptions { margin: arguments.revision_margin, force: arguments.force };
    let restored = match &config.etcd {
        Some(etcd) => into_etcd(etcd, &mut reader, options).await,
        None => into_directory(&state::embedded_dir(config), &mut reader, options).await,
    };
    let Restored { records, revision } = restored.map_err(explain)?;
    println!("  ✔ restored {records} objects; the revision is {revision} now, and clients list anew");
    Ok(())
}

fn open(file: &Path) -> Result<BufReader<File>> {
    File::open(file).map(BufReader::new).with_context(|| format!("cannot read {}", file.display()))
}

async fn into_directory(dir: &Path, reader: &mut BackupReader<BufReader<File>>, options: RestoreOptions) -> Result<Restored, RestoreError> {
    if let Some(parent) = dir.parent() {
        std::fs::create_dir_all(parent)?;
    }
    let (restored, old) = EmbeddedStore::restore(dir, reader, options).await?;
    if let Some(old) = old {
        println!("  ✔ what was there before is kept in {}", old.display());
    }
    Ok(restored)
}

async fn into_etcd(etcd: &state::EtcdConfig, reader: &mut BackupReader<BufReader<File>>, options: RestoreOptions) -> Result<Restored, RestoreError> {
    let to = etcd.options().map_err(|error| RestoreError::Io(std::io::Error::other(format!("{error:#}"))))?;
    let mut told = std::time::Instant::now();
    EtcdStore::restore(to, reader, options, |now, target| {
        if told.elapsed().as_secs() >= 5 {
            told = std::time::Instant::now();
            println!("  … moving etcd's revision ahead: {now} of {target}");
        }
    })
    .await
}

fn explain(error: RestoreError) -> anyhow::Error {
    let hint = matches!(error, RestoreError::NotEmpty { .. });
    let error = anyhow::Error::from(error);
    if hint { error.context("there is a cluster's state already; --force replaces it") } else { error.context("the backup was not restored") }
}
