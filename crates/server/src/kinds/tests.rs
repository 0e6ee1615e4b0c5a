//! What holds for every registered kind.

use super::*;

/// Every field of a schema with its path.
fn fields<'a>(schema: &'a Value, path: &str, found: &mut Vec<(String, &'a Value)>) {
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        let path = format!("{path}.{name}");
        found.push((path.clone(), field));
        fields(field, &path, found);
    }
    for below in ["items", "additionalProperties"] {
        if schema[below].is_object() {
            fields(&schema[below], &format!("{path}[]"), found);
        }
    }
}

#[test]
fn every_schema_is_whole_in_itself_and_describes_every_field() {
    for kind in Kinds::default().iter() {
        assert!(!kind.schema.to_string().contains("$ref"), "{}", kind.kind);
        let mut found = Vec::new();
        fields(&kind.schema, &kind.kind, &mut found);
        assert!(found.len() > 20, "{}: {found:?}", kind.kind);
        for (path, field) in found {
            let described = field["description"]
                .as_str()
                .is_some_and(|text| !text.is_empty());
            assert!(described, "{path} has no description");
        }
    }
}

#[test]
fn a_kind_that_says_nothing_is_for_administrators_alone() {
    assert!(Kind::own::<Environment>().access().is_empty());
}
