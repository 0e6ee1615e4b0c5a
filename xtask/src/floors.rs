//! Who may import whom: the floor table, held against the manifests and the lock file.
//!
//! Owns the table as data: each crate's allowed siblings, each forbidden import with its reason.
//! It reads manifests only; what a crate does with an allowed import is a reviewer's business.
//! Development dependencies count too, except that tests may use `tempfile` and the like.
//!
//! Read next: ARCHITECTURE.md, whose code map this table is.

use anyhow::{Context, Result, bail};
use std::collections::BTreeSet;
use std::path::Path;

/// One crate of the house and the crates of the house it may import.
struct Floor {
    name: &'static str,
    imports: &'static [&'static str],
    /// Why nothing else.
    reason: &'static str,
}

const FLOORS: &[Floor] = &[
    Floor {
        name: "api",
        imports: &[],
        reason: "words stand below everything: clients compile them without the platform",
    },
    Floor {
        name: "wire",
        imports: &[],
        reason: "the agent links it, so it links nothing",
    },
    Floor {
        name: "plan",
        imports: &["api"],
        reason: "a decision is data out of words: what it imported it could also do",
    },
    Floor {
        name: "devcontainer",
        imports: &[],
        reason: "the specification as a pure function, which others may use alone",
    },
    Floor {
        name: "store",
        imports: &["api"],
        reason: "objects are opaque to it: what is in them is the server's",
    },
    Floor {
        name: "link",
        imports: &["api", "wire"],
        reason: "both ends of a connection use it, so it knows neither end",
    },
    Floor {
        name: "sandbox",
        imports: &[],
        reason: "it knows directories, numbers and limits; what an environment is stays above",
    },
    Floor {
        name: "image",
        imports: &["wire", "devcontainer", "sandbox"],
        reason: "it feeds the sandbox and must work with no server near",
    },
    Floor {
        name: "server",
        imports: &["api", "wire", "plan", "store", "link"],
        reason: "all it knows of hosts and environments is API objects: it runs where no sandbox can",
    },
    Floor {
        name: "runner",
        imports: &[
            "api",
            "wire",
            "plan",
            "devcontainer",
            "link",
            "sandbox",
            "image",
        ],
        reason: "it is an API client: the server and its store are reached by the connection only",
    },
    Floor {
        name: "agent",
        imports: &["wire"],
        reason: "PID 1 of every environment: each dependency is paid for in every environment's memory",
    },
    Floor {
        name: "cli",
        imports: &[
            "api",
            "wire",
            "plan",
            "devcontainer",
            "store",
            "link",
            "sandbox",
            "image",
            "server",
            "runner",
        ],
        reason: "the agent is embedded as a file, and the harness is above",
    },
    Floor {
        name: "testkit",
        imports: &[
            "api",
            "wire",
            "plan",
            "devcontainer",
            "store",
            "link",
            "sandbox",
            "image",
            "server",
            "runner",
        ],
        reason: "the agent is tested as the file that is embedded",
    },
];

/// Third parties a crate must not import, ordinarily or for its tests.
struct Ban {
    crates: &'static [&'static str],
    forbidden: &'static [&'static str],
    reason: &'static str,
}

const RUNTIMES: &[&str] = &[
    "tokio",
    "tokio-util",
    "tokio-stream",
    "futures",
    "hyper",
    "hyper-util",
    "axum",
    "tower",
    "reqwest",
];

const BANS: &[Ban] = &[
    Ban {
        crates: &["api", "plan", "devcontainer", "wire"],
        forbidden: RUNTIMES,
        reason: "words and thought do no I/O and know no runtime: they are tested by tables",
    },
    Ban {
        crates: &["api", "plan", "devcontainer"],
        forbidden: &["rustix", "nix", "libc", "rusqlite"],
        reason: "they see the world only through what the caller hands in",
    },
    Ban {
        crates: &["sandbox"],
        forbidden: RUNTIMES,
        reason: "it forks and clones: no thread of a runtime may hold a lock at that moment",
    },
    Ban {
        crates: &["agent"],
        forbidden: RUNTIMES,
        reason: "PID 1 of every environment: each dependency is paid for in every environment's memory",
    },
    Ban {
        crates: &["agent"],
        forbidden: &[
            "clap",
            "tracing",
            "tracing-subscriber",
            "rustls",
            "kube",
            "k8s-openapi",
        ],
        reason: "PID 1 of every environment: each dependency is paid for in every environment's memory",
    },
    Ban {
        crates: &[
            "server",
            "store",
            "link",
            "api",
            "plan",
            "wire",
            "devcontainer",
        ],
        forbidden: &["oci-client", "oci-spec", "docker_credential", "netlink-sys"],
        reason: "all they know of images and hosts is API objects",
    },
];

/// Never in Cargo.lock, whoever asks for them.
const NEVER: &[(&str, &str)] = &[
    (
        "aws-lc-sys",
        "needs a C toolchain with cmake and doubles the cryptography: select the feature `ring`",
    ),
    (
        "openssl-sys",
        "ties the binary to the host's OpenSSL: select rustls",
    ),
    ("native-tls", "is OpenSSL by another name: select rustls"),
];

/// Features of crates of ours that break them for tests, and who may ask for them: the crate's own
/// tests. What is shipped is built without any test's dependencies, so nothing shipped has them.
const TESTS_ALONE: &[(&str, &[&str])] = &[("sandbox", &["kill-points", "removable-protections"])];

/// Fails naming every import that breaks the table, with its reason.
pub(crate) fn check(root: &Path) -> Result<()> {
    let mut faults = Vec::new();
    let folders = folders(&root.join("crates"))?;
    for folder in &folders {
        let Some(floor) = FLOORS.iter().find(|floor| floor.name == folder) else {
            faults.push(format!("crates/{folder}: not in the floor table of xtask/src/floors.rs (a new crate needs a decision record)"));
            continue;
        };
        let path = root.join("crates").join(folder).join("Cargo.toml");
        let manifest =
            cargo_toml::Manifest::from_path(&path).with_context(|| path.display().to_string())?;
        let names: BTreeSet<String> = [
            &manifest.dependencies,
            &manifest.dev_dependencies,
            &manifest.build_dependencies,
        ]
        .into_iter()
        .chain(
            manifest
                .target
                .values()
                .flat_map(|t| [&t.dependencies, &t.dev_dependencies, &t.build_dependencies]),
        )
        .flatten()
        .map(|(key, dependency)| dependency.package().unwrap_or(key).to_owned())
        .collect();
        faults.extend(judge(floor, names.iter().map(String::as_str)));
        faults.extend(judge_features(folder, &manifest));
    }
    let path = root.join("Cargo.toml");
    let whole =
        cargo_toml::Manifest::from_path(&path).with_context(|| path.display().to_string())?;
    faults.extend(judge_features("the workspace", &whole));
    let lock = std::fs::read_to_string(root.join("Cargo.lock")).context("Cargo.lock")?;
    faults.extend(judge_lock(&lock));
    if faults.is_empty() {
        println!("deps: {} crates keep to their floors", folders.len());
        return Ok(());
    }
    bail!("deps: {} faults\n  {}", faults.len(), faults.join("\n  "))
}

fn judge<'a>(floor: &Floor, names: impl Iterator<Item = &'a str>) -> Vec<String> {
    let mut faults = Vec::new();
    for name in names {
        if let Some(ours) = name.strip_prefix("boatyard-") {
            if ours == "testkit" {
                faults.push(format!(
                    "{} imports testkit: nobody does, it is the harness above everything",
                    floor.name
                ));
            } else if ours != floor.name && !floor.imports.contains(&ours) {
                faults.push(format!(
                    "{} imports {ours}: it may import only [{}]: {} (floors, ARCHITECTURE.md)",
                    floor.name,
                    floor.imports.join(", "),
                    floor.reason
                ));
            }
        }
        for ban in BANS
            .iter()
            .filter(|ban| ban.crates.contains(&floor.name) && ban.forbidden.contains(&name))
        {
            faults.push(format!("{} imports {name}: {}", floor.name, ban.reason));
        }
    }
    faults
}

/// Who asks for features that are the tests' alone.
fn judge_features(asks: &str, manifest: &cargo_toml::Manifest) -> Vec<String> {
    let mut faults = Vec::new();
    for (owner, features) in TESTS_ALONE {
        let package = format!("boatyard-{owner}");
        let asked = |dependencies: &cargo_toml::DepsSet| -> Vec<String> {
            dependencies
                .iter()
                .filter(|(key, dependency)| dependency.package().unwrap_or(key) == package)
                .flat_map(|(_, dependency)| dependency.req_features().to_vec())
                .collect()
        };
        let mut found = asked(&manifest.dependencies);
        found.extend(asked(&manifest.build_dependencies));
        for target in manifest.target.values() {
            found.extend(asked(&target.dependencies));
            found.extend(asked(&target.build_dependencies));
        }
        if let Some(workspace) = &manifest.workspace {
            found.extend(asked(&workspace.dependencies));
        }
        if asks != *owner {
            found.extend(asked(&manifest.dev_dependencies));
            for target in manifest.target.values() {
                found.extend(asked(&target.dev_dependencies));
            }
        }
        // Features of one's own that switch them on.
        for means in manifest.features.values().flatten() {
            found.push(means.rsplit('/').next().unwrap_or(means).to_owned());
        }
        for feature in features
            .iter()
            .filter(|one| found.iter().any(|asked| asked == *one))
        {
            faults.push(format!(
                "{asks} asks for the feature {feature} of {owner}: it is for that crate's own tests"
            ));
        }
    }
    faults
}

fn judge_lock(lock: &str) -> Vec<String> {
    let present = |name: &str| {
        lock.lines()
            .any(|line| line == format!("name = \"{name}\""))
    };
    NEVER
        .iter()
        .filter(|(name, _)| present(name))
        .map(|(name, reason)| format!("Cargo.lock holds {name}: it {reason}"))
        .collect()
}

fn folders(path: &Path) -> Result<Vec<String>> {
    let mut folders = Vec::new();
    for entry in std::fs::read_dir(path).with_context(|| path.display().to_string())? {
        let entry = entry?;
        if entry.path().join("Cargo.toml").is_file() {
            folders.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    folders.sort();
    Ok(folders)
}

#[cfg(test)]
mod tests;
