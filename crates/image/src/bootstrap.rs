//! Makes a base image straight from a distribution's mirror, with no registry.
//!
//! mmdebstrap writes a tar to its standard output; it takes the same way into
//! the layer store as a layer from a registry. The signatures of the mirror
//! are checked by apt with the host's keyrings.
//!
//! It mounts the host's /dev and /proc into its tree, and is run in mount and
//! pid namespaces of its own: those mounts never show where a clean-up could
//! delete through them, and it ends, with all its children, when this process
//! does, however that ends. Its scratch space lies in our staging.
//!
//! The image that results is of one layer, holds no host's name or resolver,
//! and is the same for the same packages of the mirror: times are clamped to
//! `SOURCE_DATE_EPOCH`, which is taken from the environment if it is there.

use std::io::Read as _;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use crate::config::{RawConfig, plain_manifest};
use crate::digest::Digest;
use crate::images::{Inner, blocking};
use crate::{Error, Image, Images, LayerProgress, Phase, Progress, Reference};

struct Recipe {
    distribution: &'static str,
    suite: String,
    slim: bool,
}

const DEBIAN: [&str; 6] = ["bullseye", "bookworm", "trixie", "forky", "sid", "stable"];
const UBUNTU: [(&str, &str); 6] = [
    ("20.04", "focal"),
    ("22.04", "jammy"),
    ("24.04", "noble"),
    ("25.04", "plucky"),
    ("25.10", "questing"),
    ("26.04", "resolute"),
];
/// What documentation a slim image goes without, licences excepted.
const SLIM: [&str; 6] = [
    "path-exclude=/usr/share/man/*",
    "path-exclude=/usr/share/info/*",
    "path-exclude=/usr/share/locale/*",
    "path-exclude=/usr/share/doc/*",
    "path-include=/usr/share/doc/*/copyright",
    "path-exclude=/usr/share/lintian/*",
];

/// What is put in beside the distribution's minimum when nothing is asked for:
/// without certificates nothing can be fetched.
#[must_use]
pub fn default_packages() -> &'static [&'static str] {
    &["ca-certificates"]
}

impl Images {
    /// Makes `debian:bookworm`, `debian:bookworm-slim`, `ubuntu:24.04` and the
    /// like, and gives it that local tag.
    ///
    /// # Errors
    /// The distribution is unknown, mmdebstrap is missing or failed.
    pub async fn bootstrap(
        &self,
        reference: &Reference,
        packages: &[String],
        progress: Arc<dyn Progress>,
    ) -> Result<Image, Error> {
        let recipe = recipe(reference)?;
        for package in packages {
            if !valid_package(package) {
                return Err(Error::BadPackage {
                    package: package.clone(),
                });
            }
        }
        let (stop, stopped) = std::sync::mpsc::channel::<()>();
        let inner = Arc::clone(&self.inner);
        let reference = reference.clone();
        let packages = packages.to_vec();
        let image = blocking("bootstrap an image", move || {
            inner.bootstrap(&reference, &recipe, &packages, &progress, stopped)
        })
        .await;
        // Dropped with the future: then mmdebstrap is ended.
        drop(stop);
        image
    }
}

impl Inner {
    fn bootstrap(
        &self,
        reference: &Reference,
        recipe: &Recipe,
        packages: &[String],
        progress: &Arc<dyn Progress>,
        stopped: std::sync::mpsc::Receiver<()>,
    ) -> Result<Image, Error> {
        let mirror = self.options.distribution_mirrors.get(recipe.distribution);
        let mirror_name = mirror
            .cloned()
            .unwrap_or_else(|| format!("{}'s own mirrors", recipe.distribution));
        let scratch = self.store.stage()?;
        let failed = |problem: String| Error::Bootstrap {
            reference: reference.to_string(),
            mirror: mirror_name.clone(),
            problem,
        };
        progress.message(&format!("making {reference} from {mirror_name}"));
        if !on_path("mmdebstrap") {
            return Err(Error::BootstrapMissing {
                reference: reference.to_string(),
            });
        }
        let mut child = command(
            recipe,
            packages,
            mirror,
            &self.options.architecture,
            scratch.path(),
        )
        .spawn()
        .map_err(|error| {
            failed(format!(
                "setpriv, of util-linux, cannot be started: {error}"
            ))
        })?;
        let output = child
            .stdout
            .take()
            .ok_or_else(|| failed("mmdebstrap has no output".to_owned()))?;
        let complaints = child
            .stderr
            .take()
            .ok_or_else(|| failed("mmdebstrap has no output".to_owned()))?;
        let running = Running {
            child: std::sync::Mutex::new(Some(child)),
        };
        let (unpacked, last_words) = std::thread::scope(|scope| {
            let reporter = Arc::clone(progress);
            let words = scope.spawn(move || relay(complaints, &*reporter));
            let running = &running;
            // Ends when the sender is dropped, whether the caller gave up or
            // the unpacking is over (which ends mmdebstrap's life too).
            let (over, is_over) = std::sync::mpsc::channel::<()>();
            scope.spawn(move || watch(running, &stopped, &is_over));
            let id = recipe.suite.clone();
            let reader = Counting {
                inner: output,
                progress,
                id: &id,
                done: 0,
                told: 0,
            };
            let flushing = || report(progress, &id, Phase::Verifying, 0);
            let unpacked = self.store.unpack(
                &reference.to_string(),
                &recipe.suite,
                std::io::BufReader::with_capacity(256 << 10, reader),
                &self.options.limits,
                flushing,
            );
            if unpacked.is_err() {
                running.end();
            }
            drop(over);
            (unpacked, words.join().unwrap_or_default())
        });
        let status = running
            .wait()
            .map_err(|error| failed(format!("mmdebstrap cannot be awaited: {error}")))?;
        if !status.success() {
            let reason = if last_words.is_empty() {
                status.to_string()
            } else {
                last_words
            };
            return Err(failed(reason));
        }
        let unpacked = unpacked?;
        drop(scratch);
        let id = unpacked.id.clone();
        let tar_bytes = unpacked.facts.tar_bytes;
        let config_bytes = config(&self.options.architecture, id.digest());
        let config: RawConfig = serde_json::from_slice(&config_bytes)
            .map_err(|error| failed(format!("its config cannot be written: {error}")))?;
        let manifest = plain_manifest(&config_bytes, &[(id.digest().clone(), tar_bytes)])
            .map_err(|error| failed(format!("its manifest cannot be written: {error}")))?;
        let held = [
            id.digest().clone(),
            Digest::of(&config_bytes),
            Digest::of(&manifest),
        ];
        let _hold = self.holds.hold(&held)?;
        self.store.publish(unpacked)?;
        let image = self.enter(reference, &manifest, &config_bytes, &config, false)?;
        report(progress, &recipe.suite, Phase::Done, tar_bytes);
        Ok(image)
    }
}

fn recipe(reference: &Reference) -> Result<Recipe, Error> {
    let unknown = || Error::UnknownDistribution {
        reference: reference.to_string(),
        supported: format!(
            "debian:NAME and debian:NAME-slim ({}) and ubuntu:NAME or ubuntu:VERSION ({})",
            DEBIAN.join(", "),
            UBUNTU
                .map(|(version, name)| format!("{name}, {version}"))
                .join(", "),
        ),
    };
    let tag = reference.tag().ok_or_else(unknown)?;
    if reference.digest().is_some() {
        return Err(unknown());
    }
    let (name, slim) = match tag.strip_suffix("-slim") {
        Some(name) => (name, true),
        None => (tag, false),
    };
    let name = if name == "latest" { "stable" } else { name };
    match reference.repository().rsplit('/').next() {
        Some("debian") if DEBIAN.contains(&name) => Ok(Recipe {
            distribution: "debian",
            suite: name.to_owned(),
            slim,
        }),
        Some("ubuntu") => {
            let (_, suite) = UBUNTU
                .iter()
                .find(|(version, suite)| *version == name || *suite == name)
                .ok_or_else(unknown)?;
            Ok(Recipe {
                distribution: "ubuntu",
                suite: (*suite).to_owned(),
                slim,
            })
        }
        _ => Err(unknown()),
    }
}

fn valid_package(name: &str) -> bool {
    name.len() >= 2
        && name.bytes().all(|byte| {
            byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"+-.".contains(&byte)
        })
        && name.as_bytes()[0].is_ascii_alphanumeric()
}

fn command(
    recipe: &Recipe,
    packages: &[String],
    mirror: Option<&String>,
    architecture: &str,
    scratch: &std::path::Path,
) -> Command {
    let mut include: Vec<&str> = default_packages().to_vec();
    include.extend(packages.iter().map(String::as_str));
    let mut command = Command::new("setpriv");
    command
        .args(["--pdeathsig", "KILL", "--"])
        .args([
            "unshare",
            "--mount",
            "--pid",
            "--fork",
            "--kill-child",
            "--mount-proc",
            "--",
        ])
        .arg("mmdebstrap")
        .args(["--variant=minbase", "--mode=root", "--format=tar"])
        .arg(format!("--architectures={architecture}"))
        .arg(format!("--include={}", include.join(",")))
        .arg("--aptopt=Acquire::Languages \"none\"")
        .args([
            "--aptopt=Acquire::Retries \"3\"",
            "--aptopt=Acquire::http::Timeout \"30\"",
        ])
        // Both would be the host's.
        .arg("--customize-hook=rm -f \"$1/etc/resolv.conf\" \"$1/etc/hostname\"")
        .arg("--customize-hook=rm -f \"$1/etc/machine-id\" \"$1/var/lib/dbus/machine-id\"");
    if recipe.slim {
        command.args(SLIM.map(|line| format!("--dpkgopt={line}")));
    }
    command.arg(&recipe.suite).arg("-");
    if let Some(mirror) = mirror {
        command.arg(mirror);
    }
    if std::env::var_os("http_proxy").is_none()
        && let Some(proxy) = host_proxy()
    {
        command.env("http_proxy", proxy);
    }
    command
        .env("TMPDIR", scratch)
        .env("LC_ALL", "C.UTF-8")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        // Its own group, so that all of it can be ended at once.
        .process_group(0);
    command
}

fn on_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
}

/// The host's apt may have one; the image must not, so no apt option is passed.
fn host_proxy() -> Option<String> {
    let output = Command::new("apt-config")
        .args(["shell", "PROXY", "Acquire::http::Proxy"])
        .output()
        .ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let value = text.trim().strip_prefix("PROXY='")?.strip_suffix('\'')?;
    (!value.is_empty() && value != "DIRECT").then(|| value.to_owned())
}

struct Running {
    child: std::sync::Mutex<Option<Child>>,
}

impl Running {
    /// The first of its pid namespace is among them, so all end.
    fn end(&self) {
        let child = self
            .child
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        let pid = child
            .as_ref()
            .and_then(|child| rustix::process::Pid::from_raw(child.id().cast_signed()));
        if let Some(pid) = pid {
            let _ = rustix::process::kill_process_group(pid, rustix::process::Signal::KILL);
        }
    }

    fn wait(&self) -> std::io::Result<std::process::ExitStatus> {
        let mut child = self
            .child
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        match child.as_mut() {
            Some(child) => child.wait(),
            None => Err(std::io::ErrorKind::NotFound.into()),
        }
    }
}

fn watch(
    running: &Running,
    stopped: &std::sync::mpsc::Receiver<()>,
    over: &std::sync::mpsc::Receiver<()>,
) {
    use std::sync::mpsc::RecvTimeoutError;
    loop {
        if matches!(
            stopped.recv_timeout(Duration::from_millis(100)),
            Err(RecvTimeoutError::Disconnected)
        ) {
            running.end();
            return;
        }
        if matches!(
            over.try_recv(),
            Err(std::sync::mpsc::TryRecvError::Disconnected)
        ) {
            return;
        }
    }
}

/// Passes on what mmdebstrap says; gives its last complaints.
fn relay(complaints: std::process::ChildStderr, progress: &dyn Progress) -> String {
    use std::io::BufRead as _;
    let mut errors: Vec<String> = Vec::new();
    let mut reader = std::io::BufReader::new(complaints);
    let mut line = Vec::new();
    loop {
        line.clear();
        match reader.by_ref().take(4096).read_until(b'\n', &mut line) {
            Ok(0) | Err(_) => break,
            Ok(_) => {}
        }
        // Progress bars overwrite themselves.
        let text = String::from_utf8_lossy(&line);
        let text = text
            .rsplit('\r')
            .find(|part| !part.trim().is_empty())
            .unwrap_or_default()
            .trim();
        if text.is_empty() {
            continue;
        }
        if let Some(news) = text.strip_prefix("I: ") {
            progress.message(news);
        }
        if text.starts_with("E: ") || text.starts_with("W: Failed") {
            errors.push(text[3..].to_owned());
        }
    }
    // The first complaint is the cause, later ones its consequences.
    errors.truncate(2);
    errors.join("; ")
}

struct Counting<'a, R> {
    inner: R,
    progress: &'a Arc<dyn Progress>,
    id: &'a str,
    done: u64,
    told: u64,
}

impl<R: std::io::Read> std::io::Read for Counting<'_, R> {
    fn read(&mut self, bytes: &mut [u8]) -> std::io::Result<usize> {
        let count = self.inner.read(bytes)?;
        self.done += count as u64;
        if self.done - self.told > 1 << 20 || count == 0 {
            self.told = self.done;
            report(self.progress, self.id, Phase::Downloading, self.done);
        }
        Ok(count)
    }
}

fn report(progress: &Arc<dyn Progress>, id: &str, phase: Phase, bytes_done: u64) {
    progress.layer(
        id,
        LayerProgress {
            phase,
            bytes_done,
            bytes_total: 0,
        },
    );
}

fn config(architecture: &str, diff_id: &Digest) -> Vec<u8> {
    let config = serde_json::json!({
        "architecture": architecture,
        "os": "linux",
        "config": {
            "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
            "Cmd": ["bash"],
        },
        "rootfs": { "type": "layers", "diff_ids": [diff_id] },
        "history": [{ "created_by": "mmdebstrap" }],
    });
    config.to_string().into_bytes()
}

#[cfg(test)]
mod tests;
