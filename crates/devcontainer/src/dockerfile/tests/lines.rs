//! Lines, continuations, comments, directives and heredocs.
#![allow(clippy::unwrap_used, reason = "tests")]

use super::super::budget::Budget;
use super::super::lines::Lines;
use super::super::words;
use crate::text::Source;

fn read(text: &str) -> Lines {
    try_read(text).unwrap_or_else(|why| panic!("{why}"))
}

fn try_read(text: &str) -> Result<Lines, String> {
    let source = Source::new("Dockerfile", text);
    Lines::read(&source, text, None, &Budget::default()).map_err(|error| error.sentence())
}

fn texts(text: &str) -> Vec<String> {
    read(text).lines.into_iter().map(|line| line.text).collect()
}

#[test]
fn lines_are_joined_and_comments_left_out() {
    let table: &[(&str, &[&str])] = &[
        ("FROM a\nRUN b\n", &["FROM a", "RUN b"]),
        ("FROM a\r\nRUN b\r\n", &["FROM a", "RUN b"]),
        ("\u{feff}FROM a", &["FROM a"]),
        ("  FROM a  \n\n\n\tRUN b", &["FROM a  ", "RUN b"]),
        ("# c\nFROM a # d\n  # e\nRUN b", &["FROM a # d", "RUN b"]),
        ("RUN a \\\n  b", &["RUN a   b"]),
        ("RUN a \\  \t\n  b", &["RUN a   b"]),
        ("RUN a \\\n# c\n\\\nb", &["RUN a b"]),
        ("RUN a \\\n\n b", &["RUN a  b"]),
        ("RUN a\\\\\nRUN b", &["RUN a\\\\", "RUN b"]),
        ("RUN a \\", &["RUN a "]),
        ("# c \\\nRUN a", &["RUN a"]),
        ("RUN \\\n a", &["RUN  a"]),
        ("\\\nRUN a", &["RUN a"]),
    ];
    for (text, expected) in table {
        assert_eq!(texts(text), *expected, "{text:?}");
    }
}

#[test]
fn an_empty_line_in_a_continued_instruction_is_a_warning() {
    let found = read("FROM a\nRUN a \\\n\n b");
    assert_eq!(found.warnings[0].location.line, 3);
}

#[test]
fn directives_stand_first_and_once() {
    for (text, escape, count) in [
        ("# escape=`\nRUN a `\nb", '`', 1),
        ("#ESCAPE = `  \nRUN a `\nb", '`', 1),
        (
            "# syntax=docker/dockerfile:1\n# escape=`\nRUN a `\n b",
            '`',
            1,
        ),
        ("# check=skip=all\n# escape=`\nRUN a `\n b", '`', 1),
        // Anything else before it makes it a comment.
        ("# hello\n# escape=`\nRUN a \\\n b", '\\', 1),
        ("\n# escape=`\nRUN a \\\n b", '\\', 1),
        ("RUN x\n# escape=`\nRUN a \\\n b", '\\', 2),
        ("# unknown=x\n# escape=`\nRUN a \\\n b", '\\', 1),
    ] {
        let found = read(text);
        assert_eq!(found.escape, escape, "{text:?}");
        assert_eq!(found.lines.len(), count, "{text:?}");
    }
    for (text, expected) in [
        ("# escape=x\n", "Dockerfile:1:1: the escape character"),
        ("# escape=`\n# escape=`\n", "Dockerfile:2:1: the directive"),
        (
            "# syntax=example.org/frontend\n",
            "Dockerfile:1:1: # syntax=example.org/frontend is not supported",
        ),
    ] {
        let why = try_read(text).unwrap_err();
        assert!(why.starts_with(expected), "{why}");
    }
    for known in [
        "docker/dockerfile:1",
        "docker.io/docker/dockerfile:1.7-labs",
        "docker/dockerfile-upstream:master",
        "docker/dockerfile@sha256:0123",
        "docker/dockerfile",
    ] {
        read(&format!("# syntax={known}\nFROM a"));
    }
}

#[test]
fn heredocs_end_where_they_say() {
    type Bodies = &'static [(&'static str, &'static str, bool)];
    let table: &[(&str, Bodies)] = &[
        ("RUN <<EOF\na\nb\nEOF\nRUN c", &[("EOF", "a\nb\n", true)]),
        ("RUN << EOF\na\nEOF", &[("EOF", "a\n", true)]),
        ("RUN <<'EOF'\n$a\nEOF", &[("EOF", "$a\n", false)]),
        ("RUN <<\"E F\"\na\nE F", &[("E F", "a\n", false)]),
        ("RUN <<-EOF\n\ta\n\tEOF", &[("EOF", "\ta\n", true)]),
        ("RUN <<EOF\n\tEOF\nEOF", &[("EOF", "\tEOF\n", true)]),
        (
            "RUN <<EOF\n# no comment \\\nEOF",
            &[("EOF", "# no comment \\\n", true)],
        ),
        ("RUN <<EOF\r\na\r\nEOF\r\n", &[("EOF", "a\r\n", true)]),
        ("RUN 3<<EOF cat\na\nEOF", &[("EOF", "a\n", true)]),
        (
            "RUN cat <<A <<B\na\nA\nb\nB",
            &[("A", "a\n", true), ("B", "b\n", true)],
        ),
        ("COPY <<a /x\n1\na", &[("a", "1\n", true)]),
        (
            "ADD <<a <<b /x\n1\na\n2\nb",
            &[("a", "1\n", true), ("b", "2\n", true)],
        ),
        ("ONBUILD RUN <<EOF\na\nEOF", &[("EOF", "a\n", true)]),
        ("run --network=none <<EOF\na\nEOF", &[("EOF", "a\n", true)]),
        ("RUN <<EOF\nEOF", &[("EOF", "", true)]),
        // None at all.
        ("RUN [\"<<EOF\"]", &[]),
        ("ENV A=<<EOF", &[]),
        ("RUN echo '<<EOF'", &[]),
        ("RUN cat <<<word", &[]),
        ("RUN echo it's <<EOF", &[]),
        ("RUN echo a \\<<EOF\nRUN x", &[]),
        ("RUN a << ", &[]),
    ];
    for (text, expected) in table {
        let found = read(text);
        let heredocs: Vec<(&str, &str, bool)> = found.lines[0]
            .heredocs
            .iter()
            .map(|heredoc| {
                (
                    heredoc.name.as_str(),
                    heredoc.contents.as_str(),
                    heredoc.expand,
                )
            })
            .collect();
        assert_eq!(heredocs, *expected, "{text:?}");
    }
}

#[test]
fn a_heredoc_without_end_names_its_place() {
    let why = try_read("FROM a\nRUN cat \\\n  <<EOF\nx\n").unwrap_err();
    let expected = "Dockerfile:3:3: the heredoc has no line \"EOF\" that ends it";
    assert_eq!(why, expected);
}

#[test]
fn words_know_where_they_stood_before_lines_were_joined() {
    let text = "FROM a\nRUN one \\\n  # comment\n  --two \\\n  thrée four\n";
    let found = read(text);
    let line = &found.lines[1];
    let split = words::split(line, 0, '\\');
    for word in words::plain(line, split.rest, split.rest_at) {
        let quoted = &text[word.span.start..word.span.end];
        assert_eq!(quoted, word.text);
    }
}

#[test]
fn mounts_are_comma_separated_with_quotes() {
    let table: &[(&str, Option<&[&str]>)] = &[
        ("a=b,c", Some(&["a=b", "c"])),
        ("\"a=b,c\",d", Some(&["a=b,c", "d"])),
        ("\"a=\"\"b\"\"\"", Some(&["a=\"b\""])),
        ("", Some(&[""])),
        ("a,", Some(&["a", ""])),
        ("a\"b", None),
        ("\"a", None),
        ("\"a\"b", None),
    ];
    for (text, expected) in table {
        let fields = words::fields(text);
        let expected: Option<Vec<String>> =
            expected.map(|fields| fields.iter().map(|field| (*field).to_owned()).collect());
        assert_eq!(fields, expected, "{text}");
    }
}

#[test]
fn the_number_of_instructions_is_bounded() {
    let why = try_read(&"RUN x\n".repeat(10_000)).unwrap_err();
    assert!(why.contains("at most 4096 instructions"), "{why}");
}
