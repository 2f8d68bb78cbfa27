//! The ports at which programs of this machine listen: a pod's host port would take their clients from them, whoever they are.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use troupe_net::overlay;

use crate::scheduler::demand::HostPort;

/// The state of a socket that listens, as `/proc/net/tcp` shows it.
const LISTENS: &str = "0A";

/// Where packets of the tunnel between nodes come in, or will when there is another node: who has that port reads what all pods say to
/// each other.
pub fn tunnel() -> HostPort {
    HostPort { protocol: "UDP".into(), ..HostPort::everywhere(overlay::PORT.into()) }
}

/// Where TCP sockets of this network namespace listen.
pub fn listening() -> Vec<HostPort> {
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"].map(|path| fs::read_to_string(path).unwrap_or_default());
    tables.iter().flat_map(|table| table.lines().skip(1).filter_map(listener)).map(HostPort::listening).collect()
}

/// The address of a line, if it is one that listens.
fn listener(line: &str) -> Option<SocketAddr> {
    let mut fields = line.split_whitespace().skip(1);
    let (address, port) = fields.next()?.split_once(':')?;
    (fields.nth(1)? == LISTENS).then_some(())?;
    Some(SocketAddr::new(ip(address)?.to_canonical(), u16::from_str_radix(port, 16).ok()?))
}

/// An address as words of the machine's byte order.
fn ip(text: &str) -> Option<IpAddr> {
    let mut bytes = Vec::with_capacity(16);
    for at in (0..text.len()).step_by(8) {
        bytes.extend(u32::from_str_radix(text.get(at..at + 8)?, 16).ok()?.to_ne_bytes());
    }
    let four = <[u8; 4]>::try_from(&*bytes).ok().map(|bytes| Ipv4Addr::from(bytes).into());
    four.or_else(|| <[u8; 16]>::try_from(&*bytes).ok().map(|bytes| Ipv6Addr::from(bytes).into()))
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn who_listens_is_found_and_who_is_only_connected_is_not() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("bound");
        let client = std::net::TcpStream::connect(address).expect("connects");
        let found = listening();
        assert!(found.contains(&HostPort::listening(address)), "{found:?}");
        assert!(!found.contains(&HostPort::listening(client.local_addr().expect("bound"))));
        let six = "0: 00000000000000000000000001000000:1F90 00000000000000000000000000000000:0000 0A";
        let all = "1: 00000000000000000000000000000000:1F90 00000000000000000000000000000000:0000 0A";
        assert_eq!([six, all].map(super::listener), ["[::1]:8080", "[::]:8080"].map(|text| text.parse().ok()));
    }
}
