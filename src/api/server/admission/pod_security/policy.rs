//! Levels, versions, and the policy that a namespace's labels ask for.

use std::fmt;

use troupe_api::status::FieldError;

/// What labels and audit annotations of Pod Security begin with.
pub const PREFIX: &str = "pod-security.kubernetes.io/";

/// How strict a policy is, from the least to the most.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    Privileged,
    Baseline,
    Restricted,
}

impl Level {
    pub fn as_str(self) -> &'static str {
        match self {
            Level::Privileged => "privileged",
            Level::Baseline => "baseline",
            Level::Restricted => "restricted",
        }
    }

    /// # Errors
    /// What must be written instead.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let levels = [Level::Privileged, Level::Baseline, Level::Restricted];
        levels.into_iter().find(|level| level.as_str() == text).ok_or("must be one of privileged, baseline, restricted")
    }
}

/// The release of Kubernetes whose rules apply; the latest is newer than any.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    /// The minor release of major 1.
    Minor(u64),
    Latest,
}

impl Version {
    /// # Errors
    /// What must be written instead.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        const EXPECTED: &str = "must be \"latest\" or \"v1.x\"";
        if text == "latest" {
            return Ok(Version::Latest);
        }
        let minor = text.strip_prefix("v1.").ok_or(EXPECTED)?;
        let digits = minor.bytes().all(|byte| byte.is_ascii_digit());
        let canonical = digits && (minor == "0" || !minor.starts_with('0'));
        minor.parse().ok().filter(|_| canonical).map(Version::Minor).ok_or(EXPECTED)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Version::Minor(minor) => write!(f, "v1.{minor}"),
            Version::Latest => f.write_str("latest"),
        }
    }
}

/// The rules of one level in one release.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LevelVersion {
    pub level: Level,
    pub version: Version,
}

impl LevelVersion {
    pub const PRIVILEGED: LevelVersion = LevelVersion { level: Level::Privileged, version: Version::Latest };

    /// Reads `level:version`.
    ///
    /// # Errors
    /// What must be written instead.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let (level, version) = text.split_once(':').ok_or("must be a level and a version")?;
        Ok(LevelVersion { level: Level::parse(level)?, version: Version::parse(version)? })
    }

    /// Whether both allow the same: privileged is the same in every version.
    fn is_equivalent(self, other: Self) -> bool {
        self == other || self.level == Level::Privileged && other.level == Level::Privileged
    }
}

impl fmt::Display for LevelVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.level.as_str(), self.version)
    }
}

/// What is enforced, audited and warned of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    pub enforce: LevelVersion,
    pub audit: LevelVersion,
    pub warn: LevelVersion,
}

impl Default for Policy {
    fn default() -> Self {
        Policy { enforce: LevelVersion::PRIVILEGED, audit: LevelVersion::PRIVILEGED, warn: LevelVersion::PRIVILEGED }
    }
}

impl Policy {
    /// Whether nothing needs to be looked at.
    pub fn is_privileged(&self) -> bool {
        self.modes().iter().all(|(_, mode)| mode.level == Level::Privileged)
    }

    pub fn is_equivalent(&self, other: &Policy) -> bool {
        self.modes().iter().zip(other.modes()).all(|((_, mode), (_, other))| mode.is_equivalent(other))
    }

    /// The modes under their names.
    pub fn modes(&self) -> [(&'static str, LevelVersion); 3] {
        [("enforce", self.enforce), ("audit", self.audit), ("warn", self.warn)]
    }

    /// The policy that labels ask for, `defaults` where they say nothing, and what is wrong with them. What cannot be read is
    /// enforced as restricted and latest, but neither audited nor warned of.
    pub fn of_labels<'a>(label: impl Fn(&str) -> Option<&'a str>, defaults: Policy) -> (Policy, Vec<FieldError>) {
        let mut policy = defaults;
        let mut errors = Vec::new();
        let has_enforce = read(&label, "enforce", &mut policy.enforce, Level::Restricted, &mut errors);
        read(&label, "audit", &mut policy.audit, Level::Privileged, &mut errors);
        read(&label, "warn", &mut policy.warn, Level::Privileged, &mut errors);
        // Whoever enforces more than is warned of is also warned.
        if has_enforce && label(&format!("{PREFIX}warn")).is_none() && policy.enforce.level > policy.warn.level {
            policy.warn.level = policy.enforce.level;
            if label(&format!("{PREFIX}warn-version")).is_none() {
                policy.warn.version = policy.enforce.version;
            }
        }
        (policy, errors)
    }
}

/// Reads the labels of one mode; whether they name a level. `fallback` is the level where the label cannot be read.
fn read<'a>(label: &impl Fn(&str) -> Option<&'a str>, mode: &str, target: &mut LevelVersion, fallback: Level, errors: &mut Vec<FieldError>) -> bool {
    let mut named = false;
    let mut invalid = |name: &str, value: &str, why: &str| errors.push(FieldError::invalid(format!("metadata.labels[{name}]"), value, why));
    let name = format!("{PREFIX}{mode}");
    if let Some(value) = label(&name) {
        let level = Level::parse(value);
        named = level.is_ok();
        target.level = level.unwrap_or_else(|why| {
            invalid(&name, value, why);
            fallback
        });
    }
    let name = format!("{PREFIX}{mode}-version");
    if let Some(value) = label(&name) {
        target.version = Version::parse(value).unwrap_or_else(|why| {
            invalid(&name, value, why);
            Version::Latest
        });
    }
    named
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy_of(labels: &[(&str, &str)], defaults: Policy) -> (String, Vec<String>) {
        let find = |name: &str| labels.iter().find(|(label, _)| name.strip_prefix(PREFIX) == Some(label)).map(|(_, value)| *value);
        let (policy, errors) = Policy::of_labels(find, defaults);
        let modes = policy.modes().map(|(_, mode)| mode.to_string()).join(" ");
        (modes, errors.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn labels_win_over_defaults() {
        let defaults = Policy { audit: LevelVersion { level: Level::Baseline, version: Version::Minor(20) }, ..Policy::default() };
        let cases: [(&[(&str, &str)], &str); 8] = [
            (&[], "privileged:latest baseline:v1.20 privileged:latest"),
            (&[("enforce", "baseline")], "baseline:latest baseline:v1.20 baseline:latest"),
            (&[("enforce", "restricted"), ("enforce-version", "v1.24")], "restricted:v1.24 baseline:v1.20 restricted:v1.24"),
            (&[("enforce", "restricted"), ("warn-version", "v1.0")], "restricted:latest baseline:v1.20 restricted:v1.0"),
            (&[("enforce", "restricted"), ("warn", "privileged")], "restricted:latest baseline:v1.20 privileged:latest"),
            (&[("audit", "restricted")], "privileged:latest restricted:v1.20 privileged:latest"),
            (&[("audit-version", "latest")], "privileged:latest baseline:latest privileged:latest"),
            (&[("warn", "baseline"), ("warn-version", "v1.999")], "privileged:latest baseline:v1.20 baseline:v1.999"),
        ];
        for (labels, want) in cases {
            assert_eq!(policy_of(labels, defaults), (want.to_owned(), Vec::new()), "{labels:?}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_enforced_strictly_and_told() {
        let (policy, errors) = policy_of(
            &[("enforce", "baselin"), ("enforce-version", "v1.01"), ("audit", "x"), ("warn", ""), ("warn-version", "v2.0")],
            Policy::default(),
        );
        assert_eq!(policy, "restricted:latest privileged:latest privileged:latest");
        let level = "must be one of privileged, baseline, restricted";
        let version = "must be \"latest\" or \"v1.x\"";
        assert_eq!(
            errors,
            [
                format!("metadata.labels[pod-security.kubernetes.io/enforce]: Invalid value: \"baselin\": {level}"),
                format!("metadata.labels[pod-security.kubernetes.io/enforce-version]: Invalid value: \"v1.01\": {version}"),
                format!("metadata.labels[pod-security.kubernetes.io/audit]: Invalid value: \"x\": {level}"),
                format!("metadata.labels[pod-security.kubernetes.io/warn]: Invalid value: \"\": {level}"),
                format!("metadata.labels[pod-security.kubernetes.io/warn-version]: Invalid value: \"v2.0\": {version}"),
            ]
        );
    }

    #[test]
    fn versions_are_latest_or_v1_and_a_number() {
        for bad in ["", "v1", "v1.", "1.20", "v1.-1", "v1.+1", "v1.1x", "V1.1", "v1.00", "latest ", "v1.99999999999999999999"] {
            assert!(Version::parse(bad).is_err(), "{bad}");
        }
        for good in ["latest", "v1.0", "v1.36", "v1.1000"] {
            assert_eq!(Version::parse(good).map(|version| version.to_string()), Ok(good.to_owned()));
        }
        assert!(Version::Minor(u64::MAX) < Version::Latest);
    }
}
