//! How errors and warnings read.
#![allow(clippy::unwrap_used, reason = "tests")]

use boatyard_devcontainer::{Document, LocalContext};

/// The error of a text, wherever in the two phases it shows.
fn error(text: &str) -> String {
    match Document::parse(".devcontainer/devcontainer.json", text) {
        Ok(document) => match document.image(&LocalContext::new("/home/me/project")) {
            Ok(image) => format!("no error, image {image}"),
            Err(error) => error.to_string(),
        },
        Err(error) => error.to_string(),
    }
}

fn errors(texts: &[&str]) -> String {
    texts.iter().map(|text| error(text) + "\n").collect()
}

fn in_file(property: &str) -> String {
    format!("{{\n  \"image\": \"debian\",\n  {property}\n}}\n")
}

#[test]
fn syntax_errors_point_at_the_place() {
    let seen = errors(&[
        "",
        "not json",
        "[]",
        "{\n  \"image\": \"debian\" // base\n  \"name\": \"x\"\n}",
        "{\n  \"image\": \"debian\"\n  \"name\": \"x\"\n}",
        "{\n  'image': \"debian\"\n}",
        "{\n\t\"image\": \"debian\",\n\t\"mounts\": [\n}",
        "{ \"image\": \"deb\n\" }",
        "{ \"image\": \"x\" } trailing",
        "{ \"image\": \"\u{1b}[2J\", \"é\u{202e}\": }",
    ]);
    insta::assert_snapshot!(seen, @r###"
    .devcontainer/devcontainer.json:1:1: this is not valid JSON: the file is empty; write at least {}
      1 | 
        | ^
    .devcontainer/devcontainer.json:1:1: this is not valid JSON: unexpected word
      1 | not json
        | ^^^
    .devcontainer/devcontainer.json:1:1: the configuration must be an object, but this is an array
      1 | []
        | ^^
    .devcontainer/devcontainer.json:2:20: this is not valid JSON: a comma is missing here
      2 |   "image": "debian" // base
        |                    ^
    .devcontainer/devcontainer.json:2:20: this is not valid JSON: a comma is missing here
      2 |   "image": "debian"
        |                    ^
    .devcontainer/devcontainer.json:2:3: this is not valid JSON: strings stand in double quotes
      2 |   'image': "debian"
        |   ^
    .devcontainer/devcontainer.json:4:1: this is not valid JSON: unexpected close brace
      4 | }
        | ^
    .devcontainer/devcontainer.json:1:12: this is not valid JSON: this string is not closed on its line; end it with a double quote
      1 | { "image": "deb
        |            ^^^^
    .devcontainer/devcontainer.json:1:18: this is not valid JSON: there is more after the end of the first value
      1 | { "image": "x" } trailing
        |                  ^^^^^^^^
    .devcontainer/devcontainer.json:1:26: this is not valid JSON: unexpected close brace
      1 | { "image": "�[2J", "é�": }
        |                          ^
    "###);
}

#[test]
fn wrong_types_name_path_expected_and_found() {
    let seen = errors(&[
        &in_file("\"name\": 5"),
        &in_file("\"containerEnv\": { \"A\": \"a\", \"B\": 2 }"),
        &in_file("\"mounts\": \"type=tmpfs,target=/x\""),
        &in_file("\"postCreateCommand\": { \"a\": [\"x\", false] }"),
        &in_file("\"userEnvProbe\": \"login\""),
        &in_file("\"forwardPorts\": [3000, 70000]"),
        &in_file("\"forwardPorts\": [\"db:http\"]"),
        &in_file("\"hostRequirements\": { \"memory\": \"8 GB\" }"),
        &in_file("\"portsAttributes\": { \"3000\": { \"onAutoForward\": \"loud\" } }"),
        &in_file("\"workspaceFolder\": \"code\""),
        &in_file("\"workspaceFolder\": \"${containerWorkspaceFolder}/x\""),
    ]);
    insta::assert_snapshot!(seen, @r###"
    .devcontainer/devcontainer.json:3:11: name must be a string, but this is a number
      3 |   "name": 5
        |           ^
    .devcontainer/devcontainer.json:3:36: containerEnv.B must be a string, but this is a number
      3 |   "containerEnv": { "A": "a", "B": 2 }
        |                                    ^
    .devcontainer/devcontainer.json:3:13: mounts must be an array, but this is a string
      3 |   "mounts": "type=tmpfs,target=/x"
        |             ^^^^^^^^^^^^^^^^^^^^^^
    .devcontainer/devcontainer.json:3:37: postCreateCommand.a[1] must be a string, but this is a boolean
      3 |   "postCreateCommand": { "a": ["x", false] }
        |                                     ^^^^^
    .devcontainer/devcontainer.json:3:19: userEnvProbe is "login", but must be one of "none", "loginShell", "loginInteractiveShell", "interactiveShell"
      3 |   "userEnvProbe": "login"
        |                   ^^^^^^^
    .devcontainer/devcontainer.json:3:26: forwardPorts[1] is no port; write a number from 1 to 65535, or "host:port"
      3 |   "forwardPorts": [3000, 70000]
        |                          ^^^^^
    .devcontainer/devcontainer.json:3:20: forwardPorts[0] is no port; write a number from 1 to 65535, or "host:port"
      3 |   "forwardPorts": ["db:http"]
        |                    ^^^^^^^^^
    .devcontainer/devcontainer.json:3:35: hostRequirements.memory is "8 GB", which is no size; write a number with kb, mb, gb or tb, such as "8gb"
      3 |   "hostRequirements": { "memory": "8 GB" }
        |                                   ^^^^^^
    .devcontainer/devcontainer.json:3:51: portsAttributes.3000.onAutoForward is "loud", but must be one of "notify", "openBrowser", "openBrowserOnce", "openPreview", "silent", "ignore"
      3 |   "portsAttributes": { "3000": { "onAutoForward": "loud" } }
        |                                                   ^^^^^^
    .devcontainer/devcontainer.json:3:22: workspaceFolder is "code", but must be an absolute path inside the environment
      3 |   "workspaceFolder": "code"
        |                      ^^^^^^
    .devcontainer/devcontainer.json:3:22: workspaceFolder cannot be made from ${containerWorkspaceFolder}, which is itself
      3 |   "workspaceFolder": "${containerWorkspaceFolder}/x"
        |                      ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
    "###);
}

#[test]
fn unsupported_parts_are_refused_by_name() {
    let seen = errors(&[
        "{ \"build\": { \"dockerfile\": 1 } }",
        "{ \"dockerFile\": [\"Dockerfile\"], \"context\": \"..\" }",
        &in_file("\"features\": {\n    \"ghcr.io/devcontainers/features/git:1\": 1\n  }"),
        &in_file("\"features\": {\n    \"ghcr.io/devcontainers/features/git:1\": []\n  }"),
        &in_file("\"overrideFeatureInstallOrder\": [1]"),
        &in_file("\"runArgs\": [\"--name\", \"x\", \"--network=host\"]"),
        &in_file("\"runArgs\": [\"--frobnicate\"]"),
        &in_file("\"runArgs\": [\"--env\"]"),
        &in_file("\"hostRequirements\": { \"gpu\": 1 }"),
        "{ \"name\": \"x\" }",
    ]);
    insta::assert_snapshot!(seen, @r###"
    .devcontainer/devcontainer.json:1:28: build.dockerfile must be a string, but this is a number
      1 | { "build": { "dockerfile": 1 } }
        |                            ^
    .devcontainer/devcontainer.json:1:17: dockerFile must be a string, but this is an array
      1 | { "dockerFile": ["Dockerfile"], "context": ".." }
        |                 ^^^^^^^^^^^^^^
    no error, image debian
    .devcontainer/devcontainer.json:4:45: features."ghcr.io/devcontainers/features/git:1" must be an object of options, or a version, but this is an array
      4 |     "ghcr.io/devcontainers/features/git:1": []
        |                                             ^^
    .devcontainer/devcontainer.json:3:35: overrideFeatureInstallOrder[0] must be a string, but this is a number
      3 |   "overrideFeatureInstallOrder": [1]
        |                                   ^
    .devcontainer/devcontainer.json:3:30: runArgs[2], the argument "--network=host", is not supported yet; an environment always has its own network; remove it
      3 |   "runArgs": ["--name", "x", "--network=host"]
        |                              ^^^^^^^^^^^^^^^^
    .devcontainer/devcontainer.json:3:15: runArgs[0], the argument "--frobnicate", is not supported yet; remove it
      3 |   "runArgs": ["--frobnicate"]
        |               ^^^^^^^^^^^^^^
    .devcontainer/devcontainer.json:3:15: runArgs[0] is an option without its value
      3 |   "runArgs": ["--env"]
        |               ^^^^^^^
    .devcontainer/devcontainer.json:3:32: hostRequirements.gpu must be a boolean, "optional" or an object, but this is a number
      3 |   "hostRequirements": { "gpu": 1 }
        |                                ^
    .devcontainer/devcontainer.json:1:1: no "image" is named; add one, for example "image": "debian:bookworm"
      1 | { "name": "x" }
        | ^
    "###);
}

#[test]
fn mounts_that_cannot_be_made_say_why() {
    let mount = |text: &str| in_file(&format!("\"mounts\": [{text}]"));
    let texts: Vec<String> = [
        "\"type=bind,source=/a\"",
        "\"type=bind,target=/a\"",
        "\"type=bind,source=a,target=/a\"",
        "\"type=volume,source=a/b,target=/a\"",
        "\"type=volume,source=a,target=a\"",
        "\"type=volume,source=a,target=/..\"",
        "\"type=npipe,source=a,target=/a\"",
        "\"type=volume,source=a,target=/a,volume-driver=nfs\"",
        "\"type=bind,source=/a,target=/a,bind-propagation=rshared\"",
        "\"type=tmpfs,target=/a,tmpfs-mode=9\"",
        "\"type=bind,\\\"source=/a,target=/a\"",
        "{ \"source\": \"a\", \"target\": \"/a\" }",
        "{ \"type\": \"bind\", \"source\": \"/a\", \"target\": \"/a\", \"readonly\": true }",
        "7",
    ]
    .iter()
    .map(|text| mount(text))
    .collect();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    insta::assert_snapshot!(errors(&texts), @r###"
    .devcontainer/devcontainer.json:3:14: mounts[0] has no target; add target=/path/inside
      3 |   "mounts": ["type=bind,source=/a"]
        |              ^^^^^^^^^^^^^^^^^^^^^
    .devcontainer/devcontainer.json:3:14: mounts[0] has no source; add source=/path/on/the/host
      3 |   "mounts": ["type=bind,target=/a"]
        |              ^^^^^^^^^^^^^^^^^^^^^
    .devcontainer/devcontainer.json:3:14: mounts[0] has the source "a", which is no absolute path; start it with ${localWorkspaceFolder}/ for a path in the workspace
      3 |   "mounts": ["type=bind,source=a,target=/a"]
        |              ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
    .devcontainer/devcontainer.json:3:14: mounts[0] has the source "a/b", which is no volume name (letters, digits, '.', '_' and '-'); for a path add type=bind
      3 |   "mounts": ["type=volume,source=a/b,target=/a"]
        |              ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
    .devcontainer/devcontainer.json:3:14: mounts[0] has the target "a", which is no absolute path below /; write target=/path/inside
      3 |   "mounts": ["type=volume,source=a,target=a"]
        |              ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
    .devcontainer/devcontainer.json:3:14: mounts[0] has the target "/..", which is no absolute path below /; write target=/path/inside
      3 |   "mounts": ["type=volume,source=a,target=/.."]
        |              ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
    .devcontainer/devcontainer.json:3:14: mounts[0] has the type "npipe", which is not supported; use bind, volume or tmpfs
      3 |   "mounts": ["type=npipe,source=a,target=/a"]
        |              ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
    .devcontainer/devcontainer.json:3:14: mounts[0] has the option "volume-driver", which is not supported; a mount has type, source, target, readonly and consistency
      3 |   "mounts": ["type=volume,source=a,target=/a,volume-driver=nfs"]
        |              ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
    .devcontainer/devcontainer.json:3:14: mounts[0] has bind-propagation="rshared", which is not supported: mounts never travel between host and environment; leave it out
      3 |   "mounts": ["type=bind,source=/a,target=/a,bind-propagation=rshared"]
        |              ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
    .devcontainer/devcontainer.json:3:14: mounts[0] has tmpfs-mode="9", which is no octal mode such as 1777
      3 |   "mounts": ["type=tmpfs,target=/a,tmpfs-mode=9"]
        |              ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
    .devcontainer/devcontainer.json:3:14: mounts[0] has a double quote that is not closed
      3 |   "mounts": ["type=bind,\"source=/a,target=/a"]
        |              ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
    .devcontainer/devcontainer.json:3:14: mounts[0] has no "type"; write "bind" or "volume"
      3 |   "mounts": [{ "source": "a", "target": "/a" }]
        |              ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
    .devcontainer/devcontainer.json:3:64: mounts[0].readonly is no part of a mount object, which has type, source and target; use the string form for more
      3 |   "mounts": [{ "type": "bind", "source": "/a", "target": "/a", "readonly": true }]
        |                                                                ^^^^^^^^^^
    .devcontainer/devcontainer.json:3:14: mounts[0] must be a string such as "source=cache,target=/cache,type=volume" or an object, but this is a number
      3 |   "mounts": [7]
        |              ^
    "###);
}

#[test]
fn mounts_of_every_grammar_are_accepted() {
    for text in [
        "target=/a",
        "source=,target=/a,type=volume",
        "src=cache,dst=/a",
        "TYPE=tmpfs,destination=/a/,tmpfs-size=64m,tmpfs-mode=1777",
        "type=bind,\\\"source=/with,comma\\\",target=/a,ro=true,consistency=cached",
        "type=bind,source=${localWorkspaceFolder}/../x,target=${containerWorkspaceFolder}/x,readonly",
    ] {
        assert_eq!(
            error(&in_file(&format!("\"mounts\": [\"{text}\"]"))),
            "no error, image debian",
            "{text}"
        );
    }
}

#[test]
fn long_lines_are_quoted_around_the_place() {
    let text = format!(
        "{{ \"image\": \"x\", \"customizations\": {{ \"a\": \"{}\" }}, \"init\": 1, \"name\": \"{}\" }}",
        "y".repeat(500),
        "z".repeat(500)
    );
    let error = error(&text);
    assert!(
        error.lines().all(|line| line.chars().count() < 140),
        "{error}"
    );
    let lines: Vec<&str> = error.lines().collect();
    let caret = lines[2].find('^').unwrap();
    assert_eq!(&lines[1][caret..=caret], "1", "{error}");
}

#[test]
fn warnings_suggest_what_was_meant() {
    let text = "{\n  \"image\": \"debian\",\n  \"remoteuser\": \"dev\",\n  \"postcreateCommand\": \"make\",\n  \"myTool\": {},\n  \"appPort\": 3000,\n  \"extensions\": [],\n  \"name\": \"a\",\n  \"name\": \"${localWorkspaceFolderBaseName}\",\n  \"containerEnv\": { \"PATH\": \"${containerEnv:PATH}:/x\" },\n  \"remoteUser\": null\n}";
    let document = Document::parse("devcontainer.json", text).unwrap();
    let seen: String = document
        .warnings()
        .iter()
        .map(|warning| format!("{warning}\n"))
        .collect();
    insta::assert_snapshot!(seen, @r###"
    devcontainer.json:3:3: remoteuser is no property of the specification and has no effect; did you mean "remoteUser"?
    devcontainer.json:4:3: postcreateCommand is no property of the specification and has no effect; did you mean "postCreateCommand"?
    devcontainer.json:5:3: myTool is no property of the specification and has no effect
    devcontainer.json:6:3: appPort is deprecated and counts as forwardPorts
    devcontainer.json:7:3: extensions is an editor's setting of an older form and has no effect; its place is customizations.vscode
    devcontainer.json:9:3: "name" is given twice; the last one counts
    devcontainer.json:9:11: ${localWorkspaceFolderBaseName} is no variable of the specification and stays as it is written; did you mean "localWorkspaceFolderBasename"?
    devcontainer.json:10:29: containerEnv.PATH uses ${containerEnv:…}, which is not known yet there and stays as it is written; use remoteEnv
    devcontainer.json:11:17: remoteUser is null, which counts as not given
    "###);
    assert_eq!(document.image(&LocalContext::new("/w")).unwrap(), "debian");
}

#[test]
fn folder_outside_of_the_mount_is_noted() {
    let document = Document::parse(
        "devcontainer.json",
        "{ \"image\": \"x\", \"workspaceFolder\": \"/code\" }",
    )
    .unwrap();
    let plan = document
        .run_plan(
            &LocalContext::new("/w/app"),
            &boatyard_devcontainer::ImageMetadata::default(),
        )
        .unwrap();
    insta::assert_snapshot!(plan.notes.join("\n"), @r###"
    devcontainer.json:1:17: the workspace folder /code lies outside of what is mounted at /workspaces/app; set workspaceMount and workspaceFolder together
    "###);
}
