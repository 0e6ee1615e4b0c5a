//! Who is calling: peer credentials of the unix socket, or a bearer token.
//!
//! A token wins over the socket's credentials, so that a runner on this host is that runner and
//! not root. Tokens are random and kept only as hashes; comparing is by hash, so time tells
//! nothing. What a caller may do is `authorize`'s.

use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

/// Group of those who may do everything.
pub(crate) const ADMINS: &str = "boatyard:admins";
/// Group of runners.
pub(crate) const RUNNERS: &str = "system:runners";

/// An authenticated caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Caller {
    pub(crate) user: String,
    pub(crate) groups: Vec<String>,
    /// User and group id on this host, for callers through the unix socket.
    pub(crate) local: Option<(u32, u32)>,
}

impl Caller {
    /// Through the unix socket.
    pub(crate) fn local(uid: u32, gid: u32) -> Self {
        let mut groups = vec![
            "system:authenticated".to_owned(),
            "boatyard:local".to_owned(),
        ];
        if uid == 0 {
            groups.push(ADMINS.to_owned());
        }
        Self {
            user: format!("local:{uid}"),
            groups,
            local: Some((uid, gid)),
        }
    }

    /// A part of this process.
    pub(crate) fn internal(name: &str) -> Self {
        Self {
            user: format!("system:{name}"),
            groups: vec![ADMINS.to_owned(), "system:authenticated".to_owned()],
            local: None,
        }
    }

    fn admin() -> Self {
        Self {
            user: "admin".to_owned(),
            groups: vec![ADMINS.to_owned(), "system:authenticated".to_owned()],
            local: None,
        }
    }

    fn runner(name: &str) -> Self {
        Self {
            user: format!("system:runner:{name}"),
            groups: vec![RUNNERS.to_owned(), "system:authenticated".to_owned()],
            local: None,
        }
    }

    pub(crate) fn is_admin(&self) -> bool {
        self.groups.iter().any(|group| group == ADMINS)
    }

    /// The runner it is, if it is one.
    pub(crate) fn runner_name(&self) -> Option<&str> {
        self.user
            .strip_prefix("system:runner:")
            .filter(|_| self.groups.iter().any(|group| group == RUNNERS))
    }
}

/// Known tokens, by hash. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Tokens {
    directory: PathBuf,
    known: Arc<RwLock<HashMap<String, Caller>>>,
}

fn hash(token: &str) -> String {
    Sha256::digest(token.as_bytes())
        .iter()
        .fold(String::new(), |mut text, byte| {
            use std::fmt::Write;
            let _ = write!(text, "{byte:02x}");
            text
        })
}

impl Tokens {
    /// Reads the hashes kept in `directory`.
    pub(crate) fn open(directory: &Path) -> std::io::Result<Self> {
        std::os::unix::fs::DirBuilderExt::mode(std::fs::DirBuilder::new().recursive(true), 0o700)
            .create(directory)?;
        let mut known = HashMap::new();
        for entry in std::fs::read_dir(directory)? {
            let path = entry?.path();
            let name = path
                .file_name()
                .and_then(|name| name.to_str())
                .unwrap_or_default();
            let caller = if name == "admin.hash" {
                Caller::admin()
            } else if let Some(runner) = name
                .strip_prefix("runner-")
                .and_then(|name| name.strip_suffix(".hash"))
            {
                Caller::runner(runner)
            } else {
                continue;
            };
            known.insert(std::fs::read_to_string(&path)?.trim().to_owned(), caller);
        }
        Ok(Self {
            directory: directory.to_owned(),
            known: Arc::new(RwLock::new(known)),
        })
    }

    /// The caller a token belongs to.
    pub(crate) fn caller(&self, token: &str) -> Option<Caller> {
        self.known
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&hash(token))
            .cloned()
    }

    /// A fresh token for a runner; earlier ones of it are forgotten.
    pub(crate) fn mint_runner(&self, name: &str) -> std::io::Result<String> {
        self.mint(&format!("runner-{name}"), Caller::runner(name))
    }

    /// A fresh token for the administrator.
    pub(crate) fn mint_admin(&self) -> std::io::Result<String> {
        self.mint("admin", Caller::admin())
    }

    fn mint(&self, file: &str, caller: Caller) -> std::io::Result<String> {
        let token = boatyard_link::token::generate()?;
        let path = self.directory.join(format!("{file}.hash"));
        let fresh = path.with_extension("new");
        let mut opened = std::fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&fresh)?;
        opened.write_all(hash(&token).as_bytes())?;
        std::fs::rename(&fresh, &path)?;
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        known.retain(|_, other| *other != caller);
        known.insert(hash(&token), caller);
        Ok(token)
    }
}
