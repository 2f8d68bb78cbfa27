//! Whole documents on their way to a client: handed out in slices and kept account of.
//!
//! Who asks and does not read would otherwise have the server hold a document, and a copy of it in the connection, for each question.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use actix_web::{
    HttpMessage, HttpRequest, HttpResponse,
    body::{BodySize, BoxBody, MessageBody},
    http::{Method, Version},
};
use bytes::Bytes;
use parking_lot::Mutex;
use troupe_api::{service::UserInfo, status::Status};

use super::limits::{Bodies, Held};
use crate::flow::{Classified, Seat, Watching};

/// Shorter documents cost no more than the connection that they go to, where it has one at a time.
const LARGE: u64 = 16 << 10;
/// Shorter pieces of a watch cost no more than the watch.
const LARGE_PIECE: usize = 4 << 10;
const SLICE: usize = 32 << 10;
/// Documents that wait for the clients of one user, and for those of all.
const USER_BYTES: usize = 64 << 20;
const ALL_BYTES: usize = 256 << 20;
/// Watches of one user, and of all.
const USER_WATCHES: usize = 5_000;
const ALL_WATCHES: usize = 30_000;

/// The account of documents that wait for their clients.
pub fn account() -> Bodies {
    Bodies::bounded(USER_BYTES, ALL_BYTES)
}

/// A document, slice by slice.
pub struct Sliced {
    rest: Bytes,
    _held: Option<Held>,
}

impl Sliced {
    /// One that many clients share.
    pub fn shared(document: Bytes) -> Self {
        Sliced { rest: document, _held: None }
    }
}

impl MessageBody for Sliced {
    type Error = Infallible;

    fn size(&self) -> BodySize {
        BodySize::Sized(self.rest.len() as u64)
    }

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Bytes, Infallible>>> {
        let length = self.rest.len().min(SLICE);
        Poll::Ready((length > 0).then(|| Ok(self.rest.split_to(length))))
    }
}

/// The account of watches, each of which costs about as much as a short document.
pub fn account_of_watches() -> Bodies {
    Bodies::bounded(USER_WATCHES, ALL_WATCHES)
}

/// A watch, which counts until it ends, as does what it has given out and nobody has taken.
pub struct Counted {
    pub stream: BoxBody,
    pub _held: Held,
    /// In the account of documents that wait.
    pub waiting: Held,
    /// What it has until it has told what it begins with.
    pub beginning: Beginning,
    /// Makes what it hears of more work.
    pub _watching: Option<Watching>,
}

/// The seats of a watch that begins.
#[derive(Clone, Debug, Default)]
pub struct Beginning(Arc<Mutex<Option<Seat>>>);

/// Nobody who reads slowly has them for longer.
const LONGEST_BEGINNING: Duration = Duration::from_secs(5);

impl Beginning {
    pub fn new(seat: Option<Seat>) -> Self {
        if seat.is_none() {
            return Beginning::default();
        }
        let beginning = Beginning(Arc::new(Mutex::new(seat)));
        let held = Arc::downgrade(&beginning.0);
        tokio::spawn(async move {
            tokio::time::sleep(LONGEST_BEGINNING).await;
            if let Some(held) = held.upgrade() {
                Beginning(held).over();
            }
        });
        beginning
    }

    fn over(&self) {
        let seat = self.0.lock().take();
        drop(seat);
    }
}

impl MessageBody for Counted {
    type Error = <BoxBody as MessageBody>::Error;

    fn size(&self) -> BodySize {
        self.stream.size()
    }

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, Self::Error>>> {
        // Whoever asks for more has sent what was there before.
        self.waiting.release();
        let next = Pin::new(&mut self.stream).poll_next(context);
        if next.is_pending() {
            self.beginning.over();
        }
        match &next {
            Poll::Ready(Some(Ok(piece))) if piece.len() > LARGE_PIECE && self.waiting.add(piece.len()).is_err() => {
                tracing::debug!("a watch ends: its user lets too much wait");
                Poll::Ready(None)
            }
            _ => next,
        }
    }
}

/// Keeps account of a large document in `response` until it is sent; of any over HTTP/2, where a connection has many.
///
/// # Errors
/// 429 when the user lets too much wait; 504 where that comes to light only after something was written.
pub fn keep(request: &HttpRequest, replies: &Bodies, response: HttpResponse) -> Result<HttpResponse, Status> {
    let uncounted = if request.version() == Version::HTTP_2 { 0 } else { LARGE };
    if !matches!(response.body().size(), BodySize::Sized(length) if length > uncounted) {
        return Ok(response);
    }
    let extensions = request.extensions();
    let exempt = extensions.get::<Classified>().is_some_and(Classified::is_exempt);
    let held = extensions.get::<Arc<UserInfo>>().map(|user| replies.hold(user, exempt));
    let (response, body) = response.into_parts();
    let document = match body.try_into_bytes() {
        Ok(document) => document,
        Err(stream) => return Ok(response.set_body(stream)),
    };
    let held = held.map(|held| take(held, document.len(), request.method())).transpose()?;
    Ok(response.set_body(Sliced { rest: document, _held: held }.boxed()))
}

fn take(mut held: Held, length: usize, method: &Method) -> Result<Held, Status> {
    match held.add(length) {
        Ok(()) => Ok(held),
        Err(status) if matches!(*method, Method::GET | Method::HEAD) => Err(status),
        Err(_) => Err(Status::timeout("the request did not complete in time, its outcome is unknown")),
    }
}

#[cfg(test)]
mod tests {
    use actix_web::{body::to_bytes, test::TestRequest};

    use super::*;

    fn asked(name: &str) -> HttpRequest {
        let request = TestRequest::default().to_http_request();
        request.extensions_mut().insert(Arc::new(UserInfo { name: name.into(), ..UserInfo::default() }));
        request
    }

    fn short() -> HttpResponse {
        HttpResponse::Ok().body(vec![7; 1 << 10])
    }

    fn large() -> HttpResponse {
        HttpResponse::Ok().body(vec![7; 1 << 20])
    }

    #[actix_web::test]
    async fn a_document_arrives_whole() {
        let kept = keep(&asked("ann"), &account(), large()).expect("there is room");
        assert_eq!(kept.body().size(), BodySize::Sized(1 << 20));
        assert_eq!(to_bytes(kept.into_body()).await.expect("arrives"), vec![7; 1 << 20]);
        let small = keep(&asked("ann"), &account(), HttpResponse::Ok().body("x")).expect("is small");
        assert_eq!(to_bytes(small.into_body()).await.expect("arrives"), "x");
    }

    #[actix_web::test]
    async fn nobody_lets_more_wait_than_their_share() {
        let replies = account();
        let mut waiting: Vec<HttpResponse> = (0..64).map(|_| keep(&asked("ann"), &replies, large()).expect("there is room")).collect();
        assert_eq!(keep(&asked("ann"), &replies, large()).map(drop).expect_err("too much").code, 429);
        keep(&asked("bob"), &replies, large()).expect("bob has room of his own");
        drop(waiting.pop());
        keep(&asked("ann"), &replies, large()).expect("there is room again");
    }
    #[actix_web::test]
    async fn over_http2_short_documents_count_too() {
        let replies = Bodies::bounded(1 << 10, 1 << 20);
        let request = |version| {
            let request = TestRequest::default().version(version).to_http_request();
            request.extensions_mut().insert(Arc::new(UserInfo { name: "ann".into(), ..UserInfo::default() }));
            request
        };
        let waits = keep(&request(Version::HTTP_2), &replies, short()).expect("there is room");
        assert_eq!(keep(&request(Version::HTTP_2), &replies, short()).map(drop).expect_err("too much").code, 429);
        keep(&request(Version::HTTP_11), &replies, short()).expect("is the only one of its connection");
        drop(waits);
        keep(&request(Version::HTTP_2), &replies, short()).expect("there is room again");
    }

    #[actix_web::test]
    async fn watches_whose_pieces_nobody_takes_end() {
        let (replies, watches) = (Bodies::bounded(100 << 10, 1 << 20), account_of_watches());
        let user = Arc::new(UserInfo { name: "ann".into(), ..UserInfo::default() });
        let watch = || {
            let pieces = futures::stream::iter((0..3).map(|_| Ok::<_, Infallible>(Bytes::from(vec![7; 60 << 10]))));
            let stream = actix_web::body::BodyStream::new(pieces).boxed();
            Box::pin(Counted {
                stream,
                _held: watches.hold(&user, false),
                waiting: replies.hold(&user, false),
                beginning: Beginning::default(),
                _watching: None,
            })
        };
        let (mut first, mut second) = (watch(), watch());
        let next = async |watch: &mut Pin<Box<Counted>>| std::future::poll_fn(|context| watch.as_mut().poll_next(context)).await;
        for _ in 0..2 {
            assert_eq!(next(&mut first).await.expect("goes on").expect("a piece").len(), 60 << 10);
        }
        assert!(next(&mut second).await.is_none(), "the first one's piece still waits");
        let mut third = watch();
        drop(first);
        assert!(next(&mut third).await.is_some());
    }
}
