//! Devices of this host by the names of the Container Device Interface.
//!
//! Owns reading the files that vendors put into [`DIRECTORIES`]
//! (<https://github.com/cncf-tags/container-device-interface>, versions 0.3 to 1.0) and turning the
//! names of an EnvironmentClass into nodes, variables and mounts. Only administrators write either:
//! a file that others may write is left out. What would run a program of the vendor's as root of
//! the host (`hooks`), and what environments have no place for, is refused by name, as a device
//! without a part of it would fail later and worse.
//!
//! A file that cannot be read costs its own devices only. They are read at every start of an
//! environment that has devices: vendors write them again whenever a driver changes.
//!
//! Read next: `steps`, which asks; `boatyard_sandbox::spec::Device`.

use crate::failure::Failed;
use boatyard_sandbox::spec::{Device, Mount, MountIds, MountSource};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

/// Where files are looked for; what a later one says stands over what an earlier one does.
pub const DIRECTORIES: [&str; 2] = ["/etc/cdi", "/var/run/cdi"];
/// /dev/kvm, described by no file.
const KVM: &str = "boatyard.dev/kvm=kvm";
/// Largest file that is read.
const FILE_LIMIT: u64 = 1 << 20;
/// Most files of a directory that are read.
const FILES_LIMIT: usize = 256;
/// Versions whose every field is known.
const VERSIONS: [&str; 7] = [
    "0.3.0", "0.4.0", "0.5.0", "0.6.0", "0.7.0", "0.8.0", "1.0.0",
];

/// What an environment gets with its devices.
#[derive(Clone, Debug, Default)]
pub(crate) struct Given {
    pub(crate) devices: Vec<Device>,
    pub(crate) env: BTreeMap<String, String>,
    pub(crate) mounts: Vec<Mount>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Document {
    cdi_version: String,
    kind: String,
    #[serde(default, rename = "annotations")]
    _annotations: BTreeMap<String, String>,
    devices: Vec<Described>,
    #[serde(default)]
    container_edits: Edits,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Described {
    name: String,
    #[serde(default, rename = "annotations")]
    _annotations: BTreeMap<String, String>,
    container_edits: Edits,
}

#[derive(Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Edits {
    #[serde(default)]
    env: Vec<String>,
    #[serde(default)]
    device_nodes: Vec<Node>,
    #[serde(default)]
    mounts: Vec<Bind>,
    #[serde(default)]
    hooks: Vec<serde::de::IgnoredAny>,
    #[serde(default)]
    net_devices: Vec<serde::de::IgnoredAny>,
    intel_rdt: Option<serde::de::IgnoredAny>,
    #[serde(default, rename = "additionalGIDs", alias = "additionalGids")]
    additional_gids: Vec<u32>,
}

#[derive(Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Node {
    path: PathBuf,
    host_path: Option<PathBuf>,
    #[serde(rename = "type")]
    kind: Option<String>,
    major: Option<i64>,
    minor: Option<i64>,
    file_mode: Option<u32>,
    permissions: Option<String>,
    uid: Option<u32>,
    gid: Option<u32>,
}

#[derive(Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Bind {
    host_path: PathBuf,
    container_path: PathBuf,
    #[serde(default)]
    options: Vec<String>,
    #[serde(rename = "type")]
    kind: Option<String>,
}

/// A device that a file describes: what it takes, or why it cannot be had.
type Known = BTreeMap<String, Result<Given, String>>;

/// What these devices take of this host.
///
/// # Errors
/// When one is described by no file, or not so that an environment could have it.
pub(crate) fn find(directories: &[PathBuf], names: &[String]) -> Result<Given, Failed> {
    let mut given = Given::default();
    if names.is_empty() {
        return Ok(given);
    }
    let mut known = Known::new();
    let mut problems = Vec::new();
    for directory in directories {
        read_directory(directory, &mut known, &mut problems);
    }
    known.insert(KVM.to_owned(), Ok(kvm()));
    for name in names {
        let unavailable = |why: String| {
            let message = format!(
                "the environment's class names the device {name}, and {why}; mend it on the runner's host, or name other devices in the class's spec.devices"
            );
            Failed::lasting("DeviceUnavailable", message)
        };
        match known.get(name) {
            Some(Ok(device)) => given.add(device),
            Some(Err(why)) => return Err(unavailable(why.clone())),
            None => {
                let listed: Vec<_> = directories
                    .iter()
                    .map(|path| path.display().to_string())
                    .collect();
                let mut why = format!("no file in {} describes it", listed.join(" or "));
                for problem in problems.iter().take(3) {
                    why.push_str(&format!(" ({problem})"));
                }
                return Err(unavailable(why));
            }
        }
    }
    for device in &given.devices {
        let found = std::fs::metadata(&device.host)
            .map(|about| about.file_type().is_char_device() || about.file_type().is_block_device());
        let why = match found {
            Ok(true) => continue,
            Ok(false) => "is no device".to_owned(),
            Err(error) => format!("cannot be found: {error}"),
        };
        let message = format!(
            "{}, which devices of the environment's class need, {why}; mend it on the runner's host, or name other devices in the class's spec.devices",
            device.host.display()
        );
        return Err(Failed::lasting("DeviceUnavailable", message));
    }
    Ok(given)
}

fn kvm() -> Given {
    let node = PathBuf::from("/dev/kvm");
    Given {
        devices: vec![Device {
            host: node.clone(),
            inside: node,
            read_only: false,
            mode: 0o666,
            uid: 0,
            gid: 0,
        }],
        ..Given::default()
    }
}

impl Given {
    /// Adds another's; what both have stands once.
    fn add(&mut self, other: &Given) {
        for device in &other.devices {
            if !self
                .devices
                .iter()
                .any(|known| known.inside == device.inside)
            {
                self.devices.push(device.clone());
            }
        }
        self.env.extend(other.env.clone());
        for mount in &other.mounts {
            if !self.mounts.iter().any(|known| known.target == mount.target) {
                self.mounts.push(mount.clone());
            }
        }
    }
}

/// Adds what the files of a directory describe, in the order of their names.
fn read_directory(directory: &Path, known: &mut Known, problems: &mut Vec<String>) {
    let Ok(entries) = std::fs::read_dir(directory) else {
        return;
    };
    let wanted = |path: &PathBuf| {
        path.extension()
            .is_some_and(|extension| extension == "json" || extension == "yaml")
    };
    let mut paths: Vec<PathBuf> = entries
        .flatten()
        .map(|entry| entry.path())
        .filter(wanted)
        .collect();
    paths.sort();
    let mut here = Known::new();
    for path in paths.iter().take(FILES_LIMIT) {
        match read(path) {
            Ok(described) => {
                for (name, device) in described {
                    let twice = format!("two files in {} describe it", directory.display());
                    let one = here.contains_key(&name);
                    here.insert(name, if one { Err(twice) } else { device });
                }
            }
            Err(why) => problems.push(format!("{}: {why}", path.display())),
        }
    }
    known.extend(here);
}

/// The devices of one file.
fn read(path: &Path) -> Result<Known, String> {
    let file = File::open(path).map_err(|error| error.to_string())?;
    let about = file.metadata().map_err(|error| error.to_string())?;
    if !about.is_file() || about.len() > FILE_LIMIT {
        return Err(format!("it is no file of at most {FILE_LIMIT} bytes"));
    }
    if about.uid() != 0 || about.mode() & 0o022 != 0 {
        return Err("it could be written by others than root; take that right away".to_owned());
    }
    let mut text = String::new();
    file.take(FILE_LIMIT)
        .read_to_string(&mut text)
        .map_err(|error| error.to_string())?;
    parse(&text, &path.display().to_string())
}

/// The devices that a file's text describes.
fn parse(text: &str, path: &str) -> Result<Known, String> {
    // JSON is YAML; this parser names the field that is wrong.
    let document: Document = serde_norway::from_str(text).map_err(|error| error.to_string())?;
    if !VERSIONS.contains(&document.cdi_version.as_str()) {
        let (first, last) = (VERSIONS[0], VERSIONS[VERSIONS.len() - 1]);
        return Err(format!(
            "cdiVersion is {:?}; known are {first} to {last}",
            document.cdi_version
        ));
    }
    if document
        .kind
        .split_once('/')
        .is_none_or(|(vendor, class)| vendor.is_empty() || class.is_empty())
    {
        return Err(format!(
            "kind is {:?}, and has to be vendor/class",
            document.kind
        ));
    }
    let for_all = document.container_edits.given("containerEdits");
    let mut known = Known::new();
    for (index, device) in document.devices.iter().enumerate() {
        let name = format!("{}={}", document.kind, device.name);
        let field = format!("devices[{index}].containerEdits");
        let given = for_all.clone().and_then(|mut given| {
            given.add(&device.container_edits.given(&field)?);
            Ok(given)
        });
        known.insert(name, given.map_err(|why| format!("{path} says {why}")));
    }
    Ok(known)
}

impl Edits {
    /// What these edits give, or which field nothing can be done with.
    fn given(&self, field: &str) -> Result<Given, String> {
        let refused = [
            (
                !self.hooks.is_empty(),
                "hooks",
                "programs of a vendor are not run on the host",
            ),
            (
                !self.net_devices.is_empty(),
                "netDevices",
                "network devices cannot be passed in",
            ),
            (
                self.intel_rdt.is_some(),
                "intelRdt",
                "cache and bandwidth are not partitioned",
            ),
            (
                !self.additional_gids.is_empty(),
                "additionalGids",
                "groups are the image's; give the device node a fileMode that needs none",
            ),
        ];
        if let Some((_, name, why)) = refused.iter().find(|(there, ..)| *there) {
            return Err(format!("{field}.{name}, which is not supported: {why}"));
        }
        let mut given = Given::default();
        for (index, pair) in self.env.iter().enumerate() {
            let (name, value) = pair
                .split_once('=')
                .filter(|(name, _)| !name.is_empty() && !pair.contains('\0'))
                .ok_or_else(|| format!("{field}.env[{index}] {pair:?}, which is not NAME=value"))?;
            given.env.insert(name.to_owned(), value.to_owned());
        }
        for (index, node) in self.device_nodes.iter().enumerate() {
            let field = format!("{field}.deviceNodes[{index}]");
            given
                .devices
                .push(node.device().map_err(|why| format!("{field}{why}"))?);
        }
        for (index, bind) in self.mounts.iter().enumerate() {
            let field = format!("{field}.mounts[{index}]");
            given
                .mounts
                .push(bind.mount().map_err(|why| format!("{field}{why}"))?);
        }
        Ok(given)
    }
}

/// Whether a path is absolute and goes straight down.
fn straight(path: &Path) -> bool {
    use std::path::Component;
    let mut parts = path.components();
    parts.next() == Some(Component::RootDir)
        && parts.all(|part| matches!(part, Component::Normal(_)))
}

impl Node {
    fn device(&self) -> Result<Device, String> {
        if !straight(&self.path)
            || !self.path.starts_with("/dev")
            || self.path.as_os_str() == "/dev"
        {
            return Err(format!(".path {:?}, which is not below /dev", self.path));
        }
        let host = self.host_path.clone().unwrap_or_else(|| self.path.clone());
        if !straight(&host) {
            return Err(format!(".hostPath {host:?}, which is not absolute"));
        }
        if !matches!(self.kind.as_deref(), None | Some("" | "b" | "c" | "u")) {
            return Err(format!(".type {:?}, which is no kind of device", self.kind));
        }
        self.same_number(&host)?;
        let permissions = self.permissions.as_deref().unwrap_or("rw");
        if permissions.is_empty() || !permissions.bytes().all(|letter| b"rwm".contains(&letter)) {
            return Err(format!(
                ".permissions {permissions:?}, which are not made of r, w and m"
            ));
        }
        Ok(Device {
            host,
            inside: self.path.clone(),
            read_only: !permissions.contains('w'),
            mode: self.file_mode.unwrap_or(0o666) & 0o777,
            uid: self.uid.unwrap_or(0),
            gid: self.gid.unwrap_or(0),
        })
    }

    /// A number that is given is the host's node's: another device is not opened under its name.
    fn same_number(&self, host: &Path) -> Result<(), String> {
        let (Some(major), Ok(about)) = (self.major, std::fs::metadata(host)) else {
            return Ok(());
        };
        let number = about.rdev();
        let found = (rustix::fs::major(number), rustix::fs::minor(number));
        let said = (major, self.minor.unwrap_or(0));
        if (i64::from(found.0), i64::from(found.1)) == said {
            return Ok(());
        }
        Err(format!(
            ".major and minor {}:{}, and {} is {}:{}",
            said.0,
            said.1,
            host.display(),
            found.0,
            found.1
        ))
    }
}

impl Bind {
    fn mount(&self) -> Result<Mount, String> {
        if !straight(&self.host_path) || self.host_path.as_os_str() == "/" {
            return Err(format!(
                ".hostPath {:?}, which is not absolute or is all of the host",
                self.host_path
            ));
        }
        if !straight(&self.container_path) || self.container_path.as_os_str() == "/" {
            return Err(format!(
                ".containerPath {:?}, which is no absolute path below /",
                self.container_path
            ));
        }
        if !matches!(self.kind.as_deref(), None | Some("" | "bind" | "none")) {
            return Err(format!(".type {:?}; only bind mounts are made", self.kind));
        }
        Ok(Mount {
            source: MountSource::Host {
                path: self.host_path.clone(),
                ids: MountIds::Host,
                open_as: None,
            },
            target: self.container_path.clone(),
            read_only: self.options.iter().any(|option| option == "ro"),
        })
    }
}

#[cfg(test)]
mod tests;
