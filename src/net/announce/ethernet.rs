//! Frames on a link.

use std::{
    io, mem,
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
};

/// An Ethernet address.
pub type Hardware = [u8; 6];

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

    /// Sends a packet from this link.
    pub fn send(&self, to: Hardware, packet: &[u8]) -> io::Result<()> {
        let frame = [&to[..], &self.own, &self.protocol.to_be_bytes(), packet].concat();
        // SAFETY: all zero is a value of this type.
        let mut address: libc::sockaddr_ll = unsafe { mem::zeroed() };
        address.sll_family = u16::try_from(libc::AF_PACKET).expect("a small number");
        address.sll_protocol = self.protocol.to_be();
        address.sll_ifindex = i32::try_from(self.link).map_err(io::Error::other)?;
        address.sll_halen = 6;
        address.sll_addr[..6].copy_from_slice(&to);
        let length = libc::socklen_t::try_from(size_of::<libc::sockaddr_ll>()).expect("a small number");
        // SAFETY: both buffers live as long as the call and are as long as said.
        let sent = unsafe { libc::sendto(self.socket.as_raw_fd(), frame.as_ptr().cast(), frame.len(), 0, (&raw const address).cast(), length) };
        if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }
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
