//! What a fresh Debian or Ubuntu machine lacks, installed from the distribution's packages.
//!
//! Owns the lists of programs and the packages they come in. A program already on PATH is left
//! alone, wherever it came from; before anything is installed it is said. It configures nothing but
//! that installing PostgreSQL makes and starts no cluster, and etcd and firewalld no service; one that
//! comes with another package (docker-registry) is left as the package leaves it. What killed tests
//! left is cleared (`leftovers`). Killed half way, the next run installs the rest.
//!
//! Read next: `clients`, which come from other registries too.

mod clients;
mod kubectl;

use crate::{leftovers, process};
use anyhow::{Result, bail};
use std::path::Path;

/// What the machine is prepared for; each includes the ones before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Purpose {
    Demo,
    Test,
    Bench,
}

impl Purpose {
    pub(crate) fn parse(word: &str) -> Result<Self> {
        match word {
            "demo" => Ok(Self::Demo),
            "test" => Ok(Self::Test),
            "bench" => Ok(Self::Bench),
            _ => bail!("no such set-up: {word}; there are demo, test and bench"),
        }
    }
}

/// What shows that a package is there: a program on PATH, or a file.
enum Sign {
    Program(&'static str),
    File(&'static str),
}

use Sign::{File, Program};

const NEEDS: &[(Purpose, Sign, &str)] = &[
    (Purpose::Demo, Program("mmdebstrap"), "mmdebstrap"),
    (Purpose::Demo, Program("nft"), "nftables"),
    (Purpose::Demo, Program("ip"), "iproute2"),
    (Purpose::Demo, Program("git"), "git"),
    (Purpose::Demo, Program("gcc"), "gcc"),
    (Purpose::Demo, File("/usr/include/stdio.h"), "libc6-dev"),
    (
        Purpose::Demo,
        File("/etc/ssl/certs/ca-certificates.crt"),
        "ca-certificates",
    ),
    (Purpose::Test, Program("docker-registry"), "docker-registry"),
    (Purpose::Test, Program("skopeo"), "skopeo"),
    (Purpose::Test, Program("xz"), "xz-utils"),
    (Purpose::Test, Program("bzip2"), "bzip2"),
    (Purpose::Test, Program("podman"), "podman"),
    (Purpose::Test, Program("crun"), "crun"),
    // Debian's other busybox is not static and does not run in an empty root.
    (
        Purpose::Test,
        File("/var/lib/dpkg/info/busybox-static.list"),
        "busybox-static",
    ),
    (Purpose::Test, File("/usr/lib/postgresql"), POSTGRESQL),
    (Purpose::Test, Program("newuidmap"), "uidmap"),
    (Purpose::Test, Program("mkfs.ext4"), "e2fsprogs"),
    (Purpose::Test, File("/usr/sbin/firewalld"), FIREWALLD),
    (Purpose::Test, Program("dbus-daemon"), "dbus-daemon"),
    (Purpose::Test, Program("strace"), "strace"),
    (Purpose::Test, Program("npm"), "npm"),
    (Purpose::Test, Program("python3"), "python3"),
    (Purpose::Test, Program("curl"), "curl"),
    (Purpose::Test, Program("zstd"), "zstd"),
    (Purpose::Test, Program("unzip"), "unzip"),
    (Purpose::Test, Program("ping"), "iputils-ping"),
    (Purpose::Bench, Program("etcd"), ETCD),
];

/// Tests make clusters of their own from its programs.
const POSTGRESQL: &str = "postgresql";
/// A test starts its own.
const FIREWALLD: &str = "firewalld";
/// The benchmark starts its own.
const ETCD: &str = "etcd-server";

/// Installs what is missing, saying so first; says nothing when nothing is.
pub(crate) fn prepare(purpose: Purpose) -> Result<()> {
    let packages: Vec<&str> = NEEDS
        .iter()
        .filter(|(needed_for, sign, _)| *needed_for <= purpose && !present(sign))
        .map(|(_, _, package)| *package)
        .collect();
    if packages.contains(&POSTGRESQL) {
        // Read by the package when it is configured.
        let folder = "/etc/postgresql-common/createcluster.d";
        let keep = format!(
            "mkdir -p {folder} && echo 'create_main_cluster = false' > {folder}/boatyard.conf"
        );
        process::run(process::as_root("sh")?.args(["-c", &keep]))?;
    }
    for (package, service) in [(ETCD, "etcd"), (FIREWALLD, "firewalld")] {
        if packages.contains(&package) {
            mask(service)?;
        }
    }
    if !packages.is_empty() {
        install(&packages)?;
    }
    if purpose != Purpose::Demo {
        leftovers::clear();
        clients::prepare(purpose)?;
    }
    Ok(())
}

/// Keeps a service from being started by its installation.
fn mask(service: &str) -> Result<()> {
    let unit = format!("/etc/systemd/system/{service}.service");
    let mask = format!("mkdir -p /etc/systemd/system && [ -e {unit} ] || ln -s /dev/null {unit}");
    process::run(process::as_root("sh")?.args(["-c", &mask]))
}

fn present(sign: &Sign) -> bool {
    match sign {
        Program(name) => process::on_path(name),
        File(path) => Path::new(path).exists(),
    }
}

/// Installs packages of the distribution, saying so first.
pub(crate) fn install(packages: &[&str]) -> Result<()> {
    if !process::on_path("apt-get") {
        bail!(
            "these are missing and there is no apt-get to install them with: {}",
            packages.join(" ")
        );
    }
    println!(
        "setup: installing from the distribution's packages: {}",
        packages.join(" ")
    );
    let apt = || -> Result<_> {
        let mut command = process::as_root("env")?;
        command.args(["DEBIAN_FRONTEND=noninteractive", "apt-get", "-qq"]);
        Ok(command)
    };
    let attempt = || {
        process::run(
            apt()?
                .args(["install", "--yes", "--no-install-recommends"])
                .args(packages),
        )
    };
    with_lists(attempt)
}

/// Does something that needs the lists of packages; a second time with fresh ones if it fails.
fn with_lists(attempt: impl Fn() -> Result<()>) -> Result<()> {
    let known = std::fs::read_dir("/var/lib/apt/lists").is_ok_and(|lists| {
        lists
            .flatten()
            .any(|list| list.file_name().to_string_lossy().contains("_Packages"))
    });
    if known && attempt().is_ok() {
        return Ok(());
    }
    println!("setup: refreshing the list of packages");
    process::run(process::as_root("apt-get")?.args(["-qq", "update"]))?;
    attempt()
}
