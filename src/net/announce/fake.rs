//! Links in memory.

use std::{collections::BTreeSet, net::IpAddr, time::Duration};

use async_trait::async_trait;
use ipnetwork::IpNetwork;
use parking_lot::Mutex;

use super::{Change, LinkAddresses, LinkView};
use crate::netlink::NetlinkError;

/// Records what is done to it.
pub struct FakeLinkAddresses {
    links: Mutex<Vec<LinkView>>,
    lifetime: Mutex<Option<Duration>>,
    strangers: Mutex<BTreeSet<IpAddr>>,
}

impl FakeLinkAddresses {
    /// One link with these addresses.
    pub fn new(own: Vec<IpNetwork>) -> Self {
        FakeLinkAddresses {
            links: Mutex::new(vec![LinkView { index: 2, name: "eth0".into(), own, announced: Vec::new() }]),
            lifetime: Mutex::default(),
            strangers: Mutex::default(),
        }
    }

    /// Somebody else answers for an address from now on, or no more.
    pub fn set_stranger(&self, address: IpAddr, answers: bool) {
        let mut strangers = self.strangers.lock();
        if answers {
            strangers.insert(address);
        } else {
            strangers.remove(&address);
        }
    }

    /// What is announced now.
    pub fn announced(&self) -> Vec<IpAddr> {
        self.links.lock().iter().flat_map(|link| link.announced.clone()).collect()
    }

    /// What was said last about how long addresses stand.
    pub fn lifetime(&self) -> Option<Duration> {
        *self.lifetime.lock()
    }
}

#[async_trait]
impl LinkAddresses for FakeLinkAddresses {
    async fn links(&self) -> Result<Vec<LinkView>, NetlinkError> {
        Ok(self.links.lock().clone())
    }

    async fn apply(&self, change: Change, lifetime: Option<Duration>) -> Result<(), NetlinkError> {
        let mut links = self.links.lock();
        match change {
            Change::Remove { link, address } => {
                links.iter_mut().filter(|view| view.index == link).for_each(|view| view.announced.retain(|held| *held != address));
            }
            Change::Add { link, address } => links.iter_mut().filter(|view| view.index == link).for_each(|view| view.announced.push(address)),
            Change::Renew { .. } => {}
        }
        *self.lifetime.lock() = lifetime;
        Ok(())
    }

    async fn stranger(&self, _: u32, address: IpAddr, _: &[IpAddr]) -> Option<String> {
        self.strangers.lock().contains(&address).then(|| "02:00:00:00:00:99".to_owned())
    }
}
