//! Shell completions and man pages, generated from the command line's types.

use crate::args::Cli;
use crate::failure::Failure;
use clap::CommandFactory;
use std::path::Path;

/// Prints a completion script.
pub(crate) fn completions(shell: clap_complete::Shell) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "boatyard", &mut script);
    crate::output::print(&String::from_utf8_lossy(&script))
}

/// Writes a man page per verb.
pub(crate) fn man(directory: &Path) -> Result<(), Failure> {
    std::fs::create_dir_all(directory)?;
    Ok(clap_mangen::generate_to(Cli::command(), directory)?)
}
