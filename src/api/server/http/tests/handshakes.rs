//! Many handshakes at once.

use std::{
    io::{ErrorKind, Write},
    net::TcpStream,
    sync::Arc,
};

use rustls::{ClientConnection, pki_types::ServerName};
use troupe_api::auth::tls;

use super::{client::Door, fake::FakeService};

const FLOOD: usize = 200;

/// The first words of a client.
fn hello(door: &Door) -> Vec<u8> {
    let config = tls::client_config(door.pki.ca_pem(), None).expect("a TLS configuration");
    let mut client = ClientConnection::new(Arc::new(config), ServerName::from(door.handle.addr().ip())).expect("a client");
    let mut words = Vec::new();
    client.write_tls(&mut words).expect("there is room");
    words
}

/// Whether the server has said anything.
fn is_answered(connection: &TcpStream) -> bool {
    connection.set_nonblocking(true).expect("a TCP socket");
    match connection.peek(&mut [0]) {
        Err(error) if error.kind() == ErrorKind::WouldBlock => false,
        said => said.expect("the server lives") > 0,
    }
}

#[actix_web::test]
async fn who_is_at_work_waits_for_a_few_handshakes_of_a_flood_and_not_for_all() {
    let door = Door::open(FakeService::new(), |_| {});
    let mut admin = door.connect(true).await;
    let hello = hello(&door);
    let mut fewest = FLOOD;
    // This thread may be kept from looking in time; once it was not.
    for _ in 0..10 {
        let connections: Vec<TcpStream> = (0..FLOOD).map(|_| TcpStream::connect(door.handle.addr()).expect("connects")).collect();
        for mut connection in &connections {
            connection.write_all(&hello).expect("the server lives");
        }
        assert_eq!(admin.get("/version").await.status, 200);
        fewest = fewest.min(connections.iter().filter(|connection| is_answered(connection)).count());
    }
    assert!(fewest < FLOOD / 2, "{fewest} of {FLOOD} handshakes came first");
}

#[actix_web::test]
async fn those_who_say_nothing_keep_nobody_waiting() {
    let door = Door::open(FakeService::new(), |_| {});
    // This thread also starts the server, and must not block before.
    door.connect(true).await;
    let _silent: Vec<TcpStream> = (0..FLOOD).map(|_| TcpStream::connect(door.handle.addr()).expect("connects")).collect();
    let mut half = TcpStream::connect(door.handle.addr()).expect("connects");
    half.write_all(&hello(&door)[..40]).expect("the server lives");
    let connecting = tokio::time::timeout(std::time::Duration::from_secs(5), door.connect(true));
    assert_eq!(connecting.await.expect("in time").get("/version").await.status, 200);
}
