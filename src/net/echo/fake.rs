//! Echoes in memory.

use std::{collections::BTreeMap, io, net::IpAddr, time::Duration};

use async_trait::async_trait;
use parking_lot::Mutex;

use super::Echo;

/// Answers for a set of addresses, and remembers who was asked.
#[derive(Debug, Default)]
pub struct FakeEcho {
    answering: Mutex<BTreeMap<IpAddr, Duration>>,
    asked: Mutex<Vec<(IpAddr, Vec<IpAddr>)>>,
    /// Nobody can be asked.
    refusing: Mutex<bool>,
}

impl FakeEcho {
    /// From now on these answer, and no others.
    pub fn answer_for(&self, addresses: &[IpAddr]) {
        *self.answering.lock() = addresses.iter().map(|address| (*address, Duration::from_micros(200))).collect();
    }

    /// Whether raw sockets are refused.
    pub fn refuse(&self, refusing: bool) {
        *self.refusing.lock() = refusing;
    }

    /// Who was asked, and from where.
    pub fn asked(&self) -> Vec<(IpAddr, Vec<IpAddr>)> {
        self.asked.lock().clone()
    }
}

#[async_trait]
impl Echo for FakeEcho {
    async fn ask(&self, source: IpAddr, targets: &[IpAddr], _: Duration) -> io::Result<BTreeMap<IpAddr, Duration>> {
        if *self.refusing.lock() {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        self.asked.lock().push((source, targets.to_vec()));
        let answering = self.answering.lock();
        Ok(targets.iter().filter_map(|target| Some((*target, *answering.get(target)?))).collect())
    }
}
