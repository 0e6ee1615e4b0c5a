//! The sandbox's tests, and `boatyard up`, in a virtual machine with Debian's stock kernel and
//! cgroup version 2 alone.
//!
//! Owns the machine: what it boots from (made once from the distribution's mirror, kept under
//! `~/.cache/boatyard/test/vm/`), the disk with the freshly built tests, and the reading of its
//! console. What the tests check is theirs. The point is a kernel and a cgroup hierarchy that the
//! developer's own host may not have: paths by which older kernels need the layers, delegation
//! through `cgroup.subtree_control`. The machine has no network card; its disks are copies that
//! vanish with it, so that a killed run leaves nothing but files the next one overwrites.
//!
//! Read next: `vm/run.sh` and `vm/up.sh` (inside), `vm/root.sh` (how the disk is made).

mod console;
mod machine;
mod qemu;

use crate::{process, setup};
use anyhow::{Context, Result, bail};
use machine::{Disks, Machine};
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

const SUITE: &str = "bookworm";
const ROOT: &str = include_str!("vm/root.sh");
const KERNEL: &str = include_str!("vm/kernel.sh");
const RUN: &str = include_str!("vm/run.sh");
const UP: &str = include_str!("vm/up.sh");

/// Sets up, builds, boots and judges. `rest` goes to the test programs; with it, they run alone.
pub(crate) fn run(root: &Path, rest: &[&str]) -> Result<()> {
    let began = Instant::now();
    let cache = cache()?;
    prepare(&cache)?;
    let base = base(&cache)?;
    let payload = cache.join("payload");
    pack(root, &payload, rest)?;
    let built = began.elapsed().as_secs();
    let machine = Machine {
        disks: Disks {
            kernel: base.join("kernel"),
            initrd: base.join("initrd"),
            root: base.join("root.ext4"),
            payload: payload.with_extension("ext4"),
        },
        without_kvm: cache.join("without-kvm"),
    };
    let report = machine.boot()?;
    println!(
        "test-vm: {} (set-up and build {built} s, machine {} s)",
        report.summary(),
        began.elapsed().as_secs() - built
    );
    report.verdict()
}

/// Programs on this side. Unlike other tests' needs they are large, so `make test` goes without.
fn prepare(cache: &Path) -> Result<()> {
    if std::env::consts::ARCH != "x86_64" {
        bail!("the virtual machine is for x86_64 only");
    }
    let needs = [("mmdebstrap", "mmdebstrap"), ("mke2fs", "e2fsprogs")];
    let packages: Vec<&str> = needs
        .iter()
        .filter(|(program, _)| !process::on_path(program))
        .map(|(_, package)| *package)
        .collect();
    if !packages.is_empty() {
        setup::install(&packages)?;
    }
    qemu::prepare(cache)
}

fn cache() -> Result<PathBuf> {
    let home = std::env::var_os("HOME").context("HOME is not set")?;
    let cache = Path::new(&home).join(".cache/boatyard/test/vm");
    std::fs::create_dir_all(&cache).with_context(|| cache.display().to_string())?;
    Ok(cache)
}

/// The folder with kernel and root of this recipe, made when it is not there.
fn base(cache: &Path) -> Result<PathBuf> {
    let mut hasher = DefaultHasher::new();
    (SUITE, ROOT, KERNEL).hash(&mut hasher);
    let folder = cache.join(format!("{SUITE}-{:016x}", hasher.finish()));
    if folder.exists() {
        return Ok(folder);
    }
    println!(
        "test-vm: making a disk with Debian {SUITE} and its kernel from the distribution's mirror (about two minutes, once)"
    );
    let new = folder.with_extension("new");
    if new.exists() {
        process::run(process::as_root("rm")?.arg("-rf").arg(&new))?;
    }
    std::fs::create_dir_all(&new).with_context(|| new.display().to_string())?;
    write(&new.join("root.sh"), ROOT)?;
    write(&new.join("kernel.sh"), KERNEL)?;
    process::run(
        process::as_root("sh")?
            .arg(new.join("root.sh"))
            .arg(&new)
            .arg(SUITE),
    )?;
    std::fs::rename(&new, &folder).with_context(|| folder.display().to_string())?;
    Ok(folder)
}

/// Builds the binary and the sandbox's tests and packs them, with what they start, into `<payload>.ext4`.
fn pack(root: &Path, payload: &Path, rest: &[&str]) -> Result<()> {
    println!("test-vm: building the tests of crates/sandbox");
    let built = process::output(process::cargo(root).args([
        "test",
        "--package",
        "boatyard-sandbox",
        "--no-run",
        "--message-format=json",
    ]))?;
    let programs = programs(&built);
    if programs.is_empty() {
        bail!("cargo built no test of crates/sandbox");
    }
    if payload.exists() {
        std::fs::remove_dir_all(payload).with_context(|| payload.display().to_string())?;
    }
    std::fs::create_dir_all(payload).with_context(|| payload.display().to_string())?;
    let (mut tests, mut places) = (String::new(), String::new());
    for (number, program) in programs.iter().enumerate() {
        let stem = program.path.file_stem().unwrap_or_default();
        let name = format!("{number}-{}", stem.to_string_lossy());
        std::fs::copy(&program.path, payload.join(&name))
            .with_context(|| program.path.display().to_string())?;
        if program.is_test {
            tests += &format!("{name}\n");
        }
        places += &format!("{name} {}\n", program.path.display());
    }
    if rest.is_empty() {
        println!("test-vm: building the binary `boatyard`");
        process::run(process::cargo(root).args(["build", "--package", "boatyard-cli"]))?;
        let binary = process::target(root).join("debug/boatyard");
        std::fs::copy(&binary, payload.join("boatyard"))
            .with_context(|| binary.display().to_string())?;
        write(&payload.join("up.sh"), UP)?;
        tests += "up.sh\n";
    }
    write(&payload.join("tests"), &tests)?;
    write(&payload.join("places"), &places)?;
    // Two processors: tests of one program run in two threads, as in `make test`.
    let arguments = [
        &["--test-threads=2", "--show-output", "--color=never"],
        rest,
    ]
    .concat();
    write(&payload.join("arguments"), &arguments.join(" "))?;
    write(&payload.join("run.sh"), RUN)?;
    let image = payload.with_extension("ext4");
    let _ = std::fs::remove_file(&image);
    let file = std::fs::File::create(&image).with_context(|| image.display().to_string())?;
    file.set_len(1 << 30)
        .with_context(|| image.display().to_string())?;
    process::run(
        Command::new("/sbin/mke2fs")
            .args(["-q", "-t", "ext4", "-m", "0", "-d"])
            .arg(payload)
            .arg(&image),
    )
}

/// Something cargo built that can be started.
#[derive(Debug, PartialEq, Eq)]
struct Program {
    path: PathBuf,
    is_test: bool,
}

/// Reads cargo's messages. Paths with quotes or backslashes are not for this tool.
fn programs(messages: &str) -> Vec<Program> {
    let mut programs = Vec::new();
    for message in messages.lines() {
        let Some((_, rest)) = message.split_once("\"executable\":\"") else {
            continue;
        };
        let Some((path, _)) = rest.split_once('"') else {
            continue;
        };
        programs.push(Program {
            path: path.into(),
            is_test: message.contains("\"test\":true},\"features\"")
                || message
                    .split_once("\"profile\":")
                    .is_some_and(|(_, profile)| profile.contains("\"test\":true")),
        });
    }
    programs
}

fn write(path: &Path, text: &str) -> Result<()> {
    std::fs::write(path, text).with_context(|| path.display().to_string())
}

#[cfg(test)]
mod tests;
