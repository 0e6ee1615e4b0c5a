//! Who is calling: peer credentials of the unix socket, or a bearer token.
//!
//! A token wins over the socket's credentials, so that a runner on this host is that runner and
//! not root. What a caller may do is `authorize`'s.
//!
//! All servers of a store are one authority: its key and the tokens' hashes are in the store, under
//! resources that are no kind of the API. Whoever may write the store may do everything anyway.
//!
//! Read next: [`tokens`], [`authority`].

pub(crate) mod authority;
pub(crate) mod tokens;

pub(crate) use tokens::Tokens;

use boatyard_store::{Error, Key, Store, Stored};
use bytes::Bytes;
use tokio_util::sync::CancellationToken;

/// Group of those who may do everything.
pub(crate) const ADMINS: &str = "boatyard:admins";
/// Group of runners.
pub(crate) const RUNNERS: &str = "system:runners";
/// Group of servers on the same store.
pub(crate) const SERVERS: &str = "boatyard:servers";

/// An authenticated caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Caller {
    pub(crate) user: String,
    pub(crate) groups: Vec<String>,
    /// User and group id on this host, for callers through the unix socket.
    pub(crate) local: Option<(u32, u32)>,
    /// With a token: until when it is good.
    pub(crate) good: Option<Good>,
}

/// How long a token is good. It says nothing of whose it is: all are equal.
#[derive(Clone, Debug, Default)]
pub(crate) struct Good(CancellationToken);

impl PartialEq for Good {
    fn eq(&self, _other: &Self) -> bool {
        true
    }
}

impl Eq for Good {}

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
            good: None,
        }
    }

    /// Whom an administrator asks about, by name and groups.
    pub(crate) fn named(user: &str, groups: &[String]) -> Self {
        let uid = user.strip_prefix("local:").and_then(|uid| uid.parse().ok());
        // A user of this host is known by the user id; of the group id nothing is decided.
        let mut caller = match uid {
            Some(uid) => Self::local(uid, uid),
            None => Self {
                user: user.to_owned(),
                groups: Vec::new(),
                local: None,
                good: None,
            },
        };
        caller.groups.extend_from_slice(groups);
        caller
    }

    /// A part of this process.
    pub(crate) fn internal(name: &str) -> Self {
        Self {
            user: format!("system:{name}"),
            groups: vec![ADMINS.to_owned(), "system:authenticated".to_owned()],
            local: None,
            good: None,
        }
    }

    fn admin() -> Self {
        Self {
            user: "admin".to_owned(),
            groups: vec![ADMINS.to_owned(), "system:authenticated".to_owned()],
            local: None,
            good: Some(Good::default()),
        }
    }

    fn runner(name: &str) -> Self {
        Self {
            user: format!("system:runner:{name}"),
            groups: vec![RUNNERS.to_owned(), "system:authenticated".to_owned()],
            local: None,
            good: Some(Good::default()),
        }
    }

    fn server(id: &str) -> Self {
        Self {
            user: format!("system:server:{id}"),
            groups: vec![SERVERS.to_owned(), "system:authenticated".to_owned()],
            local: None,
            good: Some(Good::default()),
        }
    }

    /// Its token is good no longer: what it has begun ends.
    fn forget(&self) {
        if let Some(good) = &self.good {
            good.0.cancel();
        }
    }

    /// Returns when the caller's token is good no longer; never, when there is none.
    pub(crate) async fn forgotten(&self) {
        match &self.good {
            Some(good) => good.0.cancelled().await,
            None => std::future::pending().await,
        }
    }

    /// Whether it is another server on the same store.
    pub(crate) fn is_server(&self) -> bool {
        self.groups.iter().any(|group| group == SERVERS)
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

/// Writes an object that is no kind of the API, whatever was there before.
pub(crate) async fn put(store: &dyn Store, key: &Key, data: &Bytes) -> Result<Stored, Error> {
    loop {
        let written = match store.get(key.clone()).await? {
            None => store.create(key.clone(), data.clone()).await,
            Some(known) => {
                store
                    .update(key.clone(), known.revision, data.clone())
                    .await
            }
        };
        match written {
            // Another server was faster: after it, then.
            Err(Error::Exists(_) | Error::Conflict { .. } | Error::NotFound(_)) => {}
            outcome => return outcome,
        }
    }
}

/// Removes an object that is no kind of the API, if it is there.
pub(crate) async fn remove(store: &dyn Store, key: &Key) -> Result<(), Error> {
    while let Some(known) = store.get(key.clone()).await? {
        match store.delete(key.clone(), known.revision, known.data).await {
            // Somebody was faster.
            Err(Error::Conflict { .. } | Error::NotFound(_)) => {}
            outcome => return outcome.map(drop),
        }
    }
    Ok(())
}
