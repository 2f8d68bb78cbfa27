//! The machine's packet filter, through `iptables-restore`, `iptables-save`, `ipset` and the iptables crate.

use std::{
    io::Write,
    path::PathBuf,
    process::{Command, Stdio},
    sync::{LazyLock, OnceLock},
    thread,
    time::Duration,
};

use async_trait::async_trait;

use super::{
    Family, IpSets, Iptables, IptablesError, Table, changes,
    turns::{Turns, Urgency},
};
use crate::netns;

/// Runs the iptables tools in this process's network namespace, or in a given one.
#[derive(Clone, Debug, Default)]
pub struct HostIptables {
    namespace: Option<PathBuf>,
    family: Family,
    urgency: Urgency,
}

/// The kernel takes one transaction at a time, whatever its table and family; with nftables, one that others came before begins anew.
static TURNS: LazyLock<Turns> = LazyLock::new(Turns::default);

impl HostIptables {
    pub fn new() -> Self {
        HostIptables::default()
    }

    /// Works inside the network namespace at `path` (such as `/run/netns/NAME`).
    pub fn within(path: impl Into<PathBuf>) -> Self {
        HostIptables { namespace: Some(path.into()), ..HostIptables::default() }
    }

    /// The same for the rules of a family.
    #[must_use]
    pub fn of(self, family: Family) -> Self {
        HostIptables { family, ..self }
    }

    /// Lets its transactions go before those of this process's others.
    #[must_use]
    pub fn urgent(self) -> Self {
        HostIptables { urgency: Urgency::Urgent, ..self }
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
        let program = Names::of(self.family).restore;
        let _turn = TURNS.take(self.urgency).await;
        self.run(move || feed(program, &["-w", "5", "--noflush"], &text)).await
    }

    async fn save(&self, table: Table) -> Result<String, IptablesError> {
        let program = Names::of(self.family).save;
        self.run(move || output(program, &["-t", table.name()])).await
    }

    async fn chain_exists(&self, table: Table, chain: &str) -> Result<bool, IptablesError> {
        let chain = chain.to_owned();
        let family = self.family;
        self.run(move || probe(family)?.chain_exists(table.name(), &chain).map_err(failed)).await
    }

    async fn rule_exists(&self, table: Table, chain: &str, rule: &str) -> Result<bool, IptablesError> {
        let (chain, rule, family) = (chain.to_owned(), rule.to_owned(), self.family);
        self.run(move || {
            let probe = probe(family)?;
            // A missing chain is an error to `iptables -C`, and simply "no" to us.
            Ok(probe.chain_exists(table.name(), &chain).map_err(failed)? && probe.exists(table.name(), &chain, &rule).map_err(failed)?)
        })
        .await
    }

    async fn generation(&self) -> Option<u64> {
        let family = self.family;
        let told = self.run(move || Ok(if is_nftables(family)? { changes::generation().ok() } else { None })).await;
        told.ok().flatten()
    }
}

/// How often a set is tried to be destroyed, and how long to wait in between: the kernel gives up a rule's hold on it a moment after
/// the rule went.
const DESTROYING: (u32, Duration) = (10, Duration::from_millis(20));

#[async_trait]
impl IpSets for HostIptables {
    async fn restore_sets(&self, text: String) -> Result<(), IptablesError> {
        self.run(move || feed(IPSET, &["restore", "-exist"], &text)).await
    }

    async fn save_sets(&self) -> Result<String, IptablesError> {
        self.run(move || output(IPSET, &["save"])).await
    }

    async fn save_set(&self, name: &str) -> Result<Option<String>, IptablesError> {
        let name = name.to_owned();
        self.run(move || match output(IPSET, &["save", &name]) {
            Err(IptablesError::Failed { stderr, .. }) if stderr.contains(NO_SUCH_SET) => Ok(None),
            saved => saved.map(Some),
        })
        .await
    }

    async fn destroy_sets(&self, names: Vec<String>) -> Result<(), IptablesError> {
        self.run(move || names.iter().try_for_each(|name| destroy(name))).await
    }

    async fn fingerprint(&self, set: Option<&str>) -> Option<u64> {
        let set = set.map(str::to_owned);
        let told = self.run(move || Ok(changes::fingerprint(set.as_deref()).ok())).await;
        told.ok().flatten()
    }
}

const IPSET: &str = "ipset";
/// What `ipset` says of a set that is not there.
const NO_SUCH_SET: &str = "does not exist";

fn destroy(set: &str) -> Result<(), IptablesError> {
    let (tries, pause) = DESTROYING;
    let mut outcome = output(IPSET, &["destroy", set]);
    for _ in 1..tries {
        if outcome.is_ok() {
            break;
        }
        thread::sleep(pause);
        outcome = output(IPSET, &["destroy", set]);
    }
    outcome.map(drop)
}

/// The tools of a family.
struct Names {
    restore: &'static str,
    save: &'static str,
}

impl Names {
    fn of(family: Family) -> Self {
        match family {
            Family::V4 => Names { restore: "iptables-restore", save: "iptables-save" },
            Family::V6 => Names { restore: "ip6tables-restore", save: "ip6tables-save" },
        }
    }
}

/// Whether a family's tools write to nftables, as they say themselves. Asked once.
fn is_nftables(family: Family) -> Result<bool, IptablesError> {
    static KNOWN: [OnceLock<bool>; 2] = [OnceLock::new(), OnceLock::new()];
    let known = &KNOWN[usize::from(family == Family::V6)];
    if let Some(known) = known.get() {
        return Ok(*known);
    }
    let told = output(Names::of(family).save, &["--version"])?;
    Ok(*known.get_or_init(|| told.contains("nf_tables")))
}

fn probe(family: Family) -> Result<iptables::IPTables, IptablesError> {
    iptables::new(family == Family::V6).map_err(failed)
}

fn failed(error: Box<dyn std::error::Error>) -> IptablesError {
    IptablesError::Failed { program: "iptables", stderr: error.to_string() }
}

/// Runs a program that reads `text`.
fn feed(program: &'static str, arguments: &[&str], text: &str) -> Result<(), IptablesError> {
    let start = |source| IptablesError::Start { program, source };
    let mut command = Command::new(program);
    let command = command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(start)?;
    let mut stdin = child.stdin.take().expect("stdin is piped");
    let written = stdin.write_all(text.as_bytes());
    drop(stdin);
    let output = child.wait_with_output().map_err(start)?;
    if !output.status.success() {
        return Err(IptablesError::Failed { program, stderr: String::from_utf8_lossy(&output.stderr).trim().to_owned() });
    }
    written.map_err(start)
}

/// Runs a program and gives what it prints.
fn output(program: &'static str, arguments: &[&str]) -> Result<String, IptablesError> {
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).output().map_err(|source| IptablesError::Start { program, source })?;
    if !output.status.success() {
        return Err(IptablesError::Failed { program, stderr: String::from_utf8_lossy(&output.stderr).trim().to_owned() });
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
