//! The machine's packet filter, through `iptables-restore`, `iptables-save` and the iptables crate.

use std::{
    io::Write,
    path::PathBuf,
    process::{Command, Stdio},
};

use async_trait::async_trait;

use super::{Iptables, IptablesError, Table};
use crate::netns;

/// Runs the iptables tools in this process's network namespace, or in a given one.
#[derive(Clone, Debug, Default)]
pub struct HostIptables {
    namespace: Option<PathBuf>,
}

impl HostIptables {
    pub fn new() -> Self {
        HostIptables::default()
    }

    /// Works inside the network namespace at `path` (such as `/run/netns/NAME`).
    pub fn within(path: impl Into<PathBuf>) -> Self {
        HostIptables { namespace: Some(path.into()) }
    }

    /// Runs blocking work on a thread of its own, inside the namespace.
    async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> Result<T, IptablesError> + Send + 'static) -> Result<T, IptablesError> {
        let namespace = self.namespace.clone();
        let task = tokio::task::spawn_blocking(move || match namespace {
            None => work(),
            Some(path) => {
                netns::run(&path, work).map_err(|source| IptablesError::Namespace { path: path.display().to_string(), source }).and_then(|done| done)
            }
        });
        task.await.map_err(|_| IptablesError::Worker)?
    }
}

#[async_trait]
impl Iptables for HostIptables {
    async fn restore(&self, text: String) -> Result<(), IptablesError> {
        self.run(move || restore(&text)).await
    }

    async fn save(&self, table: Table) -> Result<String, IptablesError> {
        self.run(move || output(Command::new("iptables-save").args(["-t", table.name()]), "iptables-save")).await
    }

    async fn chain_exists(&self, table: Table, chain: &str) -> Result<bool, IptablesError> {
        let chain = chain.to_owned();
        self.run(move || probe()?.chain_exists(table.name(), &chain).map_err(failed)).await
    }

    async fn rule_exists(&self, table: Table, chain: &str, rule: &str) -> Result<bool, IptablesError> {
        let (chain, rule) = (chain.to_owned(), rule.to_owned());
        self.run(move || {
            let probe = probe()?;
            // A missing chain is an error to `iptables -C`, and simply "no" to us.
            Ok(probe.chain_exists(table.name(), &chain).map_err(failed)? && probe.exists(table.name(), &chain, &rule).map_err(failed)?)
        })
        .await
    }
}

fn probe() -> Result<iptables::IPTables, IptablesError> {
    iptables::new(false).map_err(failed)
}

fn failed(error: Box<dyn std::error::Error>) -> IptablesError {
    IptablesError::Failed { program: "iptables", stderr: error.to_string() }
}

fn restore(text: &str) -> Result<(), IptablesError> {
    const PROGRAM: &str = "iptables-restore";
    let start = |source| IptablesError::Start { program: PROGRAM, source };
    let mut command = Command::new(PROGRAM);
    let command = command.args(["-w", "5", "--noflush"]).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(start)?;
    let mut stdin = child.stdin.take().expect("stdin is piped");
    let written = stdin.write_all(text.as_bytes());
    drop(stdin);
    let output = child.wait_with_output().map_err(start)?;
    if !output.status.success() {
        return Err(IptablesError::Failed { program: PROGRAM, stderr: String::from_utf8_lossy(&output.stderr).trim().to_owned() });
    }
    written.map_err(start)
}

fn output(command: &mut Command, program: &'static str) -> Result<String, IptablesError> {
    let output = command.stdin(Stdio::null()).output().map_err(|source| IptablesError::Start { program, source })?;
    if !output.status.success() {
        return Err(IptablesError::Failed { program, stderr: String::from_utf8_lossy(&output.stderr).trim().to_owned() });
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
