//! JSON with comments as plain JSON, for tools.

use crate::error::Error;
use crate::text::Source;
use crate::tree;
use serde_json::Value;

/// A text of JSON with comments as plain JSON.
pub fn json_of(file: &str, text: &str) -> Result<Value, Error> {
    let root = tree::parse(&Source::new(file, text), &mut Vec::new())?;
    Ok(root.to_json())
}
