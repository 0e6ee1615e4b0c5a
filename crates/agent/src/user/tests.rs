//! Users as Dockerfile's USER means them, from files that may be nonsense.
#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;

const PASSWD: &str = "root:x:0:0:root:/root:/bin/bash\n\
    daemon:*:1:1:daemon:/usr/sbin:/usr/sbin/nologin\n\
    garbage\n:::::\nbroken:x:-1:zz:::\n\
    vscode:x:1000:1000:,,,:/home/vscode:/bin/zsh\n\
    1000:x:7:7::/seven:\n\
    bare:x:1002:1002\n";
const GROUP: &str =
    "root:x:0:\nsudo:x:27:vscode\ndocker:x:998:other,vscode\nnonsense\nvscode:x:1000:vscode\n";

fn user(wanted: &str) -> User {
    resolve_in(wanted, PASSWD, GROUP).unwrap()
}

#[test]
fn name_brings_home_shell_and_supplementary_groups() {
    assert_eq!(
        user("vscode"),
        User {
            name: "vscode".into(),
            uid: 1000,
            gid: 1000,
            groups: vec![1000, 27, 998],
            home: "/home/vscode".into(),
            shell: "/bin/zsh".into(),
        }
    );
}

#[test]
fn name_that_looks_like_a_number_wins_over_the_number() {
    assert_eq!(user("1000").uid, 7);
    assert_eq!(user("1000").shell, "/bin/sh");
}

#[test]
fn number_without_an_entry_is_taken_as_it_is() {
    let stranger = user("4242");
    assert_eq!((stranger.uid, stranger.gid), (4242, 0));
    assert_eq!(stranger.home, "/");
    assert_eq!(user("4242:4343").gid, 4343);
}

#[test]
fn named_group_replaces_the_supplementary_ones() {
    assert_eq!(user("vscode:docker").groups, [998]);
    assert_eq!(user("vscode:").groups, [1000, 27, 998]);
    assert_eq!(user(":docker").uid, 0);
}

#[test]
fn short_entries_get_defaults() {
    let bare = user("bare");
    assert_eq!((bare.home.as_str(), bare.shell.as_str()), ("/", "/bin/sh"));
}

#[test]
fn unknown_names_and_the_reserved_id_are_refused() {
    for wanted in [
        "nobody-here",
        "vscode:nogroup-here",
        "4294967295",
        "-1",
        "99999999999",
        "+5",
    ] {
        let failure = resolve_in(wanted, PASSWD, GROUP).unwrap_err();
        assert_eq!(failure.reason, "unknownUser", "{wanted}");
    }
    assert!(resolve_in("0", "", "").is_ok());
}
