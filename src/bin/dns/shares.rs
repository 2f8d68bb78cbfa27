//! What each client has of what there is for all: one pod must not keep the others from being answered.

use std::{collections::HashMap, net::IpAddr, sync::Arc};

use parking_lot::Mutex;

/// Counts what clients hold.
#[derive(Debug)]
pub struct Shares {
    most: usize,
    held: Mutex<HashMap<IpAddr, usize>>,
}

/// One of what a client holds, until it is dropped.
#[derive(Debug)]
pub struct Share {
    of: Arc<Shares>,
    client: IpAddr,
}

impl Shares {
    /// Each client may hold so many.
    pub fn new(most: usize) -> Arc<Self> {
        Arc::new(Shares { most, held: Mutex::default() })
    }

    /// One more for a client, unless it has its share.
    pub fn claim(self: &Arc<Self>, client: IpAddr) -> Option<Share> {
        let client = client.to_canonical();
        let mut held = self.held.lock();
        let count = held.entry(client).or_default();
        if *count >= self.most {
            return None;
        }
        *count += 1;
        Some(Share { of: self.clone(), client })
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut held = self.of.held.lock();
        if let Some(count) = held.get_mut(&self.client) {
            *count -= 1;
            if *count == 0 {
                held.remove(&self.client);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_has_its_share_and_gets_it_back() {
        let shares = Shares::new(2);
        let (one, other) = (IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 2]));
        let held: Vec<_> = (0..5).filter_map(|_| shares.claim(one)).collect();
        assert_eq!(held.len(), 2);
        assert!(shares.claim("::ffff:10.0.0.1".parse().expect("an address")).is_none(), "it is the same one");
        assert!(shares.claim(other).is_some());
        drop(held);
        assert!(shares.claim(one).is_some());
        assert!(shares.held.lock().is_empty());
    }
}
