//! `troupe status`: is a cluster up here, and is it well?

use anyhow::Result;
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use troupe_actors::reachability::Reachability;
use troupe_api::meta::time::parse_time;

use crate::{
    Found, actors,
    config::{Config, Settings},
    daemon::safe_command,
    history::{self, History, Start},
    instance::{self, CONTROL_PLANE, Record, UP, register},
    remote::Remote,
    up::network::UNSERVED,
};

/// Prints the state of the daemon, the API server, nodes and pods. An error when something is wrong.
pub async fn run(found: &Found) -> Result<()> {
    let config = &found.config;
    let mut safe = false;
    let mut runs = false;
    for daemon in instance::DAEMONS {
        let running = instance::running(&config.daemon_pid_file(daemon));
        let starts = History::of(&config.data_dir, &config.run_dir, daemon).starts();
        let in_safe_mode = running.is_some() && starts.last().is_some_and(|start| start.safe && start.end.is_none());
        if let Some(pid) = running {
            let (title, name) = if daemon == UP { ("troupe", String::new()) } else { ("daemon", format!("{daemon} ")) };
            println!("{title:<11} {name}running (pid {pid}){}", if in_safe_mode { ", in safe mode" } else { "" });
        }
        tell_ends(daemon, &starts);
        safe |= in_safe_mode;
        runs |= running.is_some();
    }
    if !runs {
        tell_others(config);
        anyhow::bail!("troupe does not run on this machine; troupe up starts it");
    }
    if safe {
        println!("safe mode   controllers, scheduler and node are paused; containers run on. Stop it and start as usual to leave it");
    }
    match config.containerd().running_pid() {
        Some(pid) => println!("containerd  ours (pid {pid}), {}", config.containerd().socket().display()),
        None => println!("containerd  not ours"),
    }
    if let Some(record) = &found.record {
        tell_nodes(record);
    }
    tell_cluster(config).await
}

/// The nodes that live in namespaces of this machine.
fn tell_nodes(record: &Record) {
    let Some(nodes) = &record.nodes else { return };
    let links = nodes.links(&record.id);
    for (number, member) in &nodes.members {
        let of = Settings { data_dir: Some(member.data_dir()), run_dir: Some(member.run_dir.clone()), ..Settings::default() };
        let containerd = of.resolve().ok().and_then(|config| config.containerd().running_pid());
        let pid = |name: &str, pid: Option<i32>| pid.map_or_else(|| format!("{name} not running"), |pid| format!("{name} running (pid {pid})"));
        println!(
            "node here   {} {}, {}, at {} in the network namespace {}{}{}",
            member.name,
            pid("daemon", member.running()),
            pid("containerd", containerd),
            links.address(*number).ip(),
            links.namespace(*number),
            if member.stopped { ", stopped" } else { "" },
            if member.cut { ", cut off" } else { "" }
        );
    }
}

/// How the daemon's earlier starts ended, where that matters.
fn tell_ends(daemon: &str, starts: &[Start]) {
    let ended = starts.iter().rev().find_map(|start| start.end.as_ref());
    if let Some(end) = ended {
        let unclean = starts.iter().filter(|start| start.end.as_ref().is_some_and(|end| end.how.is_unclean())).count();
        let noticed = if end.how.leaves_no_time() { "noticed " } else { "" };
        println!("last end    {daemon} {}, {noticed}at {} ({unclean} of {} starts did not end in good order)", end.how, end.at, starts.len());
    }
    if let Some(advice) = history::advice(starts, Timestamp::now(), safe_command(daemon)).filter(|_| daemon == UP || daemon == CONTROL_PLANE) {
        println!("crash loop  {daemon}: {advice}");
    }
}

/// Where clusters do run on this machine.
fn tell_others(config: &Config) {
    let boot = instance::kernel::boot().unwrap_or_default();
    for Record { id, data_dir, run_dir, .. } in
        register::all().into_iter().filter(|record| record.run_dir != config.run_dir && record.cluster.is_none() && record.lives(&boot))
    {
        println!("elsewhere   cluster {id}: --data-dir {} --run-dir {}", data_dir.display(), run_dir.display());
    }
}

async fn tell_cluster(config: &Config) -> Result<()> {
    let remote = Remote::open(&config.kubeconfig)?;
    let (code, _) = remote.get("/readyz").await?;
    println!("API server  {} at {}", if code == 200 { "ready" } else { "not ready" }, remote.server());
    // Whatever the API server knows by now, without a wait for the newest state: it may have much to do.
    let nodes = remote.get_json("/api/v1/nodes?resourceVersion=0").await?;
    for node in items(&nodes) {
        println!("node        {} {}", text(&node["metadata"]["name"]), if is_ready(node) { "Ready" } else { "NotReady" });
    }
    for line in mesh(&remote, items(&nodes).count()).await {
        println!("pod network {line}");
    }
    for line in unserved(&remote.get_json(&format!("/api/v1/events?fieldSelector=reason%3D{UNSERVED}")).await?, Timestamp::now()) {
        println!("pod network {line}");
    }
    let pods = remote.get_json("/api/v1/pods?resourceVersion=0").await?;
    println!("pods        {}", count(&pods));
    println!("kubectl     export KUBECONFIG={}", config.kubeconfig.display());
    Ok(())
}

/// How many pods run of those that should. What has ended, as pods of Jobs do, runs no more and is told apart. Pure.
fn count(pods: &Value) -> String {
    let of = |phase: &str| items(pods).filter(|pod| pod["status"]["phase"] == phase).count();
    let (running, succeeded, failed) = (of("Running"), of("Succeeded"), of("Failed"));
    let completed = succeeded + failed;
    let living = items(pods).count() - completed;
    match (completed, failed) {
        (0, _) => format!("{running} of {living} running"),
        (_, 0) => format!("{running} of {living} running, {completed} completed"),
        _ => format!("{running} of {living} running, {completed} completed, {failed} of them failed"),
    }
}

fn items(list: &Value) -> impl Iterator<Item = &Value> {
    list["items"].as_array().into_iter().flatten()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or("?")
}

/// What holds is told at least as often.
const TOLD_WITHIN: SignedDuration = SignedDuration::from_mins(10);

/// What nodes tell of ranges whose pods no policy holds for. Pure.
fn unserved(events: &Value, now: Timestamp) -> Vec<String> {
    let is_recent = |event: &&Value| parse_time(text(&event["lastTimestamp"])).is_ok_and(|at| now.duration_since(at) < TOLD_WITHIN);
    items(events).filter(is_recent).map(|event| format!("{}: {}", text(&event["involvedObject"]["name"]), text(&event["message"]))).collect()
}

/// All nodes' daemons are asked for the mesh where there are no more nodes than this.
const FEW_NODES: usize = 64;
/// So many ways are shown.
const MOST_WAYS: usize = 64;

/// The ways between nodes, as these tell them; nothing where there is one node.
async fn mesh(remote: &Remote, nodes: usize) -> Vec<String> {
    match nodes {
        0 | 1 => Vec::new(),
        2..=FEW_NODES => match actors::all(remote).await {
            Ok(actors) => ways(&actors),
            Err(error) => vec![format!("not known: {error:#}")],
        },
        _ => vec![format!("of {nodes} nodes: troupe actors {} --json", Reachability::PATH)],
    }
}

/// What the units that look for other nodes tell: first those whose network is not as it should be, then way by way, those that do not work
/// first. Pure.
fn ways(actors: &[Value]) -> Vec<String> {
    let told: Vec<&Value> = actors.iter().filter(|actor| actor["path"] == Reachability::PATH).map(|actor| &actor["status"]).collect();
    let trouble = told.iter().filter(|told| told["trouble"].is_string()).map(|told| format!("{}: {}", text(&told["node"]), text(&told["trouble"])));
    let (mut broken, mut works) = (Vec::new(), Vec::new());
    for from in &told {
        for to in from["mesh"].as_array().into_iter().flatten() {
            let via = to["via"].as_str().unwrap_or("no route");
            let way = format!("{} → {} {} {via}", text(&from["node"]), text(&to["node"]), text(&to["family"]));
            match (to["unreachableSince"].as_str(), to["rttMicros"].as_f64()) {
                (Some(since), _) => broken.push(format!("{way} unreachable since {since}")),
                (None, Some(micros)) => works.push(format!("{way} {:.2} ms", micros / 1000.0)),
                (None, None) => works.push(format!("{way} no answer yet")),
            }
        }
    }
    let mut lines: Vec<String> = trouble.chain(broken).chain(works).collect();
    if lines.len() > MOST_WAYS {
        let more = lines.len() - MOST_WAYS;
        lines.truncate(MOST_WAYS);
        lines.push(format!("and {more} more: troupe actors {} --json", Reachability::PATH));
    }
    lines
}

/// Whether a node's Ready condition is True.
pub fn is_ready(node: &Value) -> bool {
    node["status"]["conditions"].as_array().into_iter().flatten().any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn pods_that_have_ended_are_told_apart() {
        let counted = |phases: &[&str]| {
            let pods: Vec<Value> = phases.iter().map(|phase| json!({"status": {"phase": phase}})).collect();
            count(&json!({"items": pods}))
        };
        assert_eq!(counted(&[]), "0 of 0 running");
        assert_eq!(counted(&["Running", "Pending"]), "1 of 2 running");
        assert_eq!(counted(&["Running", "Succeeded", "Succeeded"]), "1 of 1 running, 2 completed");
        assert_eq!(counted(&["Running", "Unknown", "Succeeded", "Failed"]), "1 of 2 running, 2 completed, 1 of them failed");
    }

    #[test]
    fn ranges_that_a_node_does_not_serve_are_told_as_long_as_it_says_so() {
        let event =
            |node: &str, at: &str| json!({"involvedObject": {"name": node}, "message": "the node has the range fd00::/64 but", "lastTimestamp": at});
        let events = json!({"items": [event("a", "2026-01-01T00:00:00Z"), event("b", "2026-01-01T00:19:00Z"), event("c", "")]});
        let now = "2026-01-01T00:20:00Z".parse().expect("a time");
        assert_eq!(unserved(&events, now), ["b: the node has the range fd00::/64 but"]);
    }

    #[test]
    fn ways_that_do_not_work_come_first() {
        let mesh = json!([
            {"node": "b", "family": "IPv4", "via": "route", "rttMicros": 214, "unreachableSince": null},
            {"node": "c", "family": "IPv4", "via": "vxlan", "rttMicros": null, "unreachableSince": "2026-01-01T00:00:00Z"},
            {"node": "d", "family": "IPv6", "via": null, "rttMicros": null, "unreachableSince": null},
        ]);
        let of =
            |path: &str, node: &str, mesh: &Value, trouble: Value| json!({"path": path, "status": {"node": node, "mesh": mesh, "trouble": trouble}});
        let actors = [
            of("overlay", "a", &mesh, json!("not ours")),
            of("reachability", "a", &mesh, Value::Null),
            of("reachability", "b", &json!([]), json!("nobody can be asked")),
        ];
        assert_eq!(
            ways(&actors),
            [
                "b: nobody can be asked",
                "a → c IPv4 vxlan unreachable since 2026-01-01T00:00:00Z",
                "a → b IPv4 route 0.21 ms",
                "a → d IPv6 no route no answer yet",
            ]
        );
        let wide = json!((0..100).map(|_| mesh[0].clone()).collect::<Vec<_>>());
        let lines = ways(&[of("reachability", "a", &wide, Value::Null)]);
        assert_eq!((lines.len(), lines[64].as_str()), (65, "and 36 more: troupe actors reachability --json"));
    }
}
