//! `ADD` of URLs and git repositories: fetched by the host's curl and git, in a sandbox.
//!
//! Not by this process: it stands in the host's network, where a Dockerfile could name services of
//! the host and its neighbours. The sandbox has the network of a step, the host's tools without its
//! secrets, and one folder to write to. What it leaves there is as untrusted as a context.

use super::run::{self, Place, Sandboxed};
use boatyard_devcontainer::build::CopySource;
use boatyard_sandbox::spec::{Init, Mount, MountIds, MountSource, Network, Root, Spec};
use sha2::{Digest as _, Sha256};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Where it is written inside.
const TARGET: &str = "/tmp/boatyard-fetched";
/// Of one source.
const LONGEST: Duration = Duration::from_secs(3600);
const LOOK: Duration = Duration::from_millis(20);

const URL: &str = r#"
set -eu
mkdir "$3/files"
exec curl -fsSL --proto '=http,https' --proto-redir '=http,https' --connect-timeout 30 \
    --speed-limit 1 --speed-time 60 --max-filesize "$4" -R -o "$3/files/$2" -- "$1" 2>&1
"#;

const GIT: &str = r#"
set -eu
export GIT_TERMINAL_PROMPT=0 GIT_ALLOW_PROTOCOL=http:https:git:ssh HOME=/tmp
git init -q "$3/files" 2>&1
cd "$3/files"
git remote add -- origin "$1" 2>&1
if git fetch -q --depth 1 -- origin "${2:-HEAD}" 2>/tmp/why; then git -c advice.detachedHead=false checkout -q FETCH_HEAD 2>&1
elif git fetch -q --tags origin 2>&1; then git -c advice.detachedHead=false checkout -q "$2" -- 2>&1
else cat /tmp/why; exit 1; fi
[ "$5" != deep ] || git submodule -q update --init --recursive --depth 1 2>&1
git rev-parse HEAD > "$3/commit"
[ "$4" = keep ] || find . -name .git -prune -exec rm -rf {} +
"#;

/// What was fetched: a folder, and the part of it that is copied.
pub(super) struct Fetched {
    pub(super) folder: PathBuf,
    pub(super) pattern: String,
    /// An archive is unpacked.
    pub(super) unpack: bool,
}

/// Fetches into an empty folder and compares what was promised.
pub(super) fn fetch(place: &Place<'_>, source: &CopySource, into: &Path) -> io::Result<Fetched> {
    let folder = into.join("files");
    match source {
        CopySource::Url {
            url,
            name,
            checksum,
            unpack,
        } => {
            let name = plain(name);
            let most = u64::MAX >> 24;
            tool(
                place,
                into,
                URL,
                &[url, &name, TARGET, &most.to_string()],
                url,
            )?;
            let path = folder.join(&name);
            let about = std::fs::symlink_metadata(&path)?;
            if !about.is_file() {
                return Err(io::Error::other(format!("{url} gave no file")));
            }
            let private = std::os::unix::fs::PermissionsExt::from_mode(0o600);
            std::fs::set_permissions(&path, private)?;
            if let Some(expected) = checksum {
                let actual = digest(&path)?;
                if *expected != actual {
                    return Err(different(url, expected, &actual));
                }
            }
            Ok(Fetched {
                folder,
                pattern: name,
                unpack: *unpack,
            })
        }
        CopySource::Git {
            url,
            reference,
            subdirectory,
            keep_git_dir,
            submodules,
            checksum,
        } => {
            let wanted = reference.as_ref().or(checksum.as_ref());
            let wanted = wanted.map_or("", String::as_str);
            if wanted.starts_with('-') {
                return Err(io::Error::other(format!(
                    "{wanted:?} is no branch, tag or commit"
                )));
            }
            let keep = if *keep_git_dir { "keep" } else { "" };
            let deep = if *submodules { "deep" } else { "" };
            tool(place, into, GIT, &[url, wanted, TARGET, keep, deep], url)?;
            if let Some(expected) = checksum {
                let actual = std::fs::read_to_string(into.join("commit"))?;
                let actual = actual.trim();
                if expected.len() < 7 || !actual.starts_with(expected.as_str()) {
                    return Err(different(url, expected, actual));
                }
            }
            Ok(Fetched {
                folder,
                pattern: subdirectory.clone().unwrap_or_else(|| "/".to_owned()),
                unpack: false,
            })
        }
        CopySource::Files { .. } | CopySource::Inline(_) => {
            Err(io::Error::other("it is nothing to fetch"))
        }
    }
}

fn different(url: &str, expected: &str, actual: &str) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        format!(
            "{url} is {actual} where {expected} was promised; correct --checksum, or find out who changed it"
        ),
    )
}

/// As the name of a file that is no pattern.
fn plain(name: &str) -> String {
    let plain = |letter: char| {
        if letter.is_alphanumeric() || "._-+%~@ ".contains(letter) {
            letter
        } else {
            '_'
        }
    };
    match name.chars().take(60).map(plain).collect::<String>() {
        name if matches!(&*name, "" | "." | "..") => "download".to_owned(),
        name => name,
    }
}

fn digest(path: &Path) -> io::Result<String> {
    let mut file = std::fs::File::open(path)?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 128 << 10];
    loop {
        let length = file.read(&mut buffer)?;
        if length == 0 {
            return Ok(format!("sha256:{}", hex::encode(hasher.finalize())));
        }
        hasher.update(&buffer[..length]);
    }
}

/// Runs a script with the host's tools to its end.
fn tool(
    place: &Place<'_>,
    into: &Path,
    script: &str,
    arguments: &[&str],
    subject: &str,
) -> io::Result<()> {
    let seat = place.host.seat().map_err(io::Error::other)?;
    let state = place.runs.join(seat.id.as_str());
    std::fs::create_dir_all(&state)?;
    let network = match (place.network, seat.address) {
        (true, Some(address)) => Network::Routed { address },
        _ => {
            return Err(io::Error::other(format!(
                "{subject} cannot be fetched: steps have no network here"
            )));
        }
    };
    let argv = ["sh", "-c", script, "sh"]
        .into_iter()
        .chain(arguments.iter().copied());
    let spec = Spec {
        id: seat.id.clone(),
        id_base: seat.id_base,
        state: state.clone(),
        hostname: "fetch".to_owned(),
        root: Root::Host,
        mounts: vec![Mount {
            source: MountSource::Host {
                path: into.to_owned(),
                ids: MountIds::Unshifted,
                open_as: None,
            },
            target: TARGET.into(),
            read_only: false,
        }],
        network,
        limits: place.limits,
        init: Init {
            executable: "/bin/sh".into(),
            argv: argv.map(str::to_owned).collect(),
            env: vec![
                "PATH=/usr/local/bin:/usr/bin:/bin".to_owned(),
                "LANG=C.UTF-8".to_owned(),
            ],
            listener: false,
        },
        nofile: None,
        rlimits: Vec::new(),
        devices: Vec::new(),
        company: None,
        swap: boatyard_sandbox::spec::Swap::default(),
        egress: place.egress.cloned().map(Box::new),
    };
    let sandboxed = Sandboxed {
        host: place.host,
        seat,
        state,
    };
    let (id, state) = (&sandboxed.seat.id, &sandboxed.state);
    place.host.remove(id, state).map_err(io::Error::other)?;
    place.host.start(&spec).map_err(io::Error::other)?;
    let began = Instant::now();
    let code = loop {
        if place.cancel.cancelled() {
            return Err(run::cancelled());
        }
        if let Some(code) = place.host.ended(id, state).map_err(io::Error::other)? {
            break code;
        }
        if began.elapsed() > LONGEST {
            return Err(io::Error::other(format!(
                "{subject} takes too long to fetch"
            )));
        }
        std::thread::sleep(LOOK);
    };
    if code == 0 {
        return Ok(());
    }
    let log = std::fs::read(state.join("console.log")).unwrap_or_default();
    let log = String::from_utf8_lossy(&log);
    let why = log.lines().rev().find(|line| !line.trim().is_empty());
    let why = match (code, why) {
        (_, Some(why)) => why.to_owned(),
        (127, None) => "curl or git is missing on the runner's host".to_owned(),
        (code, None) => format!("exit code {code}"),
    };
    Err(io::Error::other(format!(
        "{subject} cannot be fetched: {why}"
    )))
}

#[cfg(test)]
mod tests {
    //! Names of what is fetched.
    use super::*;

    #[test]
    fn a_name_is_one_file_and_no_pattern() {
        for (given, name) in [
            ("tool.tgz", "tool.tgz"),
            ("", "download"),
            ("..", "download"),
            ("a/b", "a_b"),
            ("a[b]*", "a_b__"),
        ] {
            assert_eq!(plain(given), name, "{given}");
        }
    }
}
