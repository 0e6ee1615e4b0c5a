//! Tables: texts and what is made of them.
#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;
use crate::mounts::MountKind;
use proptest::prelude::*;

const FILE: &str = "/home/me/project/.devcontainer/docker-compose.yml";

fn request(service: &str) -> Request {
    Request {
        files: vec![FILE.to_owned()],
        service: service.to_owned(),
        workspace: "/home/me/project".to_owned(),
        env: BTreeMap::from([("HOME".to_owned(), "/home/me".to_owned())]),
        ..Request::default()
    }
}

/// Plans with these files there and no others.
fn plan_of(request: &Request, texts: &[(&str, &str)]) -> Result<ComposePlan, String> {
    let mut files = Files::new();
    for _ in 0..20 {
        match plan(request, &files).map_err(|error| error.to_string())? {
            Outcome::Plan(plan) => return Ok(*plan),
            Outcome::Needs(needs) => {
                for need in needs {
                    let text = texts.iter().find(|(path, _)| *path == need);
                    assert!(
                        files
                            .insert(need, text.map(|(_, text)| (*text).to_owned()))
                            .is_none()
                    );
                }
            }
        }
    }
    panic!("asks for ever");
}

fn one(text: &str) -> Result<ComposePlan, String> {
    plan_of(&request("app"), &[(FILE, text)])
}

fn app(body: &str) -> Result<Service, String> {
    let text = format!("services:\n  app:\n    image: debian\n{body}");
    one(&text).map(|plan| plan.main().unwrap().clone())
}

fn error(body: &str) -> String {
    app(body).unwrap_err()
}

#[test]
fn the_service_and_runservices_run_with_what_they_depend_on() {
    let text = "
services:
  app: {image: a, depends_on: [db]}
  db: {image: b}
  side: {image: c}
  unused: {image: d}
  tools: {image: e, profiles: [debug]}
";
    let names = |plan: &ComposePlan| -> Vec<String> {
        plan.services
            .iter()
            .map(|service| service.name.clone())
            .collect()
    };
    let all = one(text).unwrap();
    assert_eq!(names(&all), ["db", "app", "side", "unused"]);
    assert_eq!(all.project, "project_devcontainer");
    let mut asked = request("app");
    asked.run_services = vec!["side".to_owned()];
    let some = plan_of(&asked, &[(FILE, text)]).unwrap();
    assert_eq!(names(&some), ["db", "app", "side"]);
    asked = request("app");
    asked
        .env
        .insert("COMPOSE_PROFILES".to_owned(), "debug".to_owned());
    let with = plan_of(&asked, &[(FILE, text)]).unwrap();
    assert!(names(&with).contains(&"tools".to_owned()));
}

#[test]
fn the_project_is_named_as_the_reference_does() {
    let text = "services: {app: {image: a}}";
    let dotenv = "/home/me/project/.env";
    let mut asked = request("app");
    let name = |request: &Request, texts: &[(&str, &str)]| plan_of(request, texts).unwrap().project;
    assert_eq!(name(&asked, &[(FILE, text)]), "project_devcontainer");
    let named = format!("name: ${{X:-My}}.App_1\n{text}");
    assert_eq!(name(&asked, &[(FILE, &named)]), "myapp_1");
    let env = "COMPOSE_PROJECT_NAME=ofFile\n";
    assert_eq!(name(&asked, &[(FILE, &named), (dotenv, env)]), "offile");
    asked
        .env
        .insert("COMPOSE_PROJECT_NAME".to_owned(), "of-env".to_owned());
    assert_eq!(name(&asked, &[(FILE, &named), (dotenv, env)]), "of-env");
    asked = request("app");
    asked.files = vec!["/home/me/project/deploy/c.yml".to_owned()];
    assert_eq!(name(&asked, &[(&asked.files[0], text)]), "deploy");
    asked.files.clear();
    let files = [("/home/me/project/docker-compose.yml", text)];
    assert_eq!(name(&asked, &files), "project");
}

#[test]
fn variables_are_interpolated_by_every_form() {
    let mut asked = request("app");
    asked.env.extend([
        ("SET".to_owned(), "s".to_owned()),
        ("EMPTY".to_owned(), String::new()),
    ]);
    let table = [
        ("$SET", Ok("s")),
        ("a${SET}b", Ok("asb")),
        ("${EMPTY:-d}", Ok("d")),
        ("${EMPTY-d}", Ok("")),
        ("${NO-d}", Ok("d")),
        ("${NO:-${SET}x}", Ok("sx")),
        ("${NO:-${ALSO:-deep}}", Ok("deep")),
        ("${SET:+r}", Ok("r")),
        ("${EMPTY:+r}", Ok("")),
        ("${EMPTY+r}", Ok("r")),
        ("${SET:?e}", Ok("s")),
        ("$$SET $${SET}", Ok("$SET ${SET}")),
        ("${NO}", Ok("")),
        ("${NO:?tell ${SET}}", Err("needs the variable NO: tell s")),
        ("${EMPTY:?}", Err("needs the variable EMPTY")),
        ("${SET", Err("has ${ without its }")),
        ("${-x}", Err("which is no variable")),
        ("${SET!x}", Err("which is no variable")),
        ("$", Err("begins no variable")),
        ("$ {SET}", Err("begins no variable")),
    ];
    for (written, expected) in table {
        let text = format!("services:\n  app:\n    image: a\n    labels:\n      l: '{written}'\n");
        match (plan_of(&asked, &[(FILE, &text)]), expected) {
            (Ok(plan), Ok(value)) => {
                assert_eq!(plan.main().unwrap().labels["l"], value, "{written}")
            }
            (Err(error), Err(part)) => {
                assert!(error.contains(part), "{written}: {error}");
                assert!(
                    error.starts_with(&format!("{FILE}:5:10: services.app.labels.l ")),
                    "{error}"
                );
            }
            (made, _) => panic!("{written}: {made:?}"),
        }
    }
}

#[test]
fn env_files_and_environment_are_merged_in_order() {
    let text = "
services:
  app:
    image: a
    env_file:
      - one.env
      - {path: two.env, required: false}
      - {path: not-there.env, required: false}
    environment:
      - C=own
      - PASSED
      - NOT_PASSED
";
    let folder = "/home/me/project/.devcontainer";
    let mut asked = request("app");
    asked.env.insert("PASSED".to_owned(), "p".to_owned());
    let texts = [
        (FILE, text),
        (&*format!("{folder}/.env"), "D=dot\n"),
        (
            &*format!("{folder}/one.env"),
            "# c\nA=1\nexport B='x $y' # no\nC=file\nQ=\"a\\n${A}\\$\"\nM=\"two\nlines\"\nP=v # c\nH=a#b\nE=\nPASSED\n\nR=${D}\n",
        ),
        (&*format!("{folder}/two.env"), "A=2\n"),
    ];
    let plan = plan_of(&asked, &texts).unwrap();
    let env = &plan.main().unwrap().environment;
    let expected = [
        ("A", "2"),
        ("B", "x $y"),
        ("C", "own"),
        ("E", ""),
        ("H", "a#b"),
        ("M", "two\nlines"),
        ("P", "v"),
        ("PASSED", "p"),
        ("Q", "a\n1$"),
        ("R", "dot"),
    ];
    let expected = expected.map(|(name, value)| (name.to_owned(), value.to_owned()));
    assert_eq!(*env, BTreeMap::from(expected));
    let error = plan_of(&asked, &[(FILE, text)]).unwrap_err();
    assert!(
        error.contains(
            "docker-compose.yml:6:9: /home/me/project/.devcontainer/one.env is not there"
        ),
        "{error}"
    );
    let bad = [texts[0], (&*format!("{folder}/one.env"), "A=1\n!!\n")];
    let error = plan_of(&asked, &bad).unwrap_err();
    assert!(error.contains("one.env:2:1"), "{error}");
}

#[test]
fn overriding_files_merge_by_the_specification() {
    let base = "
services:
  app:
    image: a
    command: [old, words]
    environment: [A=1, B=1]
    ports: ['80:80']
    dns: 1.1.1.1
    volumes: [data:/data, ./src:/src, cache:/cache]
    labels: {x: '1', gone: '1'}
    healthcheck: {test: [CMD, old, one], interval: 5s}
    depends_on: [db]
    security_opt: [one]
  db: {image: b}
volumes: {data: , cache: , other: }
";
    let over = "
services:
  app:
    command: new
    environment: {B: 2, C: }
    ports: ['81:81', '80:80']
    volumes:
      - other:/data:ro
      - {type: tmpfs, target: /cache, tmpfs: {size: 1m}}
    labels: {y: '2', gone: !reset null}
    healthcheck: {test: [CMD, new]}
    depends_on: {db: {condition: service_healthy}}
    security_opt: !override [two]
";
    let mut asked = request("app");
    let second = "/home/me/project/over/over.yml";
    asked.files.push(second.to_owned());
    let plan = plan_of(&asked, &[(FILE, base), (second, over)]).unwrap();
    let app = plan.main().unwrap();
    assert_eq!(app.command, Some(vec!["new".to_owned()]));
    assert_eq!(app.environment.get("B").unwrap(), "2");
    assert_eq!(app.ports, ["80:80", "81:81"]);
    assert_eq!(app.labels.keys().collect::<Vec<_>>(), ["x", "y"]);
    let check = app.healthcheck.as_ref().unwrap();
    assert_eq!(check.test, Some(vec!["new".to_owned()]));
    assert_eq!(check.interval_millis, Some(5000));
    assert_eq!(app.depends_on["db"].condition, Condition::Healthy);
    assert_eq!(app.security_opt, ["two"]);
    let mounts: Vec<_> = app
        .mounts
        .iter()
        .map(|mount| {
            (
                mount.target.as_str(),
                mount.kind,
                mount.source.as_deref(),
                mount.read_only,
            )
        })
        .collect();
    assert_eq!(
        mounts,
        [
            (
                "/data",
                MountKind::Volume,
                Some("project_devcontainer_other"),
                true
            ),
            // Relative to the first file's folder, whichever file says it.
            (
                "/src",
                MountKind::Bind,
                Some("/home/me/project/.devcontainer/src"),
                false
            ),
            ("/cache", MountKind::Tmpfs, None, false),
        ]
    );
    assert_eq!(
        app.mounts[1].in_workspace.as_deref(),
        Some(".devcontainer/src")
    );
}

#[test]
fn services_extend_others_here_and_in_other_files() {
    let text = "
services:
  app:
    extends: {file: ../shared/base.yml, service: web}
    environment: {B: '2'}
  worker:
    extends: app
    command: work
";
    let other = "
services:
  web:
    extends: root
    environment: {A: '1', B: '1'}
    volumes: ['./data:/d']
  root: {image: r, user: me}
";
    let texts = [(FILE, text), ("/home/me/project/shared/base.yml", other)];
    let plan = plan_of(&request("app"), &texts).unwrap();
    for (name, command) in [("app", None), ("worker", Some(vec!["work".to_owned()]))] {
        let service = plan.named(name).unwrap();
        assert_eq!(service.origin, Origin::Image("r".to_owned()));
        assert_eq!(service.user.as_deref(), Some("me"));
        assert_eq!(service.command, command);
        assert_eq!(service.environment["A"], "1");
        assert_eq!(service.environment["B"], "2");
        assert_eq!(
            service.mounts[0].source.as_deref(),
            Some("/home/me/project/shared/data")
        );
    }
    let circle = "services: {app: {image: a, extends: b}, b: {extends: app}}";
    assert!(one(circle).unwrap_err().contains("leads back to itself"));
    assert!(
        one("services: {app: {image: a, extends: no}}")
            .unwrap_err()
            .contains("no service \"no\" to extend")
    );
}

#[test]
fn includes_bring_their_services_with_their_own_folder_and_env() {
    let text = "
include:
  - ../db/compose.yml
services:
  app: {image: a, depends_on: [db]}
";
    let db = "
services:
  db: {image: '${IMAGE}', volumes: ['./conf:/conf', data:/data]}
volumes: {data: {name: shared}}
";
    let texts = [
        (FILE, text),
        ("/home/me/project/db/compose.yml", db),
        ("/home/me/project/db/.env", "IMAGE=postgres\n"),
    ];
    let plan = plan_of(&request("app"), &texts).unwrap();
    let service = plan.named("db").unwrap();
    assert_eq!(service.origin, Origin::Image("postgres".to_owned()));
    assert_eq!(
        service.mounts[0].source.as_deref(),
        Some("/home/me/project/db/conf")
    );
    assert_eq!(service.mounts[1].source.as_deref(), Some("shared"));
    let twice = format!("{text}  db: {{image: other}}\n");
    let error = plan_of(&request("app"), &[(FILE, &twice), texts[1], texts[2]]).unwrap_err();
    assert!(error.contains("services.db is defined here and"), "{error}");
    let itself = "include: [docker-compose.yml]\nservices: {app: {image: a}}";
    assert!(one(itself).unwrap_err().contains("chains of at most"));
}

#[test]
fn anchors_and_merge_keys_are_copied_within_bounds() {
    let plan = one("
x-base: &base
  image: a
  environment: &env {A: '1'}
services:
  app:
    <<: *base
    environment: {<<: *env, B: '2'}
  b: *base
")
    .unwrap();
    assert_eq!(plan.main().unwrap().environment.len(), 2);
    assert_eq!(plan.named("b").unwrap().environment.len(), 1);
    let mut bomb = "x-0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..30 {
        let below = format!("*a{}, ", level - 1).repeat(10);
        bomb.push_str(&format!("x-{level}: &a{level} [{below}]\n"));
    }
    assert!(one(&bomb).unwrap_err().contains("more than 20000 values"));
    assert!(
        one("x: &a [*a]")
            .unwrap_err()
            .contains("inside of what it names")
    );
    for open in ["[", "{a: ", "- "] {
        let error = one(&open.repeat(5000)).unwrap_err();
        assert!(
            error.contains("nested deeper") || error.contains("not valid YAML"),
            "{error}"
        );
    }
}

#[test]
fn networks_say_who_reaches_whom() {
    let plan = one("
services:
  app: {image: a, networks: {front: {aliases: [web]}}}
  api: {image: a, networks: [front, back]}
  db: {image: a, networks: {back: {aliases: [store]}}, container_name: the-db}
  beside: {image: a, network_mode: 'service:db'}
  host: {image: a, network_mode: host}
  alone: {image: a, network_mode: none}
networks: {front: , back: {internal: true}}
")
    .unwrap();
    assert_eq!(plan.names("api", "db"), ["db", "the-db", "store"]);
    assert_eq!(plan.names("api", "app"), ["app", "web"]);
    assert_eq!(plan.names("app", "db"), Vec::<String>::new());
    assert!(plan.reach("api", "beside") && !plan.reach("app", "beside"));
    assert_eq!(
        plan.network_group("beside"),
        BTreeSet::from(["beside", "db"])
    );
    assert_eq!(plan.network_group("app"), BTreeSet::from(["app", "host"]));
    assert!(!plan.reach("alone", "app") && !plan.reaches_outside("alone"));
    assert!(plan.reaches_outside("api") && !plan.reaches_outside("db"));
    assert!(plan.reaches_outside("host"));
}

#[test]
fn builds_have_absolute_paths() {
    let build = |text: &str| {
        let text = format!("services:\n  app:\n{text}");
        match one(&text).unwrap().main().unwrap().origin.clone() {
            Origin::Build(build) => *build,
            other => panic!("{other:?}"),
        }
    };
    let short = build("    build: ..\n    image: named\n");
    assert_eq!(short.context, "/home/me/project");
    assert_eq!(
        short.dockerfile.as_deref(),
        Some("/home/me/project/Dockerfile")
    );
    assert_eq!(short.tag.as_deref(), Some("named"));
    let long = build(
        "    build: {context: ., dockerfile: ../D, target: t, args: [A=1, HOME], additional_contexts: {c: ../c, d: 'docker-image://x'}}\n",
    );
    assert_eq!(long.dockerfile.as_deref(), Some("/home/me/project/D"));
    assert_eq!(long.contexts["c"], "/home/me/project/c");
    assert_eq!(long.contexts["d"], "docker-image://x");
    assert_eq!(
        long.args,
        BTreeMap::from([("A".to_owned(), "1".to_owned())])
    );
    let inline = build("    build: {context: ., dockerfile_inline: 'FROM x'}\n");
    assert_eq!(
        (inline.dockerfile, inline.inline.as_deref()),
        (None, Some("FROM x"))
    );
}

#[test]
fn everything_of_a_service_is_read() {
    let service = app("    command: sh -c 'echo \"a b\"'
    entrypoint: ['']
    restart: on-failure:3
    stop_signal: SIGINT
    stop_grace_period: 1m30.5s
    shm_size: 64m
    cpus: 0.5
    deploy: {resources: {limits: {memory: 1gb, pids: 10}}}
    ulimits: {nofile: {soft: 1, hard: 2}, nproc: 5}
    extra_hosts: ['a=1.2.3.4', 'b:::1']
    tmpfs: '/t:size=1m,mode=700'
    secrets: [s, {source: e, target: /etc/e, mode: 0440}]
    healthcheck: {test: curl localhost, retries: 2, start_period: 10s}
    privileged: true
secrets:
  s: {file: ./s.txt}
  e: {environment: HOME}
")
    .unwrap();
    assert_eq!(service.command.unwrap(), ["sh", "-c", "echo \"a b\""]);
    assert_eq!(service.restart, Restart::OnFailure(Some(3)));
    assert_eq!(service.stop_grace_millis, Some(90_500));
    assert_eq!(service.shm_size, Some(64 << 20));
    assert_eq!(
        service.limits,
        ServiceLimits {
            cpu_millis: Some(500),
            memory_bytes: Some(1 << 30),
            pids: Some(10)
        }
    );
    assert_eq!(service.ulimits["nproc"], (5, 5));
    assert_eq!(
        service.hosts,
        [
            ("a".to_owned(), "1.2.3.4".to_owned()),
            ("b".to_owned(), "::1".to_owned())
        ]
    );
    let mounts: Vec<_> = service
        .mounts
        .iter()
        .map(|mount| mount.target.as_str())
        .collect();
    assert_eq!(mounts, ["/t", "/run/secrets/s"]);
    assert_eq!(service.mounts[0].options["tmpfs-mode"], "700");
    let content = &service.contents[0];
    assert_eq!(
        (content.target.as_str(), content.text.as_str(), content.mode),
        ("/etc/e", "/home/me", 0o440)
    );
    assert_eq!(
        service.healthcheck.unwrap().test.unwrap(),
        ["/bin/sh", "-c", "curl localhost"]
    );
}

#[test]
fn what_is_wrong_is_named_with_its_place() {
    let table = [
        (
            "    devices: [/dev/kvm]\n",
            ":4:5: services.app.devices is not supported yet; remove it",
        ),
        ("    pid: host\n", ":4:5: services.app.pid is not supported"),
        (
            "    network_mode: container:x\n",
            ":4:19: services.app.network_mode is \"container:x\"",
        ),
        ("    scale: 2\n", ":4:12: services.app.scale must be 1"),
        ("    comand: x\n", "did you mean \"command\"?"),
        (
            "    depends_on: [no]\n",
            ":4:18: there is no service \"no\"",
        ),
        (
            "    depends_on: {app: {condition: up}}\n",
            "must be service_started",
        ),
        (
            "    depends_on: [app]\n",
            "wait for each other in a circle: app",
        ),
        (
            "    volumes: ['nope:/x']\n",
            "there is no volume \"nope\"; name it under volumes",
        ),
        ("    volumes: ['a:b:c:d']\n", "has too many colons"),
        (
            "    volumes: ['/x:/y:shared']\n",
            "has the option \"shared\"",
        ),
        ("    networks: [nope]\n", "there is no network \"nope\""),
        (
            "    restart: sometimes\n",
            "services.app.restart must be no, always",
        ),
        ("    healthcheck: {test: [x]}\n", "must begin with CMD"),
        ("    healthcheck: {interval: soon}\n", "is no duration"),
        ("    shm_size: big\n", "is no size"),
        (
            "    image: b\n",
            ":4:5: this is not valid YAML for Compose: \"image\" is given twice here",
        ),
        (
            "    command: {a: b}\n",
            "must be a string, but this is a mapping",
        ),
        ("    x: !cmd y\n", "the tag !cmd is none of Compose's"),
        ("    command: 'a\n", "this is not valid YAML"),
        ("nonsense: 1\n", "nonsense is no property of Compose files"),
    ];
    for (body, part) in table {
        let error = error(body);
        assert!(error.contains(part), "{body}: {error}");
        assert!(error.starts_with(FILE), "{error}");
    }
    assert!(
        one("services: {b: {image: x}}")
            .unwrap_err()
            .contains("there is no service \"app\" here; there are b")
    );
    assert!(
        one("services: {app: {}}")
            .unwrap_err()
            .contains("neither an image nor a build")
    );
    assert!(
        plan_of(&request("app"), &[])
            .unwrap_err()
            .contains("this Compose file is not there")
    );
}

#[test]
fn words_that_could_be_variables_are_found_for_the_caller() {
    let mut names = BTreeSet::new();
    variable_names("a: $X ${Y:-${Z}} 1\n- PASSED", &mut names);
    assert_eq!(
        names,
        ["a", "X", "Y", "Z", "PASSED"].map(str::to_owned).into()
    );
}

#[test]
fn devcontainer_json_asks_for_a_project() {
    let text = r#"{ "dockerComposeFile": ["../c.yml", "d.yml"], "service": "app", "runServices": ["db"],
        "containerEnv": { "A": "file" }, "mounts": ["type=tmpfs,target=/t"] }"#;
    let document = crate::Document::parse(".devcontainer/devcontainer.json", text).unwrap();
    let context = crate::LocalContext::new("/home/me/project");
    let asked = document.compose(&context).unwrap().unwrap();
    assert_eq!(
        asked.files,
        [
            "/home/me/project/c.yml",
            "/home/me/project/.devcontainer/d.yml"
        ]
    );
    let file = "services: {app: {image: a, user: me, environment: {A: c, B: c}, volumes: ['.:/ws', 'v:/t']}, db: {image: b}}\nvolumes: {v: }";
    let made = plan_of(&asked, &[(&asked.files[0], file), (&asked.files[1], "")]).unwrap();
    let mut run = document
        .run_plan(&context, &crate::ImageMetadata::default())
        .unwrap();
    assert_eq!(run.workspace_folder, "/");
    assert_eq!(run.workspace_mount, crate::WorkspaceMount::None);
    assert_eq!(
        run.shutdown_action,
        Some(crate::ShutdownAction::StopCompose)
    );
    assert!(!run.override_command);
    made.apply(&mut run);
    assert_eq!(run.container_env["A"], "file");
    assert_eq!(run.container_env["B"], "c");
    assert_eq!(run.container_user.as_deref(), Some("me"));
    let targets: Vec<_> = run
        .mounts
        .iter()
        .map(|mount| (mount.target.as_str(), mount.kind))
        .collect();
    assert_eq!(
        targets,
        [("/ws", MountKind::Bind), ("/t", MountKind::Tmpfs)]
    );
    let alone = crate::Document::parse("d.json", r#"{ "dockerComposeFile": "c.yml" }"#).unwrap();
    assert!(
        alone
            .compose(&context)
            .unwrap_err()
            .to_string()
            .contains("needs \"service\"")
    );
    let mut given = context.clone();
    given.image_override = Some("debian".to_owned());
    assert!(document.compose(&given).unwrap().is_none());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn no_text_brings_a_panic(text in "(services:|\\n|  app:|    image: a|    [a-z_]{1,12}: |[-\\[\\]{}$:#&*!<|>'\" ,a-z0-9./]{0,12}){0,20}") {
        let made = one(&text);
        if let Ok(plan) = made {
            let stored = serde_json::to_string(&plan).unwrap();
            prop_assert_eq!(serde_json::from_str::<ComposePlan>(&stored).unwrap(), plan);
        }
    }

    #[test]
    fn no_env_file_brings_a_panic(text in "[\\PC\\n='\"$ {}#\\\\]{0,200}") {
        let _ = dotenv::parse(&text, &BTreeMap::new(), false);
    }
}
