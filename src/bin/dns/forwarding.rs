//! Whom names of others are asked of: the machine's resolvers, and further ones for some domains.
//!
//! The ConfigMap `kube-system/kube-dns` may name them, as it does for kube-dns: `stubDomains`, a JSON object of domains with addresses, and
//! `upstreamNameservers`, a JSON list of addresses in place of the machine's. It is mounted as a folder and read anew when it changes.

use std::{
    collections::BTreeMap,
    fs, io,
    net::{IpAddr, SocketAddr},
    path::Path,
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, ensure};
use hickory_proto::rr::Name;
use parking_lot::RwLock;

use crate::{
    cache::Cache,
    upstream::{DNS_PORT, Upstream},
};

/// How often the folder is looked at.
const LOOK: Duration = Duration::from_secs(5);
/// Domains with resolvers of their own.
const MOST_DOMAINS: usize = 256;

/// What the folder says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Told {
    domains: Option<String>,
    servers: Option<String>,
}

/// Resolvers by domain.
#[derive(Debug)]
struct Routes {
    /// The domains with most labels first.
    domains: Vec<(Name, Arc<Upstream>)>,
    others: Arc<Upstream>,
}

/// Knows whom to ask.
#[derive(Debug)]
pub struct Forwarding {
    routes: RwLock<Arc<Routes>>,
    machine: Arc<Upstream>,
}

impl Forwarding {
    /// All names are asked of these.
    pub fn new(machine: Upstream) -> Self {
        let machine = Arc::new(machine);
        Forwarding { routes: RwLock::new(Arc::new(Routes { domains: Vec::new(), others: machine.clone() })), machine }
    }

    /// Whom a name is asked of.
    pub fn of(&self, name: &Name) -> Arc<Upstream> {
        let routes = self.routes.read().clone();
        routes.domains.iter().find(|(domain, _)| domain.zone_of(name)).map_or(&routes.others, |(_, upstream)| upstream).clone()
    }

    /// Follows a folder for as long as the process runs.
    pub async fn follow(self: Arc<Self>, folder: std::path::PathBuf, cache: Arc<Cache>) {
        let mut last = Told::default();
        loop {
            match Told::read(&folder) {
                Ok(told) if told != last => {
                    self.take(&told, &cache);
                    last = told;
                }
                Ok(_) => {}
                Err(error) => eprintln!("reading {}: {error}", folder.display()),
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Takes over what is said; what cannot be understood changes nothing.
    fn take(&self, told: &Told, cache: &Cache) {
        match told.routes(&self.machine) {
            Ok(routes) => {
                eprintln!("{} domains have resolvers of their own", routes.domains.len());
                *self.routes.write() = Arc::new(routes);
                cache.clear();
            }
            Err(error) => eprintln!("the ConfigMap kube-dns is not used: {error:#}"),
        }
    }
}

impl Told {
    fn read(folder: &Path) -> io::Result<Self> {
        let file = |name: &str| match fs::read_to_string(folder.join(name)) {
            Ok(text) => Ok(Some(text)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        };
        Ok(Told { domains: file("stubDomains")?, servers: file("upstreamNameservers")? })
    }

    fn routes(&self, machine: &Arc<Upstream>) -> anyhow::Result<Routes> {
        let said = |text: &Option<String>| text.clone().filter(|text| !text.trim().is_empty());
        let domains: BTreeMap<String, Vec<String>> =
            said(&self.domains).map(|text| serde_json::from_str(&text)).transpose().context("stubDomains")?.unwrap_or_default();
        ensure!(domains.len() <= MOST_DOMAINS, "stubDomains names more than {MOST_DOMAINS} domains");
        let servers: Vec<String> =
            said(&self.servers).map(|text| serde_json::from_str(&text)).transpose().context("upstreamNameservers")?.unwrap_or_default();
        let of_domain = |(domain, servers): (String, Vec<String>)| {
            let mut name = Name::from_ascii(&domain).with_context(|| format!("{domain:?} is no domain"))?.to_lowercase();
            name.set_fqdn(true);
            ensure!(!servers.is_empty(), "{domain} has no resolver");
            Ok((name, Arc::new(Upstream::new(addresses(&servers)?))))
        };
        let mut domains = domains.into_iter().map(of_domain).collect::<anyhow::Result<Vec<_>>>()?;
        domains.sort_by_key(|(name, _)| std::cmp::Reverse(name.num_labels()));
        let others = if servers.is_empty() { machine.clone() } else { Arc::new(Upstream::new(addresses(&servers)?)) };
        Ok(Routes { domains, others })
    }
}

/// Addresses, with a port where it is not the usual one.
fn addresses(texts: &[String]) -> anyhow::Result<Vec<SocketAddr>> {
    let address = |text: &String| {
        let bare = text.parse().map(|ip: IpAddr| SocketAddr::new(ip, DNS_PORT));
        bare.or_else(|_| text.parse()).with_context(|| format!("{text:?} is no address"))
    };
    texts.iter().map(address).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn forwarding() -> Forwarding {
        Forwarding::new(Upstream::new(vec![([10, 0, 0, 1], 53).into()]))
    }

    fn told(domains: &str, servers: &str) -> Told {
        Told { domains: Some(domains.to_owned()), servers: Some(servers.to_owned()) }
    }

    fn asked(forwarding: &Forwarding, name: &str) -> String {
        forwarding.of(&Name::from_ascii(name).expect("a name")).addresses().iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
    }

    #[test]
    fn the_longest_domain_decides() {
        let (forwarding, cache) = (forwarding(), Cache::default());
        forwarding.take(&told(r#"{"acme.local": ["1.2.3.4"], "eu.ACME.local.": ["1.2.3.5:5353", "fd00::5"]}"#, r#"["8.8.8.8"]"#), &cache);
        assert_eq!(asked(&forwarding, "www.acme.local."), "1.2.3.4:53");
        assert_eq!(asked(&forwarding, "www.eu.acme.local."), "1.2.3.5:5353,[fd00::5]:53");
        assert_eq!(asked(&forwarding, "Acme.Local."), "1.2.3.4:53");
        assert_eq!(asked(&forwarding, "example.org."), "8.8.8.8:53");
        forwarding.take(&Told::default(), &cache);
        assert_eq!(asked(&forwarding, "www.acme.local."), "10.0.0.1:53", "the ConfigMap is gone");
    }

    #[test]
    fn what_cannot_be_understood_changes_nothing() {
        let (forwarding, cache) = (forwarding(), Cache::default());
        forwarding.take(&told(r#"{"acme.local": ["1.2.3.4"]}"#, ""), &cache);
        for (domains, servers) in
            [("{", ""), (r#"{"acme.local": []}"#, ""), (r#"{"acme.local": ["dns.acme.local"]}"#, ""), ("", r#"["x"]"#), ("[]", "")]
        {
            forwarding.take(&told(domains, servers), &cache);
            assert_eq!(asked(&forwarding, "www.acme.local."), "1.2.3.4:53", "{domains} {servers}");
        }
    }

    #[test]
    fn a_folder_without_the_files_says_nothing() {
        let folder = tempfile::tempdir().expect("a folder");
        assert_eq!(Told::read(folder.path()).expect("reads"), Told::default());
        assert_eq!(Told::read(&folder.path().join("missing")).expect("reads"), Told::default());
        fs::write(folder.path().join("stubDomains"), "{}").expect("written");
        assert_eq!(Told::read(folder.path()).expect("reads").domains.as_deref(), Some("{}"));
    }
}
