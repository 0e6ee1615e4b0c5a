//! `boatyard-agent`: PID 1 of an environment.
//!
//! Owns: reaping, running processes for callers (pipes or terminal), durable tasks, shutting the
//! environment down, and connections from inside. Does not: mount, configure the network, set
//! limits (the sandbox did that before the agent started, but for those that would end the agent:
//! [`limit`]) or judge who may call: the listening socket it inherits is the only way in, and only
//! the runner holds the other end.
//!
//! One thread polls everything; only a task's log has a thread of its own, because writing to a
//! disk may block. Everything that touches files a hostile environment controls (`/etc/passwd`, the
//! working directory, cgroups) is done by the [`stage`], a short-lived child of the agent that becomes
//! the process asked for: a trap laid there catches that one call, never PID 1.
//!
//! When the agent dies the kernel ends the environment; nothing on disk is its own but task logs.
//! Read next: [`server`], [`session`], [`stage`].

mod server;
mod session;
mod task;

mod buffer;
mod failure;
mod limit;
mod mask;
mod pump;
mod spawn;

mod stage;
mod user;

use std::io::Write as _;
use std::process::ExitCode;

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    let (mut user, mut limits) = (None, Vec::new());
    while let Some(word) = arguments.next() {
        let mut value = || arguments.next().and_then(|value| value.into_string().ok());
        match word.to_str() {
            Some("--user") => {
                user = value().and_then(|ids| server::ids(&ids));
                if user.is_none() {
                    complain("write --user UID:GID");
                    return ExitCode::from(2);
                }
            }
            Some("--limit") => match value().and_then(|text| limit::Limit::parse(&text)) {
                Some(limit) => limits.push(limit),
                None => {
                    complain("write --limit cpu=SOFT:HARD or --limit rttime=SOFT:HARD");
                    return ExitCode::from(2);
                }
            },
            Some(stage::ARGUMENT) => return stage::run(),
            Some("--version") => {
                let _ = writeln!(std::io::stdout(), "{}", env!("CARGO_PKG_VERSION"));
                return ExitCode::SUCCESS;
            }
            _ => {
                complain(
                    "boatyard-agent takes no other arguments: the runner starts it inside environments",
                );
                return ExitCode::from(2);
            }
        }
    }
    match server::Server::start(user, limits) {
        Ok(server) => server.run(),
        Err(failure) => {
            complain(&failure.message);
            ExitCode::FAILURE
        }
    }
}

/// Says something to whoever reads the agent's standard error; nobody may.
fn complain(message: &str) {
    let _ = writeln!(std::io::stderr(), "boatyard-agent: {message}");
}
