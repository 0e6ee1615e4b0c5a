//! Small stories of jobs, and quotas by table.
#![allow(clippy::unwrap_used, reason = "tests")]

use super::{Account, Class, Demand, Jobs, Move, Process, Sample, caps, differs};
use std::time::Duration;

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// An environment whose processes do what they are told and go where they are sent.
struct World {
    now: u64,
    processes: Vec<Process>,
    used: [Duration; 4],
    jobs: Jobs,
    moved: Vec<(u64, u32, Class)>,
}

const AGENT: u32 = 1;
const SHELL: u32 = 10;

impl World {
    /// The agent and an interactive shell with a terminal, an hour old.
    fn new() -> Self {
        let mut world = Self {
            now: 3_600_000,
            processes: Vec::new(),
            used: [Duration::ZERO; 4],
            jobs: Jobs::default(),
            moved: Vec::new(),
        };
        world.start(AGENT, 0, (AGENT, AGENT), false, Class::Agent);
        world.start(SHELL, AGENT, (SHELL, SHELL), true, Class::Sessions);
        for process in &mut world.processes {
            process.started = ms(1000 + u64::from(process.pid));
        }
        world.look();
        world
    }

    fn start(
        &mut self,
        pid: u32,
        parent: u32,
        (session, group): (u32, u32),
        terminal: bool,
        class: Class,
    ) {
        self.processes.push(Process {
            pid,
            parent,
            group,
            session,
            terminal,
            used: Duration::ZERO,
            used_by_ended: Duration::ZERO,
            started: ms(self.now),
            class,
        });
    }

    /// A child in its parent's class, as the kernel does it.
    fn fork(&mut self, pid: u32, parent: u32, group: u32) {
        let of = *self.get(parent);
        self.start(pid, parent, (of.session, group), of.terminal, of.class);
    }

    fn get(&self, pid: u32) -> &Process {
        self.processes
            .iter()
            .find(|process| process.pid == pid)
            .unwrap()
    }

    fn burn(&mut self, pid: u32, millis: u64) {
        let process = self
            .processes
            .iter_mut()
            .find(|process| process.pid == pid)
            .unwrap();
        process.used += ms(millis);
        self.used[process.class as usize] += ms(millis);
    }

    /// Its parent waits for it.
    fn end(&mut self, pid: u32) {
        let gone = *self.get(pid);
        self.processes.retain(|process| process.pid != pid);
        if let Some(parent) = self
            .processes
            .iter_mut()
            .find(|process| process.pid == gone.parent)
        {
            parent.used_by_ended += gone.used + gone.used_by_ended;
        }
    }

    fn pass(&mut self, millis: u64) {
        self.now += millis;
    }

    fn look(&mut self) {
        self.look_at(&Class::ALL[..3]);
    }

    fn look_at(&mut self, classes: &[Class]) {
        let sample = Sample {
            now: ms(self.now),
            read: classes.to_vec(),
            processes: self
                .processes
                .iter()
                .filter(|process| classes.contains(&process.class))
                .copied()
                .collect(),
            used: self.used.map(Some),
        };
        for Move { pid, to } in self.jobs.observe(&sample) {
            self.moved.push((self.now, pid, to));
            let process = self
                .processes
                .iter_mut()
                .find(|process| process.pid == pid)
                .unwrap();
            assert_ne!(process.class, to, "{pid} is there already");
            process.class = to;
        }
    }

    fn class(&self, pid: u32) -> Class {
        self.get(pid).class
    }
}

#[test]
fn a_build_moves_with_its_parent_and_its_shell_stays() {
    let mut world = World::new();
    world.fork(20, SHELL, 20);
    world.fork(21, 20, 20);
    world.fork(22, 20, 20);
    for _ in 0..3 {
        world.pass(20);
        world.burn(21, 20);
        world.burn(22, 20);
        world.look();
    }
    for builder in [20, 21, 22] {
        assert_eq!(world.class(builder), Class::Builds, "{builder}");
    }
    assert_eq!(
        (world.class(SHELL), world.class(AGENT)),
        (Class::Sessions, Class::Agent)
    );
    assert!(
        world.moved.iter().all(|(when, ..)| *when <= 3_600_040),
        "{:?}",
        world.moved
    );
    // What it starts now is born there.
    world.fork(23, 20, 20);
    assert_eq!(world.class(23), Class::Builds);
}

#[test]
fn compilers_too_short_to_be_seen_count() {
    let mut world = World::new();
    world.fork(20, SHELL, 20);
    for round in 0..4 {
        world.pass(20);
        // Each has 4 ms and is gone, and so shows zero in hundredths of a second.
        world.used[Class::Sessions as usize] += ms(36);
        world.fork(100 + round, 20, 20);
        world.look();
        world.end(100 + round);
    }
    assert_eq!(world.class(20), Class::Builds, "{:?}", world.moved);
    assert_eq!(world.class(SHELL), Class::Sessions);
}

#[test]
fn typing_and_small_commands_stay() {
    let mut world = World::new();
    for round in 0..200 {
        world.pass(100);
        world.burn(SHELL, 2);
        world.fork(1000 + round, SHELL, 1000 + round);
        world.burn(1000 + round, 10);
        world.look_at(&[Class::Sessions]);
        world.end(1000 + round);
    }
    // An editor: one tenth of a processor now and then.
    world.fork(30, SHELL, 30);
    for _ in 0..100 {
        world.pass(100);
        world.burn(30, 5);
        world.look_at(&[Class::Sessions]);
    }
    assert_eq!(world.moved, []);
}

#[test]
fn what_was_not_looked_at_for_long_is_not_charged_at_once() {
    let mut world = World::new();
    world.fork(30, SHELL, 30);
    world.look();
    world.pass(600_000);
    world.burn(30, 5_000);
    world.look();
    // Nor what was started and not looked at since.
    world.fork(31, SHELL, 31);
    world.pass(300_000);
    world.burn(31, 3_000);
    world.look();
    assert_eq!(world.moved, []);
}

#[test]
fn a_quiet_job_comes_back_and_each_time_later() {
    let mut world = World::new();
    world.fork(40, SHELL, 40);
    let mut away = Vec::new();
    for _ in 0..3 {
        while world.class(40) == Class::Sessions {
            world.pass(25);
            world.burn(40, 25);
            world.look();
        }
        let left = world.now;
        while world.class(40) == Class::Builds {
            world.pass(250);
            world.look();
        }
        away.push(world.now - left);
    }
    assert!(
        away.is_sorted() && away[0] >= 2000 && away[2] >= 8000,
        "{away:?}"
    );
    assert!(!world.jobs.awaits_quiet());
}

#[test]
fn a_shell_is_moved_for_what_it_burns_itself_and_its_jobs_are_not() {
    let mut world = World::new();
    world.fork(50, SHELL, 50);
    for _ in 0..6 {
        world.pass(25);
        world.burn(SHELL, 20);
        world.look();
    }
    assert_eq!(world.class(SHELL), Class::Builds);
    assert_eq!(world.class(50), Class::Sessions);
}

#[test]
fn what_a_prompt_runs_does_not_take_the_shell_along() {
    let mut world = World::new();
    // In the shell's own group, as command substitutions are.
    world.fork(60, SHELL, SHELL);
    for _ in 0..20 {
        world.pass(25);
        world.burn(60, 25);
        world.look();
    }
    assert_eq!(world.class(60), Class::Builds);
    assert_eq!(world.class(SHELL), Class::Sessions);
}

#[test]
fn a_build_that_leads_its_session_is_moved_itself() {
    for terminal in [true, false] {
        let mut world = World::new();
        world.start(70, AGENT, (70, 70), terminal, Class::Sessions);
        for round in 0..6 {
            let compiler = 700 + round;
            world.fork(compiler, 70, 70);
            world.pass(50);
            world.burn(compiler, 45);
            world.look();
            world.end(compiler);
        }
        assert_eq!(
            world.class(70),
            Class::Builds,
            "terminal: {terminal}: {:?}",
            world.moved
        );
    }
}

#[test]
fn daemons_of_a_build_follow_it() {
    let mut world = World::new();
    world.fork(80, SHELL, 80);
    for _ in 0..4 {
        world.pass(25);
        world.burn(80, 25);
        world.look();
    }
    // Forked before its parent was moved, in a session of its own.
    world.start(81, 80, (81, 81), false, Class::Sessions);
    world.pass(25);
    world.look();
    assert_eq!(world.class(81), Class::Builds);
}

#[test]
fn language_servers_of_the_agents_class_go_to_the_builds_and_come_home() {
    let mut world = World::new();
    world.start(90, AGENT, (90, 90), false, Class::Agent);
    world.start(91, 90, (90, 90), false, Class::Agent);
    while world.class(91) == Class::Agent {
        world.pass(25);
        world.burn(91, 25);
        world.burn(AGENT, 25);
        world.look();
    }
    assert_eq!(
        world.class(AGENT),
        Class::Agent,
        "the first process stays whatever it does"
    );
    for _ in 0..20 {
        world.pass(250);
        world.look();
    }
    assert_eq!(world.class(91), Class::Agent);
}

#[test]
fn a_new_loop_that_knows_nothing_decides_the_same() {
    let mut world = World::new();
    world.fork(40, SHELL, 40);
    world.start(45, AGENT, (45, 45), false, Class::Builds);
    while world.class(40) == Class::Sessions {
        world.pass(25);
        world.burn(40, 25);
        world.look();
    }
    world.jobs = Jobs::default();
    world.moved.clear();
    for _ in 0..40 {
        world.pass(100);
        world.burn(40, 50);
        world.look();
    }
    assert_eq!(
        world.moved,
        [],
        "neither back while it burns, nor anything else"
    );
    for _ in 0..40 {
        world.pass(100);
        world.look();
    }
    assert_eq!(world.class(40), Class::Sessions);
    assert_eq!(
        world.class(45),
        Class::Builds,
        "a lifecycle command without a terminal stays"
    );
}

#[test]
fn builders_together_keep_to_the_limit_and_the_whole_has_room_above_it() {
    let demand = |interactive, builds, nested| Demand {
        interactive,
        builds,
        nested,
    };
    let patient = Account::default();
    let mut frugal = Account::default();
    frugal.charge(1000, ms(1000), ms(1100));
    assert!(frugal.is_frugal() && !frugal.is_strict());
    let mut strict = Account::default();
    strict.charge(1000, ms(1000), ms(2000));
    assert!(strict.is_frugal() && strict.is_strict());
    // limit; demand; how the account stands; quotas of whole, builds and nested in thousandths of a
    // processor.
    for (limit, demand, account, wanted) in [
        (1000, demand(0, 0, 0), &patient, (2000, 1000, 1000)),
        (1000, demand(0, 980, 0), &patient, (2000, 1000, 500)),
        (2000, demand(100, 1800, 0), &patient, (4000, 1875, 937)),
        (1000, demand(0, 490, 490), &patient, (2000, 500, 500)),
        (1000, demand(0, 780, 200), &patient, (2000, 780, 500)),
        (1000, demand(900, 0, 0), &patient, (2000, 750, 750)),
        (50, demand(0, 40, 0), &patient, (100, 50, 25)),
        (1000, demand(0, 980, 0), &frugal, (2000, 900, 450)),
        (1000, demand(0, 980, 0), &strict, (1000, 900, 450)),
        (1000, demand(900, 100, 0), &strict, (1000, 750, 640)),
    ] {
        let (caps, _) = caps(limit, &demand, &[], account);
        let millis = |quota: &super::Quota| quota.quota.as_micros() / 100;
        let found = (
            millis(&caps.whole),
            millis(&caps.builds),
            millis(&caps.nested),
        );
        assert_eq!(found, wanted, "{limit} {demand:?} {account:?}");
        assert_eq!(caps.whole.burst.as_micros() / 100, u128::from(limit));
        assert!(caps.builds.burst.is_zero());
        assert!(millis(&caps.builds) < millis(&caps.whole));
        assert!(!differs(&caps.builds, Some(&caps.builds)));
        assert!(differs(&caps.whole, Some(&caps.builds)) && differs(&caps.whole, None));
    }
}

#[test]
fn who_goes_on_above_the_limit_is_held_to_it_until_it_is_paid_back() {
    let mut account = Account::default();
    let mut spend = |millis: u64, times: u32| {
        for _ in 0..times {
            account.charge(1000, ms(200), ms(millis));
        }
        (account.is_frugal(), account.is_strict())
    };
    let (calm, frugal, strict) = ((false, false), (true, false), (true, true));
    assert_eq!(spend(240, 1), calm, "a moment");
    assert_eq!(spend(204, 1000), calm, "what is not worth a write");
    assert_eq!(spend(0, 1), calm);
    assert_eq!(spend(220, 4), frugal, "builders that overrun");
    assert_eq!(spend(190, 3), frugal, "until it is paid back");
    assert_eq!(spend(190, 3), calm);
    assert_eq!(spend(250, 20), strict, "a quarter more, for seconds");
    assert_eq!(
        spend(200, 10),
        strict,
        "not paid back by keeping to the limit"
    );
    assert_eq!(spend(0, 10), calm);
    assert_eq!(spend(2000, 1000), strict);
    assert_eq!(spend(0, 6), calm, "a debt has an end");
}

/// Groups that engines make beside the classes are builders as `nested` is.
#[test]
fn groups_made_by_engines_share_the_builders_part() {
    let millis = |quota: &super::Quota| quota.quota.as_micros() / 100;
    // What builds, nested and one such group used; quotas of the three.
    for (used, expected) in [
        // Alone, each may have all of it.
        ([0, 0, 0], [1000, 1000, 1000]),
        ([0, 0, 900], [500, 500, 1000]),
        // Two and three that want everything.
        ([450, 0, 450], [505, 333, 505]),
        ([300, 300, 300], [340, 340, 340]),
        // One takes next to nothing.
        ([40, 0, 800], [500, 500, 1000]),
    ] {
        let demand = Demand {
            interactive: 0,
            builds: used[0],
            nested: used[1],
        };
        let account = Account::default();
        let (caps, made) = caps(1000, &demand, &used[2..], &account);
        assert_eq!(made.len(), 1);
        let seen = [&caps.builds, &caps.nested, &made[0]].map(millis);
        assert_eq!(seen, expected, "{used:?}");
    }
}
