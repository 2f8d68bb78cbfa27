//! Leases for values that expire, shared by many: events come by the thousand, and a lease each would cost etcd dear.
//!
//! A lease is granted a little longer than asked, and given to everybody whose value would expire within that time.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use tokio::sync::Mutex;

use super::{
    fault::Fault,
    members::{Members, QUICK},
};

/// How much longer than asked a value may live: a twentieth, at most this.
const MAX_SLACK: Duration = Duration::from_secs(60);
/// Keys on one lease; all of them are deleted in one revision.
const MAX_KEYS: u32 = 1000;

/// A lease in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Lease {
    id: i64,
    expires: Instant,
    keys: u32,
}

/// The leases in use, by the time to live that was asked for.
#[derive(Default)]
pub struct Leases {
    by_ttl: Mutex<HashMap<Duration, Lease>>,
}

/// The extra time on a lease for `ttl`.
fn slack(ttl: Duration) -> Duration {
    (ttl / 20).min(MAX_SLACK)
}

/// Whether a value that shall live for `ttl` from `now` may be put on `lease`.
fn fits(lease: &Lease, ttl: Duration, now: Instant) -> bool {
    lease.keys < MAX_KEYS && now + ttl <= lease.expires
}

/// What etcd is asked for: whole seconds, rounded up.
fn seconds(ttl: Duration) -> i64 {
    let whole = ttl.as_secs() + u64::from(ttl.subsec_nanos() > 0);
    i64::try_from(whole.max(1)).unwrap_or(i64::MAX)
}

impl Leases {
    /// A lease on which a value lives for at least `ttl`, and hardly longer.
    pub async fn take(&self, members: &Members, ttl: Duration) -> Result<i64, Fault> {
        // Held over the grant: whoever needs the same lease waits for it instead of asking for another.
        let mut by_ttl = self.by_ttl.lock().await;
        let now = Instant::now();
        by_ttl.retain(|_, lease| lease.expires > now);
        if let Some(lease) = by_ttl.get_mut(&ttl)
            && fits(lease, ttl, now)
        {
            lease.keys += 1;
            return Ok(lease.id);
        }
        let granted = ttl + slack(ttl);
        let id = grant(members, seconds(granted)).await?;
        by_ttl.insert(ttl, Lease { id, expires: now + granted, keys: 1 });
        Ok(id)
    }

    /// Forgets a lease that etcd no longer has.
    pub async fn forget(&self, id: i64) {
        self.by_ttl.lock().await.retain(|_, lease| lease.id != id);
    }
}

/// A grant whose outcome is unclear leaves at worst an unused lease, which expires: so it may be done twice.
async fn grant(members: &Members, ttl: i64) -> Result<i64, Fault> {
    let reply = members.read(QUICK, |member| {
        let mut client = member.lease.clone();
        async move { client.grant(ttl, None).await }
    });
    Ok(reply.await?.id())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_is_shared_until_its_time_or_its_room_is_used_up() {
        let (hour, now) = (Duration::from_secs(3600), Instant::now());
        assert_eq!(slack(hour), Duration::from_secs(60));
        assert_eq!(slack(Duration::from_secs(100)), Duration::from_secs(5));
        let lease = Lease { id: 1, expires: now + hour + slack(hour), keys: 1 };
        assert!(fits(&lease, hour, now + Duration::from_secs(59)));
        assert!(!fits(&lease, hour, now + Duration::from_secs(61)));
        assert!(!fits(&Lease { keys: MAX_KEYS, ..lease }, hour, now));
    }

    #[test]
    fn etcd_is_asked_for_whole_seconds_and_never_for_none() {
        assert_eq!(seconds(Duration::from_millis(315)), 1);
        assert_eq!(seconds(Duration::from_secs(3660)), 3660);
        assert_eq!(seconds(Duration::from_millis(1001)), 2);
    }
}
