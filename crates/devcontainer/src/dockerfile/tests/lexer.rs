//! Expansion: text, and what it becomes; `!` is an error.
#![allow(clippy::unwrap_used, reason = "tests")]

use super::super::budget::Budget;
use super::super::env::Env;
use super::super::lexer::{Lexer, Mode};

fn env() -> Env {
    [
        ("HOME", "/home/me"),
        ("FILE", "archive.tar.gz"),
        ("PATHS", "/usr/lib/usr/bin"),
        ("EMPTY", ""),
        ("STAR", "a*b*c"),
        ("SPACES", "one two"),
        ("LINES", "one\ntwo"),
        ("ÄRGER", "umlaut"),
        ("PATTERN", "*."),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .into_iter()
    .collect()
}

fn expand(text: &str, escape: char, mode: Mode) -> Option<String> {
    let (env, budget) = (env(), Budget::default());
    Lexer::new(text, escape, mode, &env, &budget).word().ok()
}

#[test]
fn words_expand_as_documented() {
    let table: &[(&str, &str)] = &[
        // Names.
        ("$HOME", "/home/me"),
        ("${HOME}", "/home/me"),
        ("x$HOME/y", "x/home/me/y"),
        ("$HOMEx", ""),
        ("${HOME}x", "/home/mex"),
        ("$HOME-x", "/home/me-x"),
        ("$ÄRGER", "umlaut"),
        ("$NOPE", ""),
        ("${NOPE}", ""),
        ("$1a", "a"),
        ("$12", ""),
        ("$@$*$#$?$-$$$!x", "x"),
        ("$", "$"),
        ("a$ b", "a$ b"),
        ("$.", "$."),
        ("${}", "!"),
        ("${:-a}", "!"),
        ("${{a}", "!"),
        ("${HOME", "!"),
        ("${.}", "!"),
        // Escapes.
        (r"\$HOME", "$HOME"),
        (r"\${HOME}", "${HOME}"),
        (r"\\$HOME", r"\/home/me"),
        (r"a\ b", "a b"),
        (r"a\nb", "anb"),
        (r"end\", "end"),
        (r"it\'s", "it's"),
        // Quotes.
        ("'$HOME'", "$HOME"),
        ("\"$HOME\"", "/home/me"),
        ("\"it's $HOME\"", "it's /home/me"),
        ("'say \"x\"'", "say \"x\""),
        (r#""a\"b""#, "a\"b"),
        (r#""a\$b""#, "a$b"),
        (r#""a\nb""#, r"a\nb"),
        (r#""a\\b""#, r"a\b"),
        (r"'a\b'", r"a\b"),
        ("a'b'c", "abc"),
        ("''", ""),
        ("it's", "!"),
        ("\"open", "!"),
        (r"'\''", "!"),
        // Defaults and alternatives.
        ("${HOME:-d}", "/home/me"),
        ("${NOPE:-d}", "d"),
        ("${EMPTY:-d}", "d"),
        ("${EMPTY-d}", ""),
        ("${NOPE-d}", "d"),
        ("${HOME:+d}", "d"),
        ("${NOPE:+d}", ""),
        ("${EMPTY:+d}", ""),
        ("${EMPTY+d}", "d"),
        ("${NOPE+d}", ""),
        ("${NOPE:-$HOME}", "/home/me"),
        ("${NOPE:-${NADA:-x}}", "x"),
        ("${NOPE:-a}}", "a}"),
        (r"${NOPE:-a\}b}", "a}b"),
        ("${NOPE:-'a b'}", "a b"),
        ("${HOME:?no}", "/home/me"),
        ("${EMPTY?no}", ""),
        ("${EMPTY:?no}", "!"),
        ("${NOPE?}", "!"),
        ("${NOPE:?no}", "!"),
        ("${HOME:=x}", "!"),
        ("${HOME=x}", "!"),
        ("${HOME:x}", "!"),
        ("${HOME^}", "!"),
        // Patterns.
        ("${FILE#*.}", "tar.gz"),
        ("${FILE##*.}", "gz"),
        ("${FILE%.*}", "archive.tar"),
        ("${FILE%%.*}", "archive"),
        ("${FILE#x}", "archive.tar.gz"),
        ("${FILE#arch}", "ive.tar.gz"),
        ("${FILE#?}", "rchive.tar.gz"),
        ("${FILE%??}", "archive.tar."),
        ("${FILE#}", "archive.tar.gz"),
        ("${FILE##*}", ""),
        ("${FILE%%*}", ""),
        ("${FILE#*}", "archive.tar.gz"),
        ("${FILE#$PATTERN}", "tar.gz"),
        (r"${STAR#a\*}", "b*c"),
        (r"${STAR%\**}", "a*b"),
        (r"${STAR%%\**}", "a"),
        ("${NOPE#a}", ""),
        ("${LINES#*t}", "one\ntwo"),
        ("${LINES##?ne}", "\ntwo"),
        ("${FILE:#a}", "!"),
        ("${FILE:%a}", "!"),
        (r"${FILE#\a}", "!"),
        // Replacement.
        ("${FILE/./-}", "archive-tar.gz"),
        ("${FILE//./-}", "archive-tar-gz"),
        ("${FILE//./}", "archivetargz"),
        ("${FILE/x/-}", "archive.tar.gz"),
        ("${FILE/a*a/-}", "-r.gz"),
        ("${PATHS//\\/usr/}", "/lib/bin"),
        ("${PATHS/\\/usr/\\/opt}", r"\/opt/lib/usr/bin"),
        ("${FILE/t?r/$HOME}", "archive./home/me.gz"),
        ("${EMPTY/x/y}", ""),
        ("${NOPE/x/y}", ""),
        ("${FILE/x}", "!"),
        ("${FILE//x}", "!"),
    ];
    for (text, expected) in table {
        let expected = Some((*expected).to_owned()).filter(|expected| expected != "!");
        assert_eq!(expand(text, '\\', Mode::default()), expected, "{text}");
    }
}

#[test]
fn the_escape_character_is_the_directives() {
    let table = [
        ("`$HOME", "$HOME"),
        (r"c:\dir", r"c:\dir"),
        ("\"a`\"b\"", "a\"b"),
    ];
    for (text, expected) in table {
        assert_eq!(
            expand(text, '`', Mode::default()).as_deref(),
            Some(expected),
            "{text}"
        );
    }
}

#[test]
fn bodies_of_heredocs_keep_their_quotes() {
    let mode = Mode {
        no_quotes: true,
        ..Mode::default()
    };
    let text = r#"it's "$HOME" and \$HOME"#;
    let expected = r#"it's "/home/me" and $HOME"#;
    assert_eq!(expand(text, '\\', mode).as_deref(), Some(expected));
}

#[test]
fn words_are_split_after_expansion_and_not_in_quotes() {
    let (env, budget) = (env(), Budget::default());
    for (text, expected) in [
        ("a b  c", vec!["a", "b", "c"]),
        ("$SPACES x", vec!["one", "two", "x"]),
        ("\"$SPACES\" x", vec!["one two", "x"]),
        ("'a b'c d", vec!["a bc", "d"]),
        (r"a\ b", vec!["a b"]),
        ("cat << EOF", vec!["cat", "<< EOF"]),
        ("  ", vec![]),
    ] {
        let words = Lexer::new(text, '\\', Mode::default(), &env, &budget).words();
        assert_eq!(words.unwrap(), expected, "{text}");
    }
}

#[test]
fn unset_names_stay_where_that_is_wanted() {
    let mode = Mode {
        keep_unset: true,
        raw_quotes: true,
        ..Mode::default()
    };
    for (text, expected) in [
        ("$NOPE '$HOME' \"$HOME\"", "$NOPE '$HOME' \"/home/me\""),
        ("${NOPE:-x}", "${NOPE:-x}"),
        ("${NOPE//a/b}", "${NOPE//a/b}"),
        ("${NOPE}", "${NOPE}"),
    ] {
        assert_eq!(expand(text, '\\', mode).as_deref(), Some(expected));
    }
}

#[test]
fn nesting_and_growth_are_bounded() {
    let deep = format!("{}x{}", "${A:-".repeat(5000), "}".repeat(5000));
    assert_eq!(expand(&deep, '\\', Mode::default()), None);
    let env: Env = [("A".to_owned(), "a".repeat(100_000))]
        .into_iter()
        .collect();
    let budget = Budget::default();
    for text in [
        "$A".repeat(100_000),
        "${A//*a*a*a*a*b/x}".repeat(1000),
        "${X+${A%%*b*b*b}}".repeat(10_000),
        "${A//a/$A}".to_owned(),
    ] {
        assert!(
            Lexer::new(&text, '\\', Mode::default(), &env, &budget)
                .word()
                .is_err()
        );
    }
}
