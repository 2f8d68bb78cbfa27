//! What this machine says where nothing is set.

use std::{
    net::IpAddr,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use troupe_addresses::is_unicast;
use troupe_net::iptables::Family;

use super::PerFamily;

/// Where the CNI plugins are installed.
pub fn cni_bin_dir() -> PathBuf {
    let candidates = ["/opt/cni/bin", "/usr/lib/cni"];
    let found = candidates.iter().find(|dir| Path::new(dir).join("bridge").exists());
    found.unwrap_or(&candidates[0]).into()
}

pub(super) fn installed_image_dir() -> Option<PathBuf> {
    let executable = std::env::current_exe().ok()?;
    let beside = executable.parent()?.join("images");
    let shared = executable.parent()?.join("../share/troupe/images");
    [beside, shared].into_iter().find(|dir| dir.is_dir())
}

pub(super) fn host_name() -> Result<String> {
    let name = nix::unistd::gethostname().context("cannot read the host name")?;
    Ok(name.to_string_lossy().to_lowercase())
}

/// An address of each of these families.
pub(super) fn default_node_ips(families: &[Family]) -> Result<PerFamily<IpAddr>> {
    PerFamily::new(&families.iter().map(|family| default_node_ip(*family)).collect::<Result<Vec<_>>>()?)
}

/// The source address towards the default route; another one on a machine without one.
fn default_node_ip(family: Family) -> Result<IpAddr> {
    let (own, outside) = match family {
        Family::V4 => ("0.0.0.0:0", "192.0.2.1:9"),
        Family::V6 => ("[::]:0", "[2001:db8::1]:9"),
    };
    let missing = || format!("no network interface has an {} address: name one with --node-ip", family.name());
    let Ok(socket) = std::net::UdpSocket::bind(own) else { bail!(missing()) };
    // Connecting a datagram socket sends nothing: it only asks the routing table.
    match socket.connect(outside) {
        Ok(()) => Ok(socket.local_addr().context("a connected socket has an address")?.ip()),
        Err(_) => first_interface_address(family).with_context(missing),
    }
}

/// All addresses of this machine's interfaces now; none when it does not tell.
pub fn addresses() -> Vec<IpAddr> {
    let ip = |interface: nix::ifaddrs::InterfaceAddress| {
        let address = interface.address?;
        let v4 = address.as_sockaddr_in().map(|address| IpAddr::V4(address.ip()));
        v4.or_else(|| address.as_sockaddr_in6().map(|address| IpAddr::V6(address.ip())))
    };
    nix::ifaddrs::getifaddrs().map(|found| found.filter_map(ip).collect()).unwrap_or_default()
}

fn first_interface_address(family: Family) -> Option<IpAddr> {
    let usable = |ip: &IpAddr| match family {
        Family::V4 => ip.is_ipv4() && !ip.is_loopback(),
        Family::V6 => ip.is_ipv6() && is_unicast(*ip),
    };
    addresses().into_iter().find(usable)
}
