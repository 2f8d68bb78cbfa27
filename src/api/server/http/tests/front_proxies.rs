//! Front proxies: who calls is what their headers say, if their certificate is one of theirs.

use std::sync::Arc;

use troupe_api::{
    auth::{
        pki::{KeyedCertificate, LeafSpec, Pki},
        request_header::{CLIENT_NAME, RequestHeaders},
        tls,
    },
    service::UserInfo,
};

use super::{
    client::{Connection, Door},
    fake::FakeService,
};

/// A door that believes front proxies, with the certificates of one and of somebody else whom their authority vouches for.
fn door() -> (Door, [KeyedCertificate; 2]) {
    let dir = tempfile::tempdir().expect("a directory");
    let proxies = Pki::open_front_proxy(dir.path()).expect("a CA");
    let leaf = |name: &str| {
        let organizations = vec!["system:masters".into()];
        proxies.leaf(&LeafSpec { file: name.into(), common_name: name.into(), organizations, client: true, ..LeafSpec::default() }).expect("a leaf")
    };
    let shown = [leaf(CLIENT_NAME), leaf("another")];
    let door = Door::open_with(FakeService::new(), |options, clients, server| {
        let authorities = format!("{}{}", clients.ca_pem(), proxies.ca_pem());
        options.tls = Arc::new(tls::server_config(server, &authorities).expect("a TLS configuration"));
        let headers = RequestHeaders::new(proxies.ca_pem(), clients.ca_pem(), vec![CLIENT_NAME.into()]);
        options.request_headers = Some(Arc::new(headers.expect("usable")));
    });
    (door, shown)
}

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const JANE: [(&str, &str); 5] = [
    ("x-remote-user", "jane"),
    ("x-remote-uid", "7"),
    ("X-Remote-Group", "system:masters"),
    ("x-remote-extra-scopes.example.com%2fall", "yes"),
    ("x-remote-extra-authentication.troupe.dev%2fpeer-address", "in-process"),
];

async fn asks(connection: &mut Connection, headers: &[(&str, &str)]) -> u16 {
    connection.send("GET", MAPS, headers, "").await.status.as_u16()
}

fn last_user(door: &Door) -> UserInfo {
    let calls = door.service.calls.lock().expect("no panic holds it");
    (*calls.last().expect("a call").user).clone()
}

#[actix_web::test]
async fn whoever_a_front_proxy_names_calls() {
    let (door, [proxy, other]) = door();
    let mut connection = door.connect_as(&proxy).await;
    assert_eq!(asks(&mut connection, &JANE).await, 200);
    let user = last_user(&door);
    assert_eq!(
        (user.name.as_str(), user.uid.as_str(), &user.groups[..]),
        ("jane", "7", &["system:masters", "system:authenticated"].map(str::to_owned)[..])
    );
    assert_eq!(user.extra, [("scopes.example.com/all".to_owned(), vec!["yes".to_owned()])].into(), "what only this server may note is not believed");
    // The next request on the same connection is somebody else's.
    let bob = [("x-remote-user", "bob"), ("x-remote-group", "people")];
    assert_eq!((asks(&mut connection, &bob).await, last_user(&door).name.as_str()), (200, "bob"));
    assert_eq!(asks(&mut connection, &[]).await, 401, "its own name is nobody's here");
    assert_eq!(asks(&mut connection, &[("authorization", "Bearer admin")]).await, 200);
    assert_eq!(last_user(&door).name, "admin");
    assert_eq!(asks(&mut door.connect_as(&other).await, &JANE).await, 401, "it has not the name of a front proxy");
}

#[actix_web::test]
async fn headers_of_clients_name_nobody() {
    let (door, _) = door();
    assert_eq!(asks(&mut door.connect(true).await, &JANE).await, 200);
    assert_eq!(last_user(&door).name, "cert");
    assert_eq!(asks(&mut door.connect(false).await, &JANE).await, 200);
    assert_eq!(last_user(&door).name, "system:anonymous");
}
