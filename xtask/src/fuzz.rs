//! Fuzzing of what the server parses: libFuzzer around `boatyard_server::fuzzing`.
//!
//! Owns the build with coverage counters and the runs, one target after the other. The counters are
//! code-generation options of the stable compiler, put into our crates alone by naming this program
//! as the compiler's wrapper; dependencies are those of every other build. What a run learns is
//! kept beside the build; an input that breaks something is written into the corpus, where a unit
//! test runs it from then on.
//!
//! Read next: `crates/server/src/fuzzing.rs`.

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
    let corpus = root.join("crates/server/fuzz/corpus");
    let mut targets = Vec::new();
    for entry in std::fs::read_dir(&corpus).context("cannot read the corpus")? {
        targets.push(entry?.file_name().to_string_lossy().into_owned());
    }
    targets.sort();
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
        if !targets.iter().any(|known| known == target) {
            bail!("no such target: {target}; there are {}", targets.join(", "));
        }
        targets = vec![target.to_owned()];
    }
    let own = std::env::current_exe().context("cannot find this program")?;
    let mut build = process::cargo(root);
    build
        .args(["build", "--package", "boatyard-server"])
        .args(["--bin", "boatyard-fuzz", "--features", "fuzzing"])
        .env("RUSTC_WORKSPACE_WRAPPER", &own)
        .env(WRAPPER, "1");
    process::run(&mut build)?;
    let built = process::target(root).join("debug/boatyard-fuzz");
    let learned = process::target(root).join("fuzz");
    for target in targets {
        let (seeds, learned) = (corpus.join(&target), learned.join(&target));
        std::fs::create_dir_all(&learned).context("cannot keep what is learned")?;
        println!("fuzzing {target} for {seconds} s");
        let mut fuzzer = Command::new(&built);
        fuzzer
            .env("BOATYARD_FUZZ_TARGET", &target)
            .args([&learned, &seeds])
            .arg(format!("-artifact_prefix={}/", seeds.display()))
            .arg(format!("-max_total_time={seconds}"))
            .args(["-timeout=10", "-rss_limit_mb=2048", "-max_len=8192"])
            .arg("-verbosity=0");
        process::run(&mut fuzzer).with_context(|| format!("{target} is broken by an input"))?;
    }
    Ok(())
}
