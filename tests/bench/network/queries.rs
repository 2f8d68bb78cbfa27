//! A DNS client that asks the same question again and again, and a server that answers every question. Both know as much of RFC 1035 as that takes.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use super::End;

/// Bytes before the question.
const HEADER: usize = 12;
/// Type A, class IN.
const ADDRESS: [u8; 4] = [0, 1, 0, 1];
/// Questions under way at the same time.
const WINDOW: u16 = 64;
/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(2);

/// Asks one server one question.
pub struct Asker {
    socket: UdpSocket,
    question: Vec<u8>,
}

impl Asker {
    /// For the IPv4 address of `name`.
    pub fn new(from: &End, server: SocketAddr, name: &str) -> Self {
        let socket = from.within(|| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))).expect("binds");
        socket.connect(server).expect("there is a route");
        socket.set_read_timeout(Some(PATIENCE)).expect("takes it");
        // Recursion is desired; one question.
        let mut question = vec![0, 0, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        for label in name.split('.') {
            question.push(u8::try_from(label.len()).expect("labels are short"));
            question.extend_from_slice(label.as_bytes());
        }
        question.push(0);
        question.extend_from_slice(&ADDRESS);
        Asker { socket, question }
    }

    fn send(&self, id: u16) -> io::Result<()> {
        let mut question = self.question.clone();
        question[..2].copy_from_slice(&id.to_be_bytes());
        self.socket.send(&question).map(drop)
    }

    /// The id of the next answer, which must have a record.
    fn receive(&self) -> io::Result<u16> {
        let mut answer = [0; 512];
        let count = self.socket.recv(&mut answer)?;
        let is_good = count > HEADER && answer[2] & 0x80 != 0 && answer[3] & 0x0f == 0 && answer[6..8] != [0, 0];
        if is_good {
            Ok(u16::from_be_bytes([answer[0], answer[1]]))
        } else {
            Err(io::Error::other(format!("answered {:?}", &answer[..count.min(HEADER)])))
        }
    }

    /// Whether there is an answer.
    pub fn is_answered(&self) -> bool {
        self.send(0).and_then(|()| self.receive()).is_ok()
    }

    /// Keeps questions under way for a time; answers a second.
    pub fn flood(&self, time: Duration) -> f64 {
        let (begun, mut count) = (Instant::now(), 0_u32);
        (0..WINDOW).try_for_each(|id| self.send(id)).expect("sends");
        while begun.elapsed() < time {
            let id = self.receive().expect("an answer");
            self.send(id).expect("sends");
            count += 1;
        }
        let rate = f64::from(count) / begun.elapsed().as_secs_f64();
        for _ in 0..WINDOW {
            self.receive().expect("an answer");
        }
        rate
    }

    /// Asks so many times at a rate, whether there are answers yet or not; how long each took, from the shortest to the longest.
    pub fn ask_at(&self, rate: f64, count: u16) -> Vec<Duration> {
        let begun = Instant::now();
        let sent: Vec<AtomicU64> = (0..count).map(|_| AtomicU64::new(0)).collect();
        let mut waits: Vec<Duration> = thread::scope(|scope| {
            let send_all = || {
                for id in 0..count {
                    // Those that are due go out together: a thread does not sleep for less than some fifty microseconds.
                    let due = Duration::from_secs_f64(f64::from(id) / rate);
                    thread::sleep(due.saturating_sub(begun.elapsed()));
                    sent[usize::from(id)].store(nanoseconds_since(begun), Ordering::Release);
                    self.send(id).expect("sends");
                }
            };
            scope.spawn(send_all);
            let mut waits = Vec::new();
            while waits.len() < usize::from(count)
                && let Ok(id) = self.receive()
            {
                waits.push(Duration::from_nanos(nanoseconds_since(begun) - sent[usize::from(id)].load(Ordering::Acquire)));
            }
            waits
        });
        // What is lost has not come for as long as anybody waits.
        waits.resize(usize::from(count), PATIENCE);
        waits.sort_unstable();
        waits
    }
}

fn nanoseconds_since(begun: Instant) -> u64 {
    u64::try_from(begun.elapsed().as_nanos()).expect("less than centuries")
}

/// A server that has an address for every name, until it is dropped.
pub struct Answerer {
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Answerer {
    pub fn at(end: &End, port: u16) -> Self {
        // Of all addresses, answers would leave from the one that is nearest to whoever asked, which is not the one that was asked.
        let socket = end.within(|| UdpSocket::bind((end.ip, port))).expect("the port is free");
        // Every now and then it looks whether this is over.
        socket.set_read_timeout(Some(Duration::from_millis(50))).expect("takes it");
        let over = Arc::new(AtomicBool::new(false));
        let told = over.clone();
        let answer_all = move || {
            let mut query = [0; 4096];
            while !told.load(Ordering::Relaxed) {
                if let Ok((count, from)) = socket.recv_from(&mut query)
                    && let Some(reply) = answer(&query[..count])
                {
                    // Who asked may be gone.
                    let _ = socket.send_to(&reply, from);
                }
            }
        };
        Answerer { over, thread: Some(thread::spawn(answer_all)) }
    }
}

impl Drop for Answerer {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        // What went wrong there its clients have noticed.
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

/// An address for the name that a query asks for, good for a minute; nothing for what is no query.
fn answer(query: &[u8]) -> Option<Vec<u8>> {
    let mut at = HEADER;
    while *query.get(at)? != 0 {
        at += 1 + usize::from(query[at]);
    }
    let question = query.get(HEADER..at + 1 + ADDRESS.len())?;
    let mut reply = query[..2].to_vec();
    // A response, with recursion; one question and one answer.
    reply.extend_from_slice(&[0x81, 0x80, 0, 1, 0, 1, 0, 0, 0, 0]);
    reply.extend_from_slice(question);
    // The name of the question, 60 seconds, four bytes.
    reply.extend_from_slice(&[0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 192, 0, 2, 1]);
    Some(reply)
}
