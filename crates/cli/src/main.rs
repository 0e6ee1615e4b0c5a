//! The binary `boatyard`: the human surface, and the start of every other process.
//!
//! Reads the command line, speaks to the API as any client does, and shows what comes back. It
//! holds no state of its own. `daemon` runs server and runner in this process; `__spawner` is the
//! runner's small helper (see `sandbox`) and is told apart before anything else is set up.

#![allow(clippy::print_stderr, reason = "a command line speaks to its user")]

mod api;
mod apply;
mod args;
mod build;
mod compose;
mod connect;
mod daemon;
mod devcontainer;
mod exec;
mod failure;
mod generate;
mod hooks;
mod images;
mod lifecycle;
mod output;
mod show;
mod sizes;
mod stored;
mod top;
mod up;
mod workspace;

use args::{Cli, Verb};
use clap::Parser;
use failure::Failure;
use std::process::ExitCode;

fn main() -> ExitCode {
    if std::env::args_os()
        .nth(1)
        .is_some_and(|first| first == "__spawner")
    {
        return boatyard_sandbox::spawner_main();
    }
    let cli = if devcontainer::is_called_for() {
        let arguments = std::env::args_os().skip(1);
        Cli::parse_from(
            ["boatyard".into(), "devcontainer".into()]
                .into_iter()
                .chain(arguments),
        )
    } else {
        Cli::parse()
    };
    // Two providers may be compiled in by dependencies; this one is ours.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let serves = matches!(
        cli.verb,
        Verb::Daemon(_) | Verb::Server(_) | Verb::Runner(_)
    );
    let runtime = if serves {
        tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
    } else {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
    };
    let outcome = match runtime {
        Ok(runtime) => {
            let outcome = runtime.block_on(run(cli));
            // A blocked read of standard input must not keep the process.
            runtime.shutdown_background();
            outcome
        }
        Err(error) => Err(Failure::new(format!("cannot start: {error}"))),
    };
    match outcome {
        Ok(code) => code,
        Err(failure) => {
            failure.print();
            failure.exit_code()
        }
    }
}

async fn run(cli: Cli) -> Result<ExitCode, Failure> {
    let global = cli.global;
    let done = |()| ExitCode::SUCCESS;
    match cli.verb {
        Verb::Up(up) => up::run(&global, up).await,
        Verb::Ls(ls) => show::list(&global, &ls).await.map(done),
        Verb::Top(top) => top::run(&global, &top).await.map(done),
        Verb::Get(get) => show::get(&global, &get).await.map(done),
        Verb::Describe { kind, name } => show::describe(&global, &kind, name.as_deref())
            .await
            .map(done),
        Verb::Exec(exec) => exec::exec(&global, exec).await,
        Verb::Sh(sh) => exec::shell(&global, &sh.name, sh.user).await,
        Verb::Logs { name } => exec::logs(&global, &name).await.map(done),
        Verb::Hooks(asked) => hooks::verb(&global, asked).await.map(done),
        Verb::Stop(names) => lifecycle::stop(&global, &names).await.map(done),
        Verb::Start(names) => lifecycle::start(&global, &names).await.map(done),
        Verb::Restart(names) => lifecycle::restart(&global, &names).await.map(done),
        Verb::Rm(rm) => lifecycle::remove(&global, &rm).await.map(done),
        Verb::Apply { filename } => apply::run(&global, &filename).await.map(done),
        Verb::Build(build) => build::run(&global, build).await.map(done),
        Verb::Image(image) => images::run(&global, image).await.map(done),
        Verb::Doctor { output } => images::doctor(&global, &output).await,
        Verb::Metrics => images::metrics(&global).await.map(done),
        Verb::Daemon(daemon) => daemon::run(&global, daemon).await.map(done),
        Verb::Server(server) => daemon::server(&global, server).await.map(done),
        Verb::Runner(runner) => daemon::runner(&global, runner).await.map(done),
        Verb::Token { runner } => daemon::token(&global, &runner).await.map(done),
        Verb::Teardown => daemon::teardown(&global).map(done),
        Verb::Kubeconfig => daemon::kubeconfig(&global).map(done),
        Verb::Devcontainer { arguments } => devcontainer::run(&global, arguments).await,
        Verb::Completions { shell } => generate::completions(shell).map(done),
        Verb::Man { directory } => generate::man(&directory).map(done),
    }
}
