//! The sandbox's tests, others that need it, and `boatyard up`, in a virtual machine with Debian's stock kernel and
//! cgroup version 2 alone.
//!
//! Owns the machine: what it boots from (made once from the distribution's mirror, kept under
//! `~/.cache/boatyard/test/vm/`), the disk with the freshly built tests, and the reading of its
//! console. What the tests check is theirs. The point is a kernel and a cgroup hierarchy that the
//! developer's own host may not have: paths by which older kernels need the layers, delegation
//! through `cgroup.subtree_control`. The machine has no network card; its disks are copies that
//! vanish with it, so that a killed run leaves nothing but files the next one overwrites.
//!
//! Read next: `vm/payload.rs` (what runs), `vm/run.sh` and `vm/up.sh` (inside), `vm/root.sh` (how the
//! disk is made).

mod console;
mod machine;
mod payload;
mod qemu;

use crate::suite::Count;
use crate::{process, setup};
use anyhow::{Context, Result, bail};
use console::Report;
use machine::{Disks, Machine};
use payload::Form;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::path::{Path, PathBuf};
use std::time::Instant;

const SUITE: &str = "bookworm";
const ROOT: &str = include_str!("vm/root.sh");
const KERNEL: &str = include_str!("vm/kernel.sh");

/// Sets up, builds, boots and judges. `rest` names the form of the run (see [`Form`]).
pub(crate) fn run(root: &Path, rest: &[&str]) -> Result<()> {
    let began = Instant::now();
    let cache = cache()?;
    let form = Form::parse(rest);
    prepare(&cache, &form)?;
    let base = base(&cache)?;
    let machines = form.machines();
    let several = machines.len() > 1;
    let (mut count, mut bad) = (Count::default(), Vec::new());
    for form in machines {
        let report = boot(root, &cache, &base, &form)?;
        if let Err(error) = report.verdict() {
            bad.push(format!("{form}: {error}"));
        }
        count.join(report.into_count());
    }
    if several {
        println!("test-vm: {count} in all ({} s)", began.elapsed().as_secs());
    }
    if !bad.is_empty() {
        bail!("{}", bad.join("; "));
    }
    Ok(())
}

/// One machine.
fn boot(root: &Path, cache: &Path, base: &Path, form: &Form) -> Result<Report> {
    let began = Instant::now();
    let payload = cache.join("payload");
    payload::pack(root, &payload, form)?;
    let built = began.elapsed().as_secs();
    let machine = Machine {
        disks: Disks {
            kernel: base.join("kernel"),
            initrd: base.join("initrd"),
            root: base.join("root.ext4"),
            payload: payload.with_extension("ext4"),
            scratch: scratch(cache)?,
            speed: form.speed(),
        },
        memory: form.memory(),
        longest: form.longest(),
        without_kvm: cache.join("without-kvm"),
    };
    let report = machine.boot()?;
    println!(
        "test-vm {form}: {} (set-up and build {built} s, machine {} s)",
        report.summary(),
        began.elapsed().as_secs() - built
    );
    Ok(report)
}

/// Programs on this side. Unlike other tests' needs they are large, so `make test` goes without.
fn prepare(cache: &Path, form: &Form) -> Result<()> {
    if std::env::consts::ARCH != "x86_64" {
        bail!("the virtual machine is for x86_64 only");
    }
    let mut needs = vec![("mmdebstrap", "mmdebstrap"), ("mke2fs", "e2fsprogs")];
    if *form == Form::Overbook {
        needs.push(("node", "nodejs"));
    }
    needs.retain(|(program, _)| !process::on_path(program));
    let packages: Vec<&str> = needs.iter().map(|(_, package)| *package).collect();
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
    remove_others(cache, &folder)?;
    Ok(folder)
}

/// An empty file system that keeps project quotas, as this host's may not; a hole but for its tables.
fn scratch(cache: &Path) -> Result<PathBuf> {
    let image = cache.join("scratch.ext4");
    let _ = std::fs::remove_file(&image);
    let file = std::fs::File::create(&image).with_context(|| image.display().to_string())?;
    file.set_len(6 << 30)
        .with_context(|| image.display().to_string())?;
    process::run(
        std::process::Command::new("/sbin/mke2fs")
            .args(["-q", "-t", "ext4", "-m", "0", "-O", "quota,project"])
            .args(["-E", "quotatype=prjquota,lazy_itable_init=1,nodiscard"])
            .arg(&image),
    )?;
    Ok(image)
}

/// Removes what earlier recipes made.
fn remove_others(cache: &Path, folder: &Path) -> Result<()> {
    for entry in std::fs::read_dir(cache).with_context(|| cache.display().to_string())? {
        let path = entry.context("a folder's entry")?.path();
        let made = path
            .file_name()
            .is_some_and(|name| name.to_string_lossy().starts_with(&format!("{SUITE}-")));
        if made && path != folder {
            process::run(process::as_root("rm")?.arg("-rf").arg(&path))?;
        }
    }
    Ok(())
}

fn write(path: &Path, text: &str) -> Result<()> {
    std::fs::write(path, text).with_context(|| path.display().to_string())
}
