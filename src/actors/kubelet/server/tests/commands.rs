//! `kubectl exec`, `attach`, `cp` and `port-forward`.

use std::{process::Stdio, time::Duration};

use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
    time::timeout,
};

use super::world::World;

const LIMIT: Duration = Duration::from_secs(20);

/// Runs kubectl with this on its standard input.
async fn fed(world: &World, arguments: &[&str], input: &[u8]) -> (Vec<u8>, String, Option<i32>) {
    let mut child = world.command(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("kubectl runs");
    let mut stdin = child.stdin.take().expect("a pipe");
    let input = input.to_vec();
    let feeding = tokio::spawn(async move { stdin.write_all(&input).await });
    let output = timeout(LIMIT, child.wait_with_output()).await.expect("kubectl ends").expect("kubectl ends");
    // kubectl may close its input first.
    let _ = feeding.await;
    (output.stdout, String::from_utf8_lossy(&output.stderr).into_owned(), output.status.code())
}

#[actix::test]
async fn kubectl_runs_commands_copies_files_and_forwards_ports() {
    let world = World::start().await;
    world.pod("work", &[("a", "cat; echo input ended; sleep 1000")]).await;
    commands(&world).await;
    copies(&world).await;
    attaches(&world).await;
    older_clients(&world).await;
    forwards(&world).await;
    let configuration = world.says(&["get", "--raw", "/api/v1/nodes/node/proxy/configz"]).await;
    assert_eq!(configuration, r#"{"kubeletconfig":{"maxPods":7}}"#);
    let status = world.says(&["get", "--raw", "/api/v1/nodes/node/proxy/statusz"]).await;
    assert!(status.starts_with("\nkubelet statusz\n"), "{status}");
    world.stop().await;
}

async fn commands(world: &World) {
    assert_eq!(world.says(&["exec", "work", "--", "echo", "a b", "c"]).await, "a b c\n");
    let failed = world.kubectl(&["exec", "work", "--", "sh", "-c", "echo out; echo err >&2; exit 7"]).await;
    assert_eq!(failed.status.code(), Some(7), "{failed:?}");
    assert_eq!(failed.stdout, b"out\n");
    assert_eq!(String::from_utf8_lossy(&failed.stderr), "err\ncommand terminated with exit code 7\n");
    let big: Vec<u8> = (0..3_000_000_u32).flat_map(u32::to_le_bytes).collect();
    let (counted, err, code) = fed(world, &["exec", "-i", "work", "--", "wc", "-c"], &big).await;
    assert_eq!((String::from_utf8_lossy(&counted).trim(), code), ("12000000", Some(0)), "the end of input arrives: {err}");
    let (echoed, err, code) = fed(world, &["exec", "-i", "work", "--", "cat"], &big).await;
    assert!(echoed == big && code == Some(0), "{} bytes of {}: {err}", echoed.len(), big.len());
    let missing = world.says(&["exec", "work", "--", "no-such-program"]).await;
    assert!(missing.contains("no-such-program"), "{missing}");
}

/// What clients did before they spoke WebSocket.
async fn older_clients(world: &World) {
    let spdy = |arguments: &[&str]| {
        let mut command = world.command(arguments);
        command.env("KUBECTL_REMOTE_COMMAND_WEBSOCKETS", "false").env("KUBECTL_PORT_FORWARD_WEBSOCKETS", "false");
        command
    };
    let said = timeout(LIMIT, spdy(&["exec", "work", "--", "sh", "-c", "echo old; exit 3"]).output()).await.expect("it ends").expect("kubectl runs");
    assert_eq!((String::from_utf8_lossy(&said.stdout).as_ref(), said.status.code()), ("old\n", Some(3)), "{said:?}");
}

async fn copies(world: &World) {
    let (from, back) = (world.home.join("there"), world.home.join("back"));
    let content = "x".repeat(100_000);
    std::fs::write(&from, &content).expect("writes");
    let (from, back) = (from.display().to_string(), back.display().to_string());
    let said = world.says(&["cp", &from, "work:/tmp/there"]).await;
    assert_eq!(said, "");
    world.says(&["cp", "work:/tmp/there", &back]).await;
    assert_eq!(std::fs::read_to_string(&back).expect("copied"), content);
}

async fn attaches(world: &World) {
    let (out, err, code) = fed(world, &["attach", "-i", "work"], b"hello\n").await;
    assert!(String::from_utf8_lossy(&out).contains("hello\n") || code == Some(0), "{out:?} {err}");
}

async fn forwards(world: &World) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let target = listener.local_addr().expect("bound").port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut from, mut to) = stream.split();
                tokio::io::copy(&mut from, &mut to).await
            });
        }
    });
    let ports = format!(":{target}");
    let mut kubectl = world.command(&["port-forward", "pod/work", &ports]).stdout(Stdio::piped()).spawn().expect("kubectl runs");
    let mut lines = BufReader::new(kubectl.stdout.take().expect("a pipe")).lines();
    let line = timeout(LIMIT, lines.next_line()).await.expect("it says where").expect("a line").expect("a line");
    let local: u16 = line.split([':', ' ']).find_map(|word| word.parse().ok()).unwrap_or_else(|| panic!("no port in {line:?}"));
    for round in 0..3 {
        let mut stream = TcpStream::connect(("127.0.0.1", local)).await.expect("connects");
        let sent = format!("round {round} ").repeat(20_000);
        let (mut from, mut to) = stream.split();
        let mut got = vec![0; sent.len()];
        let both = async { tokio::try_join!(to.write_all(sent.as_bytes()), from.read_exact(&mut got)) };
        timeout(LIMIT, both).await.expect("in time").expect("both ways");
        assert!(got == sent.as_bytes());
    }
    kubectl.kill().await.expect("killed");
}
