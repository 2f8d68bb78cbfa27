//! Sessions whose command does not read what the client sends, and clients that leave nevertheless.

use std::{
    fs,
    io::Write,
    process::Stdio,
    time::{Duration, Instant},
};

use crate::{cluster::eventually_within, stage};

const SESSIONS: usize = 10;
/// A client that was killed with more to send is asked whether it is there after ten seconds.
const LIMIT: Duration = Duration::from_secs(40);

#[test]
fn sessions_of_clients_that_left_keep_nothing_of_the_daemon() {
    let stage = stage::shared();
    let room = stage.room("unread");
    stage.kubectl(&format!("-n {} run deaf --image=busybox:1.35 --restart=Never -- sleep 3600", room.name));
    stage.kubectl(&format!("-n {} wait --for=condition=Ready pod/deaf --timeout=120s", room.name));
    let descriptors = || fs::read_dir(format!("/proc/{}/fd", stage.pid())).expect("the daemon lives").count();
    let before = descriptors();
    let sessions = (0..SESSIONS).map(|_| {
        let mut command = stage.kubectl_command(&["-n", &room.name, "exec", "-i", "deaf", "--", "sleep", "3600"]);
        let mut client = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("kubectl starts");
        let mut input = client.stdin.take().expect("piped");
        // Until nobody takes more, which is when the client ends.
        let feeding = std::thread::spawn(move || while input.write_all(&[7; 1 << 16]).is_ok() {});
        (client, feeding)
    });
    let sessions: Vec<_> = sessions.collect();
    eventually_within(LIMIT, "all sessions are there", || descriptors() >= before + 4 * SESSIONS);
    std::thread::sleep(Duration::from_secs(2));
    for (mut client, feeding) in sessions {
        client.kill().expect("it is killed");
        client.wait().expect("it ends");
        feeding.join().expect("no panic");
    }
    let begun = Instant::now();
    eventually_within(LIMIT, "the daemon's descriptors are closed", || descriptors() <= before + 10);
    println!("{SESSIONS} sessions were closed after {:?}", begun.elapsed());
}
