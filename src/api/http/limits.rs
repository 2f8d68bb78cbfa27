//! How many requests may be in work at once.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use crate::status::Status;

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

    /// Takes a place.
    ///
    /// # Errors
    /// 429 with Retry-After when all are taken.
    pub fn enter(&self) -> Result<Place, Status> {
        let before = self.now.fetch_add(1, Ordering::Relaxed);
        let place = Place(self.now.clone());
        if self.limit > 0 && before >= self.limit {
            return Err(Status::too_many_requests("Too many requests, please try again later.", 1));
        }
        Ok(place)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

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
}
