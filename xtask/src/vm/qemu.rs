//! Getting QEMU onto the host.
//!
//! Owns the one installation that may collide: other packages of QEMU can be newer than the
//! suite's (Debian's backports), and apt would then remove them. It never lets apt remove or
//! upgrade anything; where the host's own sources do not do, it takes Debian's backports from a
//! list of sources of its own, which leaves the host's lists alone. Killed half way, the next run
//! begins again.
//!
//! Read next: [`super::machine`].

use crate::process;
use anyhow::{Context, Result, bail};
use std::path::Path;
use std::process::Command;

pub(super) const PROGRAM: &str = "qemu-system-x86_64";
const PACKAGE: &str = "qemu-system-x86";

/// Installs what is missing, saying so first. `cache` is a folder for apt's lists.
pub(super) fn prepare(cache: &Path) -> Result<()> {
    if process::on_path(PROGRAM) {
        return Ok(());
    }
    if !process::on_path("apt-get") {
        bail!("{PROGRAM} is missing and there is no apt-get to install it with");
    }
    println!("setup: installing from the distribution's packages: {PACKAGE}");
    let update = process::run(apt(&[])?.arg("update"));
    if update.is_ok() && process::run(install(&[], &[])?.arg(PACKAGE)).is_ok() {
        return Ok(());
    }
    let release = std::fs::read_to_string("/etc/os-release").context("/etc/os-release")?;
    let Some(suite) = suite(&release) else {
        bail!("{PACKAGE} cannot be installed beside what is here: install it by hand");
    };
    println!("setup: trying {PACKAGE} of {suite}-backports");
    let sources = cache.join("qemu.list");
    let lists = cache.join("apt-lists");
    std::fs::create_dir_all(lists.join("partial")).context("apt-lists")?;
    let line = |suite: &str| {
        format!(
            "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://deb.debian.org/debian {suite} main\n"
        )
    };
    let backports = format!("{suite}-backports");
    std::fs::write(&sources, line(suite) + &line(&backports)).context("qemu.list")?;
    let options = [
        format!("Dir::Etc::sourcelist={}", sources.display()),
        "Dir::Etc::sourceparts=-".to_owned(),
        format!("Dir::State::lists={}", lists.display()),
    ];
    process::run(apt(&options)?.arg("update"))?;
    process::run(install(&options, &["-t", &backports])?.arg(PACKAGE))
}

/// apt-get as root with these options.
fn apt(options: &[String]) -> Result<Command> {
    let mut command = process::as_root("env")?;
    command.args(["DEBIAN_FRONTEND=noninteractive", "apt-get", "-qq"]);
    for option in options {
        command.arg("-o").arg(option);
    }
    Ok(command)
}

fn install(options: &[String], words: &[&str]) -> Result<Command> {
    let mut command = apt(options)?;
    command
        .args(["install", "--yes", "--no-install-recommends"])
        .args(["--no-remove", "--no-upgrade"])
        .args(words);
    Ok(command)
}

/// The suite of a Debian host, from /etc/os-release.
fn suite(release: &str) -> Option<&str> {
    let value = |key: &str| {
        let line = release.lines().find_map(|line| line.strip_prefix(key))?;
        Some(line.trim_matches('"'))
    };
    if value("ID=")? != "debian" {
        return None;
    }
    value("VERSION_CODENAME=")
}

#[cfg(test)]
mod tests;
