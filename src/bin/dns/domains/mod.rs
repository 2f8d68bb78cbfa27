//! What pods are answered for the domain names that cluster network policies have, told to all nodes.
//!
//! ```text
//! ClusterNetworkPolicies ─► names ─┐
//! reply of upstream, or a kept one ┴► learn ─► what is not told yet ─► writer ─► slices ─► every node, and every DNS server
//! ```
//!
//! All DNS servers share the slices, and see what the others told: each address is written once, and again when half of its time is over. A reply
//! with an address that is new waits until that is told, so that the pod's first packet passes, and no longer than [`PATIENCE`]. What was learned
//! outlives every server. Where not all addresses of a name have room, [`entries`] says which stay. What leads into the cluster is not told: the
//! servers follow [`cluster`] for that while policies have any names.

mod book;
mod cluster;
mod entries;
mod slice;
mod writer;

#[cfg(test)]
mod tests;

use std::{
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use hickory_proto::op::Message;
use parking_lot::Mutex;
use tokio::{
    sync::{Notify, watch},
    time::timeout,
};
use troupe_net::dns::{
    cluster_addresses::{Source, SourceKind},
    domain_names::{addresses, asked_for},
};

pub use self::cluster::{ClusterNode, ServiceRange, name_of, of_service, of_slice};
pub use self::slice::{AddressSlice, NamingPolicy};
use self::{book::Book, entries::Asked};

/// How long a reply waits for what it says to be told.
pub const PATIENCE: Duration = Duration::from_millis(250);
/// What nodes take from when an address is told until their rules let packets through.
const SETTLING: Duration = Duration::from_millis(50);

/// See the module.
#[derive(Debug)]
pub struct Domains {
    book: Mutex<Book>,
    /// Policies name any: most have none, and then a query takes no lock.
    is_naming: AtomicBool,
    /// The same for those who wait for it.
    naming: watch::Sender<bool>,
    /// There is something to write.
    wake: Notify,
    /// Counts the slices that were seen.
    seen: watch::Sender<u64>,
    /// What was written last did not get through: nobody waits for more.
    failing: AtomicBool,
}

impl Default for Domains {
    fn default() -> Self {
        Domains {
            book: Mutex::default(),
            is_naming: AtomicBool::new(false),
            naming: watch::Sender::new(false),
            wake: Notify::new(),
            seen: watch::Sender::new(0),
            failing: AtomicBool::new(false),
        }
    }
}

/// Addresses that a reply names and nodes are not told yet.
#[derive(Debug)]
pub struct News {
    domains: Arc<Domains>,
    /// By slice.
    addresses: Vec<(String, IpAddr)>,
}

impl Domains {
    /// Notes what a query of a client is answered; gives what the reply has to wait for.
    pub fn learn(self: &Arc<Self>, client: IpAddr, query: &Message, reply: &Message) -> Option<News> {
        if !self.is_naming.load(Ordering::Relaxed) {
            return None;
        }
        let [question] = query.queries.as_slice() else { return None };
        let full = asked_for(question.name());
        let (names, by) = {
            let book = self.book.lock();
            (book.names_of(&full), book.asker(client))
        };
        if names.is_empty() {
            return None;
        }
        let addresses = addresses(query, reply);
        let lesson = self.book.lock().learn(&names, &Asked::new(&full, by), &addresses, now());
        for (ip, why) in &lesson.refused {
            eprintln!("{full} leads to {ip}, and is not told to nodes: {why}");
        }
        if lesson.is_news {
            self.wake.notify_one();
        }
        let waits = !lesson.unknown.is_empty() && !self.failing.load(Ordering::Relaxed);
        waits.then(|| News { domains: self.clone(), addresses: lesson.unknown })
    }

    pub fn set_policy(&self, policy: NamingPolicy) {
        self.change_policies(|book| book.set_policy(policy));
    }

    pub fn remove_policy(&self, name: &str) {
        self.change_policies(|book| book.remove_policy(name));
    }

    pub fn replace_policies(&self, all: Vec<NamingPolicy>) {
        self.change_policies(|book| book.replace_policies(all));
    }

    fn change_policies(&self, change: impl FnOnce(&mut Book)) {
        let mut book = self.book.lock();
        change(&mut book);
        let is_naming = book.is_naming();
        self.is_naming.store(is_naming, Ordering::Relaxed);
        self.naming.send_if_modified(|known| std::mem::replace(known, is_naming) != is_naming);
    }

    /// Resolves when policies name any domain, or none.
    pub async fn naming_is(&self, wanted: bool) {
        let mut changes = self.naming.subscribe();
        // There is a sender for as long as somebody waits here.
        let _ = changes.wait_for(|is_naming| *is_naming == wanted).await;
    }

    pub fn set_slice(&self, slice: AddressSlice) {
        self.wake_if(self.book.lock().set_slice(slice));
        self.seen.send_modify(|count| *count += 1);
    }

    pub fn remove_slice(&self, name: &str) {
        self.book.lock().remove_slice(name);
    }

    pub fn replace_slices(&self, all: Vec<AddressSlice>) {
        self.wake_if(self.book.lock().replace_slices(all));
        self.seen.send_modify(|count| *count += 1);
    }

    /// Nobody follows slices, nodes and ServiceCIDRs any more: before anything is written they have to be listed again.
    pub fn follow_no_more(&self) {
        self.book.lock().follow_no_more();
    }

    /// What an object tells of the cluster's addresses; nothing when it is gone.
    pub fn set_cluster<T: AsRef<str>>(&self, source: Source, told: impl IntoIterator<Item = T>) {
        self.wake_if(self.book.lock().set_cluster(source, told));
    }

    /// The same of all objects of a kind, by their names.
    pub fn replace_cluster<T: AsRef<str>>(&self, kind: SourceKind, all: impl IntoIterator<Item = (String, Vec<T>)>) {
        self.wake_if(self.book.lock().replace_cluster(kind, all));
    }

    fn wake_if(&self, is_to_write: bool) {
        if is_to_write {
            self.wake.notify_one();
        }
    }
}

impl News {
    /// Resolves when nodes let packets to these addresses through, or nobody should wait any longer.
    pub async fn told(self) {
        let mut seen = self.domains.seen.subscribe();
        let told = async {
            while !self.domains.book.lock().has(&self.addresses) {
                if seen.changed().await.is_err() {
                    return;
                }
            }
            tokio::time::sleep(SETTLING).await;
        };
        // The rules come a moment later then, and the pod tries again.
        let _ = timeout(PATIENCE, told).await;
    }
}

/// Seconds since 1970.
fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}
