//! Decides which steps lead to every other node. Pure.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use ipnetwork::IpNetwork;

use super::{Mac, Observed, Place, Step, TunnelEnd, Via, mac_of};

/// What should stand.
#[derive(Default)]
struct Wanted {
    routes: BTreeMap<IpNetwork, Via>,
    tunnel: Option<TunnelEnd>,
    neighbours: BTreeMap<IpAddr, Mac>,
    forwarding: BTreeSet<(Mac, IpAddr)>,
}

/// The steps from what the kernel has to what `me` needs to reach the pods of `others`. What is no longer wanted goes
/// first, routes before the entries they lean on; what is new comes in the opposite order. Plain routes wait for no tunnel:
/// they stand also where the kernel makes none.
pub fn plan(me: Place, others: &[Place], observed: &Observed) -> Vec<Step> {
    let wanted = wanted(me, others, observed);
    let mut steps = Vec::new();
    let stale = |destination: &&IpNetwork| !wanted.routes.contains_key(destination);
    steps.extend(observed.routes.keys().filter(stale).map(|destination| Step::RemoveRoute(*destination)));
    // A tunnel that ends elsewhere now is made anew, and its entries with it.
    let kept = observed.tunnel.filter(|tunnel| Some(*tunnel) == wanted.tunnel);
    if observed.tunnel.is_some() && kept.is_none() {
        steps.push(Step::RemoveTunnel);
    }
    let (neighbours, forwarding) = match kept {
        Some(_) => (observed.neighbours.clone(), observed.forwarding.clone()),
        None => Default::default(),
    };
    steps.extend(neighbours.keys().filter(|inner| !wanted.neighbours.contains_key(inner)).map(|inner| Step::RemoveNeighbour(*inner)));
    steps.extend(forwarding.difference(&wanted.forwarding).map(|(mac, node)| Step::RemoveForwarding(*mac, *node)));
    let missing = |&(destination, via): &(&IpNetwork, &Via)| {
        // The kernel drops the routes of an interface that goes.
        let lost = kept.is_none() && matches!(via, Via::Tunnel(_));
        lost || observed.routes.get(destination) != Some(via)
    };
    let routes = wanted.routes.iter().filter(missing).map(|(destination, via)| Step::SetRoute(*destination, *via));
    let (plain, through): (Vec<Step>, Vec<Step>) = routes.partition(|step| matches!(step, Step::SetRoute(_, Via::Link(_))));
    steps.extend(plain);
    if kept.is_none() {
        steps.extend(wanted.tunnel.map(Step::MakeTunnel));
    }
    steps.extend(wanted.forwarding.difference(&forwarding).map(|(mac, node)| Step::SetForwarding(*mac, *node)));
    let changed = |(inner, mac): &(&IpAddr, &Mac)| neighbours.get(inner) != Some(mac);
    steps.extend(wanted.neighbours.iter().filter(changed).map(|(inner, mac)| Step::SetNeighbour(*inner, *mac)));
    steps.extend(through);
    if kept.is_some() && observed.strict {
        steps.push(Step::LoosenTunnel);
    }
    steps
}

fn wanted(me: Place, others: &[Place], observed: &Observed) -> Wanted {
    let mut wanted = Wanted::default();
    for other in others.iter().filter(|other| other.address != me.address && other.pods != me.pods) {
        // Also for a node on a shared link: this node may be behind a router for that one, which then sends through the tunnel.
        wanted.tunnel = Some(TunnelEnd { local: me.address, mac: mac_of(me.address), inner: me.pods.network() });
        if observed.on_link.iter().any(|network| network.contains(other.address)) {
            wanted.routes.insert(other.pods, Via::Link(other.address));
            continue;
        }
        let (mac, inner) = (mac_of(other.address), other.pods.network());
        wanted.neighbours.insert(inner, mac);
        wanted.forwarding.insert((mac, other.address));
        wanted.routes.insert(other.pods, Via::Tunnel(inner));
    }
    wanted
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::overlay::{FakeRouting, Routing};

    fn place(address: [u8; 4], number: u8) -> Place {
        Place { address: address.into(), pods: IpNetwork::new([10, 244, number, 0].into(), 24).expect("a network") }
    }

    #[test]
    fn a_node_of_the_other_family_has_a_tunnel_of_its_own() {
        let place = |host: &str, number: u8| Place {
            address: format!("2001:db8:{host}::{number}").parse().expect("an address"),
            pods: format!("fd00:10:244:{number}::/64").parse().expect("a network"),
        };
        let observed = Observed { on_link: vec!["2001:db8:1::/64".parse().expect("a network")], ..Observed::default() };
        let (me, near, far) = (place("1", 1), place("1", 2), place("2", 3));
        let steps = plan(me, &[near, far], &observed);
        assert!(steps.contains(&Step::SetRoute(near.pods, Via::Link(near.address))), "{steps:?}");
        assert!(steps.contains(&Step::SetForwarding(mac_of(far.address), far.address)), "{steps:?}");
        assert!(steps.contains(&Step::SetRoute(far.pods, Via::Tunnel(far.pods.network()))), "{steps:?}");
        assert_ne!(mac_of(near.address), mac_of(far.address));
    }

    fn near(number: u8) -> Place {
        place([192, 168, 0, number], number)
    }

    fn far(number: u8) -> Place {
        place([172, 16, 0, number], number)
    }

    fn on_link() -> Observed {
        Observed { on_link: vec!["192.168.0.0/24".parse().expect("a network")], ..Observed::default() }
    }

    fn end(of: Place) -> TunnelEnd {
        TunnelEnd { local: of.address, mac: mac_of(of.address), inner: of.pods.network() }
    }

    #[test]
    fn a_neighbour_gets_a_plain_route_and_may_send_through_the_tunnel() {
        let steps = plan(near(1), &[near(1), near(2)], &on_link());
        assert_eq!(steps, [Step::SetRoute(near(2).pods, Via::Link(near(2).address)), Step::MakeTunnel(end(near(1)))]);
    }

    #[test]
    fn a_node_alone_has_no_tunnel() {
        assert_eq!(plan(near(1), &[near(1)], &on_link()), []);
    }

    #[test]
    fn both_ends_of_a_way_that_only_one_has_on_its_link_have_the_tunnel() {
        let here = plan(near(1), &[near(2)], &on_link());
        let there = plan(near(2), &[near(1)], &Observed { on_link: vec!["172.16.0.0/24".parse().expect("a network")], ..Observed::default() });
        assert!(there.contains(&Step::SetForwarding(end(near(1)).mac, near(1).address)), "{there:?}");
        assert!(there.contains(&Step::SetRoute(near(1).pods, Via::Tunnel(end(near(1)).inner))), "{there:?}");
        // Where the packets of the one go, the other listens, by the hardware address they are for.
        assert!(here.contains(&Step::MakeTunnel(end(near(1)))), "{here:?}");
    }

    #[test]
    fn a_tunnel_that_refuses_what_is_answered_elsewhere_is_loosened() {
        let mut observed = on_link();
        observed.routes.insert(near(2).pods, Via::Link(near(2).address));
        observed.tunnel = Some(end(near(1)));
        assert_eq!(plan(near(1), &[near(2)], &observed), []);
        observed.strict = true;
        assert_eq!(plan(near(1), &[near(2)], &observed), [Step::LoosenTunnel]);
        assert_eq!(plan(near(1), &[], &observed), [Step::RemoveRoute(near(2).pods), Step::RemoveTunnel]);
    }

    #[test]
    fn a_node_behind_a_router_is_reached_through_the_tunnel() {
        let steps = plan(near(1), &[far(2)], &on_link());
        let mac = mac_of(far(2).address);
        let inner = far(2).pods.network();
        assert_eq!(
            steps,
            [
                Step::MakeTunnel(end(near(1))),
                Step::SetForwarding(mac, far(2).address),
                Step::SetNeighbour(inner, mac),
                Step::SetRoute(far(2).pods, Via::Tunnel(inner)),
            ]
        );
    }

    #[test]
    fn the_last_other_node_takes_the_tunnel_along() {
        let mut observed = on_link();
        observed.routes.insert(far(2).pods, Via::Tunnel(far(2).pods.network()));
        observed.tunnel = Some(end(near(1)));
        observed.forwarding.insert((mac_of(far(2).address), far(2).address));
        assert_eq!(plan(near(1), &[], &observed), [Step::RemoveRoute(far(2).pods), Step::RemoveTunnel]);
    }

    fn clusters() -> impl Strategy<Value = Vec<Place>> {
        proptest::collection::btree_set(2_u8..40, 0..8)
            .prop_map(|numbers| numbers.into_iter().map(|n| if n % 2 == 0 { near(n) } else { far(n) }).collect())
    }

    proptest! {
        #[test]
        fn after_its_steps_nothing_is_left_to_plan(before in clusters(), after in clusters()) {
            let fake = FakeRouting::new(on_link());
            let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
            runtime.block_on(async {
                for others in [&before, &after] {
                    for step in plan(near(1), others, &fake.observe().await.expect("observes")) {
                        fake.apply(&step).await.expect("applies");
                    }
                    assert_eq!(plan(near(1), others, &fake.observe().await.expect("observes")), []);
                }
            });
        }
    }
}
