#![allow(clippy::unwrap_used, reason = "tests")]
use super::Reference;

#[test]
fn shorthands_expand_and_shorten_again() {
    let digest = format!("sha256:{}", "a".repeat(64));
    for (text, canonical, short) in [
        ("debian", "docker.io/library/debian:latest", "debian:latest"),
        (
            "debian:bookworm",
            "docker.io/library/debian:bookworm",
            "debian:bookworm",
        ),
        ("docker.io/a/b", "docker.io/a/b:latest", "a/b:latest"),
        (
            "index.docker.io/library/x:1",
            "docker.io/library/x:1",
            "x:1",
        ),
        ("localhost/x", "localhost/x:latest", "localhost/x:latest"),
        (
            "localhost:5000/a/b:T",
            "localhost:5000/a/b:T",
            "localhost:5000/a/b:T",
        ),
        ("[::1]:5000/a", "[::1]:5000/a:latest", "[::1]:5000/a:latest"),
        (
            "ghcr.io/a/b__c-d.e",
            "ghcr.io/a/b__c-d.e:latest",
            "ghcr.io/a/b__c-d.e:latest",
        ),
        (
            &format!("a/b@{digest}"),
            &format!("docker.io/a/b@{digest}"),
            &format!("a/b@{digest}"),
        ),
        (
            &format!("b:1@{digest}"),
            &format!("docker.io/library/b:1@{digest}"),
            &format!("b:1@{digest}"),
        ),
    ] {
        let reference = Reference::parse(text).unwrap();
        assert_eq!(reference.canonical(), canonical, "{text}");
        assert_eq!(reference.to_string(), short, "{text}");
        assert_eq!(Reference::parse(short).unwrap(), reference, "{text}");
    }
}

#[test]
fn what_is_no_name_is_refused_with_the_reason() {
    for text in [
        "",
        ":",
        "/",
        "a//b",
        "a/",
        "Debian",
        "a:b:c",
        "a b",
        "../a",
        "a/../b",
        "a@sha256:12",
        "a@md5:aa",
        "a:",
        "-a",
        "a.-b",
        "a___b",
        "x.y:port/a",
        "http://a/b",
        "a\n",
        "localhost:5000",
        "[::g]:1/a",
        "-x.y/a",
    ] {
        let outcome = Reference::parse(text);
        // `localhost:5000` alone is the image `localhost` with the tag 5000.
        if text == "localhost:5000" {
            assert!(outcome.is_ok());
            continue;
        }
        let error = outcome.expect_err(text).to_string();
        assert!(error.contains(&format!("{text:?}")), "{error}");
    }
}
