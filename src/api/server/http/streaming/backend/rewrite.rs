//! URLs on both sides of the proxy. Pure.

/// The path at the backend: what follows `proxy`, with the trailing slash of the whole request.
pub fn backend_path(rest: &str, request_path: &str) -> String {
    let mut path = if rest.is_empty() { String::new() } else { format!("/{rest}") };
    if request_path.ends_with('/') && !path.ends_with('/') {
        path.push('/');
    }
    path
}

/// Turns the backend's URLs into ones that lead through the proxy.
#[derive(Clone, Debug)]
pub struct Rewrite {
    /// What stands before the backend's paths.
    prefix: String,
    /// Hosts that mean the backend: its own, and the one that the client asked.
    hosts: [String; 2],
}

impl Rewrite {
    /// `backend_path` is the end of `request_path`.
    pub fn new(request_path: &str, backend_path: &str, backend: &str, asked: &str) -> Self {
        let prefix = request_path.strip_suffix(backend_path).unwrap_or(request_path);
        Rewrite { prefix: prefix.into(), hosts: [backend.into(), asked.into()] }
    }

    /// `X-Forwarded-Uri` of a path at the backend.
    pub fn forwarded_uri(&self, backend_path: &str) -> String {
        format!("{}{backend_path}", self.prefix)
    }

    /// The URL as the client must ask for it; relative ones and those of other hosts stay.
    pub fn url(&self, url: &str) -> String {
        let (host, path) = split(url);
        let is_other = host.is_some_and(|host| !self.hosts.iter().any(|known| known == host));
        if is_other || !path.starts_with('/') {
            return url.to_owned();
        }
        if path.starts_with(&self.prefix) {
            return path.to_owned();
        }
        format!("{}{path}", self.prefix)
    }
}

/// The host of a URL, where it names one, and all that follows. Other schemes than HTTP have no path that matters.
fn split(url: &str) -> (Option<&str>, &str) {
    let lower = url.get(..8).unwrap_or(url).to_ascii_lowercase();
    let behind_scheme = if lower.starts_with("http://") {
        &url[7..]
    } else if lower.starts_with("https://") {
        &url[8..]
    } else if let Some(rest) = url.strip_prefix("//") {
        rest
    } else {
        return (None, url);
    };
    match behind_scheme.find(['/', '?', '#']) {
        Some(at) => (Some(&behind_scheme[..at]), &behind_scheme[at..]),
        None => (Some(behind_scheme), ""),
    }
}
