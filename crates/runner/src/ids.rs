//! The remote user's ids inside: the developer's own, as `updateRemoteUserUID` asks.
//!
//! Nothing is chowned: on disk the image's ids stay, and the environment's id map swaps them with the
//! developer's. What names ids in words, /etc/passwd and /etc/group, is written into the
//! environment's own layer before its first start. As in the reference, an id that the image gives to
//! somebody else stays theirs. Decided once: what is on disk means what the map says.
//!
//! Read next: `sandbox::spec::Swap`.

use crate::beneath;
use crate::failure::Failed;
use boatyard_sandbox::spec::{ID_RANGE, Swap};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

/// Files that name ids, and the fields that are user ids and group ids.
const FILES: [(&str, Option<usize>, usize); 2] =
    [("etc/passwd", Some(2), 3), ("etc/group", None, 2)];

/// What was decided for an environment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Ids {
    /// Ids of the image and of the developer that stand for each other.
    pub swap: Swap,
    /// Digest of the image it was decided for.
    pub image: String,
    /// Digests of the files as they were written.
    #[serde(default)]
    pub written: Vec<String>,
}

/// What the decision depends on.
pub(crate) struct Question<'a> {
    /// The remote user's name as configured.
    pub(crate) name: &'a str,
    /// Its ids in the image.
    pub(crate) image: (u32, u32),
    /// The developer's.
    pub(crate) developer: (u32, u32),
    pub(crate) passwd: &'a str,
    pub(crate) group: &'a str,
}

/// Which ids are swapped; None for none.
pub(crate) fn decide(question: &Question<'_>) -> Option<Swap> {
    let taken = |text: &str, id: u32| {
        let ids = text.lines().filter_map(|line| line.split(':').nth(2));
        ids.filter_map(|field| field.parse().ok())
            .any(|found: u32| found == id)
    };
    let ((uid, gid), (own_uid, own_gid)) = (question.image, question.developer);
    let possible = |one: u32, other: u32| one != 0 && other != 0 && one.max(other) < ID_RANGE;
    let numeric = question.name.parse::<u32>().is_ok();
    if numeric || !possible(uid, own_uid) || uid != own_uid && taken(question.passwd, own_uid) {
        return None;
    }
    let groups = gid != own_gid && possible(gid, own_gid) && !taken(question.group, own_gid);
    let swap = Swap {
        uid: (uid != own_uid).then_some((uid, own_uid)),
        gid: groups.then_some((gid, own_gid)),
    };
    (swap != Swap::default()).then_some(swap)
}

/// A file with its ids swapped.
fn swapped(text: &str, swap: &Swap, user: Option<usize>, group: usize) -> String {
    let line = |line: &str| {
        let mut fields: Vec<String> = line.split(':').map(str::to_owned).collect();
        let mut change = |at: usize, pair| {
            if let Some(field) = fields.get_mut(at)
                && let Ok(id) = field.parse()
            {
                *field = Swap::other(pair, id).to_string();
            }
        };
        if let Some(user) = user {
            change(user, swap.uid);
        }
        change(group, swap.gid);
        fields.join(":")
    };
    text.split('\n').map(line).collect::<Vec<_>>().join("\n")
}

/// The text of a file of the image, from the topmost layer that has it.
pub(crate) fn of_image(layers: &[PathBuf], path: &str) -> String {
    let mut found = layers
        .iter()
        .filter_map(|layer| beneath::read(layer, path).ok().flatten());
    found.next().unwrap_or_default()
}

/// Whether the environment's own layer holds its /etc/passwd.
pub(crate) fn has_own(upper: &Path) -> bool {
    own(upper, FILES[0].0).is_some()
}

/// What stands at a path of the environment's own layer, unless a link leads there.
fn own(upper: &Path, path: &str) -> Option<std::fs::Metadata> {
    let plain = std::fs::symlink_metadata(upper.join("etc")).ok()?.is_dir();
    let found = std::fs::symlink_metadata(upper.join(path)).ok()?;
    plain.then_some(found)
}

/// Writes the files into the environment's own layer, where it has none. Called while nothing runs.
pub(crate) fn write(upper: &Path, layers: &[PathBuf], ids: &mut Ids) -> Result<(), Failed> {
    let etc = upper.join("etc");
    let disk = |error: std::io::Error| Failed::disk(&etc, &error);
    if std::fs::symlink_metadata(&etc).is_err() {
        let like = layers
            .iter()
            .find_map(|layer| std::fs::symlink_metadata(layer.join("etc")).ok())
            .filter(std::fs::Metadata::is_dir);
        let Some(like) = like else { return Ok(()) };
        std::fs::create_dir(&etc).map_err(disk)?;
        let mode = std::fs::Permissions::from_mode(like.mode() & 0o7777);
        std::fs::set_permissions(&etc, mode).map_err(disk)?;
        chown(&etc, Some(like.uid()), Some(like.gid())).map_err(disk)?;
    }
    let mut written = Vec::new();
    for (path, user, group) in FILES {
        let text = of_image(layers, path);
        if text.is_empty() || std::fs::symlink_metadata(upper.join(path)).is_ok() {
            continue;
        }
        let text = swapped(&text, &ids.swap, user, group);
        let fresh = upper.join(format!("{path}.boatyard"));
        std::fs::write(&fresh, &text).map_err(disk)?;
        std::fs::set_permissions(&fresh, std::fs::Permissions::from_mode(0o644)).map_err(disk)?;
        std::fs::rename(&fresh, upper.join(path)).map_err(disk)?;
        written.push(digest(&text));
    }
    if !written.is_empty() {
        ids.written = written;
    }
    Ok(())
}

/// Takes the files back that were written for another image, if nobody changed them since; false
/// when somebody did.
pub(crate) fn take_back(upper: &Path, ids: &Ids) -> bool {
    let unchanged = |path: &str| {
        let text = beneath::read(upper, path).ok().flatten();
        text.is_none_or(|text| ids.written.contains(&digest(&text)))
    };
    if !FILES.iter().all(|(path, ..)| unchanged(path)) {
        return false;
    }
    for (path, ..) in FILES {
        if own(upper, path).is_some_and(|found| found.is_file()) {
            let _ = std::fs::remove_file(upper.join(path));
        }
    }
    true
}

fn digest(text: &str) -> String {
    hex::encode(&Sha256::digest(text)[..16])
}

#[cfg(test)]
mod tests;
