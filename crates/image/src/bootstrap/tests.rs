#![allow(clippy::unwrap_used, reason = "tests")]
use super::{recipe, valid_package};
use crate::Reference;

#[test]
fn names_of_distributions_become_suites() {
    for (name, distribution, suite, slim) in [
        ("debian:bookworm", "debian", "bookworm", false),
        ("debian:trixie-slim", "debian", "trixie", true),
        ("debian", "debian", "stable", false),
        ("registry.example/mirror/debian:sid", "debian", "sid", false),
        ("ubuntu:24.04", "ubuntu", "noble", false),
        ("ubuntu:jammy", "ubuntu", "jammy", false),
    ] {
        let found = recipe(&Reference::parse(name).unwrap()).unwrap();
        assert_eq!(
            (found.distribution, found.suite.as_str(), found.slim),
            (distribution, suite, slim),
            "{name}"
        );
    }
    for name in ["debian:hamm", "ubuntu", "fedora:40", "ubuntu:--help"] {
        let Ok(reference) = Reference::parse(name) else {
            continue;
        };
        assert!(recipe(&reference).is_err(), "{name}");
    }
}

#[test]
fn package_names_hold_nothing_for_a_shell() {
    for name in ["git", "g++", "libc6-dev", "python3.11"] {
        assert!(valid_package(name), "{name}");
    }
    for name in [
        "", "a", "-git", "a b", "a,b", "a;b", "$(x)", "../x", "Git", "a\n",
    ] {
        assert!(!valid_package(name), "{name:?}");
    }
}
