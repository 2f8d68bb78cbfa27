//! Informational replies (`100 Continue`, `102 Processing`, `103 Early Hints`), of which any number may come before the reply that counts.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use hyper::{Request, ext::on_informational};
use tokio::sync::Notify;

/// As many as Go's client takes.
const MOST: usize = 5;
/// What is told of more, in its words.
pub const TOO_MANY: &str = "too many 1xx informational responses";

/// Counts the informational replies to one request.
#[derive(Debug)]
pub struct Informational(Arc<Notify>);

impl Informational {
    /// Counts those to a request that is about to be sent over HTTP/1.1.
    pub fn of<B>(request: &mut Request<B>) -> Self {
        let (count, too_many) = (AtomicUsize::new(0), Arc::new(Notify::new()));
        let told = too_many.clone();
        on_informational(request, move |_| {
            if count.fetch_add(1, Ordering::Relaxed) >= MOST {
                told.notify_one();
            }
        });
        Informational(too_many)
    }

    /// Resolves when there were too many. Whoever waits for the reply gives up then, and that ends the connection.
    pub async fn too_many(&self) {
        self.0.notified().await;
    }
}
