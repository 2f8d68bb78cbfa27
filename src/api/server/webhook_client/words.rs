//! What goes wrong with connections, in the words of upstream's `net` and `crypto/tls`: people look for them.

use std::io;

use rustls::{CertificateError, Error};

/// A socket's error: `connection refused`, without its number.
pub fn of_socket(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text.split_once(" (os error").map_or(&*text, |(text, _)| text);
    match error.raw_os_error() {
        Some(_) => text.to_ascii_lowercase(),
        None if error.kind() == io::ErrorKind::UnexpectedEof => "EOF".to_owned(),
        None => text.to_owned(),
    }
}

/// Why no TLS connection came about: `tls: failed to verify certificate: x509: certificate signed by unknown authority`.
pub fn of_tls(error: &io::Error) -> String {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) {
        Some(Error::InvalidCertificate(why)) => format!("tls: failed to verify certificate: x509: {}", of_certificate(why)),
        Some(Error::InvalidMessage(_)) => "tls: first record does not look like a TLS handshake".to_owned(),
        Some(other) => format!("tls: {other}"),
        None => of_socket(error),
    }
}

fn of_certificate(why: &CertificateError) -> String {
    use CertificateError as Why;
    match why {
        Why::UnknownIssuer => "certificate signed by unknown authority".to_owned(),
        // An authority's own certificate shown by a server, which only those take who were told of that very certificate.
        Why::Other(other) if format!("{other:?}").contains("CaUsedAsEndEntity") => "certificate signed by unknown authority".to_owned(),
        Why::Expired | Why::ExpiredContext { .. } | Why::NotValidYet | Why::NotValidYetContext { .. } => {
            "certificate has expired or is not yet valid".to_owned()
        }
        Why::NotValidForNameContext { expected, presented } if presented.is_empty() => {
            format!("certificate is not valid for any names, but wanted to match {}", expected.to_str())
        }
        Why::NotValidForNameContext { expected, presented } => {
            let names: Vec<_> = presented.iter().map(|name| bare(name)).collect();
            format!("certificate is valid for {}, not {}", names.join(", "), expected.to_str())
        }
        other => other.to_string(),
    }
}

/// The name in `DnsName("a.example.com")`.
fn bare(name: &str) -> &str {
    name.split_once('(').map_or(name, |(_, name)| name.trim_matches(['(', ')', '"']))
}

#[cfg(test)]
mod tests {
    use rustls::pki_types::ServerName;

    use super::*;

    #[test]
    fn failures_read_as_upstreams() {
        assert_eq!(of_socket(&io::Error::from_raw_os_error(111)), "connection refused");
        assert_eq!(of_socket(&io::Error::from(io::ErrorKind::UnexpectedEof)), "EOF");
        let told = |why| of_tls(&io::Error::new(io::ErrorKind::InvalidData, Error::InvalidCertificate(why)));
        assert_eq!(told(CertificateError::UnknownIssuer), "tls: failed to verify certificate: x509: certificate signed by unknown authority");
        let expected = ServerName::try_from("b.example.com").expect("a name");
        let presented = vec!["DnsName(\"a.example.com\")".to_owned(), "IpAddress(192.0.2.1)".to_owned()];
        assert_eq!(
            told(CertificateError::NotValidForNameContext { expected, presented }),
            "tls: failed to verify certificate: x509: certificate is valid for a.example.com, 192.0.2.1, not b.example.com"
        );
    }
}
