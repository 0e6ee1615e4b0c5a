//! Paths to values in objects: the part of JSONPath that printer columns need.
//!
//! `.spec.class`, `.items[0]`, `.items[-1]`, `.items[*].name`, `.labels['example.com/x']`,
//! `.labels.example\.com/x` and `.conditions[?(@.type=="Ready")].status`. Nothing else is a path;
//! a column with anything else is a mistake of ours, which the tests of kinds find.

use serde_json::Value;

/// A parsed path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Path(Vec<Step>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    Member(String),
    /// From the end when negative.
    Item(i64),
    Every,
    /// Items whose member at the path has this text.
    Where(Path, String),
}

impl Path {
    /// Reads a path; None when it is none.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut rest = text.strip_prefix('$').unwrap_or(text);
        let mut steps = Vec::new();
        // As clients write it without the leading dot.
        if !rest.starts_with(['.', '[']) {
            steps.push(member(&mut rest)?);
        }
        while !rest.is_empty() {
            if let Some(after) = rest.strip_prefix('.') {
                rest = after;
                steps.push(member(&mut rest)?);
            } else {
                steps.push(bracket(&mut rest)?);
            }
        }
        (!steps.is_empty()).then_some(Self(steps))
    }

    /// The members it begins with, with dots between them: an object with these alone has all that the
    /// path leads to. None when it begins with none.
    #[must_use]
    pub(crate) fn members(&self) -> Option<String> {
        let names = self.0.iter().map_while(|step| match step {
            Step::Member(name) if !name.contains('.') => Some(name.as_str()),
            _ => None,
        });
        let names: Vec<&str> = names.collect();
        (!names.is_empty()).then(|| names.join("."))
    }

    /// What the path leads to, in order; nulls are nothing.
    #[must_use]
    pub fn values<'a>(&self, object: &'a Value) -> Vec<&'a Value> {
        let mut found = vec![object];
        for step in &self.0 {
            found = found.into_iter().flat_map(|value| step.of(value)).collect();
        }
        found.retain(|value| !value.is_null());
        found
    }
}

impl Step {
    fn of<'a>(&self, value: &'a Value) -> Vec<&'a Value> {
        let items = || value.as_array().map(Vec::as_slice).unwrap_or_default();
        match self {
            Self::Member(name) => value.get(name).into_iter().collect(),
            Self::Item(number) => {
                let items = items();
                let at = usize::try_from(*number).ok().or_else(|| {
                    let back = usize::try_from(number.unsigned_abs()).ok()?;
                    items.len().checked_sub(back)
                });
                at.and_then(|at| items.get(at)).into_iter().collect()
            }
            Self::Every => match value {
                Value::Object(members) => members.values().collect(),
                _ => items().iter().collect(),
            },
            Self::Where(path, wanted) => {
                let fits = |item: &&Value| {
                    let found = path.values(item);
                    found.iter().any(|value| match value {
                        Value::String(text) => text == wanted,
                        other => other.to_string() == *wanted,
                    })
                };
                items().iter().filter(fits).collect()
            }
        }
    }
}

fn member(rest: &mut &str) -> Option<Step> {
    let mut name = String::new();
    let mut letters = rest.char_indices();
    let mut end = rest.len();
    while let Some((at, letter)) = letters.next() {
        match letter {
            '\\' => name.push(letters.next()?.1),
            '.' | '[' => {
                end = at;
                break;
            }
            '|' | '{' | '}' | '(' | ')' | ']' => return None,
            _ => name.push(letter),
        }
    }
    *rest = &rest[end..];
    match name.as_str() {
        "" => None,
        "*" => Some(Step::Every),
        _ => Some(Step::Member(name)),
    }
}

fn bracket(rest: &mut &str) -> Option<Step> {
    let after = rest.strip_prefix('[')?;
    if let Some(filter) = after.strip_prefix("?(@") {
        let (condition, after) = filter.split_once(")]")?;
        let (path, wanted) = condition.split_once("==")?;
        *rest = after;
        let wanted = wanted.trim();
        return Some(Step::Where(
            Path::parse(path.trim())?,
            quoted(wanted).unwrap_or(wanted).to_owned(),
        ));
    }
    let (inside, after) = after.split_once(']')?;
    *rest = after;
    match inside {
        "*" => Some(Step::Every),
        _ => match quoted(inside) {
            Some(name) => Some(Step::Member(name.to_owned())),
            None => inside.parse().ok().map(Step::Item),
        },
    }
}

fn quoted(text: &str) -> Option<&str> {
    let strip = |quote| text.strip_prefix(quote)?.strip_suffix(quote);
    strip('"').or_else(|| strip('\''))
}

#[cfg(test)]
mod tests {
    //! Paths by table.
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use serde_json::json;

    #[test]
    fn paths_lead_to_values() {
        let object = json!({
            "a": {"b": [1, 2, 3], "none": null, "x.y/z": "dotted"},
            "conditions": [{"type": "Ready", "status": "True"}, {"type": "Other", "status": "False", "n": 5}],
        });
        for (path, wanted) in [
            (".a.b[0]", json!([1])),
            ("a.b[-1]", json!([3])),
            ("$.a.b[*]", json!([1, 2, 3])),
            (".a.b[3]", json!([])),
            (".a.b[-4]", json!([])),
            (".a.none", json!([])),
            (".a.none.more", json!([])),
            (".a['x.y/z']", json!(["dotted"])),
            (r".a.x\.y/z", json!(["dotted"])),
            (".conditions[?(@.type==\"Ready\")].status", json!(["True"])),
            (".conditions[?(@.type == 'Other')].status", json!(["False"])),
            (".conditions[?(@.n==5)].type", json!(["Other"])),
            (".conditions[*].type", json!(["Ready", "Other"])),
            (".conditions.*.type", json!(["Ready", "Other"])),
        ] {
            let found = json!(Path::parse(path).unwrap().values(&object));
            assert_eq!(found, wanted, "{path}");
        }
        for (path, wanted) in [
            (".a.b[0]", Some("a.b")),
            (".a['x.y/z']", Some("a")),
            (".conditions.*.type", Some("conditions")),
            ("['x.y'].a", None),
        ] {
            let members = Path::parse(path).unwrap().members();
            assert_eq!(members.as_deref(), wanted, "{path}");
        }
        for bad in [
            "",
            ".",
            "..a",
            ".a[",
            ".a[x]",
            ".a[?(@.b)]",
            "{.a}",
            ".a|.b",
            "a]",
        ] {
            assert_eq!(Path::parse(bad), None, "{bad}");
        }
    }
}
