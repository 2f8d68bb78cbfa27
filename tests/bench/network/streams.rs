//! How much one TCP connection carries.

use std::{
    io::{self, Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    thread,
    time::{Duration, Instant},
};

use super::{End, PATIENCE};

/// Where the receiving end listens.
pub const PORT: u16 = 7100;
/// What is not counted: the connection is still getting faster.
const WARM_UP: Duration = Duration::from_millis(150);
const COUNTED: Duration = Duration::from_millis(700);
/// Bytes of one call of the kernel.
const CHUNK: usize = 128 << 10;

/// A port that is listened at until this is dropped.
pub fn listen(at: &End) -> TcpListener {
    at.within(|| TcpListener::bind((Ipv4Addr::UNSPECIFIED, PORT))).expect("the port is free")
}

/// Bytes a second from one end to `address`, which leads to `listener`.
pub fn bytes_per_second(from: &End, address: SocketAddr, listener: &TcpListener) -> f64 {
    let mut sending = from.within(|| TcpStream::connect_timeout(&address, PATIENCE)).expect("connects");
    let port = sending.local_addr().expect("it has one").port();
    sending.set_write_timeout(Some(PATIENCE)).expect("takes it");
    let arriving = accepted(listener, port);
    let receiver = thread::spawn(move || receive(arriving));
    let chunk = vec![0; CHUNK];
    // It ends with the receiver, who has enough.
    while sending.write_all(&chunk).is_ok() {}
    receiver.join().expect("no panic").expect("bytes arrive")
}

/// The connection from a port; such that were made to see whether anybody listens come before it.
fn accepted(listener: &TcpListener, port: u16) -> TcpStream {
    listener.set_nonblocking(true).expect("takes it");
    let begun = Instant::now();
    loop {
        match listener.accept() {
            Ok((stream, from)) if from.port() == port => {
                stream.set_nonblocking(false).expect("takes it");
                return stream;
            }
            Ok(_) => {}
            Err(error) => {
                assert!(error.kind() == io::ErrorKind::WouldBlock && begun.elapsed() < PATIENCE, "nobody comes from port {port}: {error}");
                thread::sleep(Duration::from_millis(1));
            }
        }
    }
}

fn receive(mut stream: TcpStream) -> io::Result<f64> {
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut buffer = vec![0; CHUNK];
    read_for(WARM_UP, &mut stream, &mut buffer)?;
    let begun = Instant::now();
    let bytes = read_for(COUNTED, &mut stream, &mut buffer)?;
    Ok(bytes as f64 / begun.elapsed().as_secs_f64())
}

/// Reads for a time; how many bytes.
fn read_for(time: Duration, stream: &mut TcpStream, buffer: &mut [u8]) -> io::Result<u64> {
    let (begun, mut bytes) = (Instant::now(), 0);
    while begun.elapsed() < time {
        match stream.read(buffer)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            count => bytes += count as u64,
        }
    }
    Ok(bytes)
}
