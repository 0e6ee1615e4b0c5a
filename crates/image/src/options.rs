//! What the one who runs Boatyard decides about images.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

use crate::Error;

/// Another place that serves a registry's images.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mirror {
    /// `https://mirror.example`, `http://127.0.0.1:5000/prefix`. With `http:`
    /// nothing is encrypted; digests are checked all the same, except that of
    /// a tag's manifest, which the mirror decides.
    pub endpoint: String,
}

/// Bounds on what an image may ask of this host.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Entries of one layer.
    pub entries: u64,
    /// Bytes of one layer once unpacked. What is free on the disk bounds it
    /// too, whatever this says.
    pub layer_bytes: u64,
    /// Bytes the disk must still have free afterwards.
    pub reserve_bytes: u64,
    /// Length of a path, and how many folders deep it may go.
    pub path_bytes: usize,
    pub path_depth: usize,
    /// Layers of one image. Overlay stacks at most 500.
    pub layers: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            entries: 5_000_000,
            layer_bytes: 256 << 30,
            reserve_bytes: 512 << 20,
            path_bytes: 4095,
            path_depth: 256,
            layers: 256,
        }
    }
}

/// How long the network may say nothing.
#[derive(Debug, Clone)]
pub struct Deadlines {
    pub connect: Duration,
    /// Between two pieces of an answer.
    pub stall: Duration,
    /// From a small request to the end of its answer.
    pub request: Duration,
    /// Without any new byte, over all attempts, before a download is given up.
    pub attempts: u32,
}

impl Default for Deadlines {
    fn default() -> Self {
        Deadlines {
            connect: Duration::from_secs(10),
            stall: Duration::from_secs(30),
            request: Duration::from_secs(60),
            attempts: 4,
        }
    }
}

#[derive(Debug, Clone)]
pub struct Options {
    /// From registry (`docker.io`) to the places asked before it, in order.
    pub mirrors: BTreeMap<String, Vec<Mirror>>,
    /// Registries spoken to without TLS. Loopback addresses need not be named.
    pub insecure: Vec<String>,
    /// Where credentials are; without it `$DOCKER_CONFIG/config.json`, then
    /// `~/.docker/config.json`, then podman's `auth.json`.
    pub docker_config: Option<PathBuf>,
    /// As the Go toolchain names it: `amd64`, `arm64`.
    pub architecture: String,
    /// Distribution (`debian`, `ubuntu`) to the mirror it is bootstrapped from.
    pub distribution_mirrors: BTreeMap<String, String>,
    pub parallel_layers: usize,
    pub limits: Limits,
    pub deadlines: Deadlines,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            mirrors: BTreeMap::new(),
            insecure: Vec::new(),
            docker_config: None,
            architecture: native_architecture().to_owned(),
            distribution_mirrors: BTreeMap::new(),
            parallel_layers: 4,
            limits: Limits::default(),
            deadlines: Deadlines::default(),
        }
    }
}

/// The file an administrator writes:
///
/// ```json
/// {"mirrors": {"docker.io": ["https://mirror.example"]},
///  "insecure": ["registry.lan:5000"],
///  "distributionMirrors": {"debian": "http://mirror.example/debian"}}
/// ```
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
struct Written {
    mirrors: BTreeMap<String, Vec<String>>,
    insecure: Vec<String>,
    distribution_mirrors: BTreeMap<String, String>,
}

impl Options {
    /// Takes in such a file. That it is missing is no error. Blocking.
    ///
    /// # Errors
    /// The file cannot be read or is not as above.
    pub fn read(mut self, path: &Path) -> Result<Options, Error> {
        let bytes = match std::fs::read(path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(self),
            outcome => outcome.map_err(Error::io("read", path))?,
        };
        let broken = |problem: String| Error::Configuration {
            path: path.to_owned(),
            problem,
        };
        let written: Written =
            serde_json::from_slice(&bytes).map_err(|error| broken(error.to_string()))?;
        for (registry, endpoints) in written.mirrors {
            for endpoint in &endpoints {
                if !endpoint.starts_with("https://") && !endpoint.starts_with("http://") {
                    return Err(broken(format!(
                        "mirror {endpoint:?} does not begin with https:// or http://"
                    )));
                }
            }
            let endpoints = endpoints.into_iter().map(|endpoint| Mirror { endpoint });
            self.mirrors.entry(registry).or_default().extend(endpoints);
        }
        self.insecure.extend(written.insecure);
        self.distribution_mirrors
            .extend(written.distribution_mirrors);
        Ok(self)
    }
}

fn native_architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "x86" => "386",
        "powerpc64" => "ppc64le",
        other => other,
    }
}

#[cfg(test)]
mod tests;
