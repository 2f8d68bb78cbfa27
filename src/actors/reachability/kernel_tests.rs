//! Echoes of this machine's kernel. Needs root, as the project's tests do.

use std::{net::IpAddr, time::Duration};

use troupe_net::echo::{Echo, HostEcho};

const PATIENCE: Duration = Duration::from_secs(2);

#[tokio::test]
async fn who_is_there_answers_and_nobody_else() {
    let (own, other, nobody) = (IpAddr::from([127, 0, 0, 1]), IpAddr::from([127, 0, 0, 2]), IpAddr::from([192, 0, 2, 1]));
    // From a loopback address no way leads to that one.
    let answered = HostEcho.ask(own, &[own, other, nobody], PATIENCE).await.expect("raw sockets are allowed");
    assert_eq!(answered.keys().copied().collect::<Vec<_>>(), [own, other]);
    assert!(answered.values().all(|took| *took < PATIENCE));
    assert!(HostEcho.ask(nobody, &[own], PATIENCE).await.is_err(), "it is no address of this machine");
}
