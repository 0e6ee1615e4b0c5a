//! Who this server is: to other servers on its store, in its own tokens, and as a holder of leases.
//!
//! A holder's name has three parts: the host's, that of the server's state directory, and that of this life
//! of the server. The state directory's is kept in a file that a living server holds locked, so a
//! holder with the same first two parts is an earlier life of this server, and dead. A second server
//! on the directory, or one that cannot keep the file, is a stranger with a name for this life only.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use uuid::Uuid;

const FILE: &str = "server-id";

/// This server's name.
#[derive(Debug)]
pub(crate) struct Holder {
    id: Uuid,
    me: String,
    /// What the names of all lives of this server begin with.
    lives: Option<String>,
    /// Locked for as long as this server lives.
    _locked: Option<File>,
}

impl Holder {
    pub(crate) fn open(state_dir: &Path) -> Self {
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        let host = host.trim();
        let life = Uuid::new_v4().simple().to_string();
        let life = &life[..8];
        match kept(&state_dir.join(FILE)) {
            Some((id, locked)) => Self {
                id,
                me: format!("{host}_{id}_{life}"),
                lives: Some(format!("{host}_{id}_")),
                _locked: Some(locked),
            },
            None => {
                let id = Uuid::new_v4();
                Self {
                    id,
                    me: format!("{host}_{id}_{life}"),
                    lives: None,
                    _locked: None,
                }
            }
        }
    }

    /// The server's, the same in all its lives where it could be kept.
    pub(crate) fn id(&self) -> String {
        self.id.to_string()
    }

    pub(crate) fn me(&self) -> &str {
        &self.me
    }

    pub(crate) fn is_me(&self, holder: &str) -> bool {
        holder == self.me
    }

    /// Whether it is this life or an earlier one of this server.
    pub(crate) fn was_me(&self, holder: &str) -> bool {
        let lives = self.lives.as_ref();
        lives.is_some_and(|lives| holder.starts_with(lives.as_str()))
    }
}

/// The id kept in a file that nobody else holds; made if there is none.
fn kept(path: &Path) -> Option<(Uuid, File)> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    let mut file = options.mode(0o600).open(path).ok()?;
    file.try_lock().ok()?;
    let mut text = String::new();
    // One that was written by halves is as good as none.
    let _ = file.read_to_string(&mut text);
    if let Ok(id) = text.trim().parse() {
        return Some((id, file));
    }
    let id = Uuid::new_v4();
    file.rewind().ok()?;
    file.set_len(0).ok()?;
    file.write_all(id.to_string().as_bytes()).ok()?;
    Some((id, file))
}
