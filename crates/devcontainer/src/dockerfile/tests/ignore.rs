//! Patterns of paths, and files of them.
#![allow(clippy::unwrap_used, reason = "tests")]

use super::super::{Ignore, Pattern};

#[test]
fn sources_match_as_in_go() {
    let table: &[(&str, &str, bool)] = &[
        ("a", "a", true),
        ("a", "b", false),
        ("*", "a.b", true),
        ("*", "a/b", false),
        ("a*", "a", true),
        ("a*b", "acccb", true),
        ("a*b", "ac/b", false),
        ("*/b", "a/b", true),
        ("*.go", "main.go", true),
        ("*.go", "main.goo", false),
        ("a?c", "abc", true),
        ("a?c", "a/c", false),
        ("a?c", "aäc", true),
        ("[a-c]x", "bx", true),
        ("[a-c]x", "dx", false),
        ("[^a-c]x", "dx", true),
        ("[^a]x", "/x", false),
        ("[ab]", "b", true),
        ("[\\]]", "]", true),
        ("[\\-x]", "-", true),
        ("a\\*b", "a*b", true),
        ("a\\*b", "acb", false),
        ("a]", "a]", true),
        ("**", "a/b", false),
        ("a**b", "axb", true),
        ("**/b", "a/b", true),
        ("**/b", "a/c/b", false),
        ("*a*a*a*a*b", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", false),
    ];
    for (pattern, path, expected) in table {
        let found = Pattern::new(pattern).unwrap().matches(path);
        assert_eq!(found, *expected, "{pattern} {path}");
    }
    for bad in [
        "[", "[a", "[]a]", "[-]", "[x-]", "[-x]", "a\\", "[a-b-c]", "[\\",
    ] {
        assert!(Pattern::new(bad).is_err(), "{bad}");
    }
}

#[test]
fn deep_patterns_match_any_number_of_folders() {
    let table: &[(&str, &str, bool)] = &[
        ("**", "a", true),
        ("**", "a/b/c", true),
        ("**/", "a/b", true),
        ("**/b", "b", true),
        ("**/b", "a/b", true),
        ("**/b", "a/c/b", true),
        ("**/b", "xb", false),
        ("**/*.go", "a/b/c.go", true),
        ("**/*.go", "c.go", true),
        ("**.go", "a/b.go", true),
        ("**.go", "ago", false),
        ("a/**", "a/b/c", true),
        ("a/**", "a", false),
        ("a/**", "b/a", false),
        ("a/**/b", "a/b", true),
        ("a/**/b", "a/x/y/b", true),
        ("a/**/b", "a/xb", false),
        ("a**/b", "a/b", true),
        ("a**/b", "ax/y/b", true),
        ("**/x/**", "a/x/b", true),
        ("**/x/**", "a/y/b", false),
    ];
    for (pattern, path, expected) in table {
        let found = Pattern::deep(pattern).unwrap().matches(path);
        assert_eq!(found, *expected, "{pattern} {path}");
    }
}

#[test]
fn the_last_pattern_that_matches_decides() {
    let table: &[(&str, &[(&str, bool)])] = &[
        ("", &[("a", false)]),
        ("# a\n\n  \n", &[("a", false), ("# a", false)]),
        (
            "a",
            &[("a", true), ("a/b", true), ("b/a", false), ("ab", false)],
        ),
        ("a/", &[("a", true), ("a/b", true)]),
        ("/a", &[("a", true), ("b/a", false)]),
        ("./a/../b", &[("b", true), ("a", false)]),
        ("  a  ", &[("a", true)]),
        ("*", &[("a", true), ("a/b", true), (".git", true)]),
        (
            "*.md\n!README.md",
            &[("a.md", true), ("README.md", false), ("d/a.md", false)],
        ),
        ("!README.md\n*.md", &[("README.md", true)]),
        (
            "*.md\n!README*.md\nREADME-secret.md",
            &[("README-x.md", false), ("README-secret.md", true)],
        ),
        (
            "*\n!src",
            &[("src", false), ("src/a/b", false), ("x", true)],
        ),
        (
            "*\n!src/keep",
            &[("src", true), ("src/keep", false), ("src/x", true)],
        ),
        (
            "**/node_modules",
            &[("node_modules/x", true), ("a/b/node_modules", true)],
        ),
        (
            "**/*.log\n!keep.log",
            &[("a/x.log", true), ("keep.log", false), ("a/keep.log", true)],
        ),
        (
            "a/*/c",
            &[("a/b/c", true), ("a/b/c/d", true), ("a/b", false)],
        ),
        ("../a", &[("a", false)]),
        (".", &[("a", false)]),
        ("/", &[("a", false)]),
        ("\u{feff}a\r\nb\r\n", &[("a", true), ("b", true)]),
        ("! a", &[("a", false)]),
    ];
    for (text, paths) in table {
        let ignore = Ignore::parse(".dockerignore", text).unwrap();
        for (path, expected) in *paths {
            assert_eq!(ignore.excludes(path), *expected, "{text:?} {path}");
        }
    }
}

#[test]
fn a_folder_is_entered_when_something_in_it_comes_back() {
    let table: &[(&str, &str, bool)] = &[
        ("*\n!src/keep", "src", true),
        ("*\n!src/keep", "other", false),
        ("*\n!src/*/keep", "src/a", true),
        ("*\n!src/*/keep", "src/a/b", false),
        ("*\n!**/keep", "any/where", true),
        ("*\n!a*/keep", "abc", true),
        ("*\n!a*/keep", "bc", false),
        ("src", "src", false),
        ("*\n!srcs/keep", "src", false),
    ];
    for (text, folder, expected) in table {
        let ignore = Ignore::parse(".dockerignore", text).unwrap();
        assert_eq!(
            ignore.may_include_below(folder),
            *expected,
            "{text:?} {folder}"
        );
        assert_eq!(ignore.hides(folder, true), !expected, "{text:?} {folder}");
        assert!(ignore.hides(folder, false));
    }
}

#[test]
fn a_wrong_pattern_names_its_line() {
    let error = Ignore::parse("app.dockerignore", "a\nb[\n").unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with("app.dockerignore:2:1: the pattern"),
        "{error}"
    );
    assert!(Ignore::parse("x", "!").is_err());
    assert!(Ignore::parse("x", &"a\n".repeat(5000)).is_err());
    assert_eq!(
        Ignore::candidates("docker/app"),
        ["docker/app.dockerignore", ".dockerignore"]
    );
}
