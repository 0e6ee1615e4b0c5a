//! `Accept`: which forms a client takes, best first, and which of them is served.
//!
//! As Kubernetes negotiates: by quality, then by order; a form `as` something else needs its group
//! and version to be the served ones; a clause that is not served is passed over.

use crate::failure::Failure;
use http::{HeaderMap, header};

/// One media type a client takes.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Clause {
    media: String,
    parameters: Vec<(String, String)>,
    /// In thousandths.
    quality: u16,
}

impl Clause {
    fn parse(text: &str) -> Self {
        let mut parts = text.split(';').map(str::trim);
        let media = parts.next().unwrap_or_default().to_ascii_lowercase();
        let parameters: Vec<(String, String)> = parts
            .filter_map(|part| part.split_once('='))
            .map(|(name, value)| {
                (
                    name.trim().to_ascii_lowercase(),
                    value.trim_matches('"').to_owned(),
                )
            })
            .collect();
        let quality = parameters.iter().find(|(name, _)| name == "q");
        let quality = quality.map_or(1000, |(_, value)| thousandths(value));
        Self {
            media,
            parameters,
            quality,
        }
    }

    /// Whether it means `media`.
    pub(crate) fn takes(&self, media: &str) -> bool {
        let any_of = |range: &str| {
            let family = range.strip_suffix('*');
            family.is_some_and(|family| family.ends_with('/') && media.starts_with(family))
        };
        self.media == media || self.media == "*/*" || any_of(&self.media)
    }

    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        let found = self.parameters.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str())
    }

    /// Whether it asks for this kind, of this group and version where it names them.
    pub(crate) fn asks(&self, kind: &str, group: &str, version: &str) -> bool {
        self.get("as") == Some(kind)
            && self.get("g").is_none_or(|found| found == group)
            && self.get("v").is_none_or(|found| found == version)
    }
}

/// `0.75` is 750; what is no quality is the highest.
fn thousandths(text: &str) -> u16 {
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    let digits: String = part.chars().chain("000".chars()).take(3).collect();
    match (whole, digits.parse::<u16>()) {
        ("0", Ok(part)) => part,
        _ => 1000,
    }
}

/// What a client takes, best first.
#[derive(Debug)]
pub(crate) struct Accept(Vec<Clause>);

impl Accept {
    /// Whoever says nothing takes anything.
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        let values = headers.get_all(header::ACCEPT).iter();
        let values = values.filter_map(|value| value.to_str().ok());
        let clauses = values.flat_map(|value| value.split(','));
        let mut clauses: Vec<Clause> = clauses
            .map(str::trim)
            .filter(|clause| !clause.is_empty())
            .map(Clause::parse)
            .collect();
        if clauses.is_empty() {
            clauses.push(Clause::parse("*/*"));
        }
        clauses.retain(|clause| clause.quality > 0);
        clauses.sort_by_key(|clause| std::cmp::Reverse(clause.quality));
        Self(clauses)
    }

    /// The best that is offered.
    pub(crate) fn choose<T>(&self, offered: impl Fn(&Clause) -> Option<T>) -> Result<T, Failure> {
        let chosen = self.0.iter().find_map(offered);
        chosen.ok_or_else(Failure::not_acceptable)
    }

    /// JSON, or YAML where that is preferred, of an object as it is.
    pub(crate) fn plain(&self) -> Result<Syntax, Failure> {
        self.choose(|clause| match clause.get("as") {
            None => Syntax::of(clause),
            Some(_) => None,
        })
    }
}

/// How answers are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Syntax {
    #[default]
    Json,
    Yaml,
}

impl Syntax {
    pub(crate) fn of(clause: &Clause) -> Option<Self> {
        if clause.takes("application/json") {
            Some(Self::Json)
        } else if clause.takes("application/yaml") {
            Some(Self::Yaml)
        } else {
            None
        }
    }
}

/// In which form objects are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    Whole,
    /// Rows and columns.
    Table,
    /// Metadata alone.
    Partial,
}

/// The best form and syntax that are served of objects.
pub(super) fn form(accept: &Accept) -> Result<(Form, Syntax), Failure> {
    const GROUP: &str = "meta.k8s.io";
    accept.choose(|clause| {
        let syntax = Syntax::of(clause)?;
        if clause.get("as").is_none() {
            return Some((Form::Whole, syntax));
        }
        let partial = ["PartialObjectMetadata", "PartialObjectMetadataList"];
        if clause.asks("Table", GROUP, "v1") {
            Some((Form::Table, syntax))
        } else if partial.iter().any(|kind| clause.asks(kind, GROUP, "v1")) {
            Some((Form::Partial, syntax))
        } else {
            None
        }
    })
}
