//! The workshop: every check, set-up and show of this repository, as `cargo xtask <verb>`.
//!
//! Owns what `make` is an index of. It builds and starts the other crates and reads their
//! manifests; it links none of them, so that it compiles in seconds and works while they do not.
//! A killed run leaves nothing that the next one does not overwrite.
//!
//! Read next: [`floors`] (who may import whom), [`tidy`] (what files must look like), [`setup`].

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a tool for a terminal"
)]

mod bench;
mod checkout;
mod demo;
mod floors;
mod fuzz;
mod leftovers;
mod licences;
mod process;
mod setup;
mod suite;
mod tidy;
mod vm;

use anyhow::{Result, bail};
use std::process::ExitCode;

const USAGE: &str = "cargo xtask <verb>
  check                    fmt, clippy, deps, tidy
  deps                     the floor table against the manifests
  tidy                     what every file must look like
  setup demo|test|bench    install what is missing from the distribution's packages
  demo                     set up, build, open an environment, show where things are
  test                     set up, check, run every test
  test-vm [ARGUMENTS]      the sandbox's tests in a virtual machine: stock kernel, cgroup v2
  fuzz [TARGET] [SECONDS]  feed the server's parsers (needs a C++ compiler), all of them for a minute each
  bench [ARGUMENTS]        set up, measure beside the peers";

fn main() -> ExitCode {
    match act() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Without a backtrace: what went wrong here is a fault of the checkout or the machine.
            eprintln!(
                "error: {}",
                error
                    .chain()
                    .map(ToString::to_string)
                    .collect::<Vec<_>>()
                    .join(": ")
            );
            ExitCode::FAILURE
        }
    }
}

fn act() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if fuzz::is_wrapper() {
        return fuzz::compile(&arguments);
    }
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let root = checkout::root();
    checkout::built_here(&root)?;
    match words.as_slice() {
        ["check"] => {
            let _owned = checkout::own(&root)?;
            suite::check(&root)
        }
        ["deps"] => floors::check(&root),
        ["tidy"] => tidy::check(&root),
        ["setup", purpose] => setup::prepare(setup::Purpose::parse(purpose)?),
        ["demo"] => {
            let _owned = checkout::own(&root)?;
            demo::run(&root)
        }
        ["test", rest @ ..] => {
            let _owned = checkout::own(&root)?;
            suite::test(&root, rest)
        }
        ["test-vm", rest @ ..] => {
            let _owned = checkout::own(&root)?;
            vm::run(&root, rest)
        }
        ["fuzz", rest @ ..] => {
            let _owned = checkout::own(&root)?;
            fuzz::run(&root, rest)
        }
        ["bench", rest @ ..] => {
            let _owned = checkout::own(&root)?;
            bench::run(&root, rest)
        }
        [] => bail!("a verb is missing\n{USAGE}"),
        _ => bail!("no such verb: {}\n{USAGE}", words.join(" ")),
    }
}
