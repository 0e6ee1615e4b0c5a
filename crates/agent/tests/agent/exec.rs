//! Processes with pipes.

use crate::harness::{Agent, command, is_root, sh, skipped, until, wait_for, wait_for_file};
use boatyard_wire::{Class, Control, Process, Reply, Request, SessionDefaults};
use std::collections::BTreeMap;
use std::io::Write as _;

#[test]
fn output_error_and_code_come_back_apart() {
    let agent = Agent::start();
    let outcome = agent.sh("echo out; echo err >&2; exit 7");
    assert_eq!(outcome.text(), "out\n");
    assert_eq!(outcome.stderr, b"err\n");
    assert_eq!(
        outcome.last,
        Reply::Exit {
            code: 7,
            signal: None
        }
    );
    assert!(outcome.pid.unwrap() > 1);
}

#[test]
fn death_by_signal_is_told_as_a_shell_does() {
    let agent = Agent::start();
    let outcome = agent.sh("kill -9 $$");
    assert_eq!(
        outcome.last,
        Reply::Exit {
            code: 137,
            signal: Some(9)
        }
    );
}

#[test]
fn programs_that_cannot_run_give_126_and_127() {
    let agent = Agent::start();
    let missing = agent.exec(command(&["no-such-program"])).finish();
    assert!(missing.refused("notFound").contains("no-such-program"));
    assert_eq!((missing.code(), missing.pid), (127, None));
    let missing = agent.exec(command(&["/no/such/program"])).finish();
    assert_eq!(missing.code(), 127);
    assert_eq!(agent.exec(command(&[""])).finish().code(), 127);
    let file = agent.path("plain");
    std::fs::write(&file, "").unwrap();
    let plain = agent.exec(command(&[file.to_str().unwrap()])).finish();
    plain.refused("permissionDenied");
    assert_eq!(plain.code(), 126);
    assert_eq!(agent.exec(command(&["/etc"])).finish().code(), 126);

    let script = agent.path("script");
    std::fs::write(&script, "#!/no/such/interpreter\n").unwrap();
    agent.sh(&format!("chmod +x {}", script.display()));
    let outcome = agent.exec(command(&[script.to_str().unwrap()])).finish();
    assert!(outcome.refused("notFound").contains("interpreter"));
}

#[test]
fn missing_directory_is_named() {
    let agent = Agent::start();
    let outcome = agent
        .exec(Process {
            cwd: Some("/no/where".into()),
            ..sh("true")
        })
        .finish();
    assert!(outcome.refused("badRequest").contains("/no/where"));
    let outcome = agent
        .exec(Process {
            cwd: Some("tmp".into()),
            ..sh("true")
        })
        .finish();
    outcome.refused("badRequest");
    let outcome = agent
        .exec(Process {
            cwd: Some("/usr".into()),
            ..sh("pwd")
        })
        .finish();
    assert_eq!(outcome.text(), "/usr\n");
}

#[test]
fn ten_mebibytes_pass_through_unchanged() {
    let agent = Agent::start();
    let mut call = agent.exec(Process {
        stdin: true,
        ..command(&["cat"])
    });
    let bytes: Vec<u8> = (0..10 * 1024 * 1024_u32)
        .map(|index| u8::try_from((index.wrapping_mul(2_654_435_761) >> 13) & 0xff).unwrap())
        .collect();
    let mut writer = crate::harness::Call {
        stream: call.stream.try_clone().unwrap(),
    };
    let sent = bytes.clone();
    let thread = std::thread::spawn(move || {
        for piece in sent.chunks(50_000) {
            writer.stdin(piece);
        }
        writer.stdin(b"");
    });
    call.started();
    let outcome = call.finish();
    thread.join().unwrap();
    assert!(
        outcome.stdout == bytes,
        "{} of {} bytes",
        outcome.stdout.len(),
        bytes.len()
    );
    assert_eq!(outcome.code(), 0);
}

#[test]
fn closing_input_leaves_output_open() {
    let agent = Agent::start();
    let mut call = agent.exec(Process {
        stdin: true,
        ..sh("wc -c; echo after")
    });
    call.stdin(b"12345");
    call.stdin(b"");
    assert_eq!(call.finish().text(), "5\nafter\n");
}

#[test]
fn without_input_the_process_reads_nothing() {
    let agent = Agent::start();
    let mut call = agent.exec(command(&["cat"]));
    call.stdin(b"dropped");
    let outcome = call.finish();
    assert_eq!((outcome.text(), outcome.code()), ("", 0));
}

#[test]
fn input_after_the_reader_ended_is_dropped() {
    let agent = Agent::start();
    let go = agent.path("go");
    let script = format!("exec 0<&-; echo closed; {}; exit 3", until(&go));
    let mut call = agent.exec(Process {
        stdin: true,
        ..sh(&script)
    });
    call.started();
    call.read_until("closed");
    for _ in 0..50 {
        call.stdin(&[0; 10_000]);
    }
    std::fs::write(go, "").unwrap();
    assert_eq!(call.finish().code(), 3);
}

#[test]
fn signals_reach_the_whole_group() {
    let agent = Agent::start();
    let mut call = agent.exec(sh(
        "trap 'echo outer; wait; exit 9' USR1; \
        sh -c 'trap \"echo inner; exit 0\" USR1; echo ready; while :; do sleep 0.05; done' & wait",
    ));
    call.started();
    call.read_until("ready");
    call.control(Control::Signal { signal: 10 });
    let outcome = call.finish();
    assert!(
        outcome.text().contains("outer") && outcome.text().contains("inner"),
        "{outcome:?}"
    );
    assert_eq!(outcome.code(), 9);
}

#[test]
fn environment_is_the_agents_the_users_and_the_callers() {
    let agent = Agent::start();
    let env = BTreeMap::from([
        ("ADDED".to_owned(), Some("two words=x".to_owned())),
        ("LOGNAME".to_owned(), None),
    ]);
    let script = "echo \"$BASE|$ADDED|$HOME|$USER|${LOGNAME-none}|${TERM-none}\"";
    let outcome = agent.exec(Process { env, ..sh(script) }).finish();
    assert_eq!(
        outcome.text(),
        "from the agent|two words=x|/root|root|none|none\n"
    );

    let bin = agent.path("bin");
    std::fs::create_dir(&bin).unwrap();
    std::fs::write(bin.join("only-here"), "#!/bin/sh\necho found\n").unwrap();
    agent.sh(&format!("chmod +x {}/only-here", bin.display()));
    let env = BTreeMap::from([(
        "PATH".to_owned(),
        Some(format!("/nowhere:{}:/bin", bin.display())),
    )]);
    let outcome = agent
        .exec(Process {
            env,
            ..command(&["only-here"])
        })
        .finish();
    assert_eq!(outcome.text(), "found\n");

    let env = BTreeMap::from([("A=B".to_owned(), Some(String::new()))]);
    agent
        .exec(Process { env, ..sh("true") })
        .finish()
        .refused("badRequest");
    agent
        .exec(command(&["echo", "a\0b"]))
        .finish()
        .refused("badRequest");
}

#[test]
fn nothing_of_the_agent_leaks_into_processes() {
    let agent = Agent::start();
    // Beside the three: the directory being listed.
    let outcome = agent.exec(command(&["ls", "/proc/self/fd"])).finish();
    assert_eq!(outcome.text(), "0\n1\n2\n3\n");
    let outcome = agent.sh("grep -E '^(SigBlk|SigIgn)' /proc/self/status");
    for line in outcome.text().lines() {
        let mask = line.split_whitespace().last().unwrap();
        // Signals 32 and 33 belong to the C library and are as the test's own parent left them.
        let mask = u64::from_str_radix(mask, 16).unwrap() & 0x7fff_ffff;
        assert_eq!(mask, 0, "{line}");
    }
}

const USERS: &str = "\
    printf 'root:x:0:0:root:/root:/bin/bash\\ndev:x:1234:1235:dev:/tmp:/bin/sh\\n' > /run/passwd\n\
    printf 'root:x:0:\\ndev:x:1235:\\nextra:x:4000:dev\\nlone:x:4001:\\n' > /run/group\n\
    mount --bind /run/passwd /etc/passwd\nmount --bind /run/group /etc/group\n";

#[test]
fn users_come_with_their_groups() {
    if !is_root() {
        return skipped("switching users needs root");
    }
    let agent = Agent::start_after(&format!("mount -t tmpfs none /run\n{USERS}"));
    let run = |user: &str| {
        let script = "echo $(id -u):$(id -g):$(id -G):$HOME:$USER:$PWD";
        agent
            .exec(Process {
                user: Some(user.into()),
                ..sh(script)
            })
            .finish()
    };
    assert_eq!(run("dev").text(), "1234:1235:1235 4000:/tmp:dev:/tmp\n");
    assert_eq!(run("1234").text(), "1234:1235:1235 4000:/tmp:dev:/tmp\n");
    assert_eq!(run("dev:lone").text(), "1234:4001:4001:/tmp:dev:/tmp\n");
    assert_eq!(run("77:88").text(), "77:88:88:/:77:/\n");
    assert!(run("stranger").refused("unknownUser").contains("stranger"));
    let shut = Process {
        user: Some("dev".into()),
        cwd: Some("/root".into()),
        ..sh("true")
    };
    agent.exec(shut).finish().refused("permissionDenied");
    let login = agent.exec(Process {
        user: Some("dev".into()),
        stdin: true,
        ..Process::default()
    });
    let mut login = login;
    login.stdin(b"echo $0 $(grep Cap /proc/self/status | sort -u -k2 | wc -l); exit\n");
    assert!(login.finish().text().starts_with("-sh "));
}

#[test]
fn session_defaults_lie_beneath_the_call() {
    if !is_root() {
        return skipped("switching users needs root");
    }
    let agent = Agent::start_after(&format!("mount -t tmpfs none /run\n{USERS}"));
    let env = |pairs: &[(&str, &str)]| {
        let pairs = pairs
            .iter()
            .map(|(name, value)| (String::from(*name), Some(String::from(*value))));
        pairs.collect::<BTreeMap<_, _>>()
    };
    let defaults = SessionDefaults {
        user: Some("dev".into()),
        cwd: Some("/usr".into()),
        env: env(&[("A", "default"), ("B", "default")]),
    };
    assert_eq!(
        agent.ask(&Request::Defaults(defaults)).finish().last,
        Reply::Done
    );
    let script = "echo $USER $PWD $A $B";
    let outcome = agent
        .exec(Process {
            env: env(&[("B", "own")]),
            ..sh(script)
        })
        .finish();
    assert_eq!(outcome.text(), "dev /usr default own\n");
    let own = Process {
        user: Some("root".into()),
        cwd: Some("/".into()),
        ..sh(script)
    };
    assert_eq!(agent.exec(own).finish().text(), "root / default default\n");
    let task = Request::Task {
        name: "plain".into(),
        run: 0,
        process: sh(script),
    };
    assert_eq!(agent.ask(&task).finish().text(), "root /root\n");
}

#[test]
fn caller_that_goes_hangs_its_process_up() {
    let agent = Agent::start();
    let file = agent.path("hup");
    // Its pipes break with the call, as under sshd: a shell that reports its child there dies of it.
    let mut call = agent.exec(sh(&format!(
        "trap 'echo hung up > {}; exit' HUP; echo ready; exec >/dev/null 2>&1; while :; do sleep 0.05; done",
        file.display()
    )));
    call.started();
    call.read_until("ready");
    drop(call);
    assert_eq!(wait_for_file(&file), "hung up\n");
}

#[test]
fn process_that_ignores_the_hang_up_is_killed() {
    let agent = Agent::start();
    let mut call = agent.exec(sh(
        "trap '' HUP TERM; echo ready; while :; do sleep 0.05; done",
    ));
    let pid = call.started();
    call.read_until("ready");
    drop(call);
    agent.until_ended(pid);
}

#[test]
fn background_process_does_not_hold_the_call() {
    let agent = Agent::start();
    let outcome = agent.sh("sleep 1000 & echo main");
    assert_eq!((outcome.text(), outcome.code()), ("main\n", 0));
    // It lives on, in the environment's care.
    wait_for(|| (agent.sh("pidof sleep >/dev/null").code() == 0).then_some(()));
}

#[test]
fn output_before_the_end_is_never_lost() {
    let agent = Agent::start();
    for _ in 0..20 {
        let outcome = agent.sh("head -c 60000 /dev/zero; sleep 1000 >&2 & exit 4");
        assert_eq!((outcome.stdout.len(), outcome.code()), (60_000, 4));
    }
}

#[test]
fn classes_choose_the_cgroup_and_the_victim() {
    let agent = Agent::start_after(
        "mount -t tmpfs none /sys/fs/cgroup\nmkdir -p /sys/fs/cgroup/cpu/builds /sys/fs/cgroup/sessions\n\
         : > /sys/fs/cgroup/cpu/builds/tasks\n: > /sys/fs/cgroup/sessions/cgroup.procs\n",
    );
    let script = "cat /proc/self/oom_score_adj /sys/fs/cgroup/cpu/builds/tasks; \
        echo -; cat /sys/fs/cgroup/sessions/cgroup.procs";
    let builds = agent
        .exec(Process {
            class: Class::Builds,
            ..sh(script)
        })
        .finish();
    assert_eq!(builds.text(), "300\n0-\n");
    assert_eq!(agent.sh(script).text(), "100\n0-\n0");
}

#[test]
fn half_a_request_is_waited_for() {
    let agent = Agent::start();
    let request = serde_json::to_vec(&Request::Exec(sh("echo whole"))).unwrap();
    let mut bytes = Vec::new();
    boatyard_wire::frame::encode(boatyard_wire::frame::Kind::Request, &request, &mut bytes)
        .unwrap();
    let mut call = agent.connect();
    for piece in bytes.chunks(7) {
        call.stream.write_all(piece).unwrap();
        call.stream.flush().unwrap();
    }
    assert_eq!(call.finish().text(), "whole\n");
}
