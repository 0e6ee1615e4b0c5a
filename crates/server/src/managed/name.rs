//! Names of field managers, and what else entries of managed fields must keep to.

use crate::failure::Failure;
use boatyard_api::rules::FieldError;
use serde_json::Value;

/// Most bytes of a manager's and of a subresource's name.
const LONGEST: usize = 128;
const LONGEST_SUBRESOURCE: usize = 256;

fn is_printable(letter: char) -> bool {
    if letter.is_ascii() {
        return !letter.is_ascii_control();
    }
    // Only at the beginning of a text would a mark be escaped too.
    let escaped = format!("a{letter}").escape_debug().to_string();
    !(escaped.contains("\\u{") || "\0\t\r\n".contains(letter))
}

fn problems(path: &str, name: &str) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let mut wrong = |detail: String| errors.push(FieldError::invalid(path, name, detail));
    if name.len() > LONGEST {
        wrong(format!("may not be more than {LONGEST} bytes"));
    }
    if let Some((at, letter)) = name
        .char_indices()
        .find(|(_, letter)| !is_printable(*letter))
    {
        wrong(format!(
            "invalid character U+{:04X} (at position {at})",
            u32::from(letter)
        ));
    }
    errors
}

/// A `fieldManager` parameter; `options` is the kind of the request's options.
pub(crate) fn check_name(name: &str, options: &str) -> Result<(), Failure> {
    let errors = problems("fieldManager", name);
    if errors.is_empty() {
        return Ok(());
    }
    Err(Failure::invalid(options, "meta.k8s.io", "", &errors))
}

/// The manager of a request that names none: its User-Agent up to the first `/`.
pub(crate) fn from_agent(agent: &str) -> String {
    let mut name = String::new();
    let first = agent.split('/').next().unwrap_or_default();
    for letter in first.chars().filter(|letter| is_printable(*letter)) {
        if name.len() + letter.len_utf8() > LONGEST {
            break;
        }
        name.push(letter);
    }
    name
}

/// What is wrong with entries as they would be stored.
pub(crate) fn check_entries(entries: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for (number, entry) in entries.as_array().into_iter().flatten().enumerate() {
        let text = |member: &str| entry[member].as_str().unwrap_or_default();
        let path = |member: &str| format!("metadata.managedFields[{number}].{member}");
        errors.extend(problems(&path("manager"), text("manager")));
        if text("subresource").len() > LONGEST_SUBRESOURCE {
            let detail = format!("may not be more than {LONGEST_SUBRESOURCE} bytes");
            let error = FieldError::invalid(path("subresource"), text("subresource"), detail);
            errors.push(error);
        }
    }
    errors
}
