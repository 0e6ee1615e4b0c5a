//! Compose projects through the real binary: services that come up in order, find each other, keep
//! what they wrote, and are nobody else's.
#![allow(clippy::unwrap_used, reason = "tests")]

use boatyard_testkit::{Daemon, Ran, wait};
use serde_json::{Value, json};

/// A folder with a devcontainer.json that names the service `app` of this project.
fn project(daemon: &Daemon, name: &str, more: &Value, compose: &str) -> String {
    let mut config = json!({ "dockerComposeFile": "docker-compose.yml", "service": "app" });
    config
        .as_object_mut()
        .unwrap()
        .extend(more.as_object().unwrap().clone());
    let folder = daemon.project(name, &config.to_string());
    let file = ["/.devcontainer/docker-compose.yml", "/docker-compose.yml"]
        .map(|file| format!("{folder}{file}"))
        .into_iter()
        .find(|file| {
            std::path::Path::new(file)
                .parent()
                .unwrap()
                .join("devcontainer.json")
                .exists()
        });
    let file = file.unwrap_or_else(|| format!("{folder}/docker-compose.yml"));
    std::fs::write(file, compose).unwrap();
    folder
}

fn status(daemon: &Daemon, name: &str) -> Value {
    let text = daemon
        .cli(&["get", "environments", name, "-o", "json"])
        .ok();
    let object: Value = serde_json::from_str(&text).unwrap();
    object["status"].clone()
}

fn service(daemon: &Daemon, name: &str, service: &str) -> Value {
    let status = status(daemon, name);
    let all = status["services"].as_array().cloned().unwrap_or_default();
    all.into_iter()
        .find(|one| one["name"] == service)
        .unwrap_or_default()
}

/// A server on a port that says one line to whoever asks.
fn says(line: &str) -> String {
    format!("while true; do echo {line} | nc -l -p 80; done")
}

#[test]
fn services_come_up_in_order_find_each_other_and_leave_nothing() {
    let daemon = Daemon::start();
    daemon.import_image();
    let before = daemon.first_photo();
    let compose = format!(
        "
services:
  app:
    image: test:latest
    command: sh -c 'echo started > /tmp/own; exec sleep 100000'
    volumes: ['.:/ws', shared:/shared]
    environment: {{A: '${{NOBODY_SETS_THIS:-default}}', B: compose}}
    depends_on:
      db: {{condition: service_healthy}}
      once: {{condition: service_completed_successfully}}
  db:
    image: test:latest
    command: ['sh', '-c', 'sleep 1; touch /ready; {}']
    healthcheck: {{test: [CMD, test, -e, /ready], interval: 500ms, start_interval: 200ms, retries: 50}}
    volumes: [data:/data]
    networks: {{default: {{aliases: [store]}}}}
    restart: always
  once:
    image: test:latest
    command: sh -c 'date > /shared/once'
    volumes: [shared:/shared]
  apart:
    image: test:latest
    command: sh -c '{}'
    networks: [elsewhere]
volumes: {{data: , shared: }}
networks: {{elsewhere: }}
",
        says("base"),
        says("apart"),
    );
    let more = json!({
        "workspaceFolder": "/ws", "containerEnv": { "B": "file" }, "waitFor": "postCreateCommand",
        "postCreateCommand": "cat /shared/once > /tmp/seen; until nc -w 2 db 80 > /tmp/said; do :; done; echo $A $B >> /tmp/said"
    });
    let folder = project(&daemon, "app", &more, &compose);
    let ran = daemon.cli(&["up", &folder, "--detach"]);
    assert!(ran.stderr.contains("services"), "{ran:?}");
    ran.ok();
    // Hooks ran when the services were up.
    assert_eq!(
        daemon.sh("app", "cat /tmp/said").ok(),
        "base\ndefault file\n"
    );
    assert!(!daemon.sh("app", "cat /tmp/seen").ok().is_empty());
    wait::until("the service's own command", || {
        (daemon.sh("app", "cat /tmp/own").stdout == "started\n").then_some(())
    });
    assert_eq!(
        daemon.sh("app", "pwd; ls docker-compose.yml").ok(),
        "/ws\ndocker-compose.yml\n"
    );
    assert_eq!(
        daemon.sh("app", "until nc -w 2 store 80; do :; done").ok(),
        "base\n"
    );
    // No common network: neither a name nor a way.
    assert_eq!(
        daemon
            .sh("app", "nc -w 1 apart 80 2>/dev/null || echo none")
            .ok(),
        "none\n"
    );
    assert_eq!(service(&daemon, "app", "db")["health"], "Healthy");
    assert_eq!(service(&daemon, "app", "once")["state"], "Exited");
    assert_eq!(service(&daemon, "app", "once")["exitCode"], 0);
    assert_eq!(service(&daemon, "app", "app")["state"], "Running");

    // The database's file system is its own; its volume outlives a stop.
    daemon.sh("app", "test ! -e /ready").ok();
    daemon.cli(&["stop", "app"]).ok();
    let stopped = daemon.photo();
    assert!(
        stopped.processes.is_empty() && stopped.cgroups.is_empty(),
        "{stopped:?}"
    );
    daemon.cli(&["start", "app"]).ok();
    assert_eq!(
        daemon.sh("app", "until nc -w 2 db 80; do :; done").ok(),
        "base\n"
    );
    daemon.cli(&["rm", "--force", "app"]).ok();
    let after = daemon.photo();
    assert_eq!(after.processes, before.processes);
    assert_eq!(after.cgroups, before.cgroups);
    assert_eq!(after.routes, before.routes);
}

#[test]
fn services_outlive_the_daemon_and_are_adopted() {
    let mut daemon = Daemon::start();
    daemon.import_image();
    let compose = format!(
        "
services:
  app: {{image: test:latest, network_mode: 'service:db', command: sleep 100000}}
  db: {{image: test:latest, command: ['sh', '-c', '{}'], restart: always, hostname: data}}
",
        says("base")
    );
    let folder = project(&daemon, "app", &json!({}), &compose);
    daemon.cli(&["up", &folder, "--detach"]).ok();
    // One network for both: what the other listens on is on loopback.
    assert_eq!(
        daemon
            .sh("app", "until nc -w 2 127.0.0.1 80; do :; done")
            .ok(),
        "base\n"
    );
    daemon.kill();
    daemon.run(&[]);
    assert_eq!(
        daemon
            .sh("app", "until nc -w 2 127.0.0.1 80; do :; done")
            .ok(),
        "base\n"
    );
    // The same run as before, known again.
    wait::until("the services are known again", || {
        let db = service(&daemon, "app", "db");
        (db["state"] == "Running" && db["restarts"] == 0).then_some(())
    });
    daemon.cli(&["rm", "--force", "app"]).ok();
}

#[test]
fn what_a_service_waits_for_in_vain_is_said() {
    let daemon = Daemon::start();
    daemon.import_image();
    let compose = "
services:
  app: {image: test:latest, depends_on: {db: {condition: service_completed_successfully}}, command: sleep 100000}
  db: {image: test:latest, command: sh -c 'exit 3'}
";
    let folder = project(&daemon, "app", &json!({}), compose);
    let ran = daemon.cli(&["up", &folder, "--detach"]);
    assert_ne!(ran.code, 0);
    assert!(
        ran.stderr
            .contains("service app cannot start: db ended with exit code 3"),
        "{ran:?}"
    );
    let wrong = project(
        &daemon,
        "wrong",
        &json!({}),
        "services:\n  app:\n    image: a\n    pid: host\n",
    );
    let ran = daemon.cli(&["up", &wrong, "--detach"]);
    assert!(
        ran.stderr
            .contains("docker-compose.yml:4:5: services.app.pid is not supported"),
        "{ran:?}"
    );
}

#[test]
fn services_are_built_from_their_dockerfiles() {
    let daemon = Daemon::start();
    daemon.import_image();
    let compose = "
services:
  app:
    build: {context: ., args: {WORD: '${WORD_OF_CALLER:-none}'}, target: chosen}
    command: sleep 100000
  side:
    build: side
    command: sh -c 'cat /side > /shared/said; sleep 100000'
    volumes: [shared:/shared]
volumes: {shared: }
";
    let folder = project(&daemon, "app", &json!({}), compose);
    let context = format!("{folder}/.devcontainer");
    let dockerfile = "
FROM test:latest AS chosen
ARG WORD
COPY kept.txt /kept
RUN echo $WORD > /word
FROM chosen AS other
RUN exit 7
";
    std::fs::write(format!("{context}/Dockerfile"), dockerfile).unwrap();
    std::fs::write(format!("{context}/kept.txt"), "copied").unwrap();
    std::fs::create_dir(format!("{context}/side")).unwrap();
    let side = "FROM test:latest\nRUN echo beside > /side\n";
    std::fs::write(format!("{context}/side/Dockerfile"), side).unwrap();
    let mut up = daemon.boatyard(&["devcontainer", "up", "--workspace-folder", &folder]);
    let ran: Ran = up.env("WORD_OF_CALLER", "given").output().unwrap().into();
    // What is built is seen by who asked for it.
    assert!(ran.stderr.contains("echo beside > /side"), "{ran:?}");
    let told: Value = serde_json::from_str(ran.ok().trim()).unwrap();
    assert_eq!(told["composeProjectName"], "app_devcontainer");
    assert_eq!(
        daemon.sh("app", "cat /kept /word").ok(),
        "copiedgiven\n",
        "the stage wanted, with the caller's variable"
    );
    assert_eq!(service(&daemon, "app", "side")["state"], "Running");

    // One that cannot be built takes no other's place.
    std::fs::write(
        format!("{context}/side/Dockerfile"),
        "FROM test:latest\nRUN exit 9\n",
    )
    .unwrap();
    let up = ["devcontainer", "up", "--workspace-folder", &folder];
    let again = [up.as_slice(), &["--remove-existing-container"]].concat();
    let ran = daemon.cli(&again);
    assert_ne!(ran.code, 0, "{ran:?}");
    let left = daemon.cli(&["get", "environments", "-o", "json"]).ok();
    let left: Value = serde_json::from_str(&left).unwrap();
    assert_eq!(left["items"].as_array().unwrap().len(), 1);
    assert_eq!(daemon.sh("app", "cat /word").ok(), "given\n");
}

#[test]
fn a_service_is_built_of_the_file_itself_and_its_image_says_how_it_is_checked() {
    let daemon = Daemon::start();
    daemon.import_image();
    let compose = "
services:
  app:
    image: test:latest
    command: sleep 100000
    volumes: ['.:/ws', 'data:/ours']
    depends_on: {db: {condition: service_healthy}}
  db:
    build:
      context: .
      dockerfile_inline: |
        FROM test:latest
        COPY --from=more word /word
        RUN mkdir /data && chown 70:71 /data
        HEALTHCHECK --interval=300ms --start-interval=200ms --retries=50 CMD test -e /ready
      additional_contexts: {more: ./more}
    command: sh -c 'cp /word /data/said; touch /ready; sleep 100000'
    volumes: [data:/data]
volumes: {data: }
";
    let folder = project(&daemon, "app", &json!({}), compose);
    let more = format!("{folder}/.devcontainer/more");
    std::fs::create_dir(&more).unwrap();
    std::fs::write(format!("{more}/word"), "of the image\n").unwrap();
    let up = daemon.cli(&["up", &folder, "--detach"]);
    assert!(up.stderr.contains("COPY --from=more"), "{up:?}");
    up.ok();
    assert_eq!(service(&daemon, "app", "db")["health"], "Healthy");
    let seen = daemon.sh("app", "cat /ours/said; stat -c '%u %g' /ours");
    assert_eq!(seen.ok(), "of the image\n70 71\n");
}

#[test]
fn features_are_installed_in_the_service_and_in_no_other() {
    let daemon = Daemon::start();
    daemon.import_image();
    let compose = "
services:
  app: {image: test:latest, command: sleep 100000, volumes: [shared:/shared]}
  side:
    image: test:latest
    command: sh -c 'ls /installed > /shared/side 2>&1; sleep 100000'
    volumes: [shared:/shared]
volumes: {shared: }
";
    let more = json!({"features": {"./tool": {"word": "asked"}}});
    let folder = project(&daemon, "app", &more, compose);
    let tool = format!("{folder}/.devcontainer/tool");
    std::fs::create_dir(&tool).unwrap();
    let metadata = json!({
        "id": "tool", "version": "1.0.0", "name": "tool",
        "options": {"word": {"type": "string", "default": "none"}},
        "containerEnv": {"OF_FEATURE": "set"},
        "postCreateCommand": "echo hook > /tmp/hook",
    });
    let write = |name: &str, text: &str| std::fs::write(format!("{tool}/{name}"), text).unwrap();
    write("devcontainer-feature.json", &metadata.to_string());
    write("install.sh", "#!/bin/sh\necho \"$WORD\" > /installed\n");
    daemon.cli(&["up", &folder, "--detach"]).ok();
    // `waitFor` waits for no postCreateCommand.
    wait::until("the Feature's hook", || {
        (daemon.sh("app", "test -s /tmp/hook").code == 0).then_some(())
    });
    assert_eq!(
        daemon
            .sh("app", "cat /installed /tmp/hook; echo $OF_FEATURE")
            .ok(),
        "asked\nhook\nset\n"
    );
    wait::until("the other service to have looked", || {
        let said = daemon.sh("app", "cat /shared/side").stdout;
        said.contains("No such file").then_some(())
    });
    let read = [
        "devcontainer",
        "read-configuration",
        "--workspace-folder",
        &folder,
        "--include-merged-configuration",
    ];
    let told: Value = serde_json::from_str(daemon.cli(&read).ok().trim()).unwrap();
    let hooks = &told["mergedConfiguration"]["postCreateCommands"];
    assert_eq!(*hooks, json!(["echo hook > /tmp/hook"]), "{told}");
}

/// A distribution's own server, as it is packaged: its user, its folder, its data.
#[test]
fn a_real_database_is_reached_by_name_keeps_its_data_and_is_no_neighbours() {
    let daemon = Daemon::start();
    let mut bootstrap = vec!["image", "bootstrap", "debian:bookworm"];
    bootstrap.extend(["--include", "redis"]);
    daemon.cli(&bootstrap).ok();
    let compose = "
services:
  app:
    image: debian:bookworm
    command: sleep infinity
    depends_on: {db: {condition: service_healthy}}
  db:
    image: debian:bookworm
    user: redis
    command: redis-server --bind 0.0.0.0 --protected-mode no --dir /var/lib/redis --appendonly yes
    volumes: [data:/var/lib/redis]
    healthcheck: {test: [CMD, redis-cli, ping], interval: 1s, start_interval: 200ms, start_period: 20s}
    restart: unless-stopped
volumes: {data: }
";
    let folder = project(&daemon, "app", &json!({}), compose);
    daemon.cli(&["up", &folder, "--detach"]).ok();
    assert_eq!(
        daemon.sh("app", "redis-cli -h db set answer 42").ok(),
        "OK\n"
    );
    assert_eq!(service(&daemon, "app", "db")["health"], "Healthy");
    daemon.cli(&["stop", "app"]).ok();
    daemon.cli(&["start", "app"]).ok();
    assert_eq!(daemon.sh("app", "redis-cli -h db get answer").ok(), "42\n");
    let address = daemon.sh("app", "getent hosts db | cut -d' ' -f1").ok();
    let address = address.trim();

    // A neighbour knows no such name and has no way to the address.
    let other = daemon.project("other", r#"{"image": "debian:bookworm"}"#);
    daemon.cli(&["up", &other, "--detach"]).ok();
    let ask = format!(
        "timeout 3 redis-cli -h {address} get answer; timeout 3 redis-cli -h db get answer"
    );
    let asked = daemon.sh("other", &ask);
    assert!(!asked.stdout.contains("42") && asked.code != 0, "{asked:?}");
    assert_eq!(
        daemon
            .sh("app", &format!("redis-cli -h {address} get answer"))
            .ok(),
        "42\n"
    );
}

#[test]
fn volumes_begin_with_what_the_image_has_and_limits_of_processes_act() {
    let daemon = Daemon::start();
    daemon.import_image();
    let compose = r#"
services:
  app:
    build:
      context: .
      dockerfile_inline: |
        FROM test:latest
        RUN mkdir -p /data/sub/short && echo seeded > /data/sub/file && touch /data/sub/short/file && chown -R 1000:1000 /data && chmod 750 /data
    command: sleep infinity
    volumes:
      - own:/data
      - {type: volume, source: none, target: /data/sub, volume: {nocopy: true}}
      - short:/data/sub/short:nocopy
    ulimits: {core: {soft: 0, hard: 0}}
  db:
    build:
      context: .
      dockerfile_inline: |
        FROM test:latest
        RUN mkdir /store && echo of the database > /store/file
    command: sh -c 'cat /proc/self/limits > /store/limits; echo written >> /store/file; exec sleep 100000'
    volumes: [store:/store]
    ulimits: {nproc: 321, stack: {soft: 4194304, hard: 8388608}}
  other:
    image: test:latest
    command: sleep 100000
    volumes: [store:/store, whole:/data]
volumes: {own: , none: , short: , store: , whole: }
"#;
    let more = json!({ "remoteUser": "root" });
    let folder = project(&daemon, "app", &more, compose);
    daemon.cli(&["up", &folder, "--detach"]).ok();
    // With owners and modes; nothing where that is not wanted, and where the image has nothing.
    let script = "stat -c '%u:%g %a' /data; ls -A /data /data/sub /data/sub/short";
    let seen = daemon.sh("app", script).ok();
    let wanted = "1000:1000 750\n/data:\nsub\n\n/data/sub:\nshort\n\n/data/sub/short:\n";
    assert_eq!(seen, wanted);
    let limits = daemon.sh("app", "ulimit -c").ok();
    assert_eq!(limits, "0\n");
    let volumes = daemon.state().join("volumes/default");
    let volume = |suffix: &str| {
        let entries = std::fs::read_dir(&volumes).unwrap().flatten();
        let found = entries
            .map(|entry| entry.path())
            .find(|path| path.to_string_lossy().ends_with(suffix));
        found.unwrap_or_else(|| panic!("no volume {suffix} in {}", volumes.display()))
    };
    let file = volume("_store").join("file");
    wait::until("what the database writes", || {
        let text = std::fs::read_to_string(&file).unwrap();
        (text == "of the database\nwritten\n").then_some(())
    });
    let text = std::fs::read_to_string(volume("_store").join("limits")).unwrap();
    let line = |name: &str| {
        let line = text.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    assert!(line("Max processes").contains("321 321"), "{text}");
    assert!(line("Max stack size").contains("4194304 8388608"), "{text}");
    assert_eq!(std::fs::read_dir(volume("_whole")).unwrap().count(), 0);
    // What is in it stays: nothing is copied over it again.
    daemon.cli(&["restart", "app"]).ok();
    wait::until("the database again", || {
        let text = std::fs::read_to_string(&file).unwrap();
        (text == "of the database\nwritten\nwritten\n").then_some(())
    });
}

#[test]
fn a_limit_of_the_processors_time_ends_the_process_and_not_the_environment() {
    let daemon = Daemon::start();
    daemon.import_image();
    let compose = "services:
  app:
    image: test:latest
    ulimits: {cpu: {soft: 1, hard: 2}, rttime: 5000}
  worker:
    image: test:latest
    command: [sh, -c, 'ulimit -t > /shared/limit; exec sleep 1000']
    ulimits: {cpu: 7}
    volumes: [shared:/shared]
volumes: {shared: {}}
";
    let compose = compose.replacen(
        "    ulimits: {cpu: {",
        "    volumes: [shared:/shared]\n    ulimits: {cpu: {",
        1,
    );
    let folder = project(&daemon, "app", &json!({}), &compose);
    daemon.cli(&["up", &folder, "--detach"]).ok();
    let limits = "ulimit -S -t; ulimit -H -t; grep 'realtime timeout' /proc/self/limits";
    let told = daemon.sh("app", limits).ok();
    let told: Vec<&str> = told.split_whitespace().collect();
    assert_eq!(
        told,
        "1 2 Max realtime timeout 5000 5000 us"
            .split(' ')
            .collect::<Vec<_>>()
    );
    let began = daemon.sh("app", "cut -d ' ' -f 22 /proc/1/stat").ok();
    // SIGXCPU after a second, SIGKILL after two for who takes no heed.
    assert_eq!(
        daemon.sh("app", "exec sh -c 'while :; do :; done'").code,
        128 + 24
    );
    let deaf = "exec sh -c 'trap \"\" XCPU; while :; do :; done'";
    assert_eq!(daemon.sh("app", deaf).code, 128 + 9);
    assert_eq!(
        daemon.sh("app", "cut -d ' ' -f 22 /proc/1/stat").ok(),
        began
    );
    let unlimited = daemon.sh("app", "grep 'cpu time' /proc/1/limits").ok();
    assert!(unlimited.contains("unlimited"), "{unlimited}");
    let of_worker = wait::until("the other service's", || {
        let ran = daemon.sh("app", "cat /shared/limit");
        (ran.code == 0 && !ran.stdout.is_empty()).then_some(ran.stdout)
    });
    assert_eq!(of_worker, "7\n");
}

#[test]
fn a_service_is_built_of_another_services_image() {
    let daemon = Daemon::start();
    daemon.import_image();
    let compose = r#"
services:
  app:
    build:
      context: .
      dockerfile_inline: |
        FROM base
        COPY --from=tools /tool /tool
      additional_contexts: {base: 'service:base', tools: 'service:tools'}
    command: sleep infinity
  base:
    profiles: [never]
    build:
      context: .
      dockerfile_inline: |
        FROM below
        RUN echo base >> /lines
      additional_contexts: {below: 'service:below'}
  below:
    profiles: [never]
    build: {context: ., dockerfile_inline: "FROM test:latest\nRUN echo below > /lines\n"}
  tools:
    profiles: [never]
    build: {context: ., dockerfile_inline: "FROM test:latest\nRUN echo tool > /tool\n"}
"#;
    let folder = project(&daemon, "app", &json!({}), compose);
    daemon.cli(&["up", &folder, "--detach"]).ok();
    let seen = daemon.sh("app", "cat /lines /tool").ok();
    assert_eq!(seen, "below\nbase\ntool\n");
    // What is only built does not run.
    assert_eq!(
        status(&daemon, "app")["services"].as_array().unwrap().len(),
        1
    );
    let circle = compose.replace(
        "FROM test:latest\\nRUN echo below",
        "FROM base\\nRUN echo below",
    );
    let circle = circle.replace(
        "build: {context: ., dockerfile_inline: \"FROM base",
        "build: {context: ., additional_contexts: {base: 'service:base'}, dockerfile_inline: \"FROM base",
    );
    assert_ne!(circle, compose);
    let folder = project(&daemon, "circle", &json!({}), &circle);
    let refused = daemon.cli(&["up", &folder, "--detach"]);
    assert!(
        refused.stderr.contains("contexts of each other"),
        "{refused:?}"
    );
}
