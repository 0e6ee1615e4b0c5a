//! `--chown` and `--chmod`: who files belong to, by the image's own files, and their bits.
//!
//! No NSS: names are what the image's /etc/passwd and /etc/group say. Text of untrusted files.

use super::merged::Merged;
use std::io;

/// User and group id inside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Owner {
    pub(super) uid: u32,
    pub(super) gid: u32,
}

fn refused(why: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, why)
}

fn number(text: &str) -> Option<u32> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let value = digits.then(|| text.parse().ok()).flatten();
    // The last one means "leave as it is" to the kernel.
    value.filter(|id| *id != u32::MAX)
}

impl Owner {
    pub(super) const ROOT: Owner = Owner { uid: 0, gid: 0 };

    /// `user[:group]`, names or ids. A name alone brings its own group; a number alone is both.
    pub(super) fn parse(text: &str, below: &Merged) -> io::Result<Owner> {
        let (user, group) = match text.split_once(':') {
            Some((user, group)) => (user, Some(group).filter(|group| !group.is_empty())),
            None => (text, None),
        };
        let mut owner = match number(user) {
            Some(id) => Owner { uid: id, gid: id },
            None if user.is_empty() => Owner::ROOT,
            None => {
                let passwd = below.text("etc/passwd")?.unwrap_or_default();
                let fields = entry(&passwd, user).ok_or_else(|| {
                    refused(format!(
                        "user {user:?} is not in the image's /etc/passwd; create it in an earlier step, or give a number"
                    ))
                })?;
                let id = |at: usize| fields.get(at).and_then(|text| number(text));
                match (id(2), id(3)) {
                    (Some(uid), Some(gid)) => Owner { uid, gid },
                    _ => {
                        return Err(refused(format!(
                            "user {user:?} has no usable ids in the image's /etc/passwd"
                        )));
                    }
                }
            }
        };
        if let Some(group) = group {
            owner.gid = match number(group) {
                Some(id) => id,
                None => {
                    let file = below.text("etc/group")?.unwrap_or_default();
                    entry(&file, group)
                        .and_then(|fields| number(fields.get(2)?))
                        .ok_or_else(|| {
                            refused(format!(
                                "group {group:?} is not in the image's /etc/group; create it in an earlier step, or give a number"
                            ))
                        })?
                }
            };
        }
        Ok(owner)
    }
}

fn entry<'a>(file: &'a str, name: &str) -> Option<Vec<&'a str>> {
    file.lines()
        .map(|line| line.trim_end().split(':').collect::<Vec<_>>())
        .find(|fields| fields.first() == Some(&name))
}

/// Permission bits, or changes to them as in chmod(1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Chmod {
    Bits(u32),
    Changes(Vec<Change>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Change {
    who: u32,
    operation: char,
    what: String,
}

impl Chmod {
    pub(super) fn parse(text: &str) -> io::Result<Chmod> {
        let malformed = || {
            refused(format!(
                "--chmod={text} is no mode; give octal bits as in 755, or changes as in u=rwX,go=rX"
            ))
        };
        if text.bytes().all(|byte| byte.is_ascii_digit()) {
            let bits = u32::from_str_radix(text, 8).map_err(|_| malformed())?;
            return if bits <= 0o7777 {
                Ok(Chmod::Bits(bits))
            } else {
                Err(malformed())
            };
        }
        let mut changes = Vec::new();
        for clause in text.split(',') {
            let at = clause.find(['+', '-', '=']).ok_or_else(malformed)?;
            let mut who = 0;
            for letter in clause[..at].chars() {
                who |= match letter {
                    'u' => 0o4700,
                    'g' => 0o2070,
                    'o' => 0o1007,
                    'a' => 0o7777,
                    _ => return Err(malformed()),
                };
            }
            let who = if who == 0 { 0o7777 } else { who };
            let mut rest = &clause[at..];
            while let Some(operation) = rest.chars().next() {
                rest = &rest[1..];
                let end = rest.find(['+', '-', '=']).unwrap_or(rest.len());
                let what = &rest[..end];
                let copies = matches!(what, "u" | "g" | "o");
                if !copies && !what.chars().all(|letter| "rwxXst".contains(letter)) {
                    return Err(malformed());
                }
                changes.push(Change {
                    who,
                    operation,
                    what: what.to_owned(),
                });
                rest = &rest[end..];
            }
        }
        Ok(Chmod::Changes(changes))
    }

    pub(super) fn apply(&self, mode: u32, folder: bool) -> u32 {
        let changes = match self {
            Chmod::Bits(bits) => return *bits,
            Chmod::Changes(changes) => changes,
        };
        let mut mode = mode;
        for change in changes {
            let mut bits = 0;
            match &*change.what {
                "u" => bits = (mode >> 6 & 7) * 0o111,
                "g" => bits = (mode >> 3 & 7) * 0o111,
                "o" => bits = (mode & 7) * 0o111,
                letters => {
                    for letter in letters.chars() {
                        bits |= match letter {
                            'r' => 0o444,
                            'w' => 0o222,
                            'x' => 0o111,
                            'X' if folder || mode & 0o111 != 0 => 0o111,
                            's' => 0o6000,
                            't' => 0o1000,
                            _ => 0,
                        };
                    }
                }
            }
            bits &= change.who;
            mode = match change.operation {
                '+' => mode | bits,
                '-' => mode & !bits,
                _ => mode & !(change.who & 0o777) | bits,
            };
        }
        mode
    }
}

#[cfg(test)]
mod tests;
