//! Builds the agent as a static executable and leaves its path in `BOATYARD_AGENT`, to be embedded.
//!
//! A nested cargo with its own target directory: the agent wants other flags (`crt-static`, no
//! relocation, size) than the crate being built, which cargo cannot express for one package.

#![allow(clippy::disallowed_methods, reason = "a build script starts cargo")]

use std::path::{Path, PathBuf};
use std::process::Command;

fn main() {
    let manifest = PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it"));
    let workspace = manifest
        .ancestors()
        .nth(2)
        .expect("crates/runner lies two below the workspace");
    for watched in ["crates/agent", "crates/wire", "Cargo.lock", "Cargo.toml"] {
        println!(
            "cargo::rerun-if-changed={}",
            workspace.join(watched).display()
        );
    }
    let out = PathBuf::from(std::env::var_os("OUT_DIR").expect("cargo sets it"));
    let target_directory = out
        .ancestors()
        .nth(4)
        .map_or_else(|| out.clone(), Path::to_path_buf)
        .join("agent-build");
    let target = std::env::var("TARGET").expect("cargo sets it");
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo
        .current_dir(workspace)
        .args([
            "build",
            "--package",
            "boatyard-agent",
            "--profile",
            "agent",
            "--locked",
            "--target",
            &target,
        ])
        .arg("--target-dir")
        .arg(&target_directory);
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        let inherited =
            text.starts_with("CARGO_") && text != "CARGO_HOME" || text.starts_with("RUSTC");
        if inherited || text == "RUSTFLAGS" || text == "TARGET" {
            cargo.env_remove(&name);
        }
    }
    cargo.env(
        "CARGO_ENCODED_RUSTFLAGS",
        "-Ctarget-feature=+crt-static\u{1f}-Crelocation-model=static",
    );
    let status = cargo.status().expect("cargo can be started");
    assert!(status.success(), "building boatyard-agent failed: {status}");
    let agent = target_directory
        .join(target)
        .join("agent")
        .join("boatyard-agent");
    println!("cargo::rustc-env=BOATYARD_AGENT={}", agent.display());
}
