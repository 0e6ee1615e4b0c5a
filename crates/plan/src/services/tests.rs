//! Tables: what is seen, and what follows.
#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_000_000 + seconds).unwrap()
}

fn seconds(count: i64) -> SignedDuration {
    SignedDuration::from_secs(count)
}

fn check() -> Check {
    Check {
        interval: seconds(30),
        start_interval: seconds(5),
        start_period: seconds(60),
        retries: 3,
    }
}

/// `name:condition,…` of what a service depends on; `?` behind it for what is optional.
fn service(depends: &str) -> Service {
    let one = |text: &str| {
        let (name, condition) = text.trim_end_matches('?').split_once(':').unwrap();
        let condition = match condition {
            "started" => Condition::Started,
            "healthy" => Condition::Healthy,
            _ => Condition::Completed,
        };
        let required = !text.ends_with('?');
        (
            name.to_owned(),
            Dependency {
                condition,
                required,
            },
        )
    };
    let depends = depends.split(',').filter(|text| !text.is_empty()).map(one);
    Service {
        depends_on: depends.collect(),
        command: true,
        ..Service::default()
    }
}

fn running() -> Seen {
    Seen {
        sandbox: true,
        runs: 1,
        since: Some(at(0)),
        ..Seen::default()
    }
}

fn ended(code: i32) -> Seen {
    Seen {
        exit: Some(code),
        ..running()
    }
}

fn healthy(state: HealthState) -> Seen {
    Seen {
        health: Health {
            state,
            failures: 0,
            checked: Some(at(0)),
        },
        ..running()
    }
}

type Named<'a, T> = &'a [(&'a str, T)];

fn decide(services: Named<'_, Service>, seen: Named<'_, Seen>, now: i64) -> Decision {
    let named = |(name, service): &(&str, Service)| ((*name).to_owned(), service.clone());
    let seen = seen
        .iter()
        .map(|(name, seen)| ((*name).to_owned(), seen.clone()));
    next(
        &services.iter().map(named).collect(),
        &seen.collect(),
        at(now),
    )
}

/// What is done for `app`, which depends on `db`.
fn app(depends: &str, db: Service, seen: Seen) -> Result<Option<Action>, String> {
    let decision = decide(&[("app", service(depends)), ("db", db)], &[("db", seen)], 1);
    match decision.blocked.get("app") {
        Some(why) => Err(why.clone()),
        None => Ok(decision.actions.get("app").copied()),
    }
}

#[test]
fn a_service_starts_when_what_it_depends_on_holds() {
    let checked = || Service {
        check: Some(check()),
        ..service("")
    };
    let restarting = |restart| Service {
        restart,
        ..service("")
    };
    let start = Ok(Some(Action::StartSandbox));
    let no = |why: &str| Err(why.to_owned());
    let table = [
        ("db:started", service(""), Seen::default(), Ok(None)),
        (
            "db:started",
            service(""),
            Seen {
                sandbox: true,
                ..Seen::default()
            },
            Ok(None),
        ),
        ("db:started", service(""), running(), start.clone()),
        ("db:started", service(""), ended(1), start.clone()),
        ("db:healthy", checked(), running(), Ok(None)),
        (
            "db:healthy",
            checked(),
            healthy(HealthState::Healthy),
            start.clone(),
        ),
        (
            "db:healthy",
            checked(),
            healthy(HealthState::Unhealthy),
            no("db is unhealthy"),
        ),
        (
            "db:healthy?",
            checked(),
            healthy(HealthState::Unhealthy),
            start.clone(),
        ),
        (
            "db:healthy",
            checked(),
            ended(3),
            no("db ended with exit code 3"),
        ),
        (
            "db:healthy",
            Service {
                restart: Restart::Always,
                ..checked()
            },
            ended(3),
            Ok(None),
        ),
        (
            "db:healthy",
            service(""),
            running(),
            no("db has no healthcheck, so that nobody can wait until it is healthy"),
        ),
        ("db:completed", service(""), running(), Ok(None)),
        ("db:completed", service(""), ended(0), start.clone()),
        (
            "db:completed",
            service(""),
            ended(2),
            no("db ended with exit code 2"),
        ),
        ("db:completed?", service(""), ended(2), start.clone()),
        (
            "db:completed",
            restarting(Restart::OnFailure(Some(1))),
            ended(2),
            Ok(None),
        ),
        (
            "db:completed",
            restarting(Restart::OnFailure(None)),
            ended(0),
            start,
        ),
    ];
    for (depends, db, seen, expected) in table {
        assert_eq!(
            app(depends, db.clone(), seen.clone()),
            expected,
            "{depends} {db:?} {seen:?}"
        );
    }
}

#[test]
fn independent_services_start_side_by_side_and_are_ready_when_all_run() {
    let services = [
        ("a", service("")),
        ("b", service("")),
        ("c", service("a:started,b:completed")),
    ];
    let first = decide(&services, &[], 0);
    assert_eq!(first.actions.len(), 2);
    assert!(!first.ready);
    let started = Seen {
        sandbox: true,
        ..Seen::default()
    };
    let second = decide(&services, &[("a", started), ("b", running())], 0);
    assert_eq!(
        second.actions,
        BTreeMap::from([("a".to_owned(), Action::Run(1))])
    );
    let third = decide(
        &services,
        &[("a", running()), ("b", ended(0)), ("c", running())],
        0,
    );
    assert!(third.ready && third.actions.is_empty());
    let never = decide(&services, &[("a", running()), ("b", ended(1))], 0);
    assert!(!never.ready);
    assert_eq!(never.blocked["c"], "b ended with exit code 1");
}

#[test]
fn the_environment_itself_is_started_by_others_and_may_have_no_command() {
    let main = Service {
        main: true,
        command: false,
        ..service("db:started")
    };
    let services = [("app", main), ("db", service(""))];
    let decision = decide(&services, &[("db", running())], 0);
    assert!(decision.actions.is_empty() && !decision.ready);
    let up = Seen {
        sandbox: true,
        ..Seen::default()
    };
    let waiting = decide(&services, &[("app", up.clone()), ("db", up.clone())], 0);
    assert!(!waiting.ready);
    let decision = decide(&services, &[("app", up), ("db", running())], 0);
    assert!(decision.ready && decision.actions.is_empty());
}

#[test]
fn what_ends_is_started_again_by_its_policy_with_growing_pauses() {
    let once = |restart, seen: Seen, now| {
        let decision = decide(
            &[(
                "a",
                Service {
                    restart,
                    ..service("")
                },
            )],
            &[("a", seen)],
            now,
        );
        (decision.actions.get("a").copied(), decision.due)
    };
    let ended_after = |runs, code| Seen {
        runs,
        ..ended(code)
    };
    assert_eq!(once(Restart::No, ended(1), 9), (None, None));
    assert_eq!(
        once(Restart::Always, ended(0), 9),
        (Some(Action::Run(2)), None)
    );
    assert_eq!(once(Restart::OnFailure(None), ended(0), 9), (None, None));
    assert_eq!(
        once(Restart::OnFailure(None), ended(1), 9),
        (Some(Action::Run(2)), None)
    );
    assert_eq!(
        once(Restart::OnFailure(Some(2)), ended_after(2, 1), 9),
        (Some(Action::Run(3)), None)
    );
    assert_eq!(
        once(Restart::OnFailure(Some(2)), ended_after(3, 1), 9),
        (None, None)
    );
    // The sixth run follows 1.6 s after the fifth began, the hundredth a minute.
    let due = at(0)
        .saturating_add(SignedDuration::from_millis(1600))
        .unwrap();
    assert_eq!(
        once(Restart::Always, ended_after(5, 1), 1),
        (None, Some(due))
    );
    assert_eq!(
        once(Restart::Always, ended_after(99, 1), 1),
        (None, Some(at(60)))
    );
}

#[test]
fn a_sandbox_that_could_not_start_is_tried_again_after_a_pause() {
    let failed = Seen {
        failed: Some(at(0)),
        ..Seen::default()
    };
    let decision = decide(&[("a", service(""))], &[("a", failed.clone())], 1);
    assert_eq!((decision.actions.len(), decision.due), (0, Some(at(2))));
    let decision = decide(&[("a", service(""))], &[("a", failed)], 2);
    assert_eq!(decision.actions["a"], Action::StartSandbox);
}

#[test]
fn checks_are_due_by_their_intervals() {
    let due = |seen: Seen, now| {
        let checked = Service {
            check: Some(check()),
            ..service("")
        };
        let decision = decide(&[("a", checked)], &[("a", seen)], now);
        decision.due.unwrap_or(at(now))
    };
    // Frequent while it starts, then by the interval.
    assert_eq!(due(running(), 0), at(5));
    assert_eq!(due(running(), 7), at(7));
    assert_eq!(due(healthy(HealthState::Healthy), 7), at(30));
    let late = Seen {
        health: Health {
            checked: Some(at(61)),
            ..Health::default()
        },
        ..running()
    };
    assert_eq!(due(late, 61), at(91));
}

#[test]
fn health_follows_the_results_of_checks() {
    let check = check();
    let mut health = Health::default();
    // In the start period failures do not count.
    for now in [5, 10, 15, 20] {
        health = health.after(&check, at(0), false, at(now));
        assert_eq!((health.state, health.failures), (HealthState::Starting, 0));
    }
    health = health.after(&check, at(0), true, at(25));
    assert_eq!(health.state, HealthState::Healthy);
    // Once healthy they do, in the start period too.
    for (now, state) in [
        (30, HealthState::Healthy),
        (35, HealthState::Healthy),
        (40, HealthState::Unhealthy),
    ] {
        health = health.after(&check, at(0), false, at(now));
        assert_eq!(health.state, state);
    }
    health = health.after(&check, at(0), true, at(45));
    assert_eq!(
        (health.state, health.failures, health.checked),
        (HealthState::Healthy, 0, Some(at(45)))
    );
}
