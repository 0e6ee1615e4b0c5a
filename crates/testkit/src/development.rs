//! The base image of tests that need a real distribution: Debian with git, ps and a developer.
//!
//! Owns making it once per host and giving a daemon's state directory a copy of it before that
//! daemon runs. What is kept in `~/.cache/boatyard/test` is an image store; a copy of it has its
//! files as hard links, since nobody writes into a layer. Killed while making, the next run
//! makes it again.

use crate::amend::{self, User};
use crate::{Daemon, amend::hex_digest};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Its name.
pub const IMAGE: &str = "localhost/devbase:latest";
const FROM: &str = "debian:bookworm";
const PACKAGES: [&str; 3] = ["ca-certificates", "git", "procps"];
const USER: User = User {
    name: "dev",
    id: 1234,
    skeleton: &[".bashrc", ".profile", ".bash_logout"],
};
/// What this host trusts: behind an inspecting proxy, an image has to trust it too.
const TRUST: &str = "/etc/ssl/certs/ca-certificates.crt";

fn run(command: &mut Command) {
    let output = command.output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {told}");
}

/// Where things that are dear to make are kept, locked until the file is dropped.
///
/// # Panics
/// When it cannot be made.
pub fn cache(lock: &str) -> (PathBuf, std::fs::File) {
    let home = std::env::var_os("HOME").map_or_else(|| PathBuf::from("/root"), PathBuf::from);
    let folder = home.join(".cache/boatyard/test");
    std::fs::create_dir_all(&folder).unwrap();
    let lock = std::fs::File::create(folder.join(lock)).unwrap();
    rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockExclusive).unwrap();
    (folder, lock)
}

/// Gives a daemon that does not run yet the image.
///
/// # Panics
/// When it cannot be made.
pub fn provide(daemon: &Daemon) {
    let trusted = std::fs::read(TRUST).unwrap();
    let recipe = format!("3 {FROM} {PACKAGES:?} {}", hex_digest(&trusted));
    give(
        daemon,
        &kept("development", &recipe, |folder| made(folder, &trusted)),
    );
}

/// Gives a daemon that does not run yet a copy of an image store.
pub(crate) fn give(daemon: &Daemon, kept: &Path) {
    let state = daemon.state();
    std::fs::create_dir_all(&state).unwrap();
    let copy = |links: &[&str]| {
        let mut command = Command::new("cp");
        command.arg("-a").args(links).arg(kept);
        command.arg(state.join("images")).output().unwrap()
    };
    if !copy(&["--link"]).status.success() {
        // Another file system has no links to it.
        let _ = std::fs::remove_dir_all(state.join("images"));
        let copied = copy(&["--reflink=auto"]);
        assert!(copied.status.success(), "{copied:?}");
    }
}

/// The image store that `make` made for this recipe in a folder it is given, now or earlier.
pub(crate) fn kept(name: &str, recipe: &str, make: impl FnOnce(&Path) -> PathBuf) -> PathBuf {
    let (cache, _lock) = cache(&format!("{name}.lock"));
    let kept = cache.join(format!("{name}-{}", &hex_digest(recipe.as_bytes())[..16]));
    if kept.exists() {
        return kept;
    }
    let making = tempfile::Builder::new();
    let making = making.tempdir_in(&cache).unwrap();
    let images = make(making.path());
    std::fs::rename(images, &kept).unwrap();
    kept
}

/// Makes it in a daemon of its own; answers where its image store was moved to.
fn made(folder: &Path, trusted: &[u8]) -> PathBuf {
    let trust = (TRUST.trim_start_matches('/'), trusted.to_vec());
    let recipe = Recipe {
        from: FROM,
        packages: &PACKAGES,
        name: IMAGE,
        user: &USER,
        files: &[trust],
    };
    recipe.make(folder, |config| {
        let variables = config["Env"].as_array_mut().unwrap();
        variables.push("BASE_VAR=base".into());
        config["Cmd"] = serde_json::json!(["/bin/bash"]);
        config["User"] = "root".into();
    })
}

/// An image of a distribution with a user.
pub(crate) struct Recipe<'a> {
    pub(crate) from: &'a str,
    pub(crate) packages: &'a [&'a str],
    /// What it is called.
    pub(crate) name: &'a str,
    pub(crate) user: &'a User,
    /// Further files, of root's.
    pub(crate) files: &'a [(&'a str, Vec<u8>)],
}

impl Recipe<'_> {
    /// Makes it in a daemon of its own; answers where its image store was moved to.
    pub(crate) fn make(
        &self,
        folder: &Path,
        configure: impl FnOnce(&mut serde_json::Value),
    ) -> PathBuf {
        let layout = folder.join("layout");
        std::fs::create_dir(&layout).unwrap();
        let archive = folder.join("base.tar");
        let archive_text = archive.to_str().unwrap();
        let mut daemon = Daemon::start();
        let mut bootstrap = vec!["image", "bootstrap", self.from];
        for package in self.packages {
            bootstrap.extend(["--include", package]);
        }
        daemon.cli(&bootstrap).ok();
        daemon
            .cli(&["image", "export", self.from, archive_text])
            .ok();
        run(Command::new("tar")
            .arg("-xf")
            .arg(&archive)
            .arg("-C")
            .arg(&layout));
        amend::amend(
            &layout,
            |below| amend::user_layer(below, self.user, self.files),
            configure,
        );
        let layout = layout.to_str().unwrap();
        daemon
            .cli(&["image", "import", layout, "--tag", self.name])
            .ok();
        daemon.cli(&["image", "rm", self.from]).ok();
        daemon.kill();
        let images = folder.join("images");
        run(Command::new("mv")
            .arg(daemon.state().join("images"))
            .arg(&images));
        images
    }
}
