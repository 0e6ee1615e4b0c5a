//! What a source of `ADD` names: a file of the context, a URL, or a git repository.
//!
//! Owns BuildKit's rules: `http` and `https` are git when the path ends in `.git`; `git` and `ssh`
//! always are, and so is `user@host:path`. The reference stands behind `#` or in the query.

use crate::build::CopySource;

/// A source that is no file of the context.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Remote {
    Url { name: String },
    Git(Git),
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Git {
    pub(super) url: String,
    pub(super) reference: Option<String>,
    pub(super) subdirectory: Option<String>,
    pub(super) checksum: Option<String>,
    pub(super) keep_git_dir: Option<bool>,
    pub(super) submodules: Option<bool>,
}

/// What to fetch for a build context that is a git repository, or an archive by its URL; None when
/// it is a path, and an error says what is wrong with it.
///
/// # Errors
/// It is a URL that cannot be used.
pub fn repository(context: &str) -> Result<Option<CopySource>, String> {
    match remote(context)? {
        Some(Remote::Git(git)) => Ok(Some(CopySource::Git {
            url: git.url,
            reference: git.reference,
            subdirectory: git.subdirectory,
            keep_git_dir: git.keep_git_dir.unwrap_or(false),
            submodules: git.submodules.unwrap_or(true),
            checksum: git.checksum,
        })),
        Some(Remote::Url { name }) => Ok(Some(CopySource::Url {
            url: context.to_owned(),
            name,
            checksum: None,
            unpack: true,
        })),
        None if context.contains("://") => {
            Err("is neither a folder, a git repository nor docker-image://…".into())
        }
        None => Ok(None),
    }
}

/// None for a file of the context; an error says what is wrong with a repository's URL.
pub(super) fn remote(source: &str) -> Result<Option<Remote>, String> {
    if source.starts_with("./") || source.starts_with("../") {
        return Ok(None);
    }
    let (bare, fragment) = source.split_once('#').unwrap_or((source, ""));
    let (bare, query) = bare.split_once('?').unwrap_or((bare, ""));
    let Some((scheme, rest)) = source.split_once("://").filter(|(scheme, _)| {
        !scheme.is_empty() && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric())
    }) else {
        return match is_scp(bare) {
            true => git(bare, query, fragment).map(Some),
            false => Ok(None),
        };
    };
    let path = bare.get(scheme.len() + 3..).unwrap_or_default();
    let path = path.split_once('/').map_or("", |(_, path)| path);
    match scheme.to_ascii_lowercase().as_str() {
        "git" | "ssh" => git(bare, query, fragment).map(Some),
        "http" | "https" if rest.starts_with('/') || rest.is_empty() => Err("names no host".into()),
        "http" | "https" if path.ends_with(".git") => git(bare, query, fragment).map(Some),
        "http" | "https" => {
            let name = decode(super::values::base_name(path));
            let usable = !name.is_empty() && name != "." && name != ".." && !name.contains('/');
            Ok(Some(Remote::Url {
                name: if usable { name } else { "__unnamed__".into() },
            }))
        }
        _ => Ok(None),
    }
}

/// `user@host:path`.
fn is_scp(text: &str) -> bool {
    let Some((user, rest)) = text.split_once('@') else {
        return false;
    };
    let Some((host, _)) = rest.split_once(':') else {
        return false;
    };
    let word = |text: &str, more: &[u8]| {
        !text.is_empty()
            && text
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || more.contains(&byte))
    };
    word(user, b"-_") && word(host, b"-.")
}

fn git(url: &str, query: &str, fragment: &str) -> Result<Remote, String> {
    let mut git = Git {
        url: url.to_owned(),
        ..Git::default()
    };
    let some = |text: String| Some(text).filter(|text| !text.is_empty());
    let (reference, subdirectory) = fragment.split_once(':').unwrap_or((fragment, ""));
    git.reference = some(decode(reference));
    let within = |path: &str| super::values::join("/", path)[1..].to_owned();
    git.subdirectory = some(within(&decode(subdirectory)));
    let mut named = None;
    let mut seen = Vec::new();
    for part in query.split('&').filter(|part| !part.is_empty()) {
        let (key, value) = part.split_once('=').unwrap_or((part, ""));
        let (key, value) = (decode(key), decode(value));
        if seen.contains(&key) {
            return Err(format!("has {key:?} twice"));
        }
        let switch = || match value.as_str() {
            "" | "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
            "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
            _ => Err(format!("has a {key} that is neither true nor false")),
        };
        if value.is_empty() && !["submodules", "keep-git-dir"].contains(&key.as_str()) {
            return Err(format!("has no value for {key:?}"));
        }
        let full = |prefix: &str| match value.starts_with(prefix) {
            true => value.clone(),
            false => format!("{prefix}{value}"),
        };
        match key.as_str() {
            "ref" | "tag" | "branch" => {
                let reference = match key.as_str() {
                    "ref" => value.clone(),
                    "tag" => full("refs/tags/"),
                    _ => full("refs/heads/"),
                };
                if named.is_some() || git.reference.as_ref().is_some_and(|it| *it != reference) {
                    return Err("names several references".into());
                }
                named = Some(reference);
            }
            "subdir" => {
                let path = within(&value);
                if git.subdirectory.as_ref().is_some_and(|it| *it != path) {
                    return Err("names several subdirectories".into());
                }
                git.subdirectory = some(path);
            }
            "checksum" | "commit" => git.checksum = Some(value),
            "keep-git-dir" => git.keep_git_dir = Some(switch()?),
            "submodules" => git.submodules = Some(switch()?),
            "mtime" if value == "checkout" => {}
            _ => return Err(format!("has {key}={value}, which is not supported")),
        }
        seen.push(key);
    }
    git.reference = named.or(git.reference);
    Ok(Remote::Git(git))
}

/// Without percent signs; what cannot be decoded stays as it is.
fn decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, behind @ ..] = rest {
        let code = behind
            .get(..2)
            .filter(|_| *first == b'%')
            .and_then(|hex| std::str::from_utf8(hex).ok())
            .filter(|hex| hex.bytes().all(|byte| byte.is_ascii_hexdigit()))
            .and_then(|hex| u8::from_str_radix(hex, 16).ok());
        bytes.push(code.unwrap_or(*first));
        rest = if code.is_some() { &behind[2..] } else { behind };
    }
    String::from_utf8(bytes).unwrap_or_else(|_| text.to_owned())
}
