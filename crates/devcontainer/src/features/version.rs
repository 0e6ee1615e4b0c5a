//! Semantic versions of Features and templates, and the tags they are published under.
//!
//! As semver.org has them. A tag such as `1` or `1.2` is the newest version that begins so; those
//! and `latest` move along when something newer is published, never back.

use std::cmp::Ordering;
use std::fmt;

/// `1.2.3`, `2.0.0-beta.1`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    /// Changes with what breaks.
    pub major: u64,
    /// Changes with what is new.
    pub minor: u64,
    /// Changes with repairs.
    pub patch: u64,
    before: Vec<String>,
}

impl Version {
    /// Parses a whole version; build metadata is dropped.
    pub fn parse(text: &str) -> Option<Version> {
        let text = text.split('+').next().unwrap_or_default();
        let (numbers, before) = match text.split_once('-') {
            Some((numbers, before)) => (numbers, before.split('.').map(str::to_owned).collect()),
            None => (text, Vec::new()),
        };
        let mut numbers = numbers.split('.').map(number);
        let version = Version {
            major: numbers.next()??,
            minor: numbers.next()??,
            patch: numbers.next()??,
            before,
        };
        let identifier = |text: &String| {
            !text.is_empty()
                && text
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        };
        (numbers.next().is_none() && version.before.iter().all(identifier)).then_some(version)
    }

    /// Whether a tag means it: `1`, `1.2`, `1.2.3`, but never a version before the release.
    pub fn satisfies(&self, tag: &str) -> bool {
        if let Some(exact) = Version::parse(tag) {
            return exact == *self;
        }
        let numbers: Option<Vec<u64>> = tag.split('.').map(number).collect();
        let Some(numbers) = numbers.filter(|numbers| numbers.len() < 3) else {
            return false;
        };
        self.before.is_empty()
            && [self.major, self.minor]
                .iter()
                .zip(&numbers)
                .all(|(mine, wanted)| mine == wanted)
    }

    /// Versions among tags, oldest first; other tags are left out.
    pub fn sorted<'a>(tags: impl IntoIterator<Item = &'a str>) -> Vec<Version> {
        let mut versions: Vec<Version> = tags.into_iter().filter_map(Version::parse).collect();
        versions.sort();
        versions
    }

    /// The tags a new version is published under, next to what is published already; None when it
    /// is there.
    pub fn tags_to_publish(&self, published: &[String]) -> Option<Vec<String>> {
        if published.iter().any(|tag| *tag == self.to_string()) {
            return None;
        }
        let known = Version::sorted(published.iter().map(String::as_str));
        let newest = |fits: &dyn Fn(&Version) -> bool| {
            known
                .iter()
                .filter(|other| other.before.is_empty() && fits(other))
                .all(|other| other < self)
        };
        let same_major = |other: &Version| other.major == self.major;
        let same_minor = |other: &Version| same_major(other) && other.minor == self.minor;
        let mut tags = Vec::new();
        if newest(&same_major) {
            tags.push(self.major.to_string());
        }
        if newest(&same_minor) {
            tags.push(format!("{}.{}", self.major, self.minor));
        }
        tags.push(self.to_string());
        if newest(&|_| true) {
            tags.push("latest".to_owned());
        }
        Some(tags)
    }
}

/// Digits without leading zeros.
fn number(text: &str) -> Option<u64> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit());
    (plain && (text == "0" || !text.starts_with('0')))
        .then(|| text.parse().ok())
        .flatten()
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)?;
        match self.before.is_empty() {
            true => Ok(()),
            false => write!(f, "-{}", self.before.join(".")),
        }
    }
}

impl Ord for Version {
    fn cmp(&self, other: &Version) -> Ordering {
        let numbers = |version: &Version| (version.major, version.minor, version.patch);
        numbers(self).cmp(&numbers(other)).then_with(|| {
            match (self.before.is_empty(), other.before.is_empty()) {
                (false, false) => identifiers(&self.before, &other.before),
                // What comes before a release is older than it.
                (mine, theirs) => mine.cmp(&theirs),
            }
        })
    }
}

impl PartialOrd for Version {
    fn partial_cmp(&self, other: &Version) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

fn identifiers(left: &[String], right: &[String]) -> Ordering {
    let one = |(left, right): (&String, &String)| match (number(left), number(right)) {
        (Some(left), Some(right)) => left.cmp(&right),
        (Some(_), None) => Ordering::Less,
        (None, Some(_)) => Ordering::Greater,
        (None, None) => left.cmp(right),
    };
    left.iter()
        .zip(right)
        .map(one)
        .find(|order| order.is_ne())
        .unwrap_or_else(|| left.len().cmp(&right.len()))
}
