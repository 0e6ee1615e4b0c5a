//! The verbs of `devcontainer`, beside the reference command line over podman.
//!
//! Both sides are given the same files, the same image (the tests' Debian) on disk, and each round
//! an environment of its own. The reference is the npm package that `devcontainer/package.json`
//! pins; podman's storage and limits are given by its own configuration files, so that the
//! reference calls it as it comes.
//!
//! Read next: `devcontainer/builds.rs`, `figures`.

mod builds;
mod mirror;

use crate::figures::{Contender, Table, time};
use crate::output;
use boatyard_testkit::{Daemon, development};
use rustix::process::{Resource, getrlimit};
use std::path::PathBuf;
use std::process::Command;

pub(crate) fn run(rounds: usize, [verbs, builds]: [bool; 2], table: &mut Table) {
    let mut daemon = Daemon::prepare();
    development::provide(&daemon);
    daemon.run(&[]);
    let reference = Reference::beside(&daemon);
    println!(
        "@devcontainers/cli {}, {}\n",
        output(Command::new("node").arg(&reference.script).arg("--version")).trim(),
        output(Command::new("node").arg("--version"))
            .trim()
            .replace('v', "node ")
    );
    if verbs {
        self::verbs(&daemon, &reference, rounds, table);
    }
    if builds {
        builds::run(&daemon, &reference, rounds, table);
    }
    reference.end();
}

/// What the reference needs to run.
struct Reference {
    script: PathBuf,
    folder: PathBuf,
}

impl Reference {
    /// Podman with storage beside this daemon's, which holds the daemon's image.
    fn beside(daemon: &Daemon) -> Self {
        let home = std::env::var_os("HOME").unwrap();
        let packages = PathBuf::from(home).join(".cache/boatyard/tools/devcontainer/node_modules");
        let script = packages.join("@devcontainers/cli/devcontainer.js");
        assert!(
            script.exists(),
            "{} is missing: run `cargo xtask setup bench`",
            script.display()
        );
        let folder = daemon.folder().join("reference");
        std::fs::create_dir_all(&folder).unwrap();
        let shown = folder.display();
        let storage = format!(
            "[storage]\ndriver = \"overlay\"\ngraphroot = \"{shown}/storage\"\nrunroot = \"{shown}/run\"\n"
        );
        std::fs::write(folder.join("storage.conf"), storage).unwrap();
        // No higher than this host's, which crun would refuse to run without.
        let limits =
            [("nofile", Resource::Nofile), ("nproc", Resource::Nproc)].map(|(name, of)| {
                let most = getrlimit(of).maximum.unwrap_or(u64::MAX).min(1 << 14);
                format!("\"{name}={most}:{most}\"")
            });
        let limits = format!("[containers]\ndefault_ulimits = [{}]\n", limits.join(", "));
        std::fs::write(folder.join("containers.conf"), limits).unwrap();
        let reference = Self { script, folder };
        let archive = reference.folder.join("image.tar");
        let archive = archive.to_str().unwrap();
        let image = development::IMAGE;
        daemon.cli(&["image", "export", image, archive]).ok();
        let loaded = reference.podman(&["load", "--quiet", "--input", archive]);
        let id = loaded.trim().rsplit(' ').next().unwrap().to_owned();
        std::fs::remove_file(archive).unwrap();
        // Podman builds nothing on an image of several layers that has no history: one of one
        // layer, which it is better off with.
        let made = reference.podman(&["create", id.trim_start_matches("sha256:")]);
        reference.podman(&["export", "--output", archive, made.trim()]);
        reference.podman(&["rm", made.trim()]);
        let mut import = vec!["import", "--quiet"];
        let changes = [
            "CMD [\"/bin/bash\"]",
            "ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "ENV BASE_VAR=base",
        ];
        for change in changes {
            import.extend(["--change", change]);
        }
        import.extend([archive, image]);
        reference.podman(&import);
        std::fs::remove_file(archive).unwrap();
        reference
    }

    fn configured(&self, mut command: Command) -> Command {
        command
            .env("CONTAINERS_STORAGE_CONF", self.folder.join("storage.conf"))
            .env("CONTAINERS_CONF", self.folder.join("containers.conf"));
        command
    }

    fn podman(&self, arguments: &[&str]) -> String {
        let mut command = self.configured(Command::new("podman"));
        output(command.args(arguments))
    }

    /// Runs one of its verbs.
    fn verb(&self, verb: &str, arguments: &[&str]) -> String {
        let mut command = self.configured(Command::new("node"));
        command
            .arg(&self.script)
            .args([verb, "--docker-path", "podman"])
            .arg("--user-data-folder")
            .arg(self.folder.join("data"))
            .args(arguments);
        output(&mut command)
    }

    /// Waits until podman has cleaned up behind its commands' backs, which would be measured as
    /// ours. A container that runs keeps its `podman run`.
    fn settle(&self) {
        let folder = self.folder.to_str().unwrap();
        let cleans = |process: &std::path::Path| {
            let command = std::fs::read(process.join("cmdline")).unwrap_or_default();
            let command = String::from_utf8_lossy(&command);
            command.contains(folder) && command.contains("cleanup") && !command.contains("conmon")
        };
        boatyard_testkit::wait::until("podman to be done", || {
            let mut processes = std::fs::read_dir("/proc").unwrap().flatten();
            (!processes.any(|entry| cleans(&entry.path()))).then_some(())
        });
    }

    fn down(&self) {
        self.podman(&["rm", "--all", "--force", "--time", "0"]);
        self.settle();
    }

    fn end(&self) {
        self.down();
        self.podman(&["system", "reset", "--force"]);
    }
}

/// One of our verbs.
fn ours(daemon: &Daemon, verb: &str, arguments: &[&str]) -> String {
    daemon
        .cli(&[&["devcontainer", verb], arguments].concat())
        .ok()
}

fn contenders() -> [Contender; 2] {
    [
        Contender::new("the reference, podman"),
        Contender::new("`boatyard devcontainer`"),
    ]
}

fn verbs(daemon: &Daemon, reference: &Reference, rounds: usize, table: &mut Table) {
    let image = development::IMAGE;
    let folder = daemon.project("verbs", &format!("{{\"image\": \"{image}\"}}"));
    let on = ["--workspace-folder", folder.as_str()];
    let steps: [(&str, Vec<&str>); 4] = [
        ("read-configuration", on.to_vec()),
        ("up", on.to_vec()),
        ("up", on.to_vec()),
        ("exec", [&on[..], &["true"]].concat()),
    ];
    let mut tables = steps.each_ref().map(|_| contenders());
    for round in 0..=rounds {
        for ((verb, arguments), contenders) in steps.iter().zip(&mut tables) {
            let theirs = time(|| drop(reference.verb(verb, arguments)));
            reference.settle();
            let own = time(|| drop(ours(daemon, verb, arguments)));
            // The first round warms both.
            if round > 0 {
                contenders[0].add(theirs);
                contenders[1].add(own);
            }
        }
        reference.down();
        ours(daemon, "down", &on);
    }
    let titles = [
        "`devcontainer read-configuration`",
        "`devcontainer up`, image on disk",
        "`devcontainer up` of what runs",
        "`devcontainer exec true`",
    ];
    for (title, contenders) in titles.iter().zip(&tables) {
        table.compare(title, contenders);
    }
}
