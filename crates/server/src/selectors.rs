//! Label and field selectors: parsed once, matched against objects.
//!
//! The grammar is Kubernetes's: `a=b,c!=d,e in (f,g),h notin (i),j,!k`. Its size is bounded before
//! it is parsed.

use crate::failure::Failure;
use boatyard_api::rules;
use serde_json::Value;

/// Longest selector in bytes.
const LONGEST: usize = 8 * 1024;

#[derive(Clone, Debug, PartialEq, Eq)]
enum Test {
    In(Vec<String>),
    NotIn(Vec<String>),
    Exists,
    Absent,
}

/// Parsed label selector.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Labels(Vec<(String, Test)>);

impl Labels {
    pub(crate) fn parse(text: &str) -> Result<Self, Failure> {
        let bad = |part: &str| {
            Failure::bad_request(format!(
                "the label selector is malformed at {part:?}; write for example app=web,tier in (a,b),!old"
            ))
        };
        if text.len() > LONGEST {
            return Err(Failure::bad_request(format!(
                "the label selector is longer than {LONGEST} bytes"
            )));
        }
        let mut tests = Vec::new();
        for part in split(text) {
            let part = part.trim();
            if part.is_empty() {
                continue;
            }
            let (key, test) = parse_test(part).ok_or_else(|| bad(part))?;
            let fits = match &test {
                Test::In(values) | Test::NotIn(values) => {
                    values.iter().all(|value| rules::is_label_value(value))
                }
                Test::Exists | Test::Absent => true,
            };
            if !fits || !rules::is_label_key(key) {
                return Err(bad(part));
            }
            tests.push((key.to_owned(), test));
        }
        Ok(Self(tests))
    }

    pub(crate) fn matches(&self, object: &Value) -> bool {
        let labels = &object["metadata"]["labels"];
        self.0.iter().all(|(key, test)| {
            let value = labels[key.as_str()].as_str();
            match test {
                Test::In(values) => {
                    value.is_some_and(|value| values.iter().any(|wanted| wanted == value))
                }
                Test::NotIn(values) => {
                    value.is_none_or(|value| values.iter().all(|wanted| wanted != value))
                }
                Test::Exists => value.is_some(),
                Test::Absent => value.is_none(),
            }
        })
    }
}

fn parse_test(part: &str) -> Option<(&str, Test)> {
    if let Some(key) = part.strip_prefix('!') {
        return Some((key.trim(), Test::Absent));
    }
    let end = part
        .find(|letter: char| letter.is_whitespace() || "=!(".contains(letter))
        .unwrap_or(part.len());
    let (key, rest) = part.split_at(end);
    let rest = rest.trim();
    let one = |value: &str| vec![value.trim().to_owned()];
    let test = if rest.is_empty() {
        Test::Exists
    } else if let Some(value) = rest.strip_prefix("!=") {
        Test::NotIn(one(value))
    } else if let Some(value) = rest.strip_prefix("==").or_else(|| rest.strip_prefix('=')) {
        Test::In(one(value))
    } else if let Some(list) = rest.strip_prefix("notin") {
        Test::NotIn(values(list)?)
    } else {
        Test::In(values(rest.strip_prefix("in")?)?)
    };
    Some((key, test))
}

/// Splits at commas outside parentheses.
fn split(text: &str) -> Vec<&str> {
    let (mut parts, mut depth, mut start) = (Vec::new(), 0_u32, 0);
    for (at, letter) in text.char_indices() {
        match letter {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            ',' if depth == 0 => {
                parts.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    parts
}

fn values(list: &str) -> Option<Vec<String>> {
    let list = list.trim().strip_prefix('(')?.strip_suffix(')')?;
    Some(
        list.split(',')
            .map(|value| value.trim().to_owned())
            .collect(),
    )
}

/// Parsed field selector.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Fields(Vec<(String, bool, String)>);

impl Fields {
    pub(crate) fn parse(text: &str, selectable: &[String]) -> Result<Self, Failure> {
        let mut tests = Vec::new();
        if text.len() > LONGEST {
            return Err(Failure::bad_request(format!(
                "the field selector is longer than {LONGEST} bytes"
            )));
        }
        for part in text.split(',').filter(|part| !part.trim().is_empty()) {
            let (path, equal, value) = if let Some((path, value)) = part.split_once("!=") {
                (path, false, value)
            } else if let Some((path, value)) =
                part.split_once("==").or_else(|| part.split_once('='))
            {
                (path, true, value)
            } else {
                return Err(Failure::bad_request(format!(
                    "the field selector is malformed at {part:?}; write for example metadata.name=web"
                )));
            };
            let path = path.trim();
            let known = ["metadata.name", "metadata.namespace"].contains(&path)
                || selectable.iter().any(|known| known == path);
            if !known {
                return Err(Failure::bad_request(format!(
                    "field label not supported: {path}; supported: metadata.name, metadata.namespace, {}",
                    selectable.join(", ")
                )));
            }
            tests.push((path.to_owned(), equal, value.trim().to_owned()));
        }
        Ok(Self(tests))
    }

    pub(crate) fn matches(&self, object: &Value) -> bool {
        self.0
            .iter()
            .all(|(path, equal, wanted)| is(lookup(object, path), wanted) == *equal)
    }

    /// A path and the value it must have, when the selector demands any.
    pub(crate) fn demand(&self) -> Option<(&str, &str)> {
        let demanded = self.0.iter().find(|(_, equal, _)| *equal);
        demanded.map(|(path, _, wanted)| (path.as_str(), wanted.as_str()))
    }

    /// The value a path must have, when the selector demands one.
    pub(crate) fn demands(&self, path: &str) -> Option<&str> {
        self.0
            .iter()
            .find(|(known, equal, _)| known == path && *equal)
            .map(|(_, _, value)| value.as_str())
    }
}

/// Whether a value reads as a text; an absent one reads as the empty text.
pub(crate) fn is(value: &Value, text: &str) -> bool {
    match value {
        Value::String(value) => value == text,
        Value::Null => text.is_empty(),
        other => {
            let written = other.to_string();
            written == text
        }
    }
}

/// The value at a dotted path; null when there is none.
pub(crate) fn lookup<'a>(object: &'a Value, path: &str) -> &'a Value {
    path.split('.').fold(object, |value, member| &value[member])
}

#[cfg(test)]
mod tests {
    //! The grammar by table.
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use serde_json::json;

    #[test]
    fn label_selectors_match_as_in_kubernetes() {
        let object = json!({"metadata": {"labels": {"app": "web", "tier": "a"}}});
        for (selector, matches) in [
            ("app=web", true),
            ("app==web,tier=a", true),
            ("app!=web", false),
            ("tier in (a,b)", true),
            ("tier in (b, c)", false),
            ("tier notin (b)", true),
            ("tier in(a)", true),
            ("tier  in  (a)", true),
            ("app = web", true),
            ("x.io/y notin (b)", true),
            ("app", true),
            ("!app", false),
            ("!old", true),
            ("old!=x", true),
            ("", true),
        ] {
            assert_eq!(
                Labels::parse(selector).unwrap().matches(&object),
                matches,
                "{selector}"
            );
        }
        for bad in [
            "=x", "a in b", "a b=c(", "!", "a=b=c", "a=b c", "a in (b", "a/b/c", "-a",
        ] {
            assert!(Labels::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn undeclared_fields_are_refused_by_name() {
        let error = Fields::parse("spec.secret=1", &["spec.runnerName".into()]).unwrap_err();
        assert!(error.message.contains("spec.secret"), "{error}");
        let fields = Fields::parse(
            "spec.runnerName=,metadata.name!=x",
            &["spec.runnerName".into()],
        )
        .unwrap();
        assert!(fields.matches(&json!({"metadata": {"name": "y"}})));
    }
}
