//! The open connections: shared by all requests, opened when needed, moved to the next server when one does not answer.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use tokio::runtime::Handle;

use super::{
    access::{Generation, LiveAccess},
    connection::{Connection, DialError, Lease},
};

/// After a round over all servers failed, who asks within this time hears of that failure.
const REST: Duration = Duration::from_millis(100);

/// See the module.
pub struct Pool {
    pub access: LiveAccess,
    /// Where connections are driven, whichever thread asked for them.
    home: Handle,
    connect_timeout: Duration,
    connections: Mutex<Vec<Arc<Connection>>>,
    /// The server that is tried first: the last that answered.
    preferred: AtomicUsize,
    /// Held while connecting, so that many requests open one connection. When the last round failed, and why.
    dialing: tokio::sync::Mutex<Option<(Instant, String)>>,
}

impl Pool {
    /// A pool whose connections live on the runtime it is made on.
    pub fn new(access: LiveAccess, connect_timeout: Duration) -> Self {
        Pool {
            access,
            home: Handle::current(),
            connect_timeout,
            connections: Mutex::default(),
            preferred: AtomicUsize::new(0),
            dialing: tokio::sync::Mutex::default(),
        }
    }

    /// A place on a connection that shows our certificate, or on one that shows none.
    ///
    /// # Errors
    /// Why no server can be reached.
    pub async fn lease(&self, show_certificate: bool) -> Result<Lease, String> {
        let access = self.access.current();
        if let Some(lease) = self.find(access.number, show_certificate) {
            return Ok(lease);
        }
        let mut failed = self.dialing.lock().await;
        if let Some(lease) = self.find(access.number, show_certificate) {
            return Ok(lease);
        }
        if let Some((at, why)) = &*failed
            && at.elapsed() < REST
        {
            return Err(why.clone());
        }
        match self.dial_any(&access, show_certificate).await {
            Ok(connection) => {
                *failed = None;
                let connection = Arc::new(connection);
                let lease = connection.lease().expect("a new connection is free");
                self.connections.lock().push(connection);
                Ok(lease)
            }
            Err(error) => {
                // Perhaps our certificate is no longer taken.
                self.access.look_soon();
                *failed = Some((Instant::now(), error.to_string()));
                Err(error.to_string())
            }
        }
    }

    /// A place on an open connection.
    fn find(&self, generation: u64, shows_certificate: bool) -> Option<Lease> {
        let mut connections = self.connections.lock();
        connections.retain(|connection| connection.is_usable() && connection.generation == generation);
        connections.iter().filter(|connection| connection.shows_certificate == shows_certificate).find_map(Connection::lease)
    }

    /// Connects to the first server that answers, beginning with the preferred one.
    async fn dial_any(&self, access: &Arc<Generation>, show_certificate: bool) -> Result<Connection, DialError> {
        let first = self.preferred.load(Relaxed);
        let mut last = DialError::Runtime;
        for at in 0..access.servers.len() {
            let index = (first + at) % access.servers.len();
            match self.dial(access.clone(), index, show_certificate).await {
                Ok(connection) => {
                    self.preferred.store(index, Relaxed);
                    return Ok(connection);
                }
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    async fn dial(&self, access: Arc<Generation>, index: usize, show_certificate: bool) -> Result<Connection, DialError> {
        let limit = self.connect_timeout;
        let dialing = self.home.spawn(async move {
            let address = &access.servers[index];
            let tls = if show_certificate { &access.tls } else { &access.tls_without_certificate };
            let dialing = Connection::dial(address, access.server_name.as_deref(), tls.clone(), access.number, show_certificate);
            tokio::time::timeout(limit, dialing).await.unwrap_or_else(|_| Err(DialError::TimedOut(address.authority())))
        });
        dialing.await.unwrap_or(Err(DialError::Runtime))
    }

    /// A server answered that it cannot serve: the next requests go to another one where there is one.
    pub fn avoid(&self, connection: &Connection) {
        if self.access.current().servers.len() > 1 {
            connection.retire();
            self.preferred.fetch_add(1, Relaxed);
        }
    }
}
