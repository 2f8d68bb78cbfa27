//! Semantic versions (`k8s.io/apiserver/pkg/cel/library/semverlib.go`).

use super::{Context, Row};
use crate::expressions::{
    meter::Fault,
    values::{Named, Val, Version, no_overload},
};

pub(super) const FUNCTIONS: &[Row] = &[
    ("semver", to_semver, &[("string_to_semver", "(string) -> semver"), ("string_bool_to_semver", "(string, bool) -> semver")]),
    ("isSemver", is_semver, &[("is_semver_string", "(string) -> bool"), ("is_semver_string_bool", "(string, bool) -> bool")]),
    ("major", major, &[("semver_major", "semver.() -> int")]),
    ("minor", minor, &[("semver_minor", "semver.() -> int")]),
    ("patch", patch, &[("semver_patch", "semver.() -> int")]),
];

type Ran<'a> = Result<Val<'a>, Fault>;

fn read(args: &[Val<'_>]) -> Result<Result<Version, String>, Fault> {
    match args {
        [Val::String(text)] | [Val::String(text), Val::Bool(false)] => Ok(parse(text)),
        [Val::String(text), Val::Bool(true)] => Ok(normalised(text).and_then(|text| parse(&text))),
        _ => Err(no_overload()),
    }
}

/// # Errors
/// What is wrong with it.
pub fn parse(text: &str) -> Result<Version, String> {
    if text.is_empty() {
        return Err("Version string empty".to_owned());
    }
    let (rest, build) = text.split_once('+').map_or((text, None), |(rest, build)| (rest, Some(build)));
    let (numbers, pre) = rest.split_once('-').map_or((rest, None), |(numbers, pre)| (numbers, Some(pre)));
    let parts: Vec<&str> = numbers.split('.').collect();
    let [major, minor, patch] = parts[..] else { return Err("No Major.Minor.Patch elements found".to_owned()) };
    let number = |text: &str| {
        let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        if !is_number {
            return Err(format!("Invalid character(s) found in number {text:?}"));
        }
        if text.len() > 1 && text.starts_with('0') {
            return Err(format!("number must not contain leading zeroes {text:?}"));
        }
        text.parse::<u64>().map_err(|_| format!("number out of range {text:?}"))
    };
    let is_word = |word: &str| !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    let mut words = Vec::new();
    for word in pre.into_iter().flat_map(|pre| pre.split('.')) {
        if !is_word(word) || word.bytes().all(|byte| byte.is_ascii_digit()) && word.len() > 1 && word.starts_with('0') {
            return Err(format!("Invalid character(s) found in prerelease {word:?}"));
        }
        words.push(word.to_owned());
    }
    if let Some(odd) = build.into_iter().flat_map(|build| build.split('.')).find(|word| !is_word(word)) {
        return Err(format!("Invalid character(s) found in build meta data {odd:?}"));
    }
    Ok(Version { major: number(major)?, minor: number(minor)?, patch: number(patch)?, pre: words })
}

/// Without a leading letter and leading zeros, and with all three numbers.
fn normalised(text: &str) -> Result<String, String> {
    let text = text.strip_prefix('v').unwrap_or(text);
    let mut parts: Vec<String> = text.splitn(3, '.').map(str::to_owned).collect();
    for part in parts.iter_mut().filter(|part| part.len() > 1) {
        let bare = part.trim_start_matches('0');
        *part = if bare.starts_with(|c: char| c.is_ascii_digit()) { bare.to_owned() } else { format!("0{bare}") };
    }
    if parts.len() < 3 && parts.last().is_some_and(|last| last.contains(['+', '-'])) {
        return Err("short version cannot contain PreRelease/Build meta data".to_owned());
    }
    parts.resize(3, "0".to_owned());
    Ok(parts.join("."))
}

fn to_semver<'a>(args: &[Val<'a>], _context: &mut Context<'_>) -> Ran<'a> {
    read(args)?.map(|version| Val::named(Named::Semver(version))).map_err(Fault::error)
}

fn is_semver<'a>(args: &[Val<'a>], _context: &mut Context<'_>) -> Ran<'a> {
    read(args).map(|version| Val::Bool(version.is_ok()))
}

fn part<'a>(args: &[Val<'a>], of: fn(&Version) -> u64) -> Ran<'a> {
    match args {
        [Val::Named(named)] => match &**named {
            Named::Semver(version) => Ok(Val::Int(i64::try_from(of(version)).unwrap_or(i64::MAX))),
            _ => Err(no_overload()),
        },
        _ => Err(no_overload()),
    }
}

fn major<'a>(args: &[Val<'a>], _context: &mut Context<'_>) -> Ran<'a> {
    part(args, |version| version.major)
}

fn minor<'a>(args: &[Val<'a>], _context: &mut Context<'_>) -> Ran<'a> {
    part(args, |version| version.minor)
}

fn patch<'a>(args: &[Val<'a>], _context: &mut Context<'_>) -> Ran<'a> {
    part(args, |version| version.patch)
}
