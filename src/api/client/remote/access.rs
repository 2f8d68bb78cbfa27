//! Where the cluster is and who we are there: read from a kubeconfig, and read again when its files change.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use base64::{Engine, prelude::BASE64_STANDARD};
use parking_lot::Mutex;
use rustls::ClientConfig;
use serde_json::Value;
use thiserror::Error;
use troupe_api::{
    auth::{
        pki::KeyedCertificate,
        tls::{self, TlsError},
    },
    schema::{DecodeError, Format, decode::parse_value},
};

/// Files are looked at this often.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// Why there is no access.
#[derive(Debug, Error)]
pub enum AccessError {
    #[error("cannot read {path}")]
    Io { path: PathBuf, source: std::io::Error },
    #[error("{0} is no valid YAML")]
    Yaml(PathBuf, #[source] DecodeError),
    #[error("the current context of {0} lacks {1}")]
    Missing(PathBuf, &'static str),
    #[error("{0} holds base64 that does not decode to text")]
    Encoding(&'static str),
    #[error("insecure-skip-tls-verify is not supported: name the certificate authority")]
    Insecure,
    #[error("{0:?} is no address of an API server: it must read https://host:port")]
    Address(String),
    #[error("the certificates cannot be used")]
    Tls(#[from] TlsError),
}

/// What it takes to talk to a cluster.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Access {
    /// `https://127.0.0.1:6443`; several are tried in turn.
    pub servers: Vec<String>,
    /// The name in the servers' certificates where it is not their address.
    pub server_name: Option<String>,
    pub ca_pem: String,
    pub certificate: Option<KeyedCertificate>,
    pub token: Option<String>,
}

impl Access {
    /// Reads the current context of a kubeconfig, with the files it names; these are the second value.
    ///
    /// # Errors
    /// When a file cannot be read or says too little.
    pub fn read(kubeconfig: &Path) -> Result<(Self, Vec<PathBuf>), AccessError> {
        let text = read(kubeconfig)?;
        let document = parse_value(text.as_bytes(), Format::Yaml).map_err(|source| AccessError::Yaml(kubeconfig.to_owned(), source))?;
        let missing = |what| AccessError::Missing(kubeconfig.to_owned(), what);
        let named = |list: &str, name: &str| document[list].as_array()?.iter().find(|item| item["name"] == name);
        let context = document["current-context"].as_str().and_then(|name| named("contexts", name)).ok_or_else(|| missing("a context"))?;
        let part = |kind: &str| context["context"][kind].as_str().unwrap_or_default();
        let cluster = &named("clusters", part("cluster")).ok_or_else(|| missing("a cluster"))?["cluster"];
        let user = &named("users", part("user")).ok_or_else(|| missing("a user"))?["user"];
        if cluster["insecure-skip-tls-verify"] == true {
            return Err(AccessError::Insecure);
        }
        let mut files = Files { beside: kubeconfig, read: vec![kubeconfig.to_owned()] };
        let server = cluster["server"].as_str().ok_or_else(|| missing("a server"))?;
        let ca_pem = files.content(cluster, "certificate-authority-data", "certificate-authority")?;
        let certificate = files.content(user, "client-certificate-data", "client-certificate")?;
        let key = files.content(user, "client-key-data", "client-key")?;
        let token = match user["token"].as_str() {
            Some(token) => Some(token.to_owned()),
            None => files.content(user, "", "tokenFile")?,
        };
        let access = Access {
            servers: vec![server.to_owned()],
            server_name: cluster["tls-server-name"].as_str().map(str::to_owned),
            ca_pem: ca_pem.ok_or_else(|| missing("a certificate authority"))?,
            certificate: certificate.zip(key).map(|(certificate_pem, key_pem)| KeyedCertificate { certificate_pem, key_pem }),
            token: token.map(|token| token.trim().to_owned()),
        };
        Ok((access, files.read))
    }
}

/// The files a kubeconfig names; relative ones lie beside it.
struct Files<'a> {
    beside: &'a Path,
    read: Vec<PathBuf>,
}

impl Files<'_> {
    /// What stands in the field `data`, or in the file that the field `file` names.
    fn content(&mut self, of: &Value, data: &'static str, file: &str) -> Result<Option<String>, AccessError> {
        if let Some(encoded) = of[data].as_str() {
            let bytes = BASE64_STANDARD.decode(encoded).map_err(|_| AccessError::Encoding(data))?;
            return String::from_utf8(bytes).map(Some).map_err(|_| AccessError::Encoding(data));
        }
        let Some(name) = of[file].as_str() else { return Ok(None) };
        let path = self.beside.parent().unwrap_or(Path::new("")).join(name);
        let text = read(&path)?;
        self.read.push(path);
        Ok(Some(text))
    }
}

fn read(path: &Path) -> Result<String, AccessError> {
    fs::read_to_string(path).map_err(|source| AccessError::Io { path: path.to_owned(), source })
}

/// A server's address, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    pub host: String,
    pub port: u16,
}

impl Address {
    /// # Errors
    /// When the text is no `https://host[:port]`.
    pub fn parse(server: &str) -> Result<Self, AccessError> {
        let wrong = || AccessError::Address(server.to_owned());
        let uri: http::Uri = server.parse().map_err(|_| wrong())?;
        let host = uri.host().filter(|_| uri.scheme_str() == Some("https")).ok_or_else(wrong)?;
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        Ok(Address { host, port: uri.port_u16().unwrap_or(443) })
    }

    /// `host:port` as it stands in requests.
    pub fn authority(&self) -> String {
        if self.host.contains(':') { format!("[{}]:{}", self.host, self.port) } else { format!("{}:{}", self.host, self.port) }
    }
}

/// Access as it was at one time, ready for use.
pub struct Generation {
    /// Counts changes; connections of an older generation get no new requests.
    pub number: u64,
    pub servers: Vec<Address>,
    pub server_name: Option<String>,
    pub token: Option<String>,
    /// Shows the client certificate where there is one.
    pub tls: Arc<ClientConfig>,
    /// Shows none: for requests whose token says who calls.
    pub tls_without_certificate: Arc<ClientConfig>,
}

impl Generation {
    fn new(number: u64, access: &Access) -> Result<Self, AccessError> {
        let tls = |identity: Option<&KeyedCertificate>| -> Result<Arc<ClientConfig>, AccessError> {
            let mut config = tls::client_config(&access.ca_pem, identity)?;
            config.alpn_protocols = vec![b"h2".to_vec()];
            Ok(Arc::new(config))
        };
        Ok(Generation {
            number,
            servers: access.servers.iter().map(|server| Address::parse(server)).collect::<Result<_, _>>()?,
            server_name: access.server_name.clone(),
            token: access.token.clone(),
            tls: tls(access.certificate.as_ref())?,
            tls_without_certificate: tls(None)?,
        })
    }
}

/// Says when a file changed.
type Stamp = Option<(SystemTime, u64)>;

fn stamp(path: &Path) -> Stamp {
    let metadata = fs::metadata(path).ok()?;
    Some((metadata.modified().ok()?, metadata.len()))
}

struct State {
    access: Access,
    current: Arc<Generation>,
    stamps: Vec<(PathBuf, Stamp)>,
    looked: Instant,
}

/// Keeps access current.
pub struct LiveAccess {
    kubeconfig: Option<PathBuf>,
    /// Servers that stand for the kubeconfig's one.
    servers: Vec<String>,
    state: Mutex<State>,
}

impl LiveAccess {
    /// Access that never changes.
    pub fn fixed(access: Access) -> Result<Self, AccessError> {
        let current = Arc::new(Generation::new(1, &access)?);
        Ok(LiveAccess {
            kubeconfig: None,
            servers: Vec::new(),
            state: Mutex::new(State { access, current, stamps: Vec::new(), looked: Instant::now() }),
        })
    }

    /// Access by a kubeconfig; `servers`, where there are any, stand for the one it names.
    pub fn by_kubeconfig(path: &Path, servers: Vec<String>) -> Result<Self, AccessError> {
        let (access, stamps) = load(path, &servers)?;
        let current = Arc::new(Generation::new(1, &access)?);
        let state = Mutex::new(State { access, current, stamps, looked: Instant::now() });
        Ok(LiveAccess { kubeconfig: Some(path.to_owned()), servers, state })
    }

    /// Access as it is now. A change that cannot be used is logged, and what was known before stays.
    pub fn current(&self) -> Arc<Generation> {
        let mut state = self.state.lock();
        if let Some(path) = &self.kubeconfig
            && state.looked.elapsed() >= LOOK_EVERY
        {
            state.looked = Instant::now();
            self.look(path, &mut state);
        }
        state.current.clone()
    }

    /// Looks at the files at the next request, whenever the last look was.
    pub fn look_soon(&self) {
        let mut state = self.state.lock();
        if let Some(long_ago) = Instant::now().checked_sub(LOOK_EVERY) {
            state.looked = long_ago;
        }
    }

    fn look(&self, path: &Path, state: &mut State) {
        if state.stamps.iter().all(|(path, known)| stamp(path) == *known) {
            return;
        }
        let renewed = load(path, &self.servers).and_then(|(access, stamps)| {
            let next = if access == state.access { None } else { Some(Arc::new(Generation::new(state.current.number + 1, &access)?)) };
            Ok((access, stamps, next))
        });
        match renewed {
            Ok((access, stamps, next)) => {
                state.access = access;
                state.stamps = stamps;
                if let Some(next) = next {
                    tracing::info!(kubeconfig = %path.display(), "credentials changed and are used from now on");
                    state.current = next;
                }
            }
            Err(error) => {
                tracing::warn!(kubeconfig = %path.display(), error = %Chain(&error), "credentials changed but cannot be used, those known stay")
            }
        }
    }
}

/// An error with all its sources on one line.
struct Chain<'a>(&'a dyn std::error::Error);

impl std::fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)?;
        self.0.source().map_or(Ok(()), |source| write!(f, ": {}", Chain(source)))
    }
}

fn load(path: &Path, servers: &[String]) -> Result<(Access, Vec<(PathBuf, Stamp)>), AccessError> {
    let (mut access, files) = Access::read(path)?;
    if !servers.is_empty() {
        access.servers = servers.to_vec();
    }
    let stamps = files.into_iter().map(|file| (file.clone(), stamp(&file))).collect();
    Ok((access, stamps))
}

#[cfg(test)]
mod tests {
    use super::*;
    use troupe_api::auth::pki::{LeafSpec, Pki};

    fn leaf(pki: &Pki, file: &str) -> KeyedCertificate {
        pki.leaf(&LeafSpec { file: file.into(), common_name: file.into(), client: true, ..LeafSpec::default() }).expect("makes")
    }

    fn write(dir: &Path, identity: &KeyedCertificate) {
        fs::write(dir.join("client.crt"), &identity.certificate_pem).expect("writes");
        fs::write(dir.join("client.key"), &identity.key_pem).expect("writes");
    }

    #[test]
    fn credentials_in_files_are_read_again_when_they_change() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let pki = Pki::open(&dir.path().join("pki")).expect("a CA");
        write(dir.path(), &leaf(&pki, "a"));
        let kubeconfig = dir.path().join("kubeconfig");
        let text = "apiVersion: v1\nkind: Config\ncurrent-context: c\ncontexts: [{name: c, context: {cluster: k, user: u}}]\n\
            clusters: [{name: k, cluster: {server: 'https://127.0.0.1:6443', certificate-authority: pki/ca.crt}}]\n\
            users: [{name: u, user: {client-certificate: client.crt, client-key: client.key}}]\n";
        fs::write(&kubeconfig, text).expect("writes");
        let live = LiveAccess::by_kubeconfig(&kubeconfig, Vec::new()).expect("usable");
        assert_eq!(live.current().number, 1);
        live.look_soon();
        assert_eq!(live.current().number, 1, "nothing changed");
        fs::write(dir.path().join("client.key"), "half written").expect("writes");
        live.look_soon();
        assert_eq!(live.current().number, 1, "unusable: what was known stays");
        write(dir.path(), &leaf(&pki, "b"));
        live.look_soon();
        assert_eq!(live.current().number, 2);
    }

    #[test]
    fn a_token_and_further_servers_are_taken() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let pki = Pki::open(dir.path()).expect("a CA");
        let kubeconfig = dir.path().join("kubeconfig");
        let ca = BASE64_STANDARD.encode(pki.ca_pem());
        let text = format!(
            "current-context: c\ncontexts: [{{name: c, context: {{cluster: k, user: u}}}}]\n\
             clusters: [{{name: k, cluster: {{server: 'https://a:1', tls-server-name: kubernetes, certificate-authority-data: {ca}}}}}]\n\
             users: [{{name: u, user: {{token: secret}}}}]\n"
        );
        fs::write(&kubeconfig, text).expect("writes");
        let (access, _) = Access::read(&kubeconfig).expect("usable");
        assert_eq!((access.token.as_deref(), access.server_name.as_deref()), (Some("secret"), Some("kubernetes")));
        let live = LiveAccess::by_kubeconfig(&kubeconfig, vec!["https://[::1]:2".into(), "https://b".into()]).expect("usable");
        let authorities: Vec<String> = live.current().servers.iter().map(Address::authority).collect();
        assert_eq!(authorities, ["[::1]:2", "b:443"]);
        assert!(Address::parse("http://a").is_err());
    }
}
