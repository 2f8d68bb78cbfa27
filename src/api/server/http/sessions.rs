//! Sessions: followed logs, exec, attach, port-forward and proxied requests. Each holds connections and files of its own beside the
//! client's, and over HTTP/2 one connection of a client has many; so they are counted, and end with their client's connection.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use actix_web::{
    HttpRequest, HttpResponse,
    body::{BodySize, BoxBody, MessageBody},
};

use super::{
    connections::{self, Connection, connection_of, open_files},
    limits::{Bodies, Held},
};

/// The files that a session may hold: its end of the connection to a kubelet, the kubelet's end, what is read there, and one to notice
/// that the client leaves.
const FILES: usize = 4;
/// What sessions may hold of the files that the process may have open: two fifths.
const SHARE: usize = 5;
/// All sessions, where files are not bounded.
const MOST: usize = 30_000;

/// The account of sessions. One user has half of them at most.
pub fn account() -> Bodies {
    let all = open_files().map_or(MOST, |files| (files / SHARE * 2 / FILES).min(MOST));
    Bodies::bounded(all / 2, all)
}

/// Counts a session until its reply has ended, which it does when its client is gone.
pub fn count(request: &HttpRequest, held: Held, response: HttpResponse) -> HttpResponse {
    let connection = connection_of(request);
    response.map_body(|_, body| Session::new(body, connection, held).boxed())
}

/// What a session sends to its client.
struct Session {
    body: BoxBody,
    gone: Pin<Box<dyn Future<Output = ()>>>,
    _held: Held,
}

impl Session {
    fn new(body: BoxBody, connection: Option<Arc<Connection>>, held: Held) -> Self {
        Session { body, gone: Box::pin(connections::gone(connection)), _held: held }
    }
}

impl MessageBody for Session {
    type Error = <BoxBody as MessageBody>::Error;

    fn size(&self) -> BodySize {
        self.body.size()
    }

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<actix_web::web::Bytes, Self::Error>>> {
        if self.gone.as_mut().poll(context).is_ready() {
            return Poll::Ready(None);
        }
        Pin::new(&mut self.body).poll_next(context)
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use actix_web::{Error, body::BodyStream, web::Bytes};
    use futures::{future::poll_fn, stream};
    use tokio::time::timeout;

    use super::*;
    use troupe_api::service::UserInfo;

    #[tokio::test]
    async fn a_session_that_says_nothing_ends_with_its_clients_connection_and_counts_until_then() {
        let (account, user) = (Bodies::bounded(1, 2), Arc::new(UserInfo { name: "ann".into(), ..UserInfo::default() }));
        let connection = Arc::new(Connection::new(0, Instant::now()));
        let mut held = account.hold(&user, false);
        held.add(1).expect("the first");
        let silent = BodyStream::new(stream::pending::<Result<Bytes, Error>>()).boxed();
        let mut session = Session::new(silent, Some(connection.clone()), held);
        let mut next = async || poll_fn(|context| Pin::new(&mut session).poll_next(context)).await.is_none();
        assert!(timeout(Duration::from_millis(100), next()).await.is_err(), "its client is there");
        assert_eq!(account.hold(&user, false).add(1).expect_err("it counts").code, 429);
        connection.closed();
        assert!(timeout(Duration::from_secs(5), next()).await.expect("it ends"));
        drop(session);
        account.hold(&user, false).add(1).expect("nothing is counted any more");
    }
}
