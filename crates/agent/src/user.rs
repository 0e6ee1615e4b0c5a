//! Who a process runs as: `/etc/passwd` and `/etc/group` of the environment, read directly.
//!
//! No NSS: the agent is static, and NSS would load the environment's libraries. So users from LDAP
//! and the like are known by number only. The files are the environment's and may be anything:
//! size and kind are checked, lines that make no sense are skipped. Called by the stage only.

use crate::failure::Failure;
use std::fs::OpenOptions;
use std::io::Read as _;
use std::os::unix::fs::OpenOptionsExt as _;

const LARGEST_FILE: u64 = 4 * 1024 * 1024;

/// A resolved user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct User {
    pub(crate) name: String,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) groups: Vec<u32>,
    pub(crate) home: String,
    pub(crate) shell: String,
}

/// Resolves `name`, `uid`, `name:group` or `uid:gid` as Dockerfile's USER does: a number that no
/// entry has is taken as it is, with group 0; naming a group leaves the supplementary ones out.
pub(crate) fn resolve(wanted: Option<&str>) -> Result<User, Failure> {
    let passwd = read("/etc/passwd")?;
    let group = read("/etc/group")?;
    resolve_in(wanted.unwrap_or("0"), &passwd, &group)
}

fn resolve_in(wanted: &str, passwd: &str, group: &str) -> Result<User, Failure> {
    let (user_part, group_part) = match wanted.split_once(':') {
        Some((user, group)) => (user, Some(group)),
        None => (wanted, None),
    };
    let user_part = if user_part.is_empty() { "0" } else { user_part };
    let mut user = find_user(user_part, passwd).ok_or_else(|| {
        Failure::unknown_user(format!(
            "user {user_part:?} is not in the environment's /etc/passwd; create it, or give a numeric id"
        ))
    })?;
    match group_part {
        Some(name) if !name.is_empty() => {
            user.gid = find_group(name, group).ok_or_else(|| {
                Failure::unknown_user(format!(
                    "group {name:?} is not in the environment's /etc/group; create it, or give a numeric id"
                ))
            })?;
            user.groups = vec![user.gid];
        }
        _ => user.groups = groups_of(&user, group),
    }
    Ok(user)
}

fn find_user(wanted: &str, passwd: &str) -> Option<User> {
    let number = id(wanted);
    let entries = || passwd.lines().filter_map(parse_user);
    entries()
        .find(|user| user.name == wanted)
        .or_else(|| entries().find(|user| Some(user.uid) == number))
        .or_else(|| {
            number.map(|uid| User {
                name: uid.to_string(),
                uid,
                gid: 0,
                groups: Vec::new(),
                home: "/".to_owned(),
                shell: "/bin/sh".to_owned(),
            })
        })
}

fn parse_user(line: &str) -> Option<User> {
    let mut fields = line.trim_end().split(':');
    let name = fields.next().filter(|name| !name.is_empty())?;
    let _password = fields.next()?;
    let uid = id(fields.next()?)?;
    let gid = id(fields.next()?)?;
    let _comment = fields.next();
    let home = fields.next().filter(|home| home.starts_with('/'));
    let shell = fields.next().filter(|shell| shell.starts_with('/'));
    Some(User {
        name: name.to_owned(),
        uid,
        gid,
        groups: Vec::new(),
        home: home.unwrap_or("/").to_owned(),
        shell: shell.unwrap_or("/bin/sh").to_owned(),
    })
}

/// Name, id and members of each group.
fn parse_group(line: &str) -> Option<(&str, u32, &str)> {
    let mut fields = line.trim_end().split(':');
    let name = fields.next().filter(|name| !name.is_empty())?;
    let _password = fields.next()?;
    let gid = id(fields.next()?)?;
    Some((name, gid, fields.next().unwrap_or("")))
}

fn find_group(wanted: &str, group: &str) -> Option<u32> {
    group
        .lines()
        .filter_map(parse_group)
        .find(|(name, ..)| *name == wanted)
        .map(|(_, gid, _)| gid)
        .or_else(|| id(wanted))
}

fn groups_of(user: &User, group: &str) -> Vec<u32> {
    let mut groups = vec![user.gid];
    for (_, gid, members) in group.lines().filter_map(parse_group) {
        if members.split(',').any(|member| member.trim() == user.name) && !groups.contains(&gid) {
            groups.push(gid);
        }
    }
    // NGROUPS_MAX.
    groups.truncate(65_536);
    groups
}

/// A usable id: the highest number means "leave unchanged" to the kernel.
fn id(text: &str) -> Option<u32> {
    if !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    text.parse().ok().filter(|id| *id != u32::MAX)
}

/// The file's text; empty when there is none, as in images made from nothing.
fn read(path: &str) -> Result<String, Failure> {
    let flags = rustix::fs::OFlags::NONBLOCK | rustix::fs::OFlags::NOCTTY;
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(flags.bits().cast_signed())
        .open(path);
    let file = match file {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(String::new()),
        Err(error) => return Err(Failure::internal(format!("cannot open {path}"), error)),
    };
    let metadata = file.metadata();
    if !metadata.is_ok_and(|metadata| metadata.is_file() && metadata.len() <= LARGEST_FILE) {
        return Err(Failure::bad_request(format!(
            "{path} inside the environment is not a regular file below 4 MiB; restore it"
        )));
    }
    let mut bytes = Vec::new();
    file.take(LARGEST_FILE)
        .read_to_end(&mut bytes)
        .map_err(|error| Failure::internal(format!("cannot read {path}"), error))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests;
