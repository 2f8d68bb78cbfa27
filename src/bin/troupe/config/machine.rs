//! What this machine says where nothing is set.

use std::{
    net::IpAddr,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

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

/// The source address towards the default route; loopback on a machine without one.
pub(super) fn default_node_ip() -> Result<IpAddr> {
    let socket = std::net::UdpSocket::bind("0.0.0.0:0").context("cannot open a socket")?;
    // Connecting a datagram socket sends nothing: it only asks the routing table.
    match socket.connect("192.0.2.1:9") {
        Ok(()) => Ok(socket.local_addr().context("a connected socket has an address")?.ip()),
        Err(_) => first_interface_address().context("no network interface has an address: name one with --node-ip"),
    }
}

fn first_interface_address() -> Option<IpAddr> {
    let addresses = nix::ifaddrs::getifaddrs().ok()?;
    let mut found = addresses.filter_map(|interface| Some(interface.address?.as_sockaddr_in()?.ip()));
    found.find(|ip| !ip.is_loopback()).map(IpAddr::V4)
}
