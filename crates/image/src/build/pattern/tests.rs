//! As Go's `filepath.Match` has it, and `.dockerignore`'s `**`.
use super::*;

#[test]
fn names_match_as_in_go() {
    for (pattern, name, expected) in [
        ("abc", "abc", true),
        ("*", "abc", true),
        ("*c", "abc", true),
        ("a*", "a", true),
        ("a*/b", "abc", false),
        ("a*b*c*d*e*", "axbxcxdxe", true),
        ("a*b*c*d*e*", "axbxcxdxexxx", true),
        ("a*b?c*x", "abxbbxdbxebxczzx", true),
        ("a*b?c*x", "abxbbxdbxebxczzy", false),
        ("ab[c]", "abc", true),
        ("ab[b-d]", "abc", true),
        ("ab[e-g]", "abc", false),
        ("ab[^c]", "abc", false),
        ("ab[^e-g]", "abc", true),
        ("a\\*b", "a*b", true),
        ("a\\*b", "ab", false),
        ("a?b", "aäb", true),
        ("[", "a", false),
        ("[]a]", "]", true),
        ("[-]", "-", true),
        ("*x", "xxx", true),
        ("", "", true),
        ("", "x", false),
    ] {
        assert_eq!(
            matches(pattern.as_bytes(), name.as_bytes()),
            expected,
            "{pattern:?} {name:?}"
        );
    }
}

#[test]
fn many_stars_end() {
    let pattern = "*a".repeat(2000);
    assert!(!matches(pattern.as_bytes(), "a".repeat(1999).as_bytes()));
}

#[test]
fn an_excluded_folder_excludes_what_is_in_it() {
    for (pattern, path, expected) in [
        ("node_modules", "node_modules/x/y", true),
        ("*.txt", "a.txt", true),
        ("*.txt", "sub/a.txt", false),
        ("**/*.txt", "a.txt", true),
        ("**/*.txt", "a/b/c.txt", true),
        ("a/**/z", "a/z", true),
        ("a/**/z", "a/b/c/z", true),
        ("a/**", "a", true),
        ("/a", "a/b", true),
        ("b", "a/b", false),
    ] {
        assert_eq!(excludes(pattern, path), expected, "{pattern:?} {path:?}");
    }
}
