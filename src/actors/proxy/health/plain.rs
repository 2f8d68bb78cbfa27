//! That a daemon answers at all, without TLS and for anybody: for who looks after it on its own machine.

use std::{io, net::SocketAddr, sync::Arc};

use super::{
    document::Document,
    server::{Answer, Server},
};
use crate::zpages::Asked;

const TEXT: &str = "text/plain; charset=utf-8";

/// Serves until it is dropped.
#[derive(Debug)]
pub struct PlainHealth {
    _server: Server,
}

impl PlainHealth {
    /// Says `ok` at `/healthz` and `/healthz/ping`. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// When it cannot listen there.
    pub fn start(address: SocketAddr) -> io::Result<Self> {
        let answer: Answer = Arc::new(|asked: &Asked<'_>| answer(asked.path));
        Ok(PlainHealth { _server: Server::start(address, answer)? })
    }
}

fn answer(path: &str) -> Option<Document> {
    let is_known = matches!(path, "/healthz" | "/healthz/" | "/healthz/ping");
    is_known.then(|| Document { code: 200, body: "ok".into(), content_type: TEXT, ..Document::default() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn health_alone_is_told() {
        let told = answer("/healthz").expect("is told");
        assert_eq!((told.code, told.body.as_str(), told.content_type), (200, "ok", TEXT));
        assert!(answer("/healthz/ping").is_some());
        assert!(["/", "/healthz/odd", "/metrics", "/healthzz"].into_iter().all(|path| answer(path).is_none()));
    }

    #[tokio::test]
    async fn a_port_that_is_taken_is_told_of() {
        let taken = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("a port");
        assert!(PlainHealth::start(taken.local_addr().expect("an address")).is_err());
    }
}
