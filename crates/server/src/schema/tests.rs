//! Findings by table.
#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;
use serde_json::json;

fn found(schema: &Value, value: &Value, old: Option<&Value>) -> Vec<String> {
    let schema = Schema::compile(schema).unwrap();
    let mut value = value.clone();
    let mut errors = schema.check(&mut value, old).errors;
    errors.extend(schema.judge_rules(&value, old));
    let shown = |error: FieldError| format!("{}: {}", error.path, error.message);
    errors.into_iter().map(shown).collect()
}

/// Checks a member `x` of an object.
#[track_caller]
fn says(schema: Value, value: Value, wanted: &[&str]) {
    let schema = json!({"type": "object", "properties": {"x": schema}});
    let value = json!({"x": value});
    assert_eq!(found(&schema, &value, None), wanted, "{schema} {value}");
}

#[test]
fn every_keyword_binds_and_its_message_names_path_value_and_what_is_allowed() {
    let text = |rest: Value| {
        let mut schema = json!({"type": "string"});
        schema
            .as_object_mut()
            .unwrap()
            .extend(rest.as_object().unwrap().clone());
        schema
    };
    says(
        json!({"type": "integer"}),
        json!("y"),
        &["x: Invalid value: \"y\": must be of type integer"],
    );
    says(
        text(json!({"enum": ["A", "B"]})),
        json!("z"),
        &["x: Unsupported value: \"z\": supported values: \"A\", \"B\""],
    );
    says(text(json!({"pattern": "^a+$"})), json!("aa"), &[]);
    says(
        text(json!({"pattern": "^a+$"})),
        json!("b"),
        &["x: Invalid value: \"b\": must match '^a+$'"],
    );
    says(text(json!({"maxLength": 2})), json!("äö"), &[]);
    says(
        text(json!({"maxLength": 2})),
        json!("abc"),
        &["x: Too long: may not be more than 2 characters"],
    );
    says(
        text(json!({"minLength": 1})),
        json!(""),
        &["x: Invalid value: \"\": must have at least 1 characters"],
    );
    says(
        text(json!({"format": "date-time"})),
        json!("now"),
        &["x: Invalid value: \"now\": must be a valid date-time"],
    );
    says(text(json!({"format": "of our own"})), json!("now"), &[]);
    says(
        json!({"type": "integer", "minimum": 8}),
        json!(7),
        &["x: Invalid value: 7: must be greater than or equal to 8"],
    );
    says(
        json!({"type": "number", "maximum": 1, "exclusiveMaximum": true}),
        json!(1.0),
        &["x: Invalid value: 1.0: must be less than 1"],
    );
    says(
        json!({"type": "integer", "format": "int32"}),
        json!(1_u64 << 40),
        &["x: Invalid value: 1099511627776: must be a valid int32"],
    );
    says(
        json!({"type": "number", "multipleOf": 2}),
        json!(3),
        &["x: Invalid value: 3: must be a multiple of 2"],
    );
    says(
        json!({"type": "object", "required": ["y"], "properties": {"y": {"type": "string"}}}),
        json!({}),
        &["x.y: Required value"],
    );
    says(
        json!({"type": "object", "additionalProperties": {"type": "string"}, "maxProperties": 1}),
        json!({"a": "1", "b/c": 2}),
        &[
            "x: Too many: 2: must have at most 1 items",
            "x[b/c]: Invalid value: 2: must be of type string",
        ],
    );
    says(
        json!({"type": "object", "additionalProperties": true, "minProperties": 1}),
        json!({}),
        &["x: Invalid value: \"object\": must have at least 1 properties"],
    );
    says(
        json!({"type": "array", "items": {"type": "string"}, "maxItems": 1}),
        json!(["a", "b"]),
        &["x: Too many: 2: must have at most 1 items"],
    );
    says(
        json!({"type": "array", "items": {"type": "string"}, "minItems": 1}),
        json!([]),
        &["x: Invalid value: \"array\": must have at least 1 items"],
    );
    says(
        json!({"type": "array", "items": {"type": "string"}, "x-kubernetes-list-type": "set"}),
        json!(["a", "b", "a"]),
        &["x[2]: Duplicate value: \"a\""],
    );
    says(
        json!({"type": "array", "items": {"type": "integer"}, "uniqueItems": true}),
        json!([1, 1]),
        &["x[1]: Duplicate value: 1"],
    );
    says(
        json!({"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"],
            "items": {"type": "object", "properties": {"k": {"type": "string"}, "v": {"type": "string"}}}}),
        json!([{"k": "a"}, {"k": "a", "v": "b"}]),
        &["x[1]: Duplicate value: {\"k\":\"a\"}"],
    );
    says(
        json!({"x-kubernetes-int-or-string": true}),
        json!(true),
        &["x: Invalid value: true: must be of type integer or string"],
    );
    says(
        json!({"type": "integer", "not": {"enum": [3]}}),
        json!(3),
        &["x: Invalid value: 3: must not validate the schema (not)"],
    );
    says(
        json!({"type": "integer", "anyOf": [{"maximum": 1}, {"minimum": 5}]}),
        json!(3),
        &["x: Invalid value: 3: must validate at least one schema (anyOf)"],
    );
    says(
        json!({"type": "integer", "oneOf": [{"maximum": 3}, {"minimum": 3}]}),
        json!(3),
        &["x: Invalid value: 3: must validate one and only one schema (oneOf)"],
    );
    says(
        json!({"type": "integer", "allOf": [{"maximum": 1}]}),
        json!(3),
        &["x: Invalid value: 3: must be less than or equal to 1"],
    );
}

#[test]
fn unknown_fields_are_named_and_removed_unless_the_schema_is_open() {
    let schema = json!({"type": "object", "properties": {
        "l": {"type": "array", "items": {"type": "object", "properties": {}}},
        "any": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
        "null": {"type": "string", "nullable": true}, "text": {"type": "string"}}});
    let mut value = json!({"u": 1, "l": [{"q": 1}], "any": {"z": {}}, "null": null, "text": null});
    let findings = Schema::compile(&schema).unwrap().check(&mut value, None);
    assert!(findings.errors.is_empty(), "{findings:?}");
    assert_eq!(findings.unknown, ["u", "l[0].q"]);
    assert_eq!(value, json!({"l": [{}], "any": {"z": {}}, "null": null}));
}

#[test]
fn defaults_are_filled_in_at_every_depth_and_judged_like_what_is_sent() {
    let schema = json!({"type": "object", "properties": {"a": {"type": "object", "default": {},
        "properties": {"b": {"type": "object", "default": {"c": 1}, "properties": {
            "c": {"type": "integer", "maximum": 1}, "d": {"type": "string", "default": "x"}}}}}}});
    let compiled = Schema::compile(&schema).unwrap();
    for (mut value, wanted) in [
        (json!({}), json!({"a": {"b": {"c": 1, "d": "x"}}})),
        (
            json!({"a": {"b": {"d": "y"}}}),
            json!({"a": {"b": {"d": "y"}}}),
        ),
        (
            json!({"a": {"b": null}}),
            json!({"a": {"b": {"c": 1, "d": "x"}}}),
        ),
    ] {
        assert!(compiled.check(&mut value, None).errors.is_empty());
        assert_eq!(value, wanted);
    }
}

#[test]
fn what_was_stored_before_a_schema_became_stricter_stays_writable() {
    let schema = json!({"type": "object", "properties": {
        "a": {"type": "string", "maxLength": 1, "x-kubernetes-validations": [{"rule": "self != 'old'"}]},
        "b": {"type": "string"}}});
    let old = json!({"a": "old", "b": "1"});
    assert_eq!(
        found(&schema, &json!({"a": "old", "b": "2"}), Some(&old)),
        [""; 0]
    );
    assert_eq!(
        found(&schema, &json!({"a": "new", "b": "1"}), Some(&old)).len(),
        1
    );
}

#[test]
fn a_schema_that_would_not_be_honoured_is_refused() {
    let rule = |rule: &str| json!({"items": {"type": "string", "x-kubernetes-validations": [{"rule": rule}]}});
    for bad in [
        json!({"patternProperties": {}}),
        json!({"type": "text"}),
        json!({"pattern": "("}),
        json!({"$ref": "#/x"}),
        json!({"exclusiveMinimum": 3}),
        rule("self =="),
        rule("self == oldSelf"),
        rule("[1].all(a, [1].all(b, [1].all(c, true)))"),
    ] {
        assert!(Schema::compile(&bad).is_err(), "{bad}");
    }
}

/// Checks a rule on a member `x` of an object.
#[track_caller]
fn ruled(rule: Value, old: Option<Value>, new: Value, wanted: &[&str]) {
    let schema = json!({"type": "object", "properties": {"x": {"type": "object", "x-kubernetes-validations": [rule],
        "properties": {"n": {"type": "integer"}, "f": {"type": "number"}, "namespace": {"type": "string"}, "l": {"type": "array", "items": {"type": "string"}}}}}});
    let old = old.map(|old| json!({"x": old}));
    let value = json!({"x": new});
    assert_eq!(found(&schema, &value, old.as_ref()), wanted, "{rule}");
}

#[test]
fn rules_tell_what_they_are_told_to_tell() {
    let (one, two) = (json!({"n": 1}), json!({"n": 2}));
    let rule = json!({"rule": "self.n > 1"});
    ruled(rule.clone(), None, two.clone(), &[]);
    ruled(
        rule,
        None,
        one.clone(),
        &["x: Invalid value: \"object\": failed rule: self.n > 1"],
    );
    ruled(
        json!({"rule": "self.n > 1", "message": "be larger", "fieldPath": ".n", "reason": "FieldValueForbidden"}),
        None,
        one.clone(),
        &["x.n: Forbidden: be larger"],
    );
    ruled(
        json!({"rule": "self.n > 1", "message": "unsaid", "messageExpression": "'must be more than ' + string(self.n)"}),
        None,
        one.clone(),
        &["x: Invalid value: \"object\": must be more than 1"],
    );
    ruled(
        json!({"rule": "self.n > 1", "message": "said", "messageExpression": "self.nothing"}),
        None,
        one.clone(),
        &["x: Invalid value: \"object\": said"],
    );
    ruled(
        json!({"rule": "self.f * 2.0 > 1.0 && self.__namespace__ == 'a' && self.l.exists(x, x == 'b')"}),
        None,
        json!({"f": 1, "namespace": "a", "l": ["b"]}),
        &[],
    );
    // A rule that cannot be evaluated lets nothing through.
    let fails = json!({"rule": "self.l.size() > 1"});
    let schema = json!({"type": "object", "x-kubernetes-validations": [fails]});
    let errors = found(&schema, &one, None);
    assert!(errors[0].contains("No such key: l"), "{errors:?}");
}

#[test]
fn rules_about_changes_judge_changes_alone() {
    let grows = json!({"rule": "self.n >= oldSelf.n", "message": "must not shrink"});
    let told = ["x: Invalid value: \"object\": must not shrink"];
    ruled(grows.clone(), None, json!({"n": 1}), &[]);
    ruled(grows.clone(), Some(json!({"n": 1})), json!({"n": 2}), &[]);
    ruled(grows, Some(json!({"n": 2})), json!({"n": 1}), &told);
    let born = json!({"rule": "oldSelf.hasValue() || self.n == 1", "optionalOldSelf": true, "message": "must not shrink"});
    ruled(born.clone(), None, json!({"n": 2}), &told);
    ruled(born, Some(json!({"n": 1})), json!({"n": 2}), &[]);
}

#[test]
fn items_of_a_list_that_is_a_map_are_compared_with_their_former_selves() {
    let item = json!({"type": "object", "properties": {"k": {"type": "string"}, "v": {"type": "integer"}},
        "x-kubernetes-validations": [{"rule": "self.v == oldSelf.v", "message": "is fixed"}]});
    let schema = json!({"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"], "items": item});
    let old = json!([{"k": "a", "v": 1}, {"k": "b", "v": 2}]);
    let moved = json!([{"k": "b", "v": 2}, {"k": "c", "v": 3}, {"k": "a", "v": 1}]);
    assert_eq!(found(&schema, &moved, Some(&old)), [""; 0]);
    let changed = json!([{"k": "b", "v": 3}]);
    assert_eq!(
        found(&schema, &changed, Some(&old)),
        ["[0]: Invalid value: \"object\": is fixed"]
    );
}

#[test]
fn the_cost_of_rules_is_bounded_whatever_the_value() {
    let schema = json!({"type": "array", "items": {"type": "string"},
        "x-kubernetes-validations": [{"rule": "self.all(a, self.exists_one(b, a == b))", "message": "must differ"}]});
    let list = |many: usize| Value::from_iter((0..many).map(|number| number.to_string()));
    assert_eq!(found(&schema, &list(20), None), [""; 0]);
    let errors = found(&schema, &list(100_000), None);
    assert!(errors[0].contains("too large for its rules"), "{errors:?}");
    // What no rule reads costs nothing.
    let schema = json!({"type": "object",
        "properties": {"l": {"type": "array", "items": {"type": "string"}}, "n": {"type": "integer"}},
        "x-kubernetes-validations": [{"rule": "[1, 2].exists(x, [3].exists(y, self.n == x || self.n == y)) || !has(self.n)"}]});
    let value = json!({"n": 3, "l": list(100_000)});
    assert_eq!(found(&schema, &value, None), [""; 0]);
}

#[test]
fn patterns_match_whether_they_are_written_in_the_rule_or_made_by_it() {
    let text = |rule: &str| json!({"type": "string", "x-kubernetes-validations": [{"rule": rule, "message": "no"}]});
    for rule in [
        "self.matches('^a+$')",
        "matches(self, '^a+$')",
        "self.matches('^' + 'a+$')",
        "[self].all(one, one.matches('^a+$'))",
    ] {
        says(text(rule), json!("aa"), &[]);
        says(text(rule), json!("b"), &["x: Invalid value: \"b\": no"]);
    }
    let schema = Schema::compile(&text("self.matches('(')")).unwrap();
    let errors = schema.judge_rules(&json!("a"), None);
    assert!(
        errors[0].message.contains("not a valid regex"),
        "{errors:?}"
    );
}
