//! Gratuitous ARP (RFC 5227): tells neighbours where an address is now.

use std::{
    io, mem,
    net::Ipv4Addr,
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
};

const BROADCAST: [u8; 6] = [0xff; 6];
const ARP: u16 = 0x0806;
const REQUEST: u16 = 1;
const REPLY: u16 = 2;

/// Tells them, as a request and as a reply: some take only the one, some only the other.
pub fn tell(link: u32, address: Ipv4Addr) -> io::Result<()> {
    let own = hardware_address(link)?;
    let socket = socket()?;
    [REQUEST, REPLY].into_iter().try_for_each(|operation| send(&socket, link, &frame(own, address, operation)))
}

/// A frame that says to all that `address` is at `own`.
fn frame(own: [u8; 6], address: Ipv4Addr, operation: u16) -> Vec<u8> {
    let mut frame = Vec::with_capacity(42);
    frame.extend(BROADCAST);
    frame.extend(own);
    frame.extend(ARP.to_be_bytes());
    // Ethernet and IPv4, with addresses of six and four bytes.
    frame.extend([0, 1, 8, 0, 6, 4]);
    frame.extend(operation.to_be_bytes());
    frame.extend(own);
    frame.extend(address.octets());
    frame.extend(BROADCAST);
    frame.extend(address.octets());
    frame
}

fn hardware_address(link: u32) -> io::Result<[u8; 6]> {
    let odd = || io::Error::new(io::ErrorKind::Unsupported, "the link has no Ethernet address");
    let name = nix::net::if_::if_indextoname(link)?;
    let text = shown_address(&name.to_string_lossy())?;
    let bytes: Vec<u8> = text.trim().split(':').map(|part| u8::from_str_radix(part, 16)).collect::<Result<_, _>>().map_err(|_| odd())?;
    <[u8; 6]>::try_from(bytes).ok().filter(|address| *address != [0; 6]).ok_or_else(odd)
}

/// Not from `/sys`, which shows the links of the namespace that it was mounted in.
fn shown_address(name: &str) -> io::Result<String> {
    let found = nix::ifaddrs::getifaddrs()?.filter(|interface| interface.interface_name == name);
    let link = found.filter_map(|interface| interface.address?.as_link_addr()?.addr()).next();
    let link = link.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "the link is gone"))?;
    Ok(link.map(|byte| format!("{byte:02x}")).join(":"))
}

fn socket() -> io::Result<OwnedFd> {
    // SAFETY: no memory is passed; a descriptor that is returned is nobody else's.
    let socket = unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, i32::from(ARP.to_be())) };
    if socket < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: it was opened above.
    Ok(unsafe { OwnedFd::from_raw_fd(socket) })
}

fn send(socket: &OwnedFd, link: u32, frame: &[u8]) -> io::Result<()> {
    // SAFETY: all zero is a value of this type.
    let mut to: libc::sockaddr_ll = unsafe { mem::zeroed() };
    to.sll_family = u16::try_from(libc::AF_PACKET).expect("a small number");
    to.sll_protocol = ARP.to_be();
    to.sll_ifindex = i32::try_from(link).map_err(io::Error::other)?;
    to.sll_halen = 6;
    to.sll_addr[..6].copy_from_slice(&BROADCAST);
    let length = libc::socklen_t::try_from(size_of::<libc::sockaddr_ll>()).expect("a small number");
    // SAFETY: both buffers live as long as the call and are as long as said.
    let sent = unsafe { libc::sendto(socket.as_raw_fd(), frame.as_ptr().cast(), frame.len(), 0, (&raw const to).cast(), length) };
    if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_names_the_address_as_its_senders_and_its_own() {
        let frame = frame([2, 0, 0, 0, 0, 9], Ipv4Addr::new(192, 0, 2, 7), REPLY);
        assert_eq!(frame.len(), 42);
        assert_eq!(frame[..14], [255, 255, 255, 255, 255, 255, 2, 0, 0, 0, 0, 9, 8, 6]);
        assert_eq!(frame[20..32], [0, 2, 2, 0, 0, 0, 0, 9, 192, 0, 2, 7]);
        assert_eq!(frame[38..], [192, 0, 2, 7]);
    }

    #[test]
    fn a_link_that_is_no_ethernet_is_told_so() {
        let loopback = nix::net::if_::if_nametoindex("lo").expect("there is one");
        assert!(hardware_address(loopback).is_err());
    }
}
