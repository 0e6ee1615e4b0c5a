//! Arguments in the forms that the reference's parser knows.
#![allow(clippy::unwrap_used, reason = "tests")]
use super::*;

fn plainly(arguments: &str) -> String {
    let arguments: Vec<OsString> = arguments.split(' ').map(Into::into).collect();
    let plain = plain(&arguments);
    let plain: Vec<String> = plain
        .iter()
        .map(|word| word.to_str().unwrap().to_owned())
        .collect();
    plain.join(" ")
}

#[test]
fn every_argument_is_well_formed() {
    Cli::command().debug_assert();
}

#[test]
fn flags_take_the_values_of_the_reference_s_parser() {
    for (given, expected) in [
        (
            "up --prebuild true --workspaceFolder x",
            "up --prebuild --workspace-folder x",
        ),
        ("up --prebuild=false --prebuild false", "up"),
        (
            "up --mount-workspace-git-root false",
            "up --mount-workspace-git-root=false",
        ),
        (
            "exec --workspace-folder . ls --workspaceFolder true",
            "exec --workspace-folder . ls --workspaceFolder true",
        ),
        (
            "exec --remote-env --a=b true",
            "exec --remote-env --a=b true",
        ),
        (
            "features resolve-dependencies --logLevel info",
            "features resolve-dependencies --log-level info",
        ),
        ("up --unknown true", "up --unknown true"),
    ] {
        assert_eq!(plainly(given), expected);
    }
}

#[test]
fn mounts_and_labels_are_judged_as_the_reference_does() {
    let parsed =
        |arguments: &[&str]| Cli::try_parse_from([&["devcontainer", "up"], arguments].concat());
    for good in [
        ["--mount", "type=bind,source=/a,target=/b"],
        ["--mount", "type=volume,source=a,target=/b,external=true"],
        ["--id-label", "a=b=c"],
        ["--remote-env", "A="],
    ] {
        assert!(parsed(&good).is_ok(), "{good:?}");
    }
    for bad in [
        ["--mount", "type=tmpfs,target=/b"],
        ["--mount", "type=bind,source=/a,target=/b,readonly"],
        ["--id-label", "a="],
        ["--remote-env", "A"],
        ["--terminal-rows", "3"],
        ["--log-level", "loud"],
    ] {
        assert!(parsed(&bad).is_err(), "{bad:?}");
    }
}
