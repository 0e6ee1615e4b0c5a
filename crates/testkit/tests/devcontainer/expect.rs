//! What must come of a case, held against what came.
//!
//! `exit`, `exit_nonzero`; `json`: a pointer into one of the objects on standard output, the last
//! unless `line` counts them, with `equals`, `matches` or `absent`; `stdout_lines`,
//! `stdout_contains`, `stdout_lacks`; `stderr_matches`, expressions that ignore case.

use boatyard_testkit::Ran;
use regex::RegexBuilder;
use serde_json::Value;

/// Everything that is not as expected.
pub(crate) fn judge(expect: &Value, ran: &Ran) -> Vec<String> {
    let mut wrong = Vec::new();
    for (key, wanted) in expect.as_object().unwrap() {
        match key.as_str() {
            "exit" if wanted.as_i64() != Some(ran.code.into()) => {
                wrong.push(format!("exit {}, not {wanted}", ran.code));
            }
            "exit" => {}
            "exit_nonzero" if ran.code == 0 => wrong.push("exit 0".to_owned()),
            "exit_nonzero" => {}
            "json" => {
                let objects = objects(&ran.stdout);
                let checks = wanted.as_array().unwrap().iter();
                wrong.extend(checks.filter_map(|check| judge_json(check, &objects)));
            }
            "stdout_lines" => {
                let trimmed = ran.stdout.trim_matches('\n');
                let mut lines: Vec<&str> = trimmed.split('\n').collect();
                lines.retain(|_| !trimmed.is_empty());
                let lines: Value = lines
                    .iter()
                    .map(|line| line.trim_end_matches('\r'))
                    .collect();
                if lines != *wanted {
                    wrong.push(format!("standard output is {lines}, not {wanted}"));
                }
            }
            "stdout_contains" => wrong.extend(
                texts(wanted)
                    .filter(|text| !ran.stdout.contains(*text))
                    .map(|text| format!("standard output lacks {text:?}")),
            ),
            "stdout_lacks" => wrong.extend(
                texts(wanted)
                    .filter(|text| ran.stdout.contains(*text))
                    .map(|text| format!("standard output has {text:?}")),
            ),
            "stderr_matches" => wrong.extend(
                texts(wanted)
                    .filter(|text| !matches(text, &ran.stderr))
                    .map(|text| format!("standard error does not match {text:?}")),
            ),
            other => panic!("no such expectation: {other}"),
        }
    }
    wrong
}

fn texts(value: &Value) -> impl Iterator<Item = &str> {
    value
        .as_array()
        .unwrap()
        .iter()
        .map(|text| text.as_str().unwrap())
}

fn matches(expression: &str, text: &str) -> bool {
    let mut builder = RegexBuilder::new(expression);
    let built = builder.case_insensitive(true).dot_matches_new_line(true);
    built.build().unwrap().is_match(text)
}

/// The JSON objects that begin a line.
fn objects(text: &str) -> Vec<Value> {
    let (mut found, mut at) = (Vec::new(), 0);
    while let Some(start) = text[at..].find('{').map(|start| at + start) {
        at = start + 1;
        if start > 0 && !text[..start].ends_with('\n') {
            continue;
        }
        let mut values = serde_json::Deserializer::from_str(&text[start..]).into_iter();
        if let Some(Ok(value)) = values.next() {
            found.push(value);
            at = start + values.byte_offset();
        }
    }
    found
}

fn judge_json(check: &Value, objects: &[Value]) -> Option<String> {
    let pointer = check["at"].as_str().unwrap();
    let object = match check.get("line").and_then(Value::as_u64) {
        Some(line) => objects.get(usize::try_from(line).unwrap()),
        None => objects.last(),
    };
    let Some(object) = object else {
        return Some(format!("no JSON for {pointer} on standard output"));
    };
    let found = object.pointer(pointer);
    let told = found.map_or_else(|| "absent".to_owned(), Value::to_string);
    if check["absent"] == true {
        let there = found.is_some_and(|value| !value.is_null());
        return there.then(|| format!("{pointer} is {told}"));
    }
    if let Some(expression) = check["matches"].as_str() {
        let text = found.and_then(Value::as_str);
        let right = text.is_some_and(|text| regex::Regex::new(expression).unwrap().is_match(text));
        return (!right)
            .then(|| format!("{pointer} is {told}, which does not match {expression:?}"));
    }
    let equals = &check["equals"];
    (found.unwrap_or(&Value::Null) != equals).then(|| format!("{pointer} is {told}, not {equals}"))
}
