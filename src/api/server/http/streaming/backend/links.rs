//! Links of HTML pages: the values of attributes that hold URLs, found without building a document.

/// Elements and those of their attributes that hold URLs.
const LINKS: [(&str, &[&str]); 25] = [
    ("a", &["href"]),
    ("applet", &["codebase"]),
    ("area", &["href"]),
    ("audio", &["src"]),
    ("base", &["href"]),
    ("blockquote", &["cite"]),
    ("body", &["background"]),
    ("button", &["formaction"]),
    ("command", &["icon"]),
    ("del", &["cite"]),
    ("embed", &["src"]),
    ("form", &["action"]),
    ("frame", &["longdesc", "src"]),
    ("head", &["profile"]),
    ("html", &["manifest"]),
    ("iframe", &["longdesc", "src"]),
    ("img", &["longdesc", "src", "usemap"]),
    ("input", &["src", "usemap", "formaction"]),
    ("ins", &["cite"]),
    ("link", &["href"]),
    ("object", &["classid", "codebase", "data", "usemap"]),
    ("q", &["cite"]),
    ("script", &["src"]),
    ("source", &["src"]),
    ("video", &["poster", "src"]),
];

/// The page with every link as `rewrite` says; `None` when that has more than `longest` bytes. Text, comments, scripts and
/// styles stay. It takes time proportional to the page and `longest`, whatever the page says.
pub fn rewritten(page: &str, longest: usize, rewrite: impl Fn(&str) -> String) -> Option<String> {
    let mut out = Out { text: String::with_capacity(page.len() + 256), longest };
    let mut rest = page;
    while let Some(at) = rest.find('<').filter(|_| !out.is_full()) {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        if rest.starts_with("<!--") {
            let end = rest.find("-->").map_or(rest.len(), |end| end + 3);
            out.push_str(&rest[..end]);
            rest = &rest[end..];
            continue;
        }
        let name_end = rest[1..].find(|character: char| !character.is_ascii_alphanumeric()).map_or(rest.len(), |end| end + 1);
        let name = rest[1..name_end].to_ascii_lowercase();
        out.push_str(&rest[..name_end]);
        rest = &rest[name_end..];
        if name.is_empty() {
            continue;
        }
        let urls = LINKS.iter().find(|(element, _)| *element == name).map_or(&[][..], |(_, attributes)| attributes);
        rest = attributes(rest, urls, &rewrite, &mut out);
        if matches!(&*name, "script" | "style") {
            let end = closing_tag(rest, &name);
            out.push_str(&rest[..end]);
            rest = &rest[end..];
        }
    }
    out.push_str(rest);
    (!out.is_full()).then_some(out.text)
}

/// The new page. A few short links can lead to many long ones, so it knows when to stop.
struct Out {
    text: String,
    longest: usize,
}

impl Out {
    fn push_str(&mut self, text: &str) {
        self.text.push_str(text);
    }

    fn is_full(&self) -> bool {
        self.text.len() > self.longest
    }
}

/// Where the element `name` ends, whatever is in it.
fn closing_tag(text: &str, name: &str) -> usize {
    let is_its = |at: usize| text.get(at + 2..at + 2 + name.len()).is_some_and(|found| found.eq_ignore_ascii_case(name));
    text.match_indices("</").map(|(at, _)| at).find(|at| is_its(*at)).unwrap_or(text.len())
}

/// Copies the attributes of a tag, up to its `>`; what follows comes back.
fn attributes<'a>(tag: &'a str, urls: &[&str], rewrite: &impl Fn(&str) -> String, out: &mut Out) -> &'a str {
    let mut rest = tag;
    loop {
        let gap = rest.find(|character: char| !character.is_ascii_whitespace() && character != '/').unwrap_or(rest.len());
        out.push_str(&rest[..gap]);
        rest = &rest[gap..];
        if rest.is_empty() || out.is_full() {
            return rest;
        }
        if let Some(behind) = rest.strip_prefix('>') {
            out.push_str(">");
            return behind;
        }
        // A name is at least one character long, whatever that is.
        let ends = |(_, character): &(usize, char)| character.is_ascii_whitespace() || matches!(character, '=' | '>' | '/');
        let name_end = rest.char_indices().skip(1).find(ends).map_or(rest.len(), |(at, _)| at);
        let name = rest[..name_end].to_ascii_lowercase();
        out.push_str(&rest[..name_end]);
        rest = &rest[name_end..];
        let Some(value) = rest.trim_ascii_start().strip_prefix('=') else { continue };
        out.push_str("=");
        rest = put_value(value.trim_ascii_start(), urls.contains(&&*name), rewrite, out);
    }
}

fn put_value<'a>(text: &'a str, is_url: bool, rewrite: &impl Fn(&str) -> String, out: &mut Out) -> &'a str {
    let quote = text.chars().next().filter(|first| matches!(first, '"' | '\''));
    let (value, rest) = match quote {
        Some(quote) => text[1..].split_once(quote).unwrap_or((&text[1..], "")),
        None => text.split_at(text.find(|character: char| character.is_ascii_whitespace() || character == '>').unwrap_or(text.len())),
    };
    let mark = quote.map_or(String::new(), String::from);
    out.push_str(&mark);
    if is_url {
        out.push_str(&rewrite(value))
    } else {
        out.push_str(value)
    }
    out.push_str(&mark);
    rest
}
