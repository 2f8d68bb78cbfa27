//! Networks without parts of theirs. Pure.

use std::net::{Ipv4Addr, Ipv6Addr};

use ipnetwork::{IpNetwork, Ipv4Network, Ipv6Network};

/// The networks that make up `block` without `except`, disjoint and in order.
pub fn without(block: IpNetwork, except: &[IpNetwork]) -> Vec<IpNetwork> {
    let block = normal(block);
    let inside: Vec<IpNetwork> = except.iter().copied().map(normal).filter(|part| overlap(block, *part)).collect();
    if inside.is_empty() {
        return vec![block];
    }
    if inside.iter().any(|part| part.prefix() <= block.prefix()) {
        return Vec::new();
    }
    let Some((lower, upper)) = halves(block) else { return Vec::new() };
    let mut rest = without(lower, &inside);
    rest.extend(without(upper, &inside));
    rest
}

/// The network itself, whichever of its addresses it was written with.
pub fn normal(network: IpNetwork) -> IpNetwork {
    IpNetwork::new(network.network(), network.prefix()).expect("the prefix is that of a network")
}

/// One of two networks that overlap holds the other.
fn overlap(one: IpNetwork, other: IpNetwork) -> bool {
    one.contains(other.network()) || other.contains(one.network())
}

fn halves(network: IpNetwork) -> Option<(IpNetwork, IpNetwork)> {
    let prefix = network.prefix() + 1;
    match network {
        IpNetwork::V4(network) => {
            let bit = 1u32.checked_shl(32u32.checked_sub(prefix.into())?)?;
            let upper = Ipv4Addr::from(u32::from(network.network()) | bit);
            Some((Ipv4Network::new(network.network(), prefix).ok()?.into(), Ipv4Network::new(upper, prefix).ok()?.into()))
        }
        IpNetwork::V6(network) => {
            let bit = 1u128.checked_shl(128u32.checked_sub(prefix.into())?)?;
            let upper = Ipv6Addr::from(u128::from(network.network()) | bit);
            Some((Ipv6Network::new(network.network(), prefix).ok()?.into(), Ipv6Network::new(upper, prefix).ok()?.into()))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use proptest::prelude::*;

    use super::*;

    fn network(text: &str) -> IpNetwork {
        text.parse().expect("a network")
    }

    fn rest(block: &str, except: &[&str]) -> Vec<String> {
        without(network(block), &except.iter().copied().map(network).collect::<Vec<_>>()).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn parts_are_cut_out() {
        assert_eq!(rest("10.0.0.0/8", &[]), ["10.0.0.0/8"]);
        assert_eq!(rest("10.0.0.0/30", &["10.0.0.2/32"]), ["10.0.0.0/31", "10.0.0.3/32"]);
        assert_eq!(rest("10.0.0.0/24", &["10.0.0.0/8"]), [] as [&str; 0]);
        assert_eq!(rest("fd00::/126", &["fd00::1/128", "10.0.0.0/8"]), ["fd00::/128", "fd00::2/127"]);
    }

    proptest! {
        #[test]
        fn an_address_is_in_the_rest_exactly_when_it_is_in_the_block_and_in_no_exception(
            block in (any::<u32>(), 0u8..=32), parts in prop::collection::vec((any::<u32>(), 4u8..=32), 0..4), address in any::<u32>(), near in any::<bool>(),
        ) {
            let make = |(address, prefix): (u32, u8)| IpNetwork::new(IpAddr::V4(address.into()), prefix).expect("a network");
            let block = make(block);
            // Most random parts lie elsewhere: let some be parts of the block.
            let IpAddr::V4(base) = block.network() else { unreachable!() };
            let host = u32::MAX.checked_shr(block.prefix().into()).unwrap_or(0);
            let within = |address: u32| if near { u32::from(base) | (address & host) } else { address };
            let parts: Vec<IpNetwork> = parts.into_iter().map(|(address, prefix)| make((within(address), prefix))).collect();
            let address = IpAddr::V4(within(address).into());
            let expected = block.contains(address) && !parts.iter().any(|part| part.contains(address));
            let rest = without(block, &parts);
            prop_assert_eq!(rest.iter().filter(|network| network.contains(address)).count(), usize::from(expected));
        }
    }
}
