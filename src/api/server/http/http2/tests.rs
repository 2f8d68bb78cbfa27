use std::convert::Infallible;

use actix_service::fn_service;
use futures::future::pending;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

use super::{unread::MOST, *};

const GOAWAY: u8 = 7;
const ENHANCE_YOUR_CALM: u32 = 11;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("short");
    [&length.to_be_bytes()[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// The head of `POST /` in HPACK's static table, with a body to follow.
fn post(stream: u32) -> Vec<u8> {
    const END_HEADERS: u8 = 4;
    frame(1, END_HEADERS, stream, &[0x83, 0x84, 0x87, 0x01, 1, b'h'])
}

/// Serves one connection whose requests are kept and never read.
fn keep() -> (DuplexStream, actix_web::rt::task::JoinHandle<Result<(), h2::Error>>) {
    let (client, server) = tokio::io::duplex(64 << 10);
    let app = fn_service(|request: Request| async move {
        let _kept = request;
        pending::<Result<Response<BoxBody>, Infallible>>().await
    });
    let connection = Arc::new(Connection::new(0, std::time::Instant::now()));
    connection.identify("ann");
    let serving = async move {
        let app = actix_service::ServiceFactory::<Request>::new_service(&app, ()).await.expect("a service");
        serve::<_, _, BoxBody>(server, Rc::new(app), connection, None, CancellationToken::new()).await
    };
    (client, actix_web::rt::spawn(serving))
}

/// The error that the server closes the connection with, if it does while `frames` are sent.
async fn closed_with(frames: Vec<u8>) -> Option<u32> {
    let (client, serving) = keep();
    let (mut from, mut to) = tokio::io::split(client);
    let sending = actix_web::rt::spawn(async move {
        let preface = [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".as_slice(), &frame(4, 0, 0, &[])].concat();
        // A server that has enough reads no more.
        let _ = to.write_all(&preface).await;
        let _ = to.write_all(&frames).await;
        pending::<()>().await
    });
    let reading = async {
        loop {
            let mut head = [0; 9];
            from.read_exact(&mut head).await.ok()?;
            let mut payload = vec![0; usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2])];
            from.read_exact(&mut payload).await.ok()?;
            if head[3] == GOAWAY {
                return Some(u32::from_be_bytes(payload[4..8].try_into().expect("four bytes")));
            }
        }
    };
    let found = timeout(Duration::from_secs(2), reading).await.ok().flatten();
    if found.is_some() {
        let ended = timeout(Duration::from_secs(5), serving).await;
        assert!(ended.is_ok(), "the connection ends");
    }
    sending.abort();
    found
}

#[actix_web::test]
async fn a_connection_with_too_many_frames_unread_is_closed() {
    let data = |stream, count: usize, payload: &[u8]| frame(0, 0, stream, payload).repeat(count);
    assert_eq!(closed_with([post(1), data(1, MOST - 10, &[])].concat()).await, None);
    assert_eq!(closed_with([post(1), data(1, MOST, &[])].concat()).await, Some(ENHANCE_YOUR_CALM));
    // Those of all streams count together, and short ones as empty ones.
    let several = [1, 3, 5].map(|stream| [post(stream), data(stream, MOST / 2, b"x")].concat());
    assert_eq!(closed_with(several.concat()).await, Some(ENHANCE_YOUR_CALM));
}

#[actix_web::test]
async fn frames_of_connections_are_not_queued_without_end() {
    // Each is answered, and no more is read than the answers have gone: nothing grows, and the connection stays.
    let pings = frame(6, 0, 0, &[7; 8]).repeat(20_000);
    assert_eq!(closed_with(pings).await, None);
    let settings = frame(4, 0, 0, &[]).repeat(20_000);
    assert_eq!(closed_with(settings).await, None);
    // Headers that never end are not collected.
    let endless = [frame(1, 0, 1, &[0x83]), frame(9, 0, 1, &[]).repeat(20_000)].concat();
    assert_eq!(closed_with(endless).await, Some(ENHANCE_YOUR_CALM));
    // Requests that are taken back at once.
    let resets: Vec<u8> = (0..20_000).flat_map(|at| [post(2 * at + 1), frame(3, 0, 2 * at + 1, &[0; 4])].concat()).collect();
    assert_eq!(closed_with(resets).await, Some(ENHANCE_YOUR_CALM));
}
