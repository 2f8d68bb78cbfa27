//! How much may be in work at once: requests, and the bodies that have come for them.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use parking_lot::Mutex;
use troupe_api::{auth::groups::holder, service::UserInfo, status::Status};

/// Bodies of one user that are coming or in work: ten of the longest.
const USER_BYTES: usize = 10 * MAX_BODY;
/// Those of all users.
const ALL_BYTES: usize = 40 * MAX_BODY;

/// Counts requests in work.
#[derive(Clone, Debug, Default)]
pub struct InFlight {
    now: Arc<AtomicUsize>,
    /// 0 means no limit.
    limit: usize,
}

/// A request's place; free again when dropped.
#[derive(Debug)]
pub struct Place(Arc<AtomicUsize>);

impl InFlight {
    pub fn new(limit: usize) -> Self {
        InFlight { now: Arc::default(), limit }
    }

    /// How many there are.
    pub fn now(&self) -> usize {
        self.now.load(Ordering::Relaxed)
    }

    /// Takes a place that is not limited.
    pub fn begin(&self) -> Place {
        self.now.fetch_add(1, Ordering::Relaxed);
        Place(self.now.clone())
    }

    /// Takes a place.
    ///
    /// # Errors
    /// 429 with Retry-After when all are taken.
    pub fn enter(&self) -> Result<Place, Status> {
        let place = self.begin();
        if self.limit > 0 && self.now() > self.limit {
            return Err(too_many());
        }
        Ok(place)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

fn too_many() -> Status {
    Status::too_many_requests("Too many requests, please try again later.", 1)
}

/// Keeps account of bodies, so that nobody fills the memory with requests that never become whole.
#[derive(Clone, Debug)]
pub struct Bodies(Arc<Mutex<Account>>);

#[derive(Debug)]
struct Account {
    /// The most of one user's, and of all together.
    most: (usize, usize),
    all: usize,
    /// By [`holder`].
    users: HashMap<String, usize>,
}

/// The part of one request; given back when dropped.
#[derive(Debug)]
pub struct Held {
    /// `None` for a request that is never held back.
    bodies: Option<Bodies>,
    user: Arc<UserInfo>,
    bytes: usize,
}

impl Default for Bodies {
    fn default() -> Self {
        Bodies::bounded(USER_BYTES, ALL_BYTES)
    }
}

impl Bodies {
    /// At most so many bytes of one user, and of all.
    pub fn bounded(user: usize, all: usize) -> Self {
        Bodies(Arc::new(Mutex::new(Account { most: (user, all), all: 0, users: HashMap::new() })))
    }

    /// For a request of `user`; an `exempt` one may send what it likes.
    pub fn hold(&self, user: &Arc<UserInfo>, exempt: bool) -> Held {
        Held { bodies: (!exempt).then(|| self.clone()), user: user.clone(), bytes: 0 }
    }
}

impl Held {
    /// So much has come.
    ///
    /// # Errors
    /// 429 when that is more than its user, or everybody together, may send at once.
    pub fn add(&mut self, bytes: usize) -> Result<(), Status> {
        let Some(bodies) = &self.bodies else { return Ok(()) };
        let mut account = bodies.0.lock();
        let Account { most: (most_of_user, most), all, users } = &mut *account;
        match users.get_mut(holder(&self.user)) {
            _ if *all + bytes > *most => return Err(too_many()),
            Some(of_user) if *of_user + bytes > *most_of_user => return Err(too_many()),
            Some(of_user) => *of_user += bytes,
            None => {
                users.insert(holder(&self.user).to_owned(), bytes);
            }
        }
        *all += bytes;
        self.bytes += bytes;
        Ok(())
    }
}

impl Held {
    /// Gives back what has come so far.
    pub fn release(&mut self) {
        let (Some(bodies), 1..) = (&self.bodies, self.bytes) else { return };
        let mut account = bodies.0.lock();
        account.all -= self.bytes;
        if let Some(of_user) = account.users.get_mut(holder(&self.user)) {
            *of_user -= self.bytes;
            if *of_user == 0 {
                account.users.remove(holder(&self.user));
            }
        }
        self.bytes = 0;
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.release();
    }
}

/// The longest body taken, as upstream.
pub const MAX_BODY: usize = 3 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_free_again_when_its_request_ends() {
        let limits = InFlight::new(1);
        let place = limits.enter().expect("free");
        assert_eq!(limits.enter().expect_err("taken").code, 429);
        drop(place);
        assert!(limits.enter().is_ok());
    }

    #[test]
    fn many_accounts_of_one_namespace_hold_no_more_than_one() {
        let bodies = Bodies::default();
        let account = |name: &str| Arc::new(UserInfo { name: format!("system:serviceaccount:{name}"), ..UserInfo::default() });
        let mut held: Vec<Held> = (0..10).map(|number| bodies.hold(&account(&format!("a:{number}")), false)).collect();
        for held in &mut held {
            held.add(MAX_BODY).expect("up to ten bodies");
        }
        assert_eq!(bodies.hold(&account("a:another"), false).add(1).expect_err("no more").code, 429);
        bodies.hold(&account("b:1"), false).add(MAX_BODY).expect("another namespace has room of its own");
        drop(held);
        assert_eq!(bodies.0.lock().users.len(), 0);
    }

    #[test]
    fn one_user_cannot_hold_what_all_need() {
        let bodies = Bodies::default();
        let user = |name: &str| Arc::new(UserInfo { name: name.into(), ..UserInfo::default() });
        let (ann, bob) = (user("ann"), user("bob"));
        let mut held: Vec<Held> = (0..10).map(|_| bodies.hold(&ann, false)).collect();
        for held in &mut held {
            held.add(MAX_BODY).expect("up to ten bodies");
        }
        assert_eq!(bodies.hold(&ann, false).add(1).expect_err("no more").code, 429);
        assert!(bodies.hold(&ann, true).add(1).is_ok());
        bodies.hold(&bob, false).add(MAX_BODY).expect("bob has room of his own");
        held.pop();
        assert!(bodies.hold(&ann, false).add(MAX_BODY).is_ok());
        drop(held);
        let account = bodies.0.lock();
        assert_eq!((account.all, account.users.len()), (0, 0));
    }
}
