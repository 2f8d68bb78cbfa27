//! This program beside another one that `$TROUPE_BESIDE` names, an older one say: the same requests to a cluster of each, in turns of
//! half a second, so that whatever else the machine does falls on both.

use std::{
    sync::mpsc::{Receiver, Sender, channel},
    thread,
    time::{Duration, Instant},
};

use futures::future::join_all;
use serde_json::json;

use crate::{
    Bench,
    api::config_map,
    cluster::{Cluster, binary},
    figures::{Budget, report},
    https::Connection,
    lists::pod,
    runtime,
};

const TURN: Duration = Duration::from_millis(500);
/// Turns of each program a figure.
const ROUNDS: usize = 24;
const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const PODS: &str = "/api/v1/namespaces/default/pods";
const LISTED: usize = 2_000;

/// What is asked: its name, how many clients at once, and one request.
#[derive(Clone, Copy)]
enum Ask {
    Get,
    List,
    Create,
    Patch,
}

const ASKED: [(&str, usize, Ask); 6] = [
    ("GET of 1 KB, 16 clients", 16, Ask::Get),
    ("LIST of 2,000 pods, one client", 1, Ask::List),
    ("creates of 1 KB, one client", 1, Ask::Create),
    ("creates of 1 KB, 16 clients", 16, Ask::Create),
    ("creates of 1 KB, 64 clients", 64, Ask::Create),
    ("merge patches of 1 KB, 16 clients", 16, Ask::Patch),
];

/// What came of a turn.
struct Turn {
    requests: f64,
    seconds: f64,
    /// Processor time of the server in seconds, whose ticks are too coarse for a single turn.
    busy: f64,
}

/// A cluster that takes turns.
struct Side {
    asks: Sender<usize>,
    turns: Receiver<Turn>,
}

/// Tells of each figure the ratios of this program's rate (the median of all rounds) and cost (of all together) to the other's.
pub fn measure() {
    let Ok(other) = std::env::var("TROUPE_BESIDE") else { return };
    thread::scope(|scope| {
        let sides = [binary(), other].map(|program| {
            let ((asks, asked), (told, turns)) = (channel(), channel());
            scope.spawn(move || serve(program, &asked, &told));
            Side { asks, turns }
        });
        let turn = |side: &Side, figure: usize| {
            side.asks.send(figure).expect("it lives");
            side.turns.recv().expect("it lives")
        };
        // Both are up, and have done each once, before anything counts.
        for figure in 0..ASKED.len() {
            for side in &sides {
                turn(side, figure);
            }
        }
        for (figure, (name, ..)) in ASKED.iter().enumerate() {
            let (mut rates, mut costs) = (Vec::new(), [[0.0; 2]; 2]);
            for round in 0..ROUNDS {
                // Each is first every other time.
                let [first, second] = if round % 2 == 0 { [0, 1] } else { [1, 0] };
                let (one, two) = (turn(&sides[first], figure), turn(&sides[second], figure));
                let (ours, theirs) = if first == 0 { (one, two) } else { (two, one) };
                rates.push(ours.requests / ours.seconds / (theirs.requests / theirs.seconds));
                for (costs, turn) in costs.iter_mut().zip([ours, theirs]) {
                    costs[0] += turn.busy;
                    costs[1] += turn.requests;
                }
            }
            report(&format!("{name}: rate / the other program's"), median(rates), "", Budget::AtLeast(0.95));
            report(
                &format!("{name}: processor time a request / the other program's"),
                costs[0][0] / costs[0][1] / (costs[1][0] / costs[1][1]),
                "",
                Budget::AtMost(1.05),
            );
        }
    });
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Runs a cluster and does what it is asked to until nobody asks any more.
fn serve(program: String, asked: &Receiver<usize>, told: &Sender<Turn>) {
    let cluster = Cluster::place_of(program);
    cluster.start();
    cluster.enter();
    runtime().block_on(async {
        let bench = Bench::of(cluster, "");
        let mut connections = bench.door.connections(64).await;
        for at in 0..LISTED {
            connections[0].json("POST", PODS, pod(at).to_string()).await;
        }
        for at in 0..connections.len() {
            connections[0].json("POST", MAPS, config_map(&format!("map-{at}"))).await;
        }
        let mut number = 0;
        while let Ok(figure) = asked.recv() {
            let (_, clients, ask) = ASKED[figure];
            let (begun, before) = (Instant::now(), bench.daemon.cpu());
            let done = join_all(connections[..clients].iter_mut().enumerate().map(|(at, connection)| {
                let own = number + at;
                async move {
                    let mut done = 0;
                    while begun.elapsed() < TURN {
                        one(connection, ask, at, own + done * clients).await;
                        done += 1;
                    }
                    done
                }
            }))
            .await;
            number += clients * (1 + done.iter().max().expect("a client"));
            let requests = done.iter().sum::<usize>() as f64;
            let busy = (bench.daemon.cpu() - before).as_secs_f64();
            let _ = told.send(Turn { requests, seconds: begun.elapsed().as_secs_f64(), busy });
        }
    });
}

/// One request of the client at `at`; `number` is never the same again.
async fn one(connection: &mut Connection, ask: Ask, at: usize, number: usize) {
    match ask {
        Ask::Get => drop(connection.json("GET", &format!("{MAPS}/map-0"), "").await),
        Ask::List => drop(connection.drain(PODS).await),
        Ask::Create => drop(connection.json("POST", MAPS, config_map(&format!("created-{number}"))).await),
        Ask::Patch => {
            let patch = json!({"metadata": {"annotations": {"round": number.to_string()}}}).to_string();
            let (status, _) = connection.send("PATCH", &format!("{MAPS}/map-{at}"), "application/merge-patch+json", patch).await;
            assert!(status.is_success(), "{status}");
        }
    }
}
