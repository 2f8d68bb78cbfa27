//! One connection: what it does, and whether that takes too long.

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use super::PeerSocket;
use crate::http::{identity::PeerCertificate, limits::MAX_BODY};

/// A connection without a request lives so long. Clean ends come before: from HTTP/1.1's keep-alive and HTTP/2's GOAWAY.
const IDLE: Duration = Duration::from_secs(150);
/// And one of nobody's, whatever it holds of a request by then.
const IDLE_OF_NOBODY: Duration = Duration::from_secs(30);
/// The head of a request, once it began.
const HEAD: Duration = Duration::from_secs(15);
/// What nobody does not take off the wire.
const STUCK: Duration = Duration::from_secs(10);
/// Requests that a connection may have answered before others have their turn.
const TURN: usize = 16;
/// A client gets so long to read why its body was not.
const REFUSED: Duration = Duration::from_secs(2);
/// How often a connection is looked at whose client may have left. It has left when that is so twice.
const LOOK_AT_PEER: Duration = Duration::from_millis(400);

/// What may come outside of a request: its head, or frames that are none. Nobody also gets no more than this for a body that
/// is refused.
const OUTSIDE: usize = 1 << 20;
/// The same of somebody, whose frames add up over a long time.
const OUTSIDE_OF_SOMEBODY: usize = 64 << 20;

/// A moment that may not have come; milliseconds since the server began, and one.
#[derive(Debug, Default)]
struct Moment(AtomicU64);

impl Moment {
    fn clear(&self) {
        if self.0.load(Relaxed) != 0 {
            self.0.store(0, Relaxed);
        }
    }

    fn set(&self, now: u64) {
        self.0.store(now + 1, Relaxed);
    }

    /// Keeps an earlier moment.
    fn set_first(&self, now: impl FnOnce() -> u64) {
        if self.0.load(Relaxed) == 0 {
            self.set(now());
        }
    }

    fn longer_than(&self, limit: Duration, now: u64) -> bool {
        let since = self.0.load(Relaxed);
        since != 0 && u128::from((now + 1).saturating_sub(since)) > limit.as_millis()
    }
}

/// The state of a connection, which its requests and its socket share.
#[derive(Debug)]
pub struct Connection {
    number: u64,
    began: Instant,
    user: OnceLock<String>,
    certificate: OnceLock<PeerCertificate>,
    vouched: AtomicBool,
    is_http2: AtomicBool,
    closing: AtomicBool,
    upgraded: AtomicBool,
    works: AtomicUsize,
    /// Requests that began.
    begun: AtomicUsize,
    /// Bytes since the last request began.
    received: AtomicUsize,
    quiet: Moment,
    head: Moment,
    stuck: Moment,
    refused: Moment,
    /// Somebody waits for the peer to leave.
    awaited: AtomicBool,
    socket: Mutex<Option<PeerSocket>>,
    end: CancellationToken,
}

/// A request on the connection; over when dropped.
#[derive(Debug)]
pub struct Work(Arc<Connection>);

impl Drop for Work {
    fn drop(&mut self) {
        self.0.quiet.set(self.0.now());
        self.0.works.fetch_sub(1, Relaxed);
    }
}

impl Connection {
    pub fn new(number: u64, began: Instant) -> Self {
        let connection = Connection {
            number,
            began,
            user: OnceLock::new(),
            certificate: OnceLock::new(),
            vouched: AtomicBool::new(false),
            is_http2: AtomicBool::new(false),
            closing: AtomicBool::new(false),
            upgraded: AtomicBool::new(false),
            works: AtomicUsize::new(0),
            begun: AtomicUsize::new(0),
            received: AtomicUsize::new(0),
            quiet: Moment::default(),
            head: Moment::default(),
            stuck: Moment::default(),
            refused: Moment::default(),
            awaited: AtomicBool::new(false),
            socket: Mutex::new(None),
            end: CancellationToken::new(),
        };
        connection.quiet.set(connection.now());
        connection
    }

    pub fn number(&self) -> u64 {
        self.number
    }

    fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX - 1)
    }

    /// Whose request came first.
    pub fn user(&self) -> Option<&str> {
        self.user.get().map(String::as_str)
    }

    /// False when somebody was known before.
    pub fn identify(&self, user: &str) -> bool {
        self.user.set(user.to_owned()).is_ok()
    }

    /// The peer's certificate, which the handshake verified.
    pub fn show(&self, certificate: PeerCertificate) {
        // A handshake happens once.
        let _ = self.certificate.set(certificate);
    }

    pub fn certificate(&self) -> Option<&PeerCertificate> {
        self.certificate.get()
    }

    pub fn vouch(&self) {
        self.vouched.store(true, Relaxed);
    }

    /// Whether nobody has been seen at its other end.
    pub fn is_nobodys(&self) -> bool {
        self.user.get().is_none() && !self.vouched.load(Relaxed)
    }

    /// Frames may come at any time.
    pub fn speaks_http2(&self) {
        self.is_http2.store(true, Relaxed);
    }

    /// A request begins.
    pub fn begin(self: &Arc<Self>) -> Work {
        self.works.fetch_add(1, Relaxed);
        self.begun.fetch_add(1, Relaxed);
        self.received.store(0, Relaxed);
        self.head.clear();
        Work(self.clone())
    }

    /// Whether it is the turn of others of its thread: requests may come without end, and each may be answered at once.
    pub fn is_turn_over(&self) -> bool {
        self.begun.load(Relaxed).is_multiple_of(TURN)
    }

    /// Nobody reads the rest of a request's body: the connection ends once the reply is out.
    pub fn refuse(&self) {
        self.received.store(0, Relaxed);
        self.refused.set(self.now());
    }

    /// Takes no more requests.
    pub fn close_after_reply(&self) {
        self.closing.store(true, Relaxed);
    }

    pub fn is_closing(&self) -> bool {
        self.closing.load(Relaxed)
    }

    /// What comes from now on are no requests.
    pub fn upgrade(&self) {
        self.upgraded.store(true, Relaxed);
    }

    /// Whether more may be read.
    pub fn may_read(&self) -> bool {
        if self.upgraded.load(Relaxed) {
            return true;
        }
        let (nobodys, working) = (self.is_nobodys(), self.works.load(Relaxed) > 0);
        let refused = self.refused.0.load(Relaxed) != 0;
        let limit = match (nobodys, working && !refused) {
            (false, true) => return true,
            (false, false) => OUTSIDE_OF_SOMEBODY,
            (true, true) => MAX_BODY + OUTSIDE,
            (true, false) => OUTSIDE,
        };
        self.received.load(Relaxed) < limit
    }

    /// So much was read.
    pub fn received(&self, bytes: usize) {
        self.received.fetch_add(bytes, Relaxed);
        if self.works.load(Relaxed) == 0 && !self.is_http2.load(Relaxed) {
            self.head.set_first(|| self.now());
        }
    }

    /// Whether the socket takes what is written.
    pub fn written(&self, taken: bool) {
        if taken { self.stuck.clear() } else { self.stuck.set_first(|| self.now()) }
    }

    /// Why it must end now.
    pub fn overdue(&self) -> Option<&'static str> {
        let (now, nobodys, idle) = (self.now(), self.is_nobodys(), self.works.load(Relaxed) == 0);
        let cases = [
            (idle && self.quiet.longer_than(if nobodys { IDLE_OF_NOBODY } else { IDLE }, now), "it was idle"),
            (idle && self.head.longer_than(HEAD, now), "the head of a request took too long"),
            (nobodys && self.stuck.longer_than(STUCK, now), "nobody took the reply"),
            (self.refused.longer_than(REFUSED, now), "the rest of its body is not wanted"),
            (nobodys && idle && !self.may_read(), "it sent too much outside of requests"),
        ];
        cases.into_iter().find(|(overdue, _)| *overdue).map(|(_, why)| why)
    }

    /// Ends it.
    pub fn end(&self, why: &'static str) {
        if !self.end.is_cancelled() {
            tracing::debug!(connection = self.number, user = self.user(), why, "a connection is ended");
            self.end.cancel();
        }
    }

    pub fn is_ended(&self) -> bool {
        self.end.is_cancelled()
    }

    /// When somebody ends it.
    pub async fn ended(&self) {
        self.end.cancelled().await;
    }

    /// When its peer has left or somebody ended it; then it ends. This is known within a second although nobody reads what the peer sent
    /// last, where the kernel has room for that.
    pub async fn gone(&self) {
        self.awaited.store(true, Relaxed);
        let mut left = false;
        loop {
            if self.end.run_until_cancelled(tokio::time::sleep(LOOK_AT_PEER)).await.is_none() {
                return;
            }
            let hung_up = self.socket.lock().as_ref().is_some_and(PeerSocket::is_hung_up);
            if left && hung_up {
                return self.end("its client is gone");
            }
            left = hung_up;
        }
    }

    /// Whether to call [`Connection::watch_socket`].
    pub fn wants_socket(&self) -> bool {
        self.awaited.load(Relaxed) && !self.is_ended() && self.socket.lock().is_none()
    }

    /// This is the socket, until [`Connection::closed`].
    pub fn watch_socket(&self, socket: Option<PeerSocket>) {
        *self.socket.lock() = socket;
    }

    /// The socket is no longer used: whoever waits for its peer waits no more.
    pub fn closed(&self) {
        self.end.cancel();
        *self.socket.lock() = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A connection that began so long before its server's clock shows now.
    fn at(age: Duration) -> (Arc<Connection>, impl Fn(&mut Connection)) {
        let connection = Arc::new(Connection::new(0, Instant::now()));
        (connection, move |connection: &mut Connection| connection.began -= age)
    }

    fn aged(connection: Arc<Connection>, pass: impl Fn(&mut Connection)) -> Option<&'static str> {
        let mut connection = Arc::into_inner(connection).expect("no request is left");
        pass(&mut connection);
        connection.overdue()
    }

    #[test]
    fn a_head_that_never_ends_ends_the_connection_even_after_other_requests() {
        let (connection, pass) = at(HEAD + Duration::from_secs(1));
        drop(connection.begin());
        connection.received(1);
        assert_eq!(connection.overdue(), None);
        assert_eq!(aged(connection, pass), Some("the head of a request took too long"));
        let (connection, pass) = at(HEAD + Duration::from_secs(1));
        connection.speaks_http2();
        connection.received(1);
        assert_eq!(aged(connection, pass), None, "frames may come at any time");
    }

    #[test]
    fn every_few_requests_it_is_the_turn_of_others() {
        let connection = Arc::new(Connection::new(0, Instant::now()));
        let over: Vec<bool> = (0..4 * TURN)
            .map(|_| {
                drop(connection.begin());
                connection.is_turn_over()
            })
            .collect();
        assert_eq!(over.iter().filter(|over| **over).count(), 4);
        assert!(over.chunks(over.len() / 4).all(|turn| turn.iter().rposition(|over| *over) == Some(turn.len() - 1)));
    }

    #[test]
    fn a_quiet_connection_ends_and_one_at_work_does_not() {
        for (age, known, ended) in [(29, false, None), (31, false, Some("it was idle")), (149, true, None), (151, true, Some("it was idle"))] {
            let (connection, pass) = at(Duration::from_secs(age));
            assert!(!known || connection.identify("ann"));
            assert_eq!(aged(connection, pass), ended, "{age} s, known {known}");
        }
        let (connection, _) = at(IDLE);
        let work = connection.begin();
        connection.received(100 << 20);
        assert_eq!(connection.overdue(), None);
        drop(work);
    }

    #[test]
    fn nobody_may_neither_send_without_end_nor_leave_replies_unread() {
        let (connection, pass) = at(STUCK + Duration::from_secs(1));
        connection.written(false);
        assert_eq!(aged(connection, pass), Some("nobody took the reply"));
        let (connection, _) = at(IDLE);
        connection.speaks_http2();
        connection.received(OUTSIDE - 1);
        assert!(connection.may_read());
        connection.received(1);
        assert!(!connection.may_read());
        assert_eq!(connection.overdue(), Some("it sent too much outside of requests"));
        let work = connection.begin();
        assert!(connection.may_read(), "a body may be longer");
        connection.refuse();
        connection.received(OUTSIDE);
        assert!(!connection.may_read(), "unless nobody wants it");
        drop(work);
        connection.vouch();
        assert!(connection.may_read());
    }
}
