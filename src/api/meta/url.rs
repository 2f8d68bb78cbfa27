//! Absolute URLs (RFC 3986), taken apart as Go's `net/url` does, so that what is refused is refused with the same words.

use std::net::IpAddr;

/// The parts of a URL that rules ask about.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Url<'a> {
    /// In lower case; empty where there is none.
    pub scheme: String,
    pub user: Option<&'a str>,
    pub host: &'a str,
    pub query: &'a str,
    pub fragment: &'a str,
}

/// Takes a URL apart.
///
/// # Errors
/// Why it cannot be read, with the URL before it.
pub fn parse(text: &str) -> Result<Url<'_>, String> {
    parts(text).map_err(|why| format!("parse {text:?}: {why}"))
}

fn parts(text: &str) -> Result<Url<'_>, String> {
    let (head, fragment) = text.split_once('#').unwrap_or((text, ""));
    if head.bytes().any(|byte| byte.is_ascii_control()) {
        return Err("net/url: invalid control character in URL".to_owned());
    }
    escapes(fragment)?;
    let (scheme, rest) = scheme(head)?;
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let mut url = Url { scheme: scheme.to_ascii_lowercase(), query, fragment, ..Url::default() };
    let Some(after) = rest.strip_prefix("//").filter(|_| !scheme.is_empty() || !rest.starts_with("///")) else {
        let opaque = !rest.starts_with('/');
        if opaque && scheme.is_empty() && rest.split('/').next().is_some_and(|segment| segment.contains(':')) {
            return Err("first path segment in URL cannot contain colon".to_owned());
        }
        return if opaque && !scheme.is_empty() { Ok(url) } else { escapes(rest).map(|()| url) };
    };
    let (authority, path) = after.split_at(after.find('/').unwrap_or(after.len()));
    let (user, host) = authority.rsplit_once('@').map_or((None, authority), |(user, host)| (Some(user), host));
    check_host(&url.scheme, host)?;
    if user.is_some_and(|user| !user.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._:~!$&'()*+,;=%@".contains(&byte))) {
        return Err("net/url: invalid userinfo".to_owned());
    }
    user.map_or(Ok(()), escapes)?;
    escapes(path)?;
    (url.user, url.host) = (user, host);
    Ok(url)
}

/// Splits off what stands before the first colon, where that can be a scheme.
fn scheme(text: &str) -> Result<(&str, &str), String> {
    let end = text.find(|c: char| !(c.is_ascii_alphanumeric() || "+-.".contains(c)));
    match end {
        Some(end) if text[end..].starts_with(':') => match text.chars().next() {
            Some(':') => Err("missing protocol scheme".to_owned()),
            Some(first) if first.is_ascii_alphabetic() => Ok((&text[..end], &text[end + 1..])),
            _ => Ok(("", text)),
        },
        _ => Ok(("", text)),
    }
}

fn check_host(scheme: &str, host: &str) -> Result<(), String> {
    if let Some(at) = host.rfind('[') {
        return if at == 0 { check_literal(host) } else { Err("invalid IP-literal".to_owned()) };
    }
    let colon = if matches!(scheme, "http" | "https") { host.find(':') } else { host.rfind(':') };
    if let Some(at) = colon {
        check_port(&host[at..])?;
    }
    host_escapes(host)
}

/// An IPv6 address in brackets, with an optional zone and port.
fn check_literal(host: &str) -> Result<(), String> {
    let end = host.rfind(']').ok_or("missing ']' in host")?;
    check_port(&host[end + 1..])?;
    let name = &host[1..end];
    let (address, zone) = name.split_once("%25").map_or((name, None), |(address, zone)| (address, Some(zone)));
    zone.map_or(Ok(()), host_escapes)?;
    match address.parse::<IpAddr>() {
        Ok(IpAddr::V6(_)) => Ok(()),
        Ok(IpAddr::V4(_)) => Err("invalid IP-literal".to_owned()),
        Err(_) => Err(format!("invalid host: ParseAddr({name:?}): unable to parse IP")),
    }
}

fn check_port(port: &str) -> Result<(), String> {
    let is_port = port.is_empty() || port.strip_prefix(':').is_some_and(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()));
    if is_port { Ok(()) } else { Err(format!("invalid port {port:?} after host")) }
}

/// Percent signs must be followed by two hexadecimal digits.
fn escapes(text: &str) -> Result<(), String> {
    for (at, _) in text.match_indices('%') {
        let escape: String = text[at..].chars().take(3).collect();
        if escape.len() != 3 || !escape[1..].bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(format!("invalid URL escape {escape:?}"));
        }
    }
    Ok(())
}

/// Host names hold few characters besides letters, and only bytes beyond ASCII in escapes.
fn host_escapes(host: &str) -> Result<(), String> {
    escapes(host)?;
    for (at, _) in host.match_indices('%') {
        let escape = &host[at..at + 3];
        if escape.as_bytes()[1] < b'8' && escape != "%25" {
            return Err(format!("invalid URL escape {escape:?}"));
        }
    }
    let bad = host.chars().find(|c| c.is_ascii() && !c.is_ascii_alphanumeric() && !"-_.~!$&'()*+,;=:[]<>\"%".contains(*c));
    bad.map_or(Ok(()), |c| Err(format!("invalid character {:?} in host name", c.to_string())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_taken_apart_into_what_rules_ask_about() {
        let url = Url { scheme: "https".into(), user: Some("a:b"), host: "h.example:8443", query: "q=1", fragment: "f" };
        assert_eq!(parse("HTTPS://a:b@h.example:8443/path?q=1#f"), Ok(url));
        assert_eq!(parse("https://[::1]:80").map(|url| url.host), Ok("[::1]:80"));
        let hostless = [("", ""), ("example.com/x", ""), ("/x", ""), ("https:///x", "https"), ("mailto:a@b", "mailto")];
        for (text, scheme) in hostless {
            assert_eq!(parse(text), Ok(Url { scheme: scheme.into(), ..Url::default() }), "{text}");
        }
    }

    #[test]
    fn what_is_no_url_is_refused_with_the_reason() {
        let cases = [
            ("https://a\nb", "parse \"https://a\\nb\": net/url: invalid control character in URL"),
            (":8080", "parse \":8080\": missing protocol scheme"),
            ("10.0.0.1:443", "parse \"10.0.0.1:443\": first path segment in URL cannot contain colon"),
            ("https://h:x", "parse \"https://h:x\": invalid port \":x\" after host"),
            ("https://a:1:2", "parse \"https://a:1:2\": invalid port \":1:2\" after host"),
            ("https://[::1", "parse \"https://[::1\": missing ']' in host"),
            ("https://[1.2.3.4]", "parse \"https://[1.2.3.4]\": invalid IP-literal"),
            ("https://a b", "parse \"https://a b\": invalid character \" \" in host name"),
            ("https://a\\b", "parse \"https://a\\\\b\": invalid character \"\\\\\" in host name"),
            ("https://%41.example", "parse \"https://%41.example\": invalid URL escape \"%41\""),
            ("https://h/%zz", "parse \"https://h/%zz\": invalid URL escape \"%zz\""),
            ("https://h/%é", "parse \"https://h/%é\": invalid URL escape \"%é\""),
            ("https://a[b]", "parse \"https://a[b]\": invalid IP-literal"),
            ("https://h#%zz", "parse \"https://h#%zz\": invalid URL escape \"%zz\""),
            ("https://a[b@h", "parse \"https://a[b@h\": net/url: invalid userinfo"),
        ];
        for (text, why) in cases {
            assert_eq!(parse(text), Err(why.to_owned()));
        }
    }
}
