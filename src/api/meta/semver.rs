//! Semantic versions (semver.org, 2.0.0), as `MAJOR.MINOR.PATCH[-PRERELEASE][+BUILD]`.

/// A version, in the order of versions. What it says of its build is read and counts for nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct SemanticVersion {
    numbers: [u64; 3],
    /// Comes after all of its prereleases.
    is_release: bool,
    prerelease: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Part {
    Number(u64),
    Text(String),
}

impl SemanticVersion {
    /// Reads a version; `None` where the text is none.
    pub fn parse(text: &str) -> Option<Self> {
        let (text, build) = text.split_once('+').map_or((text, None), |(text, build)| (text, Some(build)));
        if build.is_some_and(|build| !build.split('.').all(is_identifier)) {
            return None;
        }
        let (numbers, prerelease) = text.split_once('-').map_or((text, None), |(numbers, prerelease)| (numbers, Some(prerelease)));
        let numbers: Vec<u64> = numbers.split('.').map(number).collect::<Option<_>>()?;
        let prerelease: Vec<Part> = prerelease.map_or(Some(Vec::new()), |all| all.split('.').map(part).collect())?;
        Some(SemanticVersion { numbers: numbers.try_into().ok()?, is_release: prerelease.is_empty(), prerelease })
    }

    /// Whether it is 0.0.0.
    pub fn is_zero(&self) -> bool {
        self.numbers == [0; 3] && self.is_release
    }
}

fn is_identifier(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

/// Without leading zeros.
fn number(text: &str) -> Option<u64> {
    let is_digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    (is_digits && (text == "0" || !text.starts_with('0'))).then(|| text.parse().ok())?
}

fn part(text: &str) -> Option<Part> {
    if !is_identifier(text) {
        return None;
    }
    if text.bytes().all(|byte| byte.is_ascii_digit()) { number(text).map(Part::Number) } else { Some(Part::Text(text.to_owned())) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(text: &str) -> SemanticVersion {
        SemanticVersion::parse(text).expect(text)
    }

    #[test]
    fn versions_have_their_order() {
        let ordered = [
            "0.0.0",
            "0.0.1",
            "1.0.0-alpha",
            "1.0.0-alpha.1",
            "1.0.0-alpha.beta",
            "1.0.0-beta.2",
            "1.0.0-beta.11",
            "1.0.0-rc.1",
            "1.0.0",
            "1.9.0",
            "1.36.0",
            "1.36.2",
        ];
        assert!(ordered.windows(2).all(|pair| version(pair[0]) < version(pair[1])));
        assert_eq!(version("1.36.0+troupe.1"), version("1.36.0"), "builds count for nothing");
        assert!(version("0.0.0").is_zero() && !version("0.0.0-a").is_zero() && !version("0.0.1").is_zero());
    }

    #[test]
    fn what_is_no_version_is_none() {
        for text in
            ["", "1", "1.36", "v1.36.0", "1.36.0.1", "01.0.0", "1.0.0-", "1.0.0-01", "1.0.0+", "1.0.0-a..b", "1.0.0 ", "1.0.99999999999999999999"]
        {
            assert_eq!(SemanticVersion::parse(text), None, "{text}");
        }
    }
}
