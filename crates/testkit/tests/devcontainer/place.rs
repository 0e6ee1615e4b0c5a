//! Where a case runs: `/w/NAME` of a mount namespace of its own.
//!
//! A `devcontainerId` depends on the workspace's path, so that cannot be a temporary one; a root
//! of bind mounts gives each case its own `/w` and leaves the host's as it is. The binary is
//! there under the name `devcontainer`, the calls of `docker` are answered by `docker.sh`. A case
//! that needs an engine has a daemon of its own in the same namespace; another has none, and
//! cannot start one.

use crate::case::{Case, Image};
use boatyard_testkit::{Daemon, Ran, daemon, development};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Makes the root and executes what follows in it: WORK BINARY COMMAND...
const ENTER: &str = r#"
set -e
work=$1 binary=$2; shift 2
mount -t tmpfs -o mode=755 boatyard-case /mnt
for entry in /*; do
  if [ -L "$entry" ]; then cp -P "$entry" "/mnt$entry"
  elif [ -d "$entry" ] && [ "$entry" != /mnt ] && [ "$entry" != /w ]; then
    mkdir "/mnt$entry"; mount --rbind "$entry" "/mnt$entry"
  fi
done
mkdir /mnt/w /mnt/mnt; mount --bind "$work/w" /mnt/w
mount --bind "$binary" "/mnt$work/bin/devcontainer"
mount --bind "$binary" "/mnt$work/bin/boatyard"
cd /mnt; mkdir .old; pivot_root . .old; umount --lazy /.old; cd /
exec "$@"
"#;
const DOCKER: &str = include_str!("docker.sh");
/// Of a case's command: a hanging one is ended and told.
const SECONDS: &str = "240";

/// A place of one case.
pub(crate) struct Place {
    name: String,
    uid: Option<u32>,
    daemon: Option<Daemon>,
    /// Of a case without a daemon.
    scratch: Option<tempfile::TempDir>,
}

impl Place {
    /// A place, with a running daemon where the case needs an engine.
    pub(crate) fn of(case: &Case) -> Self {
        let engine = case.needs.iter().any(|need| need == "engine");
        let place = Self {
            name: case.name.clone(),
            uid: case.as_uid,
            daemon: engine.then(Daemon::prepare),
            scratch: (!engine).then(|| tempfile::tempdir().unwrap()),
        };
        for folder in ["w/.home", "bin"] {
            std::fs::create_dir_all(place.folder().join(folder)).unwrap();
        }
        for program in ["devcontainer", "boatyard"] {
            std::fs::write(place.folder().join("bin").join(program), "").unwrap();
        }
        write(&place.folder().join("bin/docker"), DOCKER, true);
        place.start()
    }

    fn start(mut self) -> Self {
        let work = self.folder().to_str().unwrap().to_owned();
        if let Some(daemon) = &mut self.daemon {
            development::provide(daemon);
            let binary = daemon::binary();
            let mut enter = entering();
            enter.extend([work.as_str(), binary.to_str().unwrap()]);
            daemon.run_through(&enter, &[]);
            if self.uid.is_some() {
                // As membership in the socket's group does.
                let open = |mode| std::fs::Permissions::from_mode(mode);
                std::fs::set_permissions(daemon.folder(), open(0o755)).unwrap();
                std::fs::set_permissions(daemon.socket(), open(0o666)).unwrap();
            }
        }
        self
    }

    fn folder(&self) -> &Path {
        match (&self.daemon, &self.scratch) {
            (Some(daemon), _) => daemon.folder(),
            (None, Some(scratch)) => scratch.path(),
            (None, None) => unreachable!("a place has one or the other"),
        }
    }

    /// The workspace as the host sees it.
    pub(crate) fn workspace(&self) -> PathBuf {
        self.folder().join("w").join(&self.name)
    }

    /// Writes the case's files.
    pub(crate) fn write_files(&self, case: &Case) {
        std::fs::create_dir_all(self.workspace()).unwrap();
        for (path, text) in &case.files {
            let file = self.workspace().join(path);
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            write(&file, text, path.ends_with(".sh"));
        }
        if let Some(uid) = case.as_uid {
            let mut chown = Command::new("chown");
            chown.args(["-R", &format!("{uid}:{uid}")]);
            chown
                .arg(self.workspace())
                .arg(self.folder().join("w/.home"));
            assert!(chown.status().unwrap().success());
        }
    }

    /// Builds an image of the case, by our own builder.
    pub(crate) fn build(&self, image: &Image) {
        let folder = self.folder().join("w/.image");
        std::fs::create_dir_all(&folder).unwrap();
        write(&folder.join("Dockerfile"), &image.dockerfile, false);
        let script = format!("boatyard build --tag {} /w/.image", image.name);
        self.shell(&script, "/").ok();
    }

    /// Runs the case's command.
    pub(crate) fn run(&self, case: &Case) -> Ran {
        self.shell(&case.command, &format!("/w/{}", self.name))
    }

    fn shell(&self, script: &str, folder: &str) -> Ran {
        let mut command = match &self.daemon {
            Some(daemon) => {
                let mut command = Command::new("nsenter");
                command.args(["--mount", "--target", &daemon.pid().to_string(), "--"]);
                command
            }
            None => {
                let enter = entering();
                let mut command = Command::new(enter[0]);
                command.args(&enter[1..]);
                command.arg(self.folder()).arg(daemon::binary());
                command
            }
        };
        if let Some(uid) = self.uid {
            command.args([
                "setpriv",
                &format!("--reuid={uid}"),
                &format!("--regid={uid}"),
            ]);
            command.arg("--clear-groups");
        }
        command.args(["timeout", SECONDS, "bash", "-c"]);
        command.arg(format!("cd {folder} && {script}"));
        command.env_clear();
        if let Some(daemon) = &self.daemon {
            for (name, value) in daemon.boatyard(&[]).get_envs() {
                command.env(name, value.unwrap_or_default());
            }
        }
        if self.daemon.is_none() || self.uid.is_some() {
            // No command starts a daemon that this harness does not know.
            command.env("BOATYARD_STATE_DIR", "/dev/null/none");
        }
        let programs = self.folder().join("bin");
        let path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
        command
            .env("HOME", "/w/.home")
            .env("PATH", format!("{}:{path}", programs.display()))
            .env("TERM", "dumb")
            .env("FOO", "foo")
            .stdin(Stdio::null());
        command.output().unwrap().into()
    }

    /// What the case left for people: its own logs.
    pub(crate) fn logs(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.workspace()).unwrap().flatten();
        let logs = entries.filter(|entry| {
            let name = entry.file_name().into_string().unwrap_or_default();
            name.ends_with(".log") || name == "up.json"
        });
        logs.map(|log| {
            let text = std::fs::read_to_string(log.path()).unwrap_or_default();
            format!("--- {}\n{text}", log.file_name().display())
        })
        .collect()
    }
}

fn entering() -> Vec<&'static str> {
    let unshare = ["unshare", "--mount", "--propagation", "private"];
    [unshare.as_slice(), &["sh", "-c", ENTER, "enter"]].concat()
}

fn write(path: &Path, text: &str, executable: bool) {
    std::fs::write(path, text).unwrap();
    let mode = if executable { 0o755 } else { 0o644 };
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}
