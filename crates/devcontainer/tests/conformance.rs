//! What the specification's reference implementation does, as tables: each case in
//! `testdata/cases` is a configuration (and an image's label) whose outcome was recorded there.
#![allow(clippy::unwrap_used, reason = "tests")]

use boatyard_devcontainer::{
    Document, Gpu, HookName, HostRequirements, ImageMetadata, LocalContext, MountKind, RunPlan,
    Runs, UserEnvProbe, WorkspaceMount, discover,
};
use std::collections::BTreeMap;

struct Case {
    name: String,
    files: BTreeMap<String, String>,
    labels: BTreeMap<String, String>,
}

fn case(name: &str) -> Case {
    let path = format!("{}/testdata/cases/{name}.json", env!("CARGO_MANIFEST_DIR"));
    let value: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let texts = |key: &str| -> BTreeMap<String, String> {
        let object = value
            .get(key)
            .and_then(|object| object.as_object())
            .cloned()
            .unwrap_or_default();
        object
            .into_iter()
            .map(|(name, text)| {
                (
                    name,
                    text.as_str()
                        .unwrap()
                        .replace("@IMG@", "base")
                        .replace("@W@", &format!("/w/{}", value["name"].as_str().unwrap())),
                )
            })
            .collect()
    };
    Case {
        name: name.to_owned(),
        files: texts("files"),
        labels: texts("labels"),
    }
}

impl Case {
    fn context(&self) -> LocalContext {
        let mut context = LocalContext::new(&format!("/w/{}", self.name));
        context.local_env = BTreeMap::from([("FOO".to_owned(), "foo".to_owned())]);
        context
    }

    fn plan(&self) -> RunPlan {
        let document = Document::parse(
            ".devcontainer/devcontainer.json",
            &self.files[".devcontainer/devcontainer.json"],
        )
        .unwrap();
        let context = self.context();
        document.image(&context).unwrap();
        document
            .run_plan(
                &context,
                &ImageMetadata {
                    labels: self.labels.clone(),
                    ..ImageMetadata::default()
                },
            )
            .unwrap()
    }
}

fn json(value: &impl serde::Serialize) -> serde_json::Value {
    serde_json::to_value(value).unwrap()
}

fn owned(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

#[test]
fn identifier_follows_the_formula() {
    assert_eq!(
        case("devcontainer-id-default-labels").plan().container_env["I"],
        "v-1jovufi706pbvopem2b9td64a7ug2bpjbuh170ugf80nfrkmtjli"
    );
}

#[test]
fn dot_directory_wins_over_dot_file() {
    let existing: Vec<String> = case("discovery-dotdir-wins").files.into_keys().collect();
    assert_eq!(
        discover(&existing, None).unwrap().unwrap(),
        ".devcontainer/devcontainer.json"
    );
}

#[test]
fn nested_configurations_are_one_level_deep_and_chosen_when_several() {
    let one = owned(&[
        ".devcontainer/rust/devcontainer.json",
        ".devcontainer/a/b/devcontainer.json",
    ]);
    assert_eq!(discover(&one, None).unwrap().unwrap(), one[0]);
    let two = owned(&[
        ".devcontainer/rust/devcontainer.json",
        ".devcontainer/go/devcontainer.json",
    ]);
    let error = discover(&two, None).unwrap_err().to_string();
    assert!(
        error.contains(".devcontainer/go/devcontainer.json, .devcontainer/rust/devcontainer.json"),
        "{error}"
    );
    assert_eq!(discover(&two, Some("go")).unwrap().unwrap(), two[1]);
    assert_eq!(
        discover(&two, Some("./.devcontainer/go/devcontainer.json"))
            .unwrap()
            .unwrap(),
        two[1]
    );
    assert!(
        discover(&two, Some("c"))
            .unwrap_err()
            .to_string()
            .contains("was not found; there is ")
    );
    assert_eq!(discover(&[], None).unwrap(), None);
}

#[test]
fn comments_and_trailing_commas_are_accepted() {
    let plan = case("jsonc-comments-trailing-commas").plan();
    assert_eq!(
        plan.forward_ports
            .iter()
            .map(|port| port.port)
            .collect::<Vec<_>>(),
        [3000, 8080]
    );
    assert_eq!(
        plan.customizations["t"],
        [serde_json::json!({"url": "https://a.b/c//d", "s": "/* not a comment */"})]
    );
}

#[test]
fn label_may_be_a_single_object_and_customizations_are_collected() {
    let plan = case("label-single-object").plan();
    let expected = serde_json::json!({"vscode": [{"extensions": ["a"]}, {"extensions": ["b"]}], "other": [{"k": 1}]});
    assert_eq!(json(&plan.customizations), expected);
    assert_eq!(plan.remote_user.as_deref(), Some("dev"));
}

#[test]
fn three_forms_of_lifecycle_commands_keep_their_order() {
    let plan = case("lifecycle-order-forms").plan();
    let seen: Vec<(HookName, Option<String>, Vec<String>)> = plan
        .lifecycle
        .iter()
        .flat_map(|hook| {
            hook.commands
                .iter()
                .map(|command| (hook.name, command.name.clone(), command.argv.clone()))
        })
        .collect();
    let shell = |text: &str| owned(&["/bin/sh", "-c", text]);
    let expected = vec![
        (
            HookName::OnCreate,
            None,
            shell("echo \"oc $(pwd) $(id -un)\" >> /tmp/l"),
        ),
        (
            HookName::UpdateContent,
            None,
            owned(&["sh", "-c", "echo uc $0 >> /tmp/l", "$HOME"]),
        ),
        (
            HookName::PostCreate,
            Some("only".to_owned()),
            shell("echo pc >> /tmp/l"),
        ),
        (
            HookName::PostStart,
            None,
            shell("echo ps >> /tmp/l && echo ps2 >> /tmp/l"),
        ),
        (
            HookName::PostAttach,
            None,
            owned(&["sh", "-c", "echo pa >> /tmp/l"]),
        ),
    ];
    assert_eq!(seen, expected);
    assert_eq!(plan.workspace_folder, "/workspaces/lifecycle-order-forms");
}

#[test]
fn rules_of_the_lifecycle_are_data() {
    let stopped: Vec<HookName> = HookName::UpdateContent.stopped_by_failure().collect();
    assert_eq!(
        stopped,
        [
            HookName::PostCreate,
            HookName::PostStart,
            HookName::PostAttach
        ]
    );
    let runs = HookName::ALL.map(HookName::runs);
    assert_eq!(
        runs,
        [
            Runs::BeforeEachUp,
            Runs::Once,
            Runs::OnceAndOnNewContent,
            Runs::Once,
            Runs::EachStart,
            Runs::EachAttach
        ]
    );
    assert_eq!(case("lifecycle-failure-stops").plan().lifecycle.len(), 5);
}

#[test]
fn lifecycle_commands_of_the_image_come_first_one_after_another() {
    let labels = BTreeMap::from([(
        "devcontainer.metadata".to_owned(),
        r#"[{"id": "ghcr.io/x/y:1", "postCreateCommand": {"a": "1", "b": ["2"]}}, {"postCreateCommand": "3"}]"#.to_owned(),
    )]);
    let text = r#"{"image": "x", "postCreateCommand": "4", "postStartCommand": "", "initializeCommand": "here"}"#;
    let plan = Document::parse("d.json", text)
        .unwrap()
        .run_plan(
            &LocalContext::new("/w"),
            &ImageMetadata {
                labels,
                ..Default::default()
            },
        )
        .unwrap();
    let steps: Vec<Vec<(&str, &str)>> = plan
        .steps(HookName::PostCreate)
        .map(|step| {
            step.iter()
                .map(|command| {
                    (
                        command.origin.as_str(),
                        command.argv.last().unwrap().as_str(),
                    )
                })
                .collect()
        })
        .collect();
    assert_eq!(
        steps,
        [
            vec![("ghcr.io/x/y:1", "1"), ("ghcr.io/x/y:1", "2")],
            vec![("image metadata", "3")],
            vec![("d.json", "4")]
        ]
    );
    assert_eq!(plan.steps(HookName::PostStart).count(), 0);
    assert_eq!(plan.initialize[0].argv, owned(&["/bin/sh", "-c", "here"]));
}

#[test]
fn caller_learns_its_own_command_before_the_image_is_there() {
    let text = r#"{"image": "x", "initializeCommand": {"a": ["make", "${localWorkspaceFolder}"], "b": "id ${localEnv:FOO}"}}"#;
    let mut context = LocalContext::new("/w");
    context.local_env = BTreeMap::from([("FOO".to_owned(), "foo".to_owned())]);
    let commands = Document::parse("d.json", text)
        .unwrap()
        .initialize(&context)
        .unwrap();
    let seen: Vec<_> = commands
        .iter()
        .map(|command| (command.name.as_deref(), command.argv.clone()))
        .collect();
    let expected = [
        (Some("a"), owned(&["make", "/w"])),
        (Some("b"), owned(&["/bin/sh", "-c", "id foo"])),
    ];
    assert_eq!(seen, expected);
}

#[test]
fn variables_merge_one_by_one_and_null_stays_null() {
    let plan = case("merge-env-per-variable").plan();
    assert_eq!(
        json(&plan.remote_env),
        serde_json::json!({"A": "cfg", "B": "img-merge-env-per-variable", "N": null})
    );
    assert_eq!(
        json(&plan.container_env),
        serde_json::json!({"X": "foo", "Y": "2"})
    );
}

#[test]
fn flags_are_true_if_any_says_so_and_lists_are_ordered_unions() {
    let plan = case("merge-flags-union").plan();
    assert!(plan.init && !plan.privileged);
    assert_eq!(plan.cap_add, ["SYS_PTRACE", "SYS_TIME", "NET_ADMIN"]);
    assert_eq!(plan.security_opt, ["seccomp=unconfined", "a=1"]);
}

#[test]
fn host_requirements_are_the_maximum_of_each() {
    let expected = HostRequirements {
        cpus: Some(4),
        memory: Some(8_589_934_592),
        storage: Some(1_073_741_824),
        gpu: Gpu::No,
    };
    assert_eq!(
        case("merge-host-requirements").plan().host_requirements,
        expected
    );
}

#[test]
fn later_mount_on_a_target_replaces_the_earlier() {
    let mounts = case("merge-mounts-by-target").plan().mounts;
    let seen: Vec<_> = mounts
        .iter()
        .map(|mount| {
            (
                mount.kind,
                mount.source.as_deref().unwrap(),
                mount.target.as_str(),
            )
        })
        .collect();
    let expected = [
        (MountKind::Volume, "c", "/cache"),
        (MountKind::Volume, "new", "/data"),
        (MountKind::Bind, "/w/merge-mounts-by-target", "/here"),
    ];
    assert_eq!(seen, expected);
    assert_eq!(mounts[2].in_workspace.as_deref(), Some(""));
}

#[test]
fn mounts_in_both_forms_and_an_explicit_workspace() {
    let plan = case("mounts-and-workspace").plan();
    let WorkspaceMount::Explicit(workspace) = &plan.workspace_mount else {
        panic!("{:?}", plan.workspace_mount)
    };
    assert_eq!(
        (workspace.source.as_deref(), workspace.target.as_str()),
        (Some("/w/mounts-and-workspace/src"), "/code")
    );
    assert_eq!(workspace.in_workspace.as_deref(), Some("src"));
    assert_eq!(plan.workspace_folder, "/code");
    assert_eq!(
        plan.mounts
            .iter()
            .map(|mount| (mount.target.as_str(), mount.read_only))
            .collect::<Vec<_>>(),
        [("/data", true), ("/other", false)]
    );
}

#[test]
fn container_and_remote_user_are_kept_apart() {
    let plan = case("users-container-and-remote").plan();
    assert_eq!(
        (plan.container_user.as_deref(), plan.remote_user.as_deref()),
        (Some("dev"), Some("root"))
    );
}

#[test]
fn local_variables_with_defaults_and_the_alias() {
    let case = case("vars-localenv-defaults");
    let expected = serde_json::json!({"SET": "afoob", "UNSET": "ab", "DEF": "adfltb", "DEFC": "http", "SETDEF": "foo", "ALIAS": "foo"});
    assert_eq!(json(&case.plan().remote_env), expected);
    let document =
        Document::parse("d.json", &case.files[".devcontainer/devcontainer.json"]).unwrap();
    assert_eq!(
        document.local_env_names().into_iter().collect::<Vec<_>>(),
        ["FOO", "NOPE_X"]
    );
}

#[test]
fn local_variable_without_a_name_is_an_error() {
    let case = case("vars-localenv-without-name");
    let document =
        Document::parse("d.json", &case.files[".devcontainer/devcontainer.json"]).unwrap();
    let error = document.image(&case.context()).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("${localEnv} names no environment variable"),
        "{error}"
    );
    assert_eq!(error.location().line, 4);
}

#[test]
fn paths_are_substituted_in_nested_values_but_not_in_keys() {
    let plan = case("vars-paths-nested").plan();
    let expected = serde_json::json!({
        "${localWorkspaceFolderBasename}": ["/w/vars-paths-nested/a", "/workspaces/vars-paths-nested", "vars-paths-nested", 7, null, true]
    });
    assert_eq!(plan.customizations["t"], [expected]);
    assert_eq!(
        plan.workspace_mount,
        WorkspaceMount::Default {
            target: "/workspaces/vars-paths-nested".to_owned()
        }
    );
}

#[test]
fn folder_below_a_repository_mounts_its_root() {
    let case = case("workspace-git-root");
    let mut context = LocalContext::new("/w/workspace-git-root/sub/app");
    context.repository_root = Some("/w/workspace-git-root".to_owned());
    let text = case.files.values().next().unwrap();
    let plan = Document::parse(".devcontainer/devcontainer.json", text)
        .unwrap()
        .run_plan(&context, &ImageMetadata::default())
        .unwrap();
    assert_eq!(
        plan.workspace_folder,
        "/workspaces/workspace-git-root/sub/app"
    );
    assert_eq!(
        plan.workspace_mount,
        WorkspaceMount::Default {
            target: "/workspaces/workspace-git-root".to_owned()
        }
    );
}

#[test]
fn container_variables_are_bound_late_and_survive_storing() {
    let stored = json(&case("exec-remote-env").plan());
    let mut plan: RunPlan = serde_json::from_value(stored).unwrap();
    assert_eq!(
        plan.remote_env["R"].as_deref(),
        Some("${containerEnv:CE}-${containerEnv:BASE_VAR}-${containerEnv:NOPE:def}")
    );
    let env = [("CE", "c"), ("BASE_VAR", "base"), ("PATH", "/bin")]
        .map(|(name, value)| (name.to_owned(), value.to_owned()));
    plan.bind_container_env(&BTreeMap::from(env));
    assert_eq!(
        json(&plan.remote_env),
        serde_json::json!({"R": "c-base-def", "PATH": "/bin:/zzz"})
    );
}

#[test]
fn probe_defaults_to_a_login_interactive_shell() {
    let case = case("user-env-probe");
    assert_eq!(
        case.plan().user_env_probe,
        UserEnvProbe::LoginInteractiveShell
    );
    let none = Document::parse("none.json", &case.files["none.json"]).unwrap();
    assert_eq!(
        none.run_plan(&case.context(), &ImageMetadata::default())
            .unwrap()
            .user_env_probe,
        UserEnvProbe::None
    );
    assert_eq!(case.plan().wait_for, HookName::UpdateContent);
    assert!(case.plan().override_command);
}

#[test]
fn broken_label_is_left_out_with_a_note() {
    let document = Document::default_configuration("x");
    for (label, note) in [
        ("{", "was left out"),
        ("7", "must be an array or an object"),
        ("[3]", "must be an object"),
        (
            r#"[{"init": "yes", "remoteUser": "dev"}]"#,
            "init of the image's metadata was left out",
        ),
    ] {
        let labels = BTreeMap::from([("devcontainer.metadata".to_owned(), label.to_owned())]);
        let plan = document
            .run_plan(
                &LocalContext::new("/w"),
                &ImageMetadata {
                    labels,
                    ..Default::default()
                },
            )
            .unwrap();
        assert!(
            plan.notes.iter().any(|found| found.contains(note)),
            "{label}: {:?}",
            plan.notes
        );
        assert_eq!(
            plan.remote_user.as_deref(),
            label.contains("dev\"").then_some("dev")
        );
    }
}

#[test]
fn values_of_variables_are_not_substituted_again() {
    let mut context = LocalContext::new("/w/${localEnv:SECRET}");
    context.local_env = BTreeMap::from([
        ("A".to_owned(), "${localEnv:SECRET}".to_owned()),
        ("SECRET".to_owned(), "s".to_owned()),
    ]);
    let text = r#"{"image": "x", "remoteEnv": {"A": "${localEnv:A}", "N": "${localEnv:${x}}", "U": "${HOME} $${x", "W": "${localWorkspaceFolder}"}}"#;
    let plan = Document::parse("d.json", text)
        .unwrap()
        .run_plan(&context, &ImageMetadata::default())
        .unwrap();
    let expected = serde_json::json!({"A": "${localEnv:SECRET}", "N": "}", "U": "${HOME} $${x", "W": "/w/${localEnv:SECRET}"});
    assert_eq!(json(&plan.remote_env), expected);
}

#[test]
fn given_image_replaces_what_the_file_builds() {
    let document = Document::parse("d.json", r#"{"build": {"dockerfile": "Dockerfile"}}"#).unwrap();
    let mut context = LocalContext::new("/w");
    assert!(
        document
            .image(&context)
            .unwrap_err()
            .to_string()
            .contains("what the Dockerfile builds")
    );
    assert!(document.dockerfile(&context).unwrap().is_some());
    context.image_override = Some("mine".to_owned());
    assert_eq!(document.image(&context).unwrap(), "mine");
    assert_eq!(document.dockerfile(&context).unwrap(), None);
}

#[test]
fn a_dockerfile_stands_where_the_file_says_in_either_form() {
    let mut context = LocalContext::new("/w/project");
    context.local_env = [("WORD".to_owned(), "given".to_owned())].into();
    for (text, file, folder) in [
        (
            r#"{"build": {"dockerfile": "D", "args": {"A": "${localEnv:WORD}"}, "target": "t", "cacheFrom": "x/y"}}"#,
            "/w/project/.devcontainer/D",
            "/w/project/.devcontainer",
        ),
        (
            r#"{"dockerFile": "../D", "context": ".."}"#,
            "/w/project/D",
            "/w/project",
        ),
        (
            r#"{"build": {"dockerfile": "D", "context": "../.."}, "dockerFile": "old"}"#,
            "/w/project/.devcontainer/D",
            "/w",
        ),
        (
            r#"{"build": {"dockerfile": "D", "options": ["--target", "t", "--build-arg=A=given"]}}"#,
            "/w/project/.devcontainer/D",
            "/w/project/.devcontainer",
        ),
    ] {
        let document = Document::parse(".devcontainer/devcontainer.json", text).unwrap();
        let source = document.dockerfile(&context).unwrap().unwrap();
        assert_eq!((&*source.file, &*source.context), (file, folder), "{text}");
        let target = text.contains("target").then(|| "t".to_owned());
        assert_eq!(source.target, target);
        if text.contains("given") || text.contains("WORD") {
            assert_eq!(source.args["A"], "given");
        }
        // The same source, the same name; another argument, another.
        let mut other = source.clone();
        assert_eq!(other.name(), source.name());
        other.args.insert("B".to_owned(), "1".to_owned());
        assert_ne!(other.name(), source.name());
    }
}

#[test]
fn run_arguments_are_taken_where_an_environment_has_them() {
    let text = r#"{"image": "x", "containerEnv": {"A": "1"}, "runArgs": ["--env", "A=2", "-eB=3", "--hostname=box", "-u", "dev", "--init",
        "--cap-add=SYS_PTRACE", "-v", "cache:/cache:ro", "--mount", "type=bind,src=/srv,dst=/srv", "--tmpfs", "/scratch", "-it", "--rm", "--name", "n"]}"#;
    let plan = Document::parse("d.json", text)
        .unwrap()
        .run_plan(&LocalContext::new("/w"), &ImageMetadata::default())
        .unwrap();
    assert_eq!(
        json(&plan.container_env),
        serde_json::json!({"A": "2", "B": "3"})
    );
    assert_eq!(
        (
            plan.hostname.as_deref(),
            plan.container_user.as_deref(),
            plan.init
        ),
        (Some("box"), Some("dev"), true)
    );
    assert_eq!(plan.cap_add, ["SYS_PTRACE"]);
    let mounts: Vec<_> = plan
        .mounts
        .iter()
        .map(|mount| (mount.kind, mount.target.as_str(), mount.read_only))
        .collect();
    assert_eq!(
        mounts,
        [
            (MountKind::Volume, "/cache", true),
            (MountKind::Bind, "/srv", false),
            (MountKind::Tmpfs, "/scratch", false)
        ]
    );
    assert!(
        plan.notes
            .iter()
            .any(|note| note.contains("--name \"n\" has no effect")),
        "{:?}",
        plan.notes
    );
}
