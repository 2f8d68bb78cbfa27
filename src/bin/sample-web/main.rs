//! The sample application: a small web server that says who it is and what its ConfigMap says.
//!
//! `GET /` answers the greeting read from `$GREETING_FILE`, the version from `$VERSION` and the host name;
//! `GET /healthz` answers 200 until the server drains. On SIGTERM it goes on serving for `$DRAIN_SECONDS` seconds
//! (default 5), so that no client whose packets still arrive is refused, and then exits 0.

use std::{
    env, fs,
    io::{BufRead, BufReader, Write},
    net::{TcpListener, TcpStream},
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    thread,
    time::{Duration, Instant},
};

static DRAINING: AtomicBool = AtomicBool::new(false);
static IN_FLIGHT: AtomicUsize = AtomicUsize::new(0);

extern "C" fn on_sigterm(_signal: libc::c_int) {
    DRAINING.store(true, Ordering::SeqCst);
}

fn main() -> std::io::Result<()> {
    let handler: extern "C" fn(libc::c_int) = on_sigterm;
    // SAFETY: the handler only stores to an atomic, which is async-signal-safe.
    unsafe { libc::signal(libc::SIGTERM, handler as libc::sighandler_t) };
    let listener = match env::args().nth(1) {
        Some(address) => TcpListener::bind(address)?,
        // Both families, or the one that there is.
        None => TcpListener::bind("[::]:8080").or_else(|_| TcpListener::bind("0.0.0.0:8080"))?,
    };
    println!("listening on {}", listener.local_addr()?);
    thread::spawn(move || accept(&listener));
    while !DRAINING.load(Ordering::SeqCst) {
        thread::sleep(Duration::from_millis(50));
    }
    let drain = env::var("DRAIN_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(5);
    println!("draining for {drain} s");
    thread::sleep(Duration::from_secs(drain));
    let deadline = Instant::now() + Duration::from_secs(5);
    while IN_FLIGHT.load(Ordering::SeqCst) > 0 && Instant::now() < deadline {
        thread::sleep(Duration::from_millis(10));
    }
    println!("drained");
    Ok(())
}

fn accept(listener: &TcpListener) {
    for stream in listener.incoming().flatten() {
        IN_FLIGHT.fetch_add(1, Ordering::SeqCst);
        thread::spawn(move || {
            if let Err(error) = answer(stream) {
                eprintln!("connection failed: {error}");
            }
            IN_FLIGHT.fetch_sub(1, Ordering::SeqCst);
        });
    }
}

fn answer(mut stream: TcpStream) -> std::io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    let request = lines.next().transpose()?.unwrap_or_default();
    for line in lines {
        if line?.is_empty() {
            break;
        }
    }
    let path = request.split_whitespace().nth(1).unwrap_or("/");
    let (status, body) = match path {
        "/healthz" if DRAINING.load(Ordering::SeqCst) => ("503 Service Unavailable", "draining\n".to_owned()),
        "/healthz" => ("200 OK", "ok\n".to_owned()),
        "/" => ("200 OK", page()),
        _ => ("404 Not Found", "not found\n".to_owned()),
    };
    write!(stream, "HTTP/1.1 {status}\r\nContent-Type: text/plain\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len())
}

fn page() -> String {
    let file = env::var("GREETING_FILE").unwrap_or_else(|_| "/etc/web/greeting".into());
    let greeting = fs::read_to_string(file).unwrap_or_else(|error| format!("no greeting: {error}"));
    let host = fs::read_to_string("/etc/hostname").or_else(|_| env::var("HOSTNAME")).unwrap_or_default();
    format!("{} from {} version {}\n", greeting.trim(), host.trim(), env::var("VERSION").unwrap_or_else(|_| "1".into()))
}
