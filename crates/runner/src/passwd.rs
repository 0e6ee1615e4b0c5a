//! Users of an image, read from its /etc/passwd without entering it.
//!
//! Files of an image are hostile: they are opened beneath the layer's directory, following no
//! symbolic link out of it, and only a bounded part is read.

use crate::beneath;
use std::path::Path;

/// A user inside an environment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct User {
    /// Name, or the number when it has none.
    pub(crate) name: String,
    /// User id inside.
    pub(crate) uid: u32,
    /// Primary group id inside.
    pub(crate) gid: u32,
}

/// Finds `wanted` (`name`, `uid`, either with `:group`) in the topmost /etc/passwd of `roots`.
/// None when there is no such user.
pub(crate) fn find(roots: &[&Path], wanted: &str) -> Option<User> {
    let name = wanted.split(':').next().unwrap_or(wanted);
    let text = roots
        .iter()
        .find_map(|root| beneath::read(root, "etc/passwd").ok().flatten());
    lookup(text.as_deref().unwrap_or_default(), name)
}

fn lookup(passwd: &str, name: &str) -> Option<User> {
    let number: Option<u32> = name.parse().ok();
    let known = passwd.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let (name, _, uid, gid) = (
            fields.next()?,
            fields.next()?,
            fields.next()?,
            fields.next()?,
        );
        Some(User {
            name: name.to_owned(),
            uid: uid.parse().ok()?,
            gid: gid.parse().ok()?,
        })
    });
    let found = known
        .into_iter()
        .find(|user| user.name == name || Some(user.uid) == number);
    let number = number.or((name == "root").then_some(0));
    found
        .or_else(|| {
            number.map(|uid| User {
                name: name.to_owned(),
                uid,
                gid: 0,
            })
        })
        .filter(|user| {
            user.uid < boatyard_sandbox::spec::ID_RANGE
                && user.gid < boatyard_sandbox::spec::ID_RANGE
        })
}

#[cfg(test)]
mod tests;
