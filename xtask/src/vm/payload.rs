//! The disk of what runs in the machine: freshly built tests, the binary, scripts.
//!
//! Owns which tests those are in each form of the run. Whole: every test of crates/sandbox, those of
//! crates/testkit that need nothing but this machine, and what a user does. Short, for every change:
//! the same without what takes long by emulation. Programs are found inside by the paths at which
//! they were built, since tests name those they start so.
//!
//! Read next: `run.sh`, which runs them.

use crate::process;
use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};
use std::process::Command;

const RUN: &str = include_str!("run.sh");
const UP: &str = include_str!("up.sh");
const OVERBOOK: &str = include_str!("overbook.sh");
const HEAP: &str = include_str!("heap.py");

/// Tests of crates/testkit that need neither a registry nor packages, where they are there.
const FURTHER: &[&str] = &["disk", "shares", "resources"];
/// Beginnings of names of the tests in crates/sandbox that the short form leaves out: sweeps of
/// kills, whose steps the whole form and `make test` go through.
const LONG: &[&str] = &["crash::a_kill_at_any_step", "crash::many_start"];

/// What is run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// Everything.
    Whole,
    /// What is worth its minutes at every change.
    Short,
    /// The measurement of overbooked memory.
    Overbook,
    /// Tests of crates/sandbox by name, and arguments for their programs.
    Chosen(Vec<String>),
}

impl Form {
    pub(super) fn parse(words: &[&str]) -> Self {
        match words {
            [] => Self::Whole,
            ["short"] => Self::Short,
            ["overbook"] => Self::Overbook,
            words => Self::Chosen(words.iter().map(|&word| word.to_owned()).collect()),
        }
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
    // Two processors: tests of one program run in two threads, as in `make test`.
    let plain = "--test-threads=2 --show-output --color=never";
    let sandbox = match form {
        Form::Whole => Some(plain.to_owned()),
        Form::Short => {
            let without = LONG.iter().map(|name| format!(" --skip {name}"));
            Some(plain.to_owned() + &without.collect::<String>())
        }
        Form::Chosen(words) => Some(format!("{plain} {}", words.join(" "))),
        Form::Overbook => None,
    };
    if let Some(arguments) = sandbox {
        println!("test-vm: building the tests of crates/sandbox");
        packed.add(
            &built(root, &["--package", "boatyard-sandbox"])?,
            &arguments,
        )?;
    }
    if matches!(form, Form::Whole | Form::Short) {
        println!("test-vm: building the binary `boatyard` and tests of crates/testkit");
        process::run(process::cargo(root).args(["build", "--package", "boatyard-cli"]))?;
        packed.copy(&process::target(root).join("debug/boatyard"), "boatyard")?;
        let mut wanted = vec!["--package", "boatyard-testkit"];
        for test in FURTHER {
            if root
                .join(format!("crates/testkit/tests/{test}.rs"))
                .exists()
            {
                wanted.extend(["--test", test]);
            }
        }
        packed.add(&built(root, &wanted)?, plain)?;
        packed.script("up.sh", UP)?;
    }
    if *form == Form::Overbook {
        write(&payload.join("heap.py"), HEAP)?;
        packed.script("overbook.sh", OVERBOOK)?;
    }
    write(&payload.join("tests"), &packed.tests)?;
    write(&payload.join("places"), &packed.places)?;
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

    /// Adds programs; those that are tests are run.
    fn add(&mut self, programs: &[Program], arguments: &str) -> Result<()> {
        for program in programs {
            let stem = program.path.file_stem().unwrap_or_default();
            let name = format!("{}-{}", self.count, stem.to_string_lossy());
            self.count += 1;
            self.copy(&program.path, &name)?;
            if program.is_test {
                self.tests += &format!("{name} {arguments}\n");
            }
            self.places += &format!("{name} {}\n", program.path.display());
        }
        Ok(())
    }

    fn script(&mut self, name: &str, text: &str) -> Result<()> {
        self.tests += &format!("{name}\n");
        write(&self.payload.join(name), text)
    }
}

/// Builds tests, and answers them with the programs built for them.
fn built(root: &Path, wanted: &[&str]) -> Result<Vec<Program>> {
    let messages = process::output(
        process::cargo(root)
            .args(["test", "--no-run", "--message-format=json"])
            .args(wanted),
    )?;
    let programs = programs(&messages);
    if programs.is_empty() {
        bail!("cargo built no test of {}", wanted.join(" "));
    }
    Ok(programs)
}

/// Something cargo built that can be started.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Program {
    pub(super) path: PathBuf,
    pub(super) is_test: bool,
}

/// Reads cargo's messages. Paths with quotes or backslashes are not for this tool.
pub(super) fn programs(messages: &str) -> Vec<Program> {
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
