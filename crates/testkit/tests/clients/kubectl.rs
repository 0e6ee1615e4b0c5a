//! kubectl, in three generations.
//!
//! A test is a function of a [`Kubectl`]; `with_every_kubectl!` makes a test per generation of it.

mod applying;
mod changing;
mod deleting;
mod discovering;
mod propagating;
mod sharing;
mod showing;
mod watching;

use crate::place::Place;
use crate::tools;
use boatyard_testkit::Ran;
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// One of the kubectls the set-up installs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Generation {
    name: &'static str,
}

pub(crate) const V36: Generation = Generation {
    name: "kubectl-v36",
};
pub(crate) const V32: Generation = Generation {
    name: "kubectl-v32",
};
/// The distribution's: 1.20 in Debian 12.
pub(crate) const DEBIAN: Generation = Generation {
    name: "kubectl-debian",
};

impl Generation {
    /// Starts a server and gives the test a kubectl to it.
    pub(crate) fn on_a_server(self, test: impl FnOnce(&mut Kubectl)) {
        if !tools::tools().join(self.name).exists() && !PathBuf::from("/usr/bin/apt-get").exists() {
            println!("skipped: there is no apt-get to fetch {} with", self.name);
            return;
        }
        let place = Place::start();
        let mut kubectl = Kubectl {
            binary: tools::tool(self.name),
            place,
            minor: 0,
        };
        let version = kubectl.ok("version --client -o json");
        let version: serde_json::Value = serde_json::from_str(&version).unwrap();
        let minor = version["clientVersion"]["minor"].as_str().unwrap();
        kubectl.minor = minor.trim_end_matches('+').parse().unwrap();
        test(&mut kubectl);
    }
}

/// A kubectl with the administrator's kubeconfig.
pub(crate) struct Kubectl {
    binary: PathBuf,
    pub(crate) place: Place,
    /// 36 for kubectl 1.36.
    pub(crate) minor: u32,
}

impl Kubectl {
    /// A command, not yet run.
    pub(crate) fn command<'a>(&self, arguments: impl IntoIterator<Item = &'a str>) -> Command {
        let mut command = Command::new(&self.binary);
        command
            .arg("--kubeconfig")
            .arg(self.place.kubeconfig())
            .arg("--cache-dir")
            .arg(self.place.folder().join("kubectl-cache"))
            .args(arguments)
            .env_remove("KUBECONFIG")
            .env("HOME", self.place.folder())
            .env("TMPDIR", self.place.folder())
            .stdin(Stdio::null());
        command
    }

    /// Runs a command line of words without spaces in them.
    #[track_caller]
    pub(crate) fn run(&self, line: &str) -> Ran {
        self.fed(line, "")
    }

    /// The same, with something on standard input.
    #[track_caller]
    pub(crate) fn fed(&self, line: &str, input: &str) -> Ran {
        tools::run(&mut self.command(line.split_whitespace()), input)
    }

    /// Runs it; it must succeed. Gives its standard output.
    #[track_caller]
    pub(crate) fn ok(&self, line: &str) -> String {
        self.run(line).ok()
    }

    /// Runs it with one more argument that may have spaces.
    #[track_caller]
    pub(crate) fn ok_with(&self, line: &str, argument: &str) -> String {
        let words = line.split_whitespace().chain([argument]);
        tools::run(&mut self.command(words), "").ok()
    }

    /// Runs it; it must exit with 1. Gives its standard error.
    #[track_caller]
    pub(crate) fn fails(&self, line: &str) -> String {
        let ran = self.run(line);
        assert_eq!(ran.code, 1, "{line}: {ran:?}");
        ran.stderr
    }

    /// Waits until an object is gone; kubectl before 1.26 complains when it is gone already.
    #[track_caller]
    pub(crate) fn sees_go(&self, what: &str) {
        let ran = self.run(&format!("wait --for=delete {what} --timeout=60s"));
        let gone = ["no matching resources found", "(NotFound)"];
        let before = self.minor < 26 && gone.iter().any(|text| ran.stderr.contains(text));
        assert!(ran.code == 0 || before, "{ran:?}");
    }

    /// Applies a manifest from standard input.
    #[track_caller]
    pub(crate) fn apply(&self, manifest: &str) -> String {
        self.fed("apply -f -", manifest).ok()
    }

    /// An object, whole.
    #[track_caller]
    pub(crate) fn object(&self, what: &str) -> serde_json::Value {
        serde_json::from_str(&self.ok(&format!("get {what} -o json"))).unwrap()
    }
}

/// An environment with a label, as a manifest. It names a runner, so nothing places it.
pub(crate) fn environment(name: &str, tier: &str) -> String {
    format!(
        "apiVersion: boatyard.dev/v1
kind: Environment
metadata:
  name: {name}
  labels: {{tier: {tier}}}
spec:
  runnerName: none
  devcontainer:
    image: example/image:1
---
"
    )
}

/// A test per generation for each function named.
macro_rules! with_every_kubectl {
    ($($test:ident),* $(,)?) => {
        with_every_kubectl!(v36 = V36: $($test),*);
        with_every_kubectl!(v32 = V32: $($test),*);
        with_every_kubectl!(debian = DEBIAN: $($test),*);
    };
    ($module:ident = $generation:ident: $($test:ident),*) => {
        mod $module {
            $(#[test]
            fn $test() {
                crate::kubectl::$generation.on_a_server(super::$test);
            })*
        }
    };
}
pub(crate) use with_every_kubectl;
