//! URLs (`k8s.io/apiserver/pkg/cel/library/urls.go`).

use super::{Context, Row};
use crate::expressions::{
    meter::Fault,
    url::{Url, parse},
    values::{Made, Map, Named, Val, no_overload},
};

pub(super) const FUNCTIONS: &[Row] = &[
    ("url", to_url, &[("string_to_url", "(string) -> url")]),
    ("isURL", is_url, &[("is_url_string", "(string) -> bool")]),
    ("getScheme", scheme, &[("url_get_scheme", "url.() -> string")]),
    ("getHost", host, &[("url_get_host", "url.() -> string")]),
    ("getHostname", hostname, &[("url_get_hostname", "url.() -> string")]),
    ("getPort", port, &[("url_get_port", "url.() -> string")]),
    ("getEscapedPath", path, &[("url_get_escaped_path", "url.() -> string")]),
    ("getQuery", query, &[("url_get_query", "url.() -> map(string, list(string))")]),
];

type Ran<'a> = Result<Val<'a>, Fault>;

fn to_url<'a>(args: &[Val<'a>], context: &mut Context<'_>) -> Ran<'a> {
    let [Val::String(text)] = args else { return Err(no_overload()) };
    context.meter.allocate(6 * text.len())?;
    let url = parse(text).map_err(|why| Fault::error(format!("URL parse error during conversion from string: {why}")))?;
    Ok(Val::named(Named::Url(url)))
}

fn is_url<'a>(args: &[Val<'a>], context: &mut Context<'_>) -> Ran<'a> {
    let [Val::String(text)] = args else { return Err(no_overload()) };
    context.meter.allocate(6 * text.len())?;
    Ok(Val::Bool(parse(text).is_ok()))
}

fn part<'a>(args: &[Val<'a>], context: &mut Context<'_>, of: impl Fn(&Url) -> String) -> Ran<'a> {
    match args {
        [Val::Named(named)] => match &**named {
            Named::Url(url) => {
                context.meter.allocate(url.text.len())?;
                Ok(Val::text(of(url)))
            }
            _ => Err(no_overload()),
        },
        _ => Err(no_overload()),
    }
}

fn scheme<'a>(args: &[Val<'a>], context: &mut Context<'_>) -> Ran<'a> {
    part(args, context, |url| url.scheme.clone())
}

fn host<'a>(args: &[Val<'a>], context: &mut Context<'_>) -> Ran<'a> {
    part(args, context, |url| url.host.clone())
}

/// The name and the port of a host.
fn name_and_port(host: &str) -> (&str, &str) {
    let after = host.rfind(']').map_or(0, |at| at + 1);
    let (name, port) = host[after..].rfind(':').map_or((host, ""), |at| (&host[..after + at], &host[after + at + 1..]));
    (name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name), port)
}

fn hostname<'a>(args: &[Val<'a>], context: &mut Context<'_>) -> Ran<'a> {
    part(args, context, |url| name_and_port(&url.host).0.to_owned())
}

fn port<'a>(args: &[Val<'a>], context: &mut Context<'_>) -> Ran<'a> {
    part(args, context, |url| name_and_port(&url.host).1.to_owned())
}

fn path<'a>(args: &[Val<'a>], context: &mut Context<'_>) -> Ran<'a> {
    part(args, context, |url| url.path.clone())
}

/// What stands behind percent signs as bytes, and pluses as blanks; `None` for a broken escape.
fn unescaped(text: &str) -> Option<String> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'+' => out.push(b' '),
            b'%' => {
                let digits = [bytes.next()?, bytes.next()?];
                out.push(u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?);
            }
            other => out.push(other),
        }
    }
    Some(String::from_utf8_lossy(&out).into_owned())
}

fn query<'a>(args: &[Val<'a>], context: &mut Context<'_>) -> Ran<'a> {
    let [Val::Named(named)] = args else { return Err(no_overload()) };
    let Named::Url(url) = &**named else { return Err(no_overload()) };
    let mut values: Vec<(String, Vec<Val<'a>>)> = Vec::new();
    let mut places = std::collections::HashMap::new();
    for pair in url.query.split('&').filter(|pair| !pair.is_empty() && !pair.contains(';')) {
        context.meter.allocate(256 + 2 * pair.len())?;
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        let (Some(key), Some(value)) = (unescaped(key), unescaped(value)) else { continue };
        let place = *places.entry(key.clone()).or_insert_with(|| {
            values.push((key, Vec::new()));
            values.len() - 1
        });
        values[place].1.push(Val::text(value));
    }
    let mut made = Made::default();
    for (key, list) in values {
        made.insert(Val::text(key), Val::list(list))?;
    }
    Ok(Val::Map(Map::Made(made.into())))
}
