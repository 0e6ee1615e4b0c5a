//! Tables for [`next`].
#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn run() -> Want {
    Want::Running { restart: None }
}

/// Applies each action's effect until nothing is left to do; returns what was done.
fn drive(want: &Want, seen: &mut Seen) -> Vec<Action> {
    let mut done = Vec::new();
    loop {
        let action = next(want, seen, at(1000));
        match &action {
            Action::Allocate => (seen.allocated, seen.on_disk) = (true, true),
            Action::FetchSource => seen.source = true,
            Action::Configure => seen.configured = true,
            Action::FetchImage => seen.image = true,
            Action::Resolve => seen.resolved = true,
            Action::StartSandbox => seen.sandbox = SandboxSeen::Running { agent: false },
            Action::AwaitAgent => seen.sandbox = SandboxSeen::Running { agent: true },
            Action::RaiseServices => seen.services_left = false,
            Action::PrepareSession => seen.session = true,
            Action::RunHook(_) => drop(seen.hooks_left.remove(0)),
            Action::StopSandbox => seen.sandbox = SandboxSeen::Ended,
            Action::CleanSandbox => (seen.sandbox, seen.session) = (SandboxSeen::Absent, false),
            Action::Forget => {
                seen.failure = None;
                if let Want::Running { restart } = want {
                    seen.restarted_at.clone_from(restart);
                }
            }
            Action::Remove => *seen = Seen::default(),
            Action::Release | Action::WaitUntil(_) | Action::Idle => {
                done.push(action);
                return done;
            }
        }
        done.push(action);
        assert!(done.len() < 40, "no end: {done:?}");
    }
}

fn running() -> Seen {
    Seen {
        allocated: true,
        source: true,
        configured: true,
        image: true,
        resolved: true,
        sandbox: SandboxSeen::Running { agent: true },
        session: true,
        on_disk: true,
        ..Seen::default()
    }
}

#[test]
fn services_are_raised_before_anything_runs_inside() {
    let mut seen = Seen {
        services_left: true,
        session: false,
        hooks_left: vec![Hook::PostStart],
        ..running()
    };
    assert_eq!(
        drive(&run(), &mut seen),
        [
            Action::RaiseServices,
            Action::PrepareSession,
            Action::RunHook(Hook::PostStart),
            Action::Idle
        ]
    );
    // Services of an environment that is to stop are the stop's business.
    let mut seen = Seen {
        services_left: true,
        ..running()
    };
    assert_eq!(
        drive(&Want::Stopped, &mut seen),
        [Action::StopSandbox, Action::CleanSandbox, Action::Idle]
    );
}

#[test]
fn first_start_does_every_step_in_order() {
    let mut seen = Seen {
        hooks_left: vec![Hook::OnCreate, Hook::PostStart],
        ..Seen::default()
    };
    assert_eq!(
        drive(&run(), &mut seen),
        [
            Action::Allocate,
            Action::FetchSource,
            Action::Configure,
            Action::FetchImage,
            Action::Resolve,
            Action::StartSandbox,
            Action::AwaitAgent,
            Action::PrepareSession,
            Action::RunHook(Hook::OnCreate),
            Action::RunHook(Hook::PostStart),
            Action::Idle,
        ]
    );
}

#[test]
fn adopts_a_running_sandbox_without_touching_it() {
    assert_eq!(drive(&run(), &mut running()), [Action::Idle]);
}

#[test]
fn an_ended_sandbox_is_cleaned_and_started_again() {
    let mut seen = Seen {
        sandbox: SandboxSeen::Ended,
        session: false,
        ..running()
    };
    assert_eq!(
        drive(&run(), &mut seen),
        [
            Action::CleanSandbox,
            Action::StartSandbox,
            Action::AwaitAgent,
            Action::PrepareSession,
            Action::Idle
        ]
    );
}

#[test]
fn stop_keeps_what_is_on_disk() {
    let mut seen = running();
    assert_eq!(
        drive(&Want::Stopped, &mut seen),
        [Action::StopSandbox, Action::CleanSandbox, Action::Idle]
    );
    assert!(seen.on_disk && seen.resolved);
}

#[test]
fn gone_removes_from_any_state() {
    let every = [
        Seen::default(),
        Seen {
            on_disk: true,
            ..Seen::default()
        },
        Seen {
            allocated: true,
            on_disk: true,
            ..Seen::default()
        },
        running(),
        Seen {
            sandbox: SandboxSeen::Ended,
            ..running()
        },
        Seen {
            failure: Some(Failure {
                at: at(0),
                count: 1,
                transient: false,
                hook: false,
            }),
            ..running()
        },
    ];
    for mut seen in every {
        let done = drive(&Want::Gone, &mut seen);
        assert_eq!(done.last(), Some(&Action::Release));
        assert_eq!(seen, Seen::default());
    }
}

#[test]
fn a_lasting_failure_waits_for_a_change_and_restart_clears_it() {
    let mut seen = running();
    seen.sandbox = SandboxSeen::Absent;
    seen.configured = false;
    seen.failure = Some(Failure {
        at: at(0),
        count: 1,
        transient: false,
        hook: false,
    });
    assert_eq!(next(&run(), &seen, at(1_000_000)), Action::Idle);
    let want = Want::Running {
        restart: Some("t1".into()),
    };
    assert_eq!(
        drive(&want, &mut seen)[..2],
        [Action::Forget, Action::Configure]
    );
}

#[test]
fn a_failed_hook_leaves_the_sandbox_running() {
    let mut seen = running();
    seen.hooks_left = vec![Hook::PostCreate];
    seen.failure = Some(Failure {
        at: at(0),
        count: 1,
        transient: false,
        hook: true,
    });
    assert_eq!(next(&run(), &seen, at(5)), Action::Idle);
    // What dies after that is started again, and the hook tried again.
    seen.sandbox = SandboxSeen::Ended;
    assert_eq!(next(&run(), &seen, at(5)), Action::CleanSandbox);
}

#[test]
fn a_transient_failure_is_retried_after_a_growing_pause() {
    let mut seen = Seen {
        allocated: true,
        source: true,
        configured: true,
        ..Seen::default()
    };
    for (count, pause) in [(1, 2), (2, 4), (3, 8), (20, 300)] {
        seen.failure = Some(Failure {
            at: at(100),
            count,
            transient: true,
            hook: false,
        });
        assert_eq!(
            next(&run(), &seen, at(100)),
            Action::WaitUntil(at(100 + pause))
        );
        assert_eq!(next(&run(), &seen, at(100 + pause)), Action::FetchImage);
    }
}

#[test]
fn restart_stops_once_and_starts_again() {
    let want = Want::Running {
        restart: Some("t1".into()),
    };
    let mut seen = running();
    let done = drive(&want, &mut seen);
    assert_eq!(
        done[..4],
        [
            Action::StopSandbox,
            Action::CleanSandbox,
            Action::Forget,
            Action::StartSandbox
        ]
    );
    assert_eq!(drive(&want, &mut seen), [Action::Idle]);
}
