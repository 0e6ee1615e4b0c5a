//! JSON with comments for tools: changed as a person would, so that comments and layout stay, and
//! as plain JSON.

use crate::error::Error;
use crate::text::Source;
use crate::tree;
use jsonc_parser::ParseOptions;
use jsonc_parser::cst::{CstInputValue, CstRootNode};
use serde_json::Value;

/// The text with a Feature more, or with other options of one that is there.
pub fn with_feature(file: &str, text: &str, id: &str, options: &Value) -> Result<String, Error> {
    // What is wrong is said as everywhere else, with its place.
    tree::parse(&Source::new(file, text), &mut Vec::new())?;
    let Ok(root) = CstRootNode::parse(text, &ParseOptions::default()) else {
        return Ok(text.to_owned());
    };
    let features = root.object_value_or_set().object_value_or_set("features");
    match features.get(id) {
        Some(known) => known.set_value(input(options)),
        None => drop(features.append(id, input(options))),
    }
    Ok(root.to_string())
}

/// A text of JSON with comments as plain JSON.
pub fn json_of(file: &str, text: &str) -> Result<Value, Error> {
    let root = tree::parse(&Source::new(file, text), &mut Vec::new())?;
    Ok(root.to_json())
}

fn input(value: &Value) -> CstInputValue {
    match value {
        Value::Null => CstInputValue::Null,
        Value::Bool(flag) => CstInputValue::Bool(*flag),
        Value::Number(number) => CstInputValue::Number(number.to_string()),
        Value::String(text) => CstInputValue::String(text.clone()),
        Value::Array(items) => CstInputValue::Array(items.iter().map(input).collect()),
        Value::Object(entries) => {
            let entries = entries
                .iter()
                .map(|(key, value)| (key.clone(), input(value)));
            CstInputValue::Object(entries.collect())
        }
    }
}

#[cfg(test)]
mod tests {
    //! What is added, and what stays.
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use serde_json::json;

    #[test]
    fn a_feature_is_added_and_comments_stay() {
        let text = "{\n  // kept\n  \"image\": \"x\"\n}\n";
        let once = with_feature("d", text, "r/n/a:1", &json!({})).unwrap();
        assert!(once.contains("// kept"), "{once}");
        let twice = with_feature("d", &once, "r/n/a:1", &json!({"v": "2"})).unwrap();
        let both = with_feature("d", &twice, "r/n/b", &json!(true)).unwrap();
        let parsed = tree::parse(&Source::new("d", &both), &mut Vec::new()).unwrap();
        assert_eq!(
            parsed.to_json(),
            json!({"image": "x", "features": {"r/n/a:1": {"v": "2"}, "r/n/b": true}})
        );
        assert!(with_feature("d", "{", "a", &json!({})).is_err());
    }
}
