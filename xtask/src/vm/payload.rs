//! The disk of what runs in the machine: freshly built tests, the binary, scripts.
//!
//! Owns which tests those are in each form of the run. Whole, by three machines one after the other: every
//! test of crates/sandbox, those of crates/testkit that need nothing but this machine, and what a user
//! does. Short, for every change:
//! the same without what takes long by emulation. Programs are found inside by the paths at which
//! they were built, since tests name those they start so.
//!
//! Read next: `run.sh`, which runs them.

use super::machine::Speed;
use crate::process;
use anyhow::{Context, Result, bail};
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

const RUN: &str = include_str!("run.sh");
const UP: &str = include_str!("up.sh");
const OVERBOOK: &str = include_str!("overbook.sh");
const IO: &str = include_str!("io.sh");
const HEAP: [(&str, &str); 2] = [
    ("heap.py", include_str!("heap.py")),
    ("heap.js", include_str!("heap.js")),
];
const NATIVE: &str = include_str!("native.sh");

/// Two processors: tests of one program run in two threads, as in `make test`.
const PLAIN: &str = "--test-threads=2 --show-output --color=never";

/// Programs of tests, and how they are started.
struct Part {
    /// Of which crate.
    krate: &'static str,
    /// Which of its programs; all where none is named.
    programs: &'static [&'static str],
    arguments: String,
}

/// Tests of crates/testkit that need neither a registry nor packages, in this order.
const FURTHER: &[&str] = &["disk", "shares", "resources", "reclaim"];

/// Of the short form: what version 2 of cgroups and this kernel do otherwise than others, from
/// crates/sandbox (names of tests may begin so) and, by whole stories, from crates/testkit.
const CORE: &str = "group:: unified:: inside:: view:: files:: members:: quotas";
const STORIES: &str = "what_a_shell_starts a_changed_class a_builder_is_killed";

/// What a slow disk does in a second, so that emulated processors fill it.
const DISK: Speed = Speed {
    bytes: 30 << 20,
    requests: 1000,
};

/// What is run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// Everything.
    Whole,
    /// What is worth its minutes at every change.
    Short,
    /// The measurement of overbooked memory.
    Overbook,
    /// The measurement of a neighbour's flood at a disk of a definite speed, and its arguments.
    Io(Vec<String>),
    /// Tests of crates/sandbox by name, and arguments for their programs.
    Chosen(Vec<String>),
    /// One program of crates/testkit, all of them (`testkit`), or what a user does (`up`), and
    /// arguments.
    One(&'static str, Vec<String>),
}

impl Form {
    pub(super) fn parse(words: &[&str]) -> Self {
        let owned = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect();
        match words {
            [] => Self::Whole,
            ["short"] => Self::Short,
            ["overbook"] => Self::Overbook,
            ["io", rest @ ..] => Self::Io(owned(rest)),
            ["up"] => Self::One("up", Vec::new()),
            ["sandbox", rest @ ..] => Self::Chosen(owned(rest)),
            ["testkit", rest @ ..] => Self::One("testkit", owned(rest)),
            [first, rest @ ..] => match FURTHER.iter().find(|name| *name == first) {
                Some(name) => Self::One(name, owned(rest)),
                None => Self::Chosen(owned(words)),
            },
        }
    }

    /// Memory of the machine, as QEMU writes it.
    pub(super) fn memory(&self) -> &'static str {
        if *self == Self::Overbook { "4G" } else { "2G" }
    }

    /// One form for each machine that is booted, one after the other: everything together takes longer
    /// than anybody waits to see whether a machine hangs.
    pub(super) fn machines(self) -> Vec<Self> {
        match self {
            Self::Whole => vec![
                Self::Chosen(Vec::new()),
                Self::One("testkit", Vec::new()),
                Self::One("up", Vec::new()),
            ],
            form => vec![form],
        }
    }

    /// The most its disk for state does in a second, whatever the host's does: where a flood is to fill it.
    pub(super) fn speed(&self) -> Option<Speed> {
        matches!(self, Self::Io(_) | Self::One("testkit" | "shares", _)).then_some(DISK)
    }

    /// How long the machine may run: emulation is some five times slower than the host.
    pub(super) fn longest(&self) -> Duration {
        Duration::from_secs(60 * if *self == Self::Short { 15 } else { 45 })
    }

    fn parts(&self) -> Vec<Part> {
        let part = |krate, programs, arguments: &str| Part {
            krate,
            programs,
            arguments: format!("{PLAIN} {arguments}").trim_end().to_owned(),
        };
        match self {
            Self::Short => vec![
                part("sandbox", &["sandbox"], CORE),
                part("testkit", &["shares", "resources"], STORIES),
            ],
            Self::Chosen(words) => vec![part("sandbox", &[], &words.join(" "))],
            // Those of everything are its machines'.
            Self::Whole | Self::One("up", _) | Self::Overbook | Self::Io(_) => Vec::new(),
            Self::One(name, words) => {
                let programs = FURTHER.iter().position(|other| other == name);
                let programs = programs.map_or(FURTHER, |at| &FURTHER[at..=at]);
                vec![part("testkit", programs, &words.join(" "))]
            }
        }
    }

    /// Whether it starts the binary `boatyard`.
    fn takes_binary(&self) -> bool {
        matches!(self, Self::Short | Self::Io(_) | Self::One(..))
    }
}

impl fmt::Display for Form {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, words): (_, &[String]) = match self {
            Self::Whole => ("everything", &[]),
            Self::Short => ("short", &[]),
            Self::Overbook => ("overbook", &[]),
            Self::Io(words) => ("io", words),
            Self::Chosen(words) => ("sandbox", words),
            Self::One(name, words) => (*name, words),
        };
        f.write_str(name)?;
        words.iter().try_for_each(|word| write!(f, " {word}"))
    }
}

/// Builds what the form needs and packs it into `<payload>.ext4`.
pub(super) fn pack(root: &Path, payload: &Path, form: &Form) -> Result<()> {
    if payload.exists() {
        std::fs::remove_dir_all(payload).with_context(|| payload.display().to_string())?;
    }
    std::fs::create_dir_all(payload).with_context(|| payload.display().to_string())?;
    let mut packed = Packed {
        payload,
        tests: String::new(),
        places: String::new(),
        count: 0,
    };
    if *form == Form::Short {
        // What `make test` builds: asked for less, cargo would choose other features and build anew.
        println!("test-vm: building everything, unless `make test` has");
        let built = built(root, &["build", "--workspace", "--all-targets"])?;
        for part in form.parts() {
            packed.add(&built, &part)?;
        }
    } else {
        for part in form.parts() {
            println!("test-vm: building tests of crates/{}", part.krate);
            let package = format!("boatyard-{}", part.krate);
            let mut words = vec!["test", "--no-run", "--package", &package];
            for program in part.programs {
                words.extend(["--test", program]);
            }
            packed.add(&built(root, &words)?, &part)?;
        }
        if matches!(form, Form::Io(_)) {
            println!("test-vm: building the benchmark");
            let words = ["build", "--package", "boatyard-testkit", "--bin", "bench"];
            let built = built(root, &words)?;
            let bench = built.iter().find(|program| program.name == "bench");
            packed.copy(&bench.context("cargo built no benchmark")?.path, "bench")?;
        }
        if form.takes_binary() {
            println!("test-vm: building the binary `boatyard`");
            process::run(process::cargo(root).args(["build", "--package", "boatyard-cli"]))?;
        }
    }
    if form.takes_binary() {
        packed.copy(&process::target(root).join("debug/boatyard"), "boatyard")?;
    }
    if matches!(form, Form::Short | Form::One("up", _)) {
        packed.script("up.sh", "", UP)?;
    }
    if let Form::Io(words) = form {
        packed.script("io.sh", &words.join(" "), IO)?;
    }
    if *form == Form::Overbook {
        for (name, text) in HEAP {
            write(&payload.join(name), text)?;
        }
        process::run(
            Command::new("sh")
                .args(["-c", NATIVE, "native.sh"])
                .arg(payload)
                .arg(root),
        )?;
        packed.script("overbook.sh", "", OVERBOOK)?;
    }
    write(&payload.join("tests"), &packed.tests)?;
    write(&payload.join("places"), &packed.places)?;
    write(&payload.join("run.sh"), RUN)?;
    let image = payload.with_extension("ext4");
    let _ = std::fs::remove_file(&image);
    let file = std::fs::File::create(&image).with_context(|| image.display().to_string())?;
    file.set_len(2 << 30)
        .with_context(|| image.display().to_string())?;
    process::run(
        Command::new("/sbin/mke2fs")
            .args(["-q", "-t", "ext4", "-m", "0", "-d"])
            .arg(payload)
            .arg(&image),
    )
}

/// What is on the disk so far.
struct Packed<'a> {
    payload: &'a Path,
    /// Lines of a program and its arguments.
    tests: String,
    /// Lines of a program and the path it was built at.
    places: String,
    count: usize,
}

impl Packed<'_> {
    fn copy(&self, from: &Path, name: &str) -> Result<()> {
        std::fs::copy(from, self.payload.join(name))
            .map(drop)
            .with_context(|| from.display().to_string())
    }

    /// Adds the programs of a part; those that are tests are run.
    fn add(&mut self, built: &[Program], part: &Part) -> Result<()> {
        let wanted = |program: &&Program| {
            program.krate == part.krate
                && if program.is_test {
                    part.programs.is_empty() || part.programs.contains(&program.name.as_str())
                } else {
                    // Those of crates/testkit are benchmarks.
                    part.krate == "sandbox"
                }
        };
        let mut tests = 0;
        let mut chosen: Vec<&Program> = built.iter().filter(wanted).collect();
        chosen.sort_by_key(|program| part.programs.iter().position(|name| *name == program.name));
        for program in chosen {
            // One that tests start is needed at its place once, whoever needs it.
            let place = format!(" {}\n", program.path.display());
            if self.places.contains(&place) {
                continue;
            }
            let name = format!("{}-{}", self.count, program.name);
            self.count += 1;
            self.copy(&program.path, &name)?;
            if program.is_test {
                tests += 1;
                self.tests += &format!("{name} {}\n", part.arguments);
            }
            self.places += &(name + &place);
        }
        if tests == 0 || tests < part.programs.len() {
            bail!(
                "cargo built {tests} of the tests {:?} of crates/{}",
                part.programs,
                part.krate
            );
        }
        Ok(())
    }

    fn script(&mut self, name: &str, arguments: &str, text: &str) -> Result<()> {
        self.tests += format!("{name} {arguments}").trim_end();
        self.tests.push('\n');
        write(&self.payload.join(name), text)
    }
}

/// What cargo built on being told `words`.
fn built(root: &Path, words: &[&str]) -> Result<Vec<Program>> {
    let messages = process::output(
        process::cargo(root)
            .args(words)
            .arg("--message-format=json"),
    )?;
    Ok(programs(&messages))
}

/// Something cargo built that can be started.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Program {
    /// The folder of its crate.
    pub(super) krate: String,
    pub(super) name: String,
    pub(super) path: PathBuf,
    pub(super) is_test: bool,
}

/// Reads cargo's messages. Paths with quotes or backslashes are not for this tool.
pub(super) fn programs(messages: &str) -> Vec<Program> {
    messages.lines().filter_map(program).collect()
}

fn program(message: &str) -> Option<Program> {
    let text = |after: &str| {
        let (_, rest) = message.split_once(after)?;
        rest.split_once('"').map(|(text, _)| text)
    };
    let path = text("\"executable\":\"")?;
    // `path+file:///checkout/crates/sandbox#boatyard-sandbox@0.1.0`
    let (folder, _) = text("\"package_id\":\"")?.rsplit_once('#')?;
    let (_, target) = message.split_once("\"target\":")?;
    let (_, name) = target.split_once("\"name\":\"")?;
    let (_, profile) = message.split_once("\"profile\":")?;
    let (profile, _) = profile.split_once('}')?;
    Some(Program {
        krate: folder.rsplit('/').next()?.to_owned(),
        name: name.split_once('"')?.0.to_owned(),
        path: path.into(),
        is_test: profile.contains("\"test\":true"),
    })
}

fn write(path: &Path, text: &str) -> Result<()> {
    std::fs::write(path, text).with_context(|| path.display().to_string())
}

#[cfg(test)]
mod tests;
