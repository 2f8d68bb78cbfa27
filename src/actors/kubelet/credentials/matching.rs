//! Whether a place that credentials are for has an image: a host whose parts may be globs, a port and the beginning of a path. Pure.

/// A URL without its scheme.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// Those between dots.
    parts: Vec<String>,
    /// Empty for none.
    port: String,
    /// With a slash before it, or empty.
    path: String,
}

impl Place {
    /// Reads `host:port/path`, of which only the host must be there.
    ///
    /// # Errors
    /// When it is no such thing.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        if let Some(odd) = text.chars().find(char::is_ascii_control) {
            return Err(format!("invalid control character {odd:?} in URL"));
        }
        let text = text.split(['?', '#']).next().unwrap_or_default();
        let (host, path) = text.split_at(text.find('/').unwrap_or(text.len()));
        let is_of_host = |c: char| c.is_ascii_alphanumeric() || !c.is_ascii() || "-_.~!$&'()*+,;=:[]<>\"".contains(c);
        if let Some(odd) = host.chars().find(|c| !is_of_host(*c)) {
            return Err(format!("invalid character {odd:?} in host name"));
        }
        let (host, port) = split_port(host)?;
        Ok(Place { parts: host.split('.').map(str::to_owned).collect(), port: port.to_owned(), path: path.to_owned() })
    }

    /// Whether `image` lies there.
    pub(super) fn has(&self, image: &Place) -> bool {
        self.port == image.port
            && self.parts.len() == image.parts.len()
            && image.path.starts_with(&self.path)
            && self.parts.iter().zip(&image.parts).all(|(glob, part)| matches(glob, part))
    }
}

fn split_port(host: &str) -> Result<(&str, &str), String> {
    let (name, port) = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((name, "")) => (name, ""),
        Some((name, rest)) => (name, rest.strip_prefix(':').ok_or_else(|| format!("invalid port {rest:?} after host"))?),
        None => match host.split_once(':') {
            Some((name, port)) => (name, port),
            None => (host, ""),
        },
    };
    if port.bytes().all(|byte| byte.is_ascii_digit()) { Ok((name, port)) } else { Err(format!("invalid port \":{port}\" after host")) }
}

/// Shell patterns as Go's `path.Match` has them: `*`, `?`, classes and escapes. What is no pattern matches nothing.
fn matches(glob: &str, text: &str) -> bool {
    let (glob, text): (Vec<char>, Vec<char>) = (glob.chars().collect(), text.chars().collect());
    // Where to go on after the last star when what follows it does not fit.
    let (mut at, mut seen, mut star) = (0, 0, None);
    while seen < text.len() {
        match glob.get(at) {
            Some('*') => {
                star = Some((at + 1, seen));
                at += 1;
                continue;
            }
            Some(_) => {
                if let Some(next) = one(&glob, at, text[seen]) {
                    (at, seen) = (next, seen + 1);
                    continue;
                }
            }
            None => {}
        }
        let Some((after, from)) = star else { return false };
        star = Some((after, from + 1));
        (at, seen) = (after, from + 1);
    }
    glob[at..].iter().all(|rest| *rest == '*')
}

/// Where a pattern goes on that stands for a letter at a place; `None` where it does not.
fn one(glob: &[char], at: usize, letter: char) -> Option<usize> {
    match glob[at] {
        '?' => Some(at + 1),
        '\\' => (*glob.get(at + 1)? == letter).then_some(at + 2),
        '[' => class(glob, at + 1, letter),
        exact => (exact == letter).then_some(at + 1),
    }
}

fn class(glob: &[char], begin: usize, letter: char) -> Option<usize> {
    let negated = *glob.get(begin)? == '^';
    let (mut at, mut found) = (if negated { begin + 1 } else { begin }, false);
    let first = at;
    while at == first || *glob.get(at)? != ']' {
        let (low, next) = member(glob, at)?;
        let (high, next) = if glob.get(next) == Some(&'-') { member(glob, next + 1)? } else { (low, next) };
        found |= (low..=high).contains(&letter);
        at = next;
    }
    (found != negated).then_some(at + 1)
}

/// A letter of a class, and what comes after it.
fn member(glob: &[char], at: usize) -> Option<(char, usize)> {
    match *glob.get(at)? {
        '-' | ']' => None,
        '\\' => Some((*glob.get(at + 1)?, at + 2)),
        letter => Some((letter, at + 1)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn has(place: &str, image: &str) -> bool {
        Place::parse(place).expect("a place").has(&Place::parse(image).expect("an image"))
    }

    #[test]
    fn hosts_ports_and_paths_are_compared_as_upstream_does() {
        for (place, image) in [
            ("registry.example", "registry.example/a/b"),
            ("*.registry.example", "eu.registry.example/a"),
            ("*.*.example", "eu.registry.example/a"),
            ("1234*.dkr.*.example", "12345.dkr.eu-1.example/a"),
            ("registry.example:5000", "registry.example:5000/a"),
            ("registry.example/team", "registry.example/team/a"),
            ("registry.example/te", "registry.example/team/a"),
            ("reg[a-i]stry.example", "registry.example/a"),
            ("[::1]:5000", "[::1]:5000/a"),
        ] {
            assert!(has(place, image), "{place} {image}");
        }
        for (place, image) in [
            ("*.example", "eu.registry.example/a"),
            ("*", "registry.example/a"),
            ("registry.example", "registry.example:5000/a"),
            ("r?gistry.example", "registry.example/a"),
            ("registry.example/team", "registry.example/other/a"),
            ("registry.example/*", "registry.example/a"),
            ("reg[.example", "registry.example/a"),
            ("registry.example", "xregistry.example/a"),
        ] {
            assert!(!has(place, image), "{place} {image}");
        }
    }

    #[test]
    fn what_is_no_url_is_refused() {
        assert_eq!(Place::parse("a b"), Err("invalid character ' ' in host name".into()));
        assert_eq!(Place::parse("a:b/c"), Err("invalid port \":b\" after host".into()));
        assert!(Place::parse("a\n").is_err());
        assert_eq!(Place::parse("reg[^a-i]stry.example"), Err("invalid character '^' in host name".into()));
    }

    #[test]
    fn patterns_are_shells() {
        for (glob, text) in [("*", ""), ("a*b*c", "aXbYbZc"), ("a\\*", "a*"), ("[a-c\\]]x", "]x"), ("**", "ab")] {
            assert!(matches(glob, text), "{glob} {text}");
        }
        for (glob, text) in [("a*b", "abc"), ("", "a"), ("a\\", "a"), ("[]x]", "x"), ("[", "["), ("?", "")] {
            assert!(!matches(glob, text), "{glob} {text}");
        }
    }
}
