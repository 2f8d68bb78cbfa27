//! Kernel parameters that pods may set: those upstream calls safe, and those that the node's administrator allows beside them.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::PodSpec;
use thiserror::Error;

/// Safe parameters with the first kernel that keeps them apart for each namespace.
const SAFE: &[(&str, (u32, u32))] = &[
    ("kernel.shm_rmid_forced", (0, 0)),
    ("net.ipv4.ip_local_port_range", (0, 0)),
    ("net.ipv4.tcp_syncookies", (0, 0)),
    ("net.ipv4.ping_group_range", (0, 0)),
    ("net.ipv4.ip_unprivileged_port_start", (0, 0)),
    ("net.ipv4.ip_local_reserved_ports", (3, 16)),
    ("net.ipv4.tcp_keepalive_time", (4, 5)),
    ("net.ipv4.tcp_fin_timeout", (4, 6)),
    ("net.ipv4.tcp_keepalive_intvl", (4, 5)),
    ("net.ipv4.tcp_keepalive_probes", (4, 5)),
    ("net.ipv4.tcp_rmem", (4, 15)),
    ("net.ipv4.tcp_wmem", (4, 15)),
];

/// Parameters of the IPC namespace; `kernel.shm*` and `kernel.msg*` may be allowed together.
const IPC: &[&str] = &[
    "kernel.sem",
    "kernel.shmall",
    "kernel.shmmax",
    "kernel.shmmni",
    "kernel.shm_rmid_forced",
    "kernel.shm",
    "kernel.msgmax",
    "kernel.msgmnb",
    "kernel.msgmni",
    "kernel.msg",
];

/// The kernel namespace that a parameter belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Namespace {
    Ipc,
    Net,
}

/// A pattern that cannot be allowed.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum PatternError {
    #[error("sysctl {0:?} must have at most 253 characters and be a name, or the beginning of one with `*` behind it")]
    Malformed(String),
    #[error("the sysctls {0:?} are not known to be namespaced")]
    NotNamespaced(String),
}

/// The parameters that pods may set. Empty, it allows none.
#[derive(Clone, Debug, Default)]
pub struct Allowlist {
    names: BTreeMap<String, Namespace>,
    prefixes: BTreeMap<String, Namespace>,
}

impl Allowlist {
    /// What is safe with a kernel of this release (`6.1.0-13`), and `patterns` beside it: names, or beginnings ending in `*`.
    ///
    /// # Errors
    /// For a pattern that could reach beyond a pod's own namespaces.
    pub fn new(release: &str, patterns: &[String]) -> Result<Self, PatternError> {
        let kernel = version(release);
        let mut list = Allowlist::default();
        SAFE.iter().filter(|(_, since)| kernel >= *since).try_for_each(|(name, _)| list.allow(name))?;
        patterns.iter().try_for_each(|pattern| list.allow(pattern))?;
        Ok(list)
    }

    fn allow(&mut self, pattern: &str) -> Result<(), PatternError> {
        let name = normalized(pattern);
        let (start, list) = match name.strip_suffix('*') {
            Some(start) => (start, &mut self.prefixes),
            None => (&*name, &mut self.names),
        };
        if pattern.len() > 253 || !is_name(start.trim_end_matches('.')) {
            return Err(PatternError::Malformed(pattern.to_owned()));
        }
        let namespace = namespace_of(start).ok_or_else(|| PatternError::NotNamespaced(start.to_owned()))?;
        list.insert(start.to_owned(), namespace);
        Ok(())
    }

    /// Checks the parameters that a pod sets.
    pub(super) fn check(&self, spec: &PodSpec) -> Result<(), String> {
        let wanted = spec.security_context.iter().flat_map(|context| context.sysctls.iter().flatten());
        wanted.map(|sysctl| normalized(&sysctl.name)).try_for_each(|name| self.check_name(&name, spec))
    }

    fn check_name(&self, name: &str, spec: &PodSpec) -> Result<(), String> {
        let beginning = || self.prefixes.iter().find(|(prefix, _)| name.starts_with(prefix.as_str())).map(|(_, namespace)| namespace);
        let namespace = self.names.get(name).or_else(beginning).filter(|_| is_name(name));
        match namespace {
            None => Err(format!("{name:?} not allowlisted")),
            Some(Namespace::Ipc) if spec.host_ipc == Some(true) => Err(format!("{name:?} not allowed with host IPC enabled")),
            Some(Namespace::Net) if spec.host_network == Some(true) => Err(format!("{name:?} not allowed with host Net enabled")),
            Some(_) => Ok(()),
        }
    }
}

/// Names may be written with slashes for dots and dots for slashes, as sysctl(8) takes them.
fn normalized(name: &str) -> String {
    let slashes = name.find(['.', '/']).is_some_and(|at| name.as_bytes()[at] == b'/');
    let swapped = |letter| match letter {
        '.' => '/',
        '/' => '.',
        other => other,
    };
    if slashes { name.chars().map(swapped).collect() } else { name.to_owned() }
}

/// Whether every part of a normalized name is one that sysctl has: a part such as `..` would lead elsewhere.
fn is_name(name: &str) -> bool {
    let letter = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let part = |part: &str| {
        let bytes = part.as_bytes();
        let inner = bytes.iter().all(|byte| letter(*byte) || matches!(byte, b'-' | b'_' | b'/'));
        inner && bytes.first().is_some_and(|byte| letter(*byte)) && bytes.last().is_some_and(|byte| letter(*byte))
    };
    name.split('.').all(part)
}

fn namespace_of(name: &str) -> Option<Namespace> {
    match name {
        _ if IPC.contains(&name) || name.starts_with("fs.mqueue.") => Some(Namespace::Ipc),
        _ if name.starts_with("net.") => Some(Namespace::Net),
        _ => None,
    }
}

/// Major and minor version of a kernel release; 0.0 for one that says nothing.
fn version(release: &str) -> (u32, u32) {
    let mut parts = release.split(|letter: char| !letter.is_ascii_digit()).map(|part| part.parse().unwrap_or(0));
    (parts.next().unwrap_or(0), parts.next().unwrap_or(0))
}
