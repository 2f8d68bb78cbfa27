//! Frames on a link.

use std::{
    io, mem,
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
    time::Instant,
};

/// An Ethernet address.
pub type Hardware = [u8; 6];

/// Bytes of a frame before its packet: to whom, from whom, the protocol.
pub const HEADER: usize = 14;
/// The largest frame that is read; what tells of addresses is short.
const LARGEST: usize = 256;

/// A link to send packets of one protocol on.
pub struct Ethernet {
    link: u32,
    own: Hardware,
    protocol: u16,
    socket: OwnedFd,
}

impl Ethernet {
    /// Opens the link with this index.
    ///
    /// # Errors
    /// When it is no Ethernet, or packets may not be sent by hand.
    pub fn open(link: u32, protocol: u16) -> io::Result<Self> {
        let own = hardware_address(link)?;
        // SAFETY: no memory is passed; a descriptor that is returned is nobody else's.
        let socket = unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, i32::from(protocol.to_be())) };
        if socket < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: it was opened above.
        Ok(Ethernet { link, own, protocol, socket: unsafe { OwnedFd::from_raw_fd(socket) } })
    }

    /// The link's address.
    pub fn own(&self) -> Hardware {
        self.own
    }

    /// Hears, from now on, what comes on this link alone, of that what `filter` takes: a program of the kernel's packet filter.
    pub fn listen(&self, filter: &[libc::sock_filter]) -> io::Result<()> {
        let program = libc::sock_fprog { len: u16::try_from(filter.len()).map_err(io::Error::other)?, filter: filter.as_ptr().cast_mut() };
        let length = length_of::<libc::sock_fprog>();
        // SAFETY: the program lives as long as the call, and the kernel only reads it.
        let set = unsafe { libc::setsockopt(self.socket.as_raw_fd(), libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, (&raw const program).cast(), length) };
        if set < 0 {
            return Err(io::Error::last_os_error());
        }
        let address = self.address([0; 6])?;
        // SAFETY: the address lives as long as the call and is as long as said.
        let bound = unsafe { libc::bind(self.socket.as_raw_fd(), (&raw const address).cast(), length_of::<libc::sockaddr_ll>()) };
        if bound < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    /// The next frame from somebody else; `None` where none comes until then.
    pub fn receive(&self, until: Instant) -> io::Result<Option<Vec<u8>>> {
        loop {
            let left = until.saturating_duration_since(Instant::now());
            // However much there is to read.
            if left.is_zero() {
                return Ok(None);
            }
            let mut ready = libc::pollfd { fd: self.socket.as_raw_fd(), events: libc::POLLIN, revents: 0 };
            // SAFETY: one descriptor is passed, which lives as long as the call.
            let count = unsafe { libc::poll(&raw mut ready, 1, i32::try_from(left.as_millis()).unwrap_or(i32::MAX)) };
            match count {
                0 => return Ok(None),
                1.. => {}
                _ => {
                    let error = io::Error::last_os_error();
                    if error.kind() == io::ErrorKind::Interrupted {
                        continue;
                    }
                    return Err(error);
                }
            }
            let mut frame = vec![0_u8; LARGEST];
            // SAFETY: the buffer lives as long as the call and is as long as said.
            let length = unsafe { libc::recv(self.socket.as_raw_fd(), frame.as_mut_ptr().cast(), frame.len(), libc::MSG_DONTWAIT) };
            match usize::try_from(length) {
                // What this machine sends comes by here, too.
                Ok(length) if length >= HEADER && frame[6..12] != self.own => {
                    frame.truncate(length);
                    return Ok(Some(frame));
                }
                Ok(_) => {}
                Err(_) => {
                    let error = io::Error::last_os_error();
                    if error.kind() != io::ErrorKind::WouldBlock {
                        return Err(error);
                    }
                }
            }
        }
    }

    fn address(&self, to: Hardware) -> io::Result<libc::sockaddr_ll> {
        // SAFETY: all zero is a value of this type.
        let mut address: libc::sockaddr_ll = unsafe { mem::zeroed() };
        address.sll_family = u16::try_from(libc::AF_PACKET).expect("a small number");
        address.sll_protocol = self.protocol.to_be();
        address.sll_ifindex = i32::try_from(self.link).map_err(io::Error::other)?;
        address.sll_halen = 6;
        address.sll_addr[..6].copy_from_slice(&to);
        Ok(address)
    }

    /// Sends a packet from this link.
    pub fn send(&self, to: Hardware, packet: &[u8]) -> io::Result<()> {
        let frame = [&to[..], &self.own, &self.protocol.to_be_bytes(), packet].concat();
        let (address, length) = (self.address(to)?, length_of::<libc::sockaddr_ll>());
        // SAFETY: both buffers live as long as the call and are as long as said.
        let sent = unsafe { libc::sendto(self.socket.as_raw_fd(), frame.as_ptr().cast(), frame.len(), 0, (&raw const address).cast(), length) };
        if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }
}

fn length_of<T>() -> libc::socklen_t {
    libc::socklen_t::try_from(size_of::<T>()).expect("a small number")
}

fn hardware_address(link: u32) -> io::Result<Hardware> {
    let odd = || io::Error::new(io::ErrorKind::Unsupported, "the link has no Ethernet address");
    let name = nix::net::if_::if_indextoname(link)?;
    let text = shown_address(&name.to_string_lossy())?;
    let bytes: Vec<u8> = text.trim().split(':').map(|part| u8::from_str_radix(part, 16)).collect::<Result<_, _>>().map_err(|_| odd())?;
    Hardware::try_from(bytes).ok().filter(|address| *address != [0; 6]).ok_or_else(odd)
}

/// Not from `/sys`, which shows the links of the namespace that it was mounted in.
fn shown_address(name: &str) -> io::Result<String> {
    let found = nix::ifaddrs::getifaddrs()?.filter(|interface| interface.interface_name == name);
    let link = found.filter_map(|interface| interface.address?.as_link_addr()?.addr()).next();
    let link = link.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "the link is gone"))?;
    Ok(link.map(|byte| format!("{byte:02x}")).join(":"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_that_is_no_ethernet_is_told_so() {
        let loopback = nix::net::if_::if_nametoindex("lo").expect("there is one");
        assert!(hardware_address(loopback).is_err());
    }
}
