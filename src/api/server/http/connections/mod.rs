//! The connections of a server: how many there may be, and which of them take too long.
//!
//! Whoever shows neither a certificate nor a credential is nobody, and there are only so many connections of nobody: one more
//! ends the oldest from where most of them come, so that those who come to say who they are always find a place, however fast
//! somebody else connects. Users have so many each and together: there, too, whoever has most gives way. Every connection is bounded
//! in what it may send outside of requests and in how long it may take for a request's head, for a reply to leave, and for doing
//! nothing.

mod connection;
mod groups;
mod metered;
mod peer;

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use actix_web::{HttpMessage, HttpRequest};
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

pub use connection::{Connection, Work};
pub use metered::Metered;
pub use peer::{PeerSocket, Socket};
use troupe_api::{
    auth::groups::{MASTERS, holder},
    service::UserInfo,
    status::Status,
};

use self::groups::Groups;

/// Connections of nobody.
const OF_NOBODY: usize = 1000;
/// Connections of one user, or of all service accounts of a namespace. All nodes' agents may share one.
const OF_ONE_USER: usize = 5000;
/// Connections of all users but administrators, where the process may have that many files open.
const OF_ALL_USERS: usize = 20_000;
/// How often connections are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The connections of one server.
#[derive(Clone, Debug)]
pub struct Connections(Arc<Table>);

#[derive(Debug)]
struct Table {
    began: Instant,
    of_nobody: usize,
    of_one_user: usize,
    of_all_users: usize,
    listed: Mutex<Listed>,
}

#[derive(Debug, Default)]
struct Listed {
    /// Numbers grow, so the first is the oldest.
    next: u64,
    all: HashMap<u64, Arc<Connection>>,
    nobodys: Groups<IpAddr>,
    users: Groups<String>,
}

impl Default for Connections {
    fn default() -> Self {
        // What the store, the runtime and watches need stays.
        let files = open_files().map_or(usize::MAX, |most| most / 5 * 3);
        Connections::new(OF_NOBODY, OF_ONE_USER, OF_ALL_USERS.min(files))
    }
}

impl Connections {
    fn new(of_nobody: usize, of_one_user: usize, of_all_users: usize) -> Self {
        Connections(Arc::new(Table { began: Instant::now(), of_nobody, of_one_user, of_all_users, listed: Mutex::default() }))
    }

    /// A connection that was just accepted from this address, for as long as what comes back lives.
    pub fn admit(&self, from: IpAddr) -> Admitted {
        let mut listed = self.0.listed.lock();
        let number = listed.next;
        listed.next += 1;
        let connection = Arc::new(Connection::new(number, self.0.began));
        listed.all.insert(number, connection.clone());
        listed.nobodys.insert(origin(from), connection.clone());
        if listed.nobodys.len() > self.0.of_nobody
            && let Some(oldest) = listed.nobodys.pop()
        {
            oldest.end("too many connections of nobody");
        }
        Admitted { connection, connections: self.clone() }
    }

    /// The peer proved by a certificate to belong to the cluster.
    pub fn vouched(&self, connection: &Connection) {
        connection.vouch();
        self.0.listed.lock().nobodys.remove(connection.number());
    }

    /// A request on the connection came from `user`.
    ///
    /// # Errors
    /// 429 when that user has too many connections; then this one ends.
    pub fn identified(&self, connection: &Connection, user: &UserInfo) -> Result<(), Status> {
        if connection.user().is_some() {
            return Ok(());
        }
        let (holder, is_master) = (holder(user).to_owned(), user.groups.iter().any(|group| group == MASTERS));
        let mut listed = self.0.listed.lock();
        if !is_master && listed.users.of(&holder) >= self.0.of_one_user {
            connection.close_after_reply();
            return Err(Status::too_many_requests("Too many connections, please try again later.", 1));
        }
        if connection.identify(&user.name) {
            listed.nobodys.remove(connection.number());
            if let Some(known) = listed.all.get(&connection.number()).filter(|_| !is_master).cloned() {
                listed.users.insert(holder, known);
            }
            if listed.users.len() > self.0.of_all_users
                && let Some(oldest) = listed.users.pop()
            {
                oldest.end("too many connections of all users");
            }
        }
        Ok(())
    }

    /// Ends connections that take too long, until `stopping`.
    pub async fn watch(self, stopping: CancellationToken) {
        let mut ticks = tokio::time::interval(LOOK_EVERY);
        while stopping.run_until_cancelled(ticks.tick()).await.is_some() {
            for connection in self.0.listed.lock().all.values() {
                if let Some(why) = connection.overdue() {
                    connection.end(why);
                }
            }
        }
    }

    fn forget(&self, connection: &Connection) {
        let mut listed = self.0.listed.lock();
        listed.all.remove(&connection.number());
        listed.nobodys.remove(connection.number());
        listed.users.remove(connection.number());
    }
}

/// A host, or with IPv6 its network: whoever has one address there has all.
fn origin(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6((u128::from(address) & !u128::from(u64::MAX)).into()),
        address => address,
    }
}

/// How many files this process may have open.
pub fn open_files() -> Option<usize> {
    let limits = std::fs::read_to_string("/proc/self/limits").ok()?;
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

/// A connection on the list of its server; off it when dropped.
#[derive(Debug)]
pub struct Admitted {
    pub connection: Arc<Connection>,
    connections: Connections,
}

impl Drop for Admitted {
    fn drop(&mut self) {
        self.connections.forget(&self.connection);
    }
}

/// The connection that a request came on: HTTP/1.1 keeps it with the connection, HTTP/2 with each request.
pub fn connection_of(request: &HttpRequest) -> Option<Arc<Connection>> {
    let kept = request.conn_data::<Arc<Connection>>().cloned();
    kept.or_else(|| request.extensions().get::<Arc<Connection>>().cloned())
}

/// When the client of a connection has left. Then it ends.
pub async fn gone(connection: Option<Arc<Connection>>) {
    match connection {
        Some(connection) => connection.gone().await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    fn user(name: &str) -> UserInfo {
        UserInfo { name: name.into(), ..UserInfo::default() }
    }

    #[test]
    fn one_more_connection_of_nobody_ends_the_oldest_and_no_other() {
        let connections = Connections::new(2, 5, 9);
        let (known, vouched) = (connections.admit(HERE), connections.admit(HERE));
        connections.identified(&known.connection, &user("ann")).expect("the first");
        connections.vouched(&vouched.connection);
        let nobodys: Vec<Admitted> = (0..4).map(|_| connections.admit(HERE)).collect();
        let ended: Vec<bool> = nobodys.iter().map(|admitted| admitted.connection.is_ended()).collect();
        assert_eq!(ended, [true, true, false, false]);
        assert!(!known.connection.is_ended() && !vouched.connection.is_ended());
        drop(nobodys);
        let listed = connections.0.listed.lock();
        assert_eq!((listed.all.len(), listed.nobodys.len()), (2, 0));
        drop(listed);
    }

    #[test]
    fn whoever_floods_a_server_ends_connections_of_its_own() {
        let connections = Connections::new(10, 5, 9);
        let admit = |last: u8| connections.admit(IpAddr::from([10, 0, 0, last]));
        let quiet: Vec<Admitted> = (1..4).map(admit).collect();
        let flood: Vec<Admitted> = (0..5000).map(|_| admit(9)).collect();
        assert!(quiet.iter().all(|admitted| !admitted.connection.is_ended()));
        assert_eq!(flood.iter().filter(|admitted| !admitted.connection.is_ended()).count(), 7);
        assert!(!admit(4).connection.is_ended());
    }

    #[test]
    fn one_user_has_only_so_many_connections_and_gets_them_back() {
        let connections = Connections::new(10, 2, 9);
        let mut held: Vec<Admitted> = (0..3).map(|_| connections.admit(HERE)).collect();
        let told = |admitted: &Admitted, name: &str| connections.identified(&admitted.connection, &user(name)).map_err(|status| status.code);
        assert_eq!(held.iter().map(|admitted| told(admitted, "ann")).collect::<Vec<_>>(), [Ok(()), Ok(()), Err(429)]);
        assert_eq!(told(&held[0], "ann"), Ok(()), "it is counted once");
        assert_eq!(told(&connections.admit(HERE), "bob"), Ok(()));
        held.remove(0);
        assert_eq!(told(&connections.admit(HERE), "ann"), Ok(()));
    }

    #[test]
    fn service_accounts_of_a_namespace_share_and_the_largest_holder_gives_way() {
        let connections = Connections::new(100, 6, 10);
        let told = |name: &str| {
            let admitted = connections.admit(HERE);
            let told = connections.identified(&admitted.connection, &user(name)).map_err(|status| status.code);
            (admitted, told)
        };
        let accounts: Vec<_> = (0..8).map(|number| told(&format!("system:serviceaccount:ns:{number}"))).collect();
        assert_eq!(accounts.iter().filter(|(_, told)| told.is_ok()).count(), 6);
        let others: Vec<_> = (0..6).map(|number| told(&format!("user{number}"))).collect();
        let living = |all: &[(Admitted, Result<(), u16>)]| all.iter().filter(|(one, told)| told.is_ok() && !one.connection.is_ended()).count();
        assert_eq!((living(&accounts), living(&others)), (4, 6));
    }
}
