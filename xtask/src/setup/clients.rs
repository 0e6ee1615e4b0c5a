//! Clients of the Kubernetes API that the tests run against the server, and the reference command
//! line of development containers, which the benchmark runs.
//!
//! Owns `~/.cache/boatyard/tools` and the libraries in it: a Python environment and folders
//! of npm packages, each made from the list of exact versions beside what uses it. A
//! library's folder holds, written last, the list it was made from: another list, or a run killed
//! half way, makes it anew. A lock keeps two set-ups on one machine apart.
//!
//! Read next: [`super::kubectl`], `crates/testkit/tests/clients/main.rs`.

use super::{Purpose, kubectl};
use crate::process;
use anyhow::{Context, Result};
use std::path::{Path, PathBuf};
use std::process::Command;

/// A folder made from a list.
struct Library {
    purpose: Purpose,
    folder: &'static str,
    list: &'static str,
    make: fn(&Path) -> Result<()>,
}

const REQUIREMENTS: &str =
    include_str!("../../../crates/testkit/tests/clients/python/requirements.txt");
const PACKAGE: &str = include_str!("../../../crates/testkit/tests/clients/javascript/package.json");
const PACKAGE_LOCK: &str =
    include_str!("../../../crates/testkit/tests/clients/javascript/package-lock.json");
const REFERENCE: &str =
    include_str!("../../../crates/testkit/src/bin/bench/devcontainer/package.json");
const REFERENCE_LOCK: &str =
    include_str!("../../../crates/testkit/src/bin/bench/devcontainer/package-lock.json");

const LIBRARIES: [Library; 3] = [
    Library {
        purpose: Purpose::Test,
        folder: "python",
        list: REQUIREMENTS,
        make: python,
    },
    Library {
        purpose: Purpose::Test,
        folder: "javascript",
        list: PACKAGE_LOCK,
        make: |folder| npm(folder, PACKAGE, PACKAGE_LOCK),
    },
    Library {
        purpose: Purpose::Bench,
        folder: "devcontainer",
        list: REFERENCE_LOCK,
        make: |folder| npm(folder, REFERENCE, REFERENCE_LOCK),
    },
];

/// Where the tests find the clients.
fn tools() -> Result<PathBuf> {
    let home = std::env::var_os("HOME").context("HOME is not set")?;
    Ok(PathBuf::from(home).join(".cache/boatyard/tools"))
}

/// Installs what is missing or out of date, of what this purpose alone uses.
pub(super) fn prepare(purpose: Purpose) -> Result<()> {
    let tools = tools()?;
    std::fs::create_dir_all(&tools).with_context(|| tools.display().to_string())?;
    let lock = std::fs::File::create(tools.join("lock")).context("the lock of the tools")?;
    lock.lock().context("the lock of the tools")?;
    if purpose == Purpose::Test {
        kubectl::prepare(&tools)?;
    }
    let wanted = |library: &&Library| library.purpose == purpose;
    for library in LIBRARIES.iter().filter(wanted) {
        let folder = tools.join(library.folder);
        let made_from = folder.join("made-from");
        if std::fs::read_to_string(&made_from).is_ok_and(|list| list == library.list) {
            continue;
        }
        println!("setup: installing packages into {}", folder.display());
        if folder.exists() {
            std::fs::remove_dir_all(&folder).with_context(|| folder.display().to_string())?;
        }
        std::fs::create_dir_all(&folder)?;
        (library.make)(&folder)?;
        std::fs::write(made_from, library.list)?;
    }
    Ok(())
}

fn python(folder: &Path) -> Result<()> {
    // Debian's python3 has this module in a package of its own.
    if !process::succeeds(Command::new("python3").args(["-c", "import ensurepip"])) {
        super::install(&["python3-venv"])?;
    }
    process::run(Command::new("python3").args(["-m", "venv"]).arg(folder))?;
    let list = folder.join("requirements.txt");
    std::fs::write(&list, REQUIREMENTS)?;
    process::run(
        Command::new(folder.join("bin/python"))
            .args(["-m", "pip", "install", "--quiet", "--no-deps"])
            .args(["--only-binary=:all:", "--disable-pip-version-check"])
            .arg("--requirement")
            .arg(&list),
    )
}

fn npm(folder: &Path, package: &str, lock: &str) -> Result<()> {
    std::fs::write(folder.join("package.json"), package)?;
    std::fs::write(folder.join("package-lock.json"), lock)?;
    process::run(
        Command::new("npm")
            .current_dir(folder)
            .args(["ci", "--silent", "--no-audit", "--no-fund"])
            .args(["--omit=optional", "--ignore-scripts"]),
    )
}
