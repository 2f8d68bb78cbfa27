//! Which versions of TLS a server takes, and which cipher suites of version 1.2, by upstream's names (`--tls-min-version`,
//! `--tls-cipher-suites`). Those of version 1.3 cannot be chosen, as upstream.

use rustls::{
    CipherSuite, SupportedCipherSuite, SupportedProtocolVersion,
    crypto::{CryptoProvider, ring},
    version::{TLS12, TLS13},
};

/// Suites that upstream takes the names of and nobody offers here: they are no longer safe.
const UNSAFE: [&str; 16] = [
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA256",
    "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA",
    "TLS_ECDHE_ECDSA_WITH_RC4_128_SHA",
    "TLS_ECDHE_RSA_WITH_3DES_EDE_CBC_SHA",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256",
    "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA",
    "TLS_ECDHE_RSA_WITH_RC4_128_SHA",
    "TLS_RSA_WITH_3DES_EDE_CBC_SHA",
    "TLS_RSA_WITH_AES_128_CBC_SHA",
    "TLS_RSA_WITH_AES_128_CBC_SHA256",
    "TLS_RSA_WITH_AES_128_GCM_SHA256",
    "TLS_RSA_WITH_AES_256_CBC_SHA",
    "TLS_RSA_WITH_AES_256_GCM_SHA384",
    "TLS_RSA_WITH_RC4_128_SHA",
];

static NEWEST: [&SupportedProtocolVersion; 1] = [&TLS13];
static ALL: [&SupportedProtocolVersion; 2] = [&TLS13, &TLS12];

/// What a server takes. The default is all that is safe: versions 1.2 and 1.3.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsPolicy {
    only_13: bool,
    /// Of version 1.2; all where there is none.
    suites: Option<Vec<CipherSuite>>,
}

impl TlsPolicy {
    /// Reads the names; nothing is said by empty ones.
    ///
    /// # Errors
    /// In upstream's words, what is no version or suite; and what would leave a server without any, or could not be had.
    pub fn of(min_version: &str, suites: &[String]) -> Result<Self, String> {
        let only_13 = match min_version {
            "" | "VersionTLS12" => false,
            "VersionTLS13" => true,
            "VersionTLS10" | "VersionTLS11" => return Err(format!("{min_version} is no longer spoken: the oldest version is VersionTLS12")),
            unknown => return Err(format!("unknown tls version {unknown:?}")),
        };
        let mut chosen = Vec::new();
        for name in suites {
            match ring::ALL_CIPHER_SUITES.iter().find(|suite| is_called(suite, name)) {
                Some(suite) if suite.tls13().is_none() => chosen.push(suite.suite()),
                Some(_) => {}
                None if UNSAFE.contains(&name.as_str()) => {}
                None => return Err(format!("Cipher suite {name} not supported or doesn't exist")),
            }
        }
        if !suites.is_empty() && only_13 {
            return Err("cipher suites of TLS 1.3 are not configurable: leave them out with VersionTLS13".into());
        }
        if !suites.is_empty() && chosen.is_empty() {
            return Err("none of the cipher suites is offered: take one of TLS 1.2 with ECDHE and AES-GCM or ChaCha20, or VersionTLS13".into());
        }
        Ok(TlsPolicy { only_13, suites: Some(chosen).filter(|chosen| !chosen.is_empty()) })
    }

    pub(super) fn versions(&self) -> &'static [&'static SupportedProtocolVersion] {
        if self.only_13 { &NEWEST[..] } else { &ALL[..] }
    }

    pub(super) fn provider(&self) -> CryptoProvider {
        let mut provider = ring::default_provider();
        if let Some(chosen) = &self.suites {
            provider.cipher_suites.retain(|suite| suite.tls13().is_some() || chosen.contains(&suite.suite()));
        }
        provider
    }
}

/// Whether a suite has a name of upstream's: those of version 1.3 stand without the version, two have an older name beside.
fn is_called(suite: &SupportedCipherSuite, name: &str) -> bool {
    let own = suite.suite().as_str().unwrap_or_default();
    match own.strip_prefix("TLS13_") {
        Some(rest) => name.strip_prefix("TLS_") == Some(rest),
        None => name == own || (name.ends_with("_CHACHA20_POLY1305") && own.strip_suffix("_SHA256") == Some(name)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(min_version: &str, suites: &[&str]) -> Result<TlsPolicy, String> {
        TlsPolicy::of(min_version, &suites.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>())
    }

    fn offered(policy: &TlsPolicy) -> Vec<&'static str> {
        policy.provider().cipher_suites.iter().filter(|suite| suite.tls13().is_none()).filter_map(|suite| suite.suite().as_str()).collect()
    }

    #[test]
    fn suites_of_the_older_version_are_chosen_and_those_of_the_newer_stay() {
        assert_eq!(policy("", &[]), Ok(TlsPolicy::default()));
        assert_eq!(offered(&TlsPolicy::default()).len(), 6);
        let few = policy("VersionTLS12", &["TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256", "TLS_AES_128_GCM_SHA256", "TLS_RSA_WITH_AES_128_CBC_SHA"]);
        let few = few.expect("works");
        assert_eq!((offered(&few), few.versions().len()), (vec!["TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"], 2));
        assert_eq!(few.provider().cipher_suites.len(), 4);
        let older = policy("", &["TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305"]).expect("works");
        assert_eq!(offered(&older), ["TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256"]);
        assert_eq!(policy("VersionTLS13", &[]).expect("works").versions().len(), 1);
    }

    #[test]
    fn what_cannot_be_had_is_refused() {
        for (min_version, suites, why) in [
            ("VersionTLS14", &[][..], "unknown tls version \"VersionTLS14\""),
            ("VersionTLS10", &[], "is no longer spoken"),
            ("", &["TLS_NOPE"], "Cipher suite TLS_NOPE not supported or doesn't exist"),
            ("", &["TLS_RSA_WITH_AES_128_GCM_SHA256"], "none of the cipher suites is offered"),
            ("VersionTLS13", &["TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"], "not configurable"),
        ] {
            assert!(policy(min_version, suites).is_err_and(|told| told.contains(why)), "{why}");
        }
    }
}
