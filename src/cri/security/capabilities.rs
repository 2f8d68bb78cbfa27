//! The capabilities that a container gets beside the runtime's default ones, and those it loses.

use k8s_openapi::api::core::v1::Capabilities;

use crate::proto;

/// All capabilities of Linux, as specs name them.
const KNOWN: &[&str] = &[
    "AUDIT_CONTROL",
    "AUDIT_READ",
    "AUDIT_WRITE",
    "BLOCK_SUSPEND",
    "BPF",
    "CHECKPOINT_RESTORE",
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "IPC_LOCK",
    "IPC_OWNER",
    "KILL",
    "LEASE",
    "LINUX_IMMUTABLE",
    "MAC_ADMIN",
    "MAC_OVERRIDE",
    "MKNOD",
    "NET_ADMIN",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_RAW",
    "PERFMON",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYSLOG",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_CHROOT",
    "SYS_MODULE",
    "SYS_NICE",
    "SYS_PACCT",
    "SYS_PTRACE",
    "SYS_RAWIO",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "WAKE_ALARM",
];

/// What a container adds and drops. Runtimes take a name they do not know for nothing to drop, so such a name is an error here.
///
/// # Errors
/// For a capability to drop that does not exist.
pub fn capabilities(wanted: &Capabilities) -> Result<proto::Capability, String> {
    let drop = wanted.drop.iter().flatten().map(|name| dropped(name)).collect::<Result<_, _>>()?;
    Ok(proto::Capability { add_capabilities: wanted.add.clone().unwrap_or_default(), drop_capabilities: drop, ..Default::default() })
}

fn dropped(name: &str) -> Result<String, String> {
    let upper = name.to_ascii_uppercase();
    let short = upper.strip_prefix("CAP_").unwrap_or(&upper);
    if short == "ALL" || KNOWN.contains(&short) { Ok(short.to_owned()) } else { Err(format!("unknown capability to drop: {name:?}")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dropping(names: &[&str]) -> Result<Vec<String>, String> {
        let drop = Some(names.iter().map(|name| (*name).to_owned()).collect());
        capabilities(&Capabilities { add: None, drop }).map(|told| told.drop_capabilities)
    }

    #[test]
    fn a_capability_is_dropped_however_it_is_spelled() {
        assert_eq!(dropping(&["ALL", "net_raw", "CAP_CHOWN"]), Ok(vec!["ALL".into(), "NET_RAW".into(), "CHOWN".into()]));
    }

    #[test]
    fn a_capability_that_cannot_be_dropped_is_an_error() {
        assert_eq!(dropping(&["NETRAW"]), Err("unknown capability to drop: \"NETRAW\"".into()));
    }
}
