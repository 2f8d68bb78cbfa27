//! This network namespace's raw sockets.

use std::{
    collections::BTreeMap,
    hash::{BuildHasher, Hasher, RandomState},
    io,
    net::{IpAddr, SocketAddr, UdpSocket},
    os::fd::AsRawFd,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, SockaddrStorage, bind, socket};

use super::{
    Echo,
    message::{answers, request},
};
use crate::iptables::Family;

/// Asks from this machine. A question has a socket and a thread of the blocking pool of its own, for as long as its patience lasts.
pub struct HostEcho;

#[async_trait]
impl Echo for HostEcho {
    async fn ask(&self, source: IpAddr, targets: &[IpAddr], patience: Duration) -> io::Result<BTreeMap<IpAddr, Duration>> {
        let targets = targets.to_vec();
        tokio::task::spawn_blocking(move || ask(source, &targets, patience)).await.map_err(io::Error::other)?
    }
}

fn ask(source: IpAddr, targets: &[IpAddr], patience: Duration) -> io::Result<BTreeMap<IpAddr, Duration>> {
    let family = Family::of(source);
    let socket = open(source)?;
    let nonce = RandomState::new().build_hasher().finish();
    let message = request(family, nonce);
    let mut asked = BTreeMap::new();
    for target in targets.iter().filter(|target| family.has(**target)) {
        let begun = Instant::now();
        // To whom no way leads does not answer either.
        if socket.send_to(&message, SocketAddr::new(*target, 0)).is_ok() {
            asked.insert(*target, begun);
        }
    }
    let deadline = Instant::now() + patience;
    let mut answered = BTreeMap::new();
    let mut buffer = [0; 256];
    while answered.len() < asked.len() {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            break;
        }
        socket.set_read_timeout(Some(left))?;
        match socket.recv_from(&mut buffer) {
            Ok((length, from)) if answers(family, &buffer[..length], nonce) => {
                if let Some(begun) = asked.get(&from.ip()) {
                    answered.entry(from.ip()).or_insert_with(|| begun.elapsed());
                }
            }
            Ok(_) => {}
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => break,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(answered)
}

/// A raw socket in the clothes of the standard library, whose calls do not ask what kind a socket is of.
fn open(source: IpAddr) -> io::Result<UdpSocket> {
    let (domain, protocol) = match Family::of(source) {
        Family::V4 => (AddressFamily::Inet, SockProtocol::Icmp),
        Family::V6 => (AddressFamily::Inet6, SockProtocol::IcmpV6),
    };
    let raw = socket(domain, SockType::Raw, SockFlag::SOCK_CLOEXEC, protocol)?;
    bind(raw.as_raw_fd(), &SockaddrStorage::from(SocketAddr::new(source, 0)))?;
    Ok(UdpSocket::from(raw))
}
