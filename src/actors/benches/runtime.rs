//! What the actor runtime costs: a hop with and without recorder, messages between arbiters, a restart, an idle actor.

#[allow(dead_code, reason = "shared by benchmarks")]
#[path = "../../../tests/support/figures.rs"]
mod figures;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use actix::Message;
use figures::{Budget, report};
use troupe_actors::runtime::{
    envelope::Reply,
    host::{On, Unit, UnitAddr, UnitContext},
    system::{System, SystemOptions},
    unit::Policy,
};
use troupe_api::meta::{Cause, SystemClock};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

struct Echo;

impl Unit for Echo {}

#[derive(Debug, Message)]
#[rtype(result = "u64")]
struct Ping(u64);

impl On<Ping> for Echo {
    fn on(&mut self, ping: Ping, _cx: &mut UnitContext<'_, Self>) -> Reply<u64> {
        Reply::Now(ping.0 + 1)
    }
}

const MESSAGES: u64 = 400_000;
const IDLE: usize = 10_000;

fn local() -> System {
    System::new(SystemOptions::local(1, Arc::new(SystemClock))).expect("no threads are started")
}

/// Nanoseconds per message of a long run into one mailbox.
async fn flood(echo: &UnitAddr<Echo>) -> f64 {
    let begun = Instant::now();
    let cause = Cause::root();
    for number in 0..MESSAGES {
        echo.wake(Ping(number), cause.clone());
        if number % 512 == 511 {
            // Keeps the mailbox short.
            echo.ask(Ping(0), Cause::default()).await.expect("it lives");
        }
    }
    echo.ask(Ping(0), Cause::default()).await.expect("it lives");
    begun.elapsed().as_nanos() as f64 / MESSAGES as f64
}

async fn hops() {
    let system = local();
    let echo = system.spawn("echo", Policy::default(), |_| Echo);
    flood(&echo).await;
    let with = flood(&echo).await;
    system.recorder().set_enabled(false);
    let without = flood(&echo).await;
    report("a hop between actors, recorder on", with, " ns", Budget::None);
    report("a hop between actors, recorder off", without, " ns", Budget::None);
    report("the recorder's part of a hop", with - without, " ns", Budget::AtMost(300.0));
    system.recorder().set_enabled(true);
    let begun = Instant::now();
    for number in 0..50_000 {
        echo.ask(Ping(number), Cause::default()).await.expect("it lives");
    }
    report("ask on the same arbiter", begun.elapsed().as_nanos() as f64 / 50_000.0, " ns", Budget::None);
    system.shutdown(Duration::from_secs(1)).await;
}

async fn across_arbiters() {
    let system = System::new(SystemOptions { arbiters: 2, ..SystemOptions::default() }).expect("threads start");
    let units: Vec<_> = (0..8).map(|number| system.spawn(format!("echo-{number}"), Policy::default(), |_| Echo)).collect();
    let begun = Instant::now();
    let floods = units.iter().map(flood);
    futures::future::join_all(floods).await;
    report("messages into two arbiters", 8.0 * MESSAGES as f64 / begun.elapsed().as_secs_f64(), "/s", Budget::None);
    let begun = Instant::now();
    for number in 0..20_000 {
        units[0].ask(Ping(number), Cause::default()).await.expect("it lives");
    }
    report("ask across arbiters", begun.elapsed().as_nanos() as f64 / 20_000.0 / 1000.0, " µs", Budget::None);
    system.shutdown(Duration::from_secs(1)).await;
}

async fn restarts() {
    let system = local();
    let policy = Policy { backoff: Duration::from_millis(1), max_backoff: Duration::from_millis(1), intensity: 1_000, ..Policy::default() };
    let echo = system.spawn("echo", policy, |_| Echo);
    std::panic::set_hook(Box::new(|_| {}));
    let mut took = Vec::new();
    for _ in 0..100 {
        let begun = Instant::now();
        system.directory().kill("echo");
        echo.ask(Ping(0), Cause::default()).await.expect("it comes back");
        took.push(begun.elapsed().as_secs_f64() * 1e6);
    }
    drop(std::panic::take_hook());
    took.sort_by(f64::total_cmp);
    report("panic to next answer, backoff 1 to 1.5 ms, median", took[50] / 1000.0, " ms", Budget::None);
    system.shutdown(Duration::from_secs(1)).await;
}

/// Resident bytes of this process.
fn resident() -> f64 {
    let text = std::fs::read_to_string("/proc/self/statm").expect("procfs is there");
    let pages: f64 = text.split(' ').nth(1).and_then(|pages| pages.parse().ok()).expect("its second field is a number");
    pages * 4096.0
}

async fn idle_actors() {
    let system = local();
    let before = resident();
    let begun = Instant::now();
    let units: Vec<_> = (0..IDLE).map(|number| system.spawn(format!("idle/{number}"), Policy::default(), |_| Echo)).collect();
    units[IDLE - 1].ask(Ping(0), Cause::default()).await.expect("it lives");
    report("spawning an actor", begun.elapsed().as_nanos() as f64 / IDLE as f64 / 1000.0, " µs", Budget::None);
    report("memory of an idle actor, of 10,000", (resident() - before) / IDLE as f64 / 1024.0, " KiB", Budget::None);
    system.shutdown(Duration::from_secs(10)).await;
}

fn main() {
    println!("actor runtime");
    // As the daemon does: what is resident should be what is used.
    nix::sys::prctl::set_thp_disable(true).expect("Linux allows");
    actix_rt::System::new().block_on(async {
        idle_actors().await;
        hops().await;
        across_arbiters().await;
        restarts().await;
    });
}
