//! `TracingConfiguration`: where spans go and how many traces begin, as API server and kubelet are told it (KEP-647, KEP-2831). Pure.

use serde::Deserialize;

use crate::document::Document;

/// Where a collector listens unless somebody says otherwise.
pub const DEFAULT_ENDPOINT: &str = "localhost:4317";
/// What gRPC connects to where a name has no port.
const USUAL_PORT: u16 = 443;
const MOST: i32 = 1_000_000;
const NAMING: &str = "https://github.com/grpc/grpc/blob/master/doc/naming.md";

/// What is said of tracing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct TracingSettings {
    /// A gRPC name: `host:port`, `dns:host:port`, `unix:path`, `unix-abstract:name`.
    pub endpoint: Option<String>,
    /// Of a million requests that belong to no trace, so many begin one.
    pub sampling_rate_per_million: Option<i32>,
}

impl Document for TracingSettings {
    const GROUP: &'static str = "apiserver.config.k8s.io";
    const VERSIONS: &'static [&'static str] = &["v1", "v1beta1", "v1alpha1"];
    const KIND: &'static str = "TracingConfiguration";
}

/// Where a collector listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// `host:port`, without TLS.
    Tcp(String),
    Unix(String),
    /// A socket of the kernel's own names.
    Abstract(String),
}

impl TracingSettings {
    /// What is wrong with it, in upstream's words. `path` is that of the field that it lies in, empty where it is a document of its own.
    pub fn errors(&self, path: &str) -> Vec<String> {
        let field = |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
        let mut errors = Vec::new();
        if let Some(rate) = self.sampling_rate_per_million {
            let mut wrong = |why: &str| errors.push(format!("{}: Invalid value: {rate}: {why}", field("samplingRatePerMillion")));
            if rate < 0 {
                wrong("sampling rate must be positive");
            }
            if rate > MOST {
                wrong("sampling rate per million must be less than or equal to one million");
            }
        }
        if let Some(endpoint) = &self.endpoint
            && let Err(why) = parse(endpoint)
        {
            errors.push(format!("{}: Invalid value: {why}", field("endpoint")));
        }
        errors
    }

    /// Where spans go.
    ///
    /// # Errors
    /// As [`Self::errors`].
    pub fn endpoint(&self) -> Result<Endpoint, String> {
        parse(self.endpoint.as_deref().unwrap_or(DEFAULT_ENDPOINT))
    }

    /// How many of a million traces begin here.
    pub fn per_million(&self) -> u32 {
        self.sampling_rate_per_million.and_then(|rate| u32::try_from(rate).ok()).unwrap_or(0)
    }
}

/// Reads a gRPC name.
fn parse(endpoint: &str) -> Result<Endpoint, String> {
    let (scheme, rest) = match endpoint.split_once("://") {
        // Upstream takes whatever has no such sign for a host; gRPC reads the schemes that it knows all the same.
        None => ["dns", "unix-abstract", "unix"]
            .into_iter()
            .find_map(|scheme| Some((scheme, endpoint.strip_prefix(scheme)?.strip_prefix(':')?)))
            .unwrap_or(("dns", endpoint)),
        // Between the slashes stands who is asked about names, or nobody.
        Some(("dns", rest)) => ("dns", rest.rsplit_once('/').map_or(rest, |(_, name)| name)),
        Some((scheme, rest)) => (scheme, rest),
    };
    match scheme {
        "dns" => host_and_port(rest).map(Endpoint::Tcp).ok_or_else(|| format!("{endpoint:?}: it is no host with a port")),
        "unix" if !rest.is_empty() => Ok(Endpoint::Unix(rest.to_owned())),
        "unix-abstract" if !rest.is_empty() => Ok(Endpoint::Abstract(rest.to_owned())),
        "unix" | "unix-abstract" => Err(format!("{endpoint:?}: it names no socket")),
        odd => {
            let options = "Options are none, dns, unix, or unix-abstract";
            Err(format!("{endpoint:?}: unsupported scheme: {odd}.  {options}.  See {NAMING}"))
        }
    }
}

/// A host with its port, or with gRPC's usual one.
fn host_and_port(name: &str) -> Option<String> {
    let authority: http::uri::Authority = name.parse().ok()?;
    if authority.host().is_empty() || name.contains('@') {
        return None;
    }
    match authority.port_u16() {
        Some(_) => Some(name.to_owned()),
        None => (authority.host().len() == name.len()).then(|| format!("{name}:{USUAL_PORT}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{document, schema::from_yaml};

    fn read(text: &str) -> Result<TracingSettings, String> {
        let value = from_yaml(&format!("{{apiVersion: apiserver.config.k8s.io/v1, kind: TracingConfiguration{text}}}")).expect("YAML");
        document::read(value).map_err(|error| error.to_string())
    }

    #[test]
    fn what_is_not_said_is_the_usual() {
        let settings = read("").expect("it may say nothing");
        assert_eq!((settings.endpoint(), settings.per_million()), (Ok(Endpoint::Tcp("localhost:4317".into())), 0));
        assert!(settings.errors("").is_empty());
        let unknown = read(", rate: 3").expect_err("it has no such field");
        assert!(unknown.contains("unknown field `rate`"), "{unknown}");
    }

    #[test]
    fn endpoints_are_names_as_grpc_has_them() {
        let tcp = |text: &str| Ok(Endpoint::Tcp(text.into()));
        for (text, wanted) in [
            ("collector.example:4317", tcp("collector.example:4317")),
            ("[2001:db8::1]:4317", tcp("[2001:db8::1]:4317")),
            ("collector", tcp("collector:443")),
            ("dns:collector:1", tcp("collector:1")),
            ("dns:///collector:1", tcp("collector:1")),
            ("dns://9.9.9.9/collector:1", tcp("collector:1")),
            ("unix:///run/otel.sock", Ok(Endpoint::Unix("/run/otel.sock".into()))),
            ("unix:/run/otel.sock", Ok(Endpoint::Unix("/run/otel.sock".into()))),
            ("unix-abstract:otel", Ok(Endpoint::Abstract("otel".into()))),
        ] {
            assert_eq!(parse(text), wanted, "{text}");
        }
        for text in ["", ":4317", "collector:", "collector:99999", "a b:1", "unix:", "dns:///"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn what_is_wrong_is_told_in_upstreams_words() {
        let of =
            |endpoint: Option<&str>, rate: Option<i32>| TracingSettings { endpoint: endpoint.map(str::to_owned), sampling_rate_per_million: rate };
        let high = "tracing.samplingRatePerMillion: Invalid value: 1000001: sampling rate per million must be less than or equal to one million";
        assert_eq!(of(None, Some(1_000_001)).errors("tracing"), [high]);
        assert_eq!(of(None, Some(-1)).errors(""), ["samplingRatePerMillion: Invalid value: -1: sampling rate must be positive"]);
        let http = of(Some("http://localhost:4317"), None).errors("");
        assert_eq!(http.len(), 1);
        assert!(
            http[0].starts_with("endpoint: Invalid value: \"http://localhost:4317\": unsupported scheme: http.  Options are none, dns,"),
            "{http:?}"
        );
        assert!(of(Some("localhost:4317"), Some(1_000_000)).errors("").is_empty());
    }
}
