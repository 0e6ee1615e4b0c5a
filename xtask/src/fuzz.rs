//! Fuzzing of what is parsed: libFuzzer around the `fuzzing` modules of the crates that parse.
//!
//! Owns the build with coverage counters and the runs, one target after the other. The counters are
//! code-generation options of the stable compiler, put into our crates alone by naming this program
//! as the compiler's wrapper; dependencies are those of every other build. What a run learns is
//! kept beside the build; an input that breaks something is written into the corpus, where a unit
//! test runs it from then on.
//!
//! Read next: `crates/server/src/fuzzing.rs`, `crates/devcontainer/src/fuzzing.rs`.

use crate::process;
use anyhow::{Context, Result, bail};
use std::path::Path;
use std::process::Command;

/// Set for the compiler's wrapper.
const WRAPPER: &str = "BOATYARD_FUZZ_WRAPPER";

/// As cargo-fuzz has them.
const COVERAGE: [&str; 5] = [
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
];

const SECONDS: u32 = 60;

/// Crates with a fuzzer, by folder and program.
const FUZZERS: [(&str, &str); 2] = [
    ("devcontainer", "boatyard-devcontainer-fuzz"),
    ("server", "boatyard-fuzz"),
];

/// One target of one fuzzer.
struct Target {
    name: String,
    folder: &'static str,
    program: &'static str,
}

/// Whether this program was called as the compiler's wrapper.
pub(crate) fn is_wrapper() -> bool {
    std::env::var_os(WRAPPER).is_some()
}

/// Compiles as asked, with counters.
pub(crate) fn compile(arguments: &[String]) -> Result<()> {
    let (compiler, rest) = arguments.split_first().context("no compiler is named")?;
    process::run(Command::new(compiler).args(rest).args(COVERAGE))
}

/// `[TARGET] [SECONDS]`; all targets when none is named.
pub(crate) fn run(root: &Path, words: &[&str]) -> Result<()> {
    let corpus = |folder: &str| root.join("crates").join(folder).join("fuzz/corpus");
    let mut targets = Vec::new();
    for (folder, program) in FUZZERS {
        for entry in std::fs::read_dir(corpus(folder)).context("cannot read the corpus")? {
            let name = entry?.file_name().to_string_lossy().into_owned();
            targets.push(Target {
                name,
                folder,
                program,
            });
        }
    }
    targets.sort_by(|one, other| one.name.cmp(&other.name));
    let (target, seconds) = match words {
        [] => (None, SECONDS),
        [one] => match one.parse() {
            Ok(seconds) => (None, seconds),
            Err(_) => (Some(*one), SECONDS),
        },
        [target, seconds] => (
            Some(*target),
            seconds.parse().context("SECONDS is no number")?,
        ),
        _ => bail!("give a target and seconds"),
    };
    if let Some(target) = target {
        if !targets.iter().any(|known| known.name == target) {
            let known: Vec<&str> = targets.iter().map(|target| target.name.as_str()).collect();
            bail!("no such target: {target}; there are {}", known.join(", "));
        }
        targets.retain(|known| known.name == target);
    }
    if !process::on_path("c++") {
        // libFuzzer comes as its source.
        crate::setup::install(&["g++"])?;
    }
    let own = std::env::current_exe().context("cannot find this program")?;
    for (folder, program) in FUZZERS {
        if !targets.iter().any(|target| target.folder == folder) {
            continue;
        }
        let mut build = process::cargo(root);
        build
            .args(["build", "--package", &format!("boatyard-{folder}")])
            .args(["--bin", program, "--features", "fuzzing"])
            .env("RUSTC_WORKSPACE_WRAPPER", &own)
            .env(WRAPPER, "1");
        process::run(&mut build)?;
    }
    let learned = process::target(root).join("fuzz");
    for target in targets {
        let name = &target.name;
        let (seeds, learned) = (corpus(target.folder).join(name), learned.join(name));
        std::fs::create_dir_all(&learned).context("cannot keep what is learned")?;
        println!("fuzzing {name} for {seconds} s");
        let mut fuzzer = Command::new(process::target(root).join("debug").join(target.program));
        fuzzer
            .env("BOATYARD_FUZZ_TARGET", name)
            .args([&learned, &seeds])
            .arg(format!("-artifact_prefix={}/", seeds.display()))
            .arg(format!("-max_total_time={seconds}"))
            .args(["-timeout=10", "-rss_limit_mb=2048", "-max_len=8192"])
            .arg("-verbosity=0");
        process::run(&mut fuzzer).with_context(|| format!("{name} is broken by an input"))?;
    }
    Ok(())
}
