//! `COPY` and `ADD`.

use super::super::instruction::Copy;
use super::super::lexer::{Lexer, Mode};
use super::super::lines::Heredoc;
use super::super::remote::{Git, Remote, remote};
use super::super::values;
use super::super::words::Word;
use super::Evaluation;
use crate::build::{self, CopySource, InlineFile, Origin};
use crate::error::{Error, ErrorKind};
use crate::text::Span;

impl Evaluation<'_, '_> {
    pub(super) fn copy(&mut self, copy: &Copy, span: Span) -> Result<build::Copy, Error> {
        let optional = |this: &mut Self, word: &Option<Word>| match word {
            Some(word) => this
                .expand(word)
                .map(|text| Some(text).filter(|text| !text.is_empty())),
            None => Ok(None),
        };
        let chown = optional(self, &copy.chown)?;
        let chmod = optional(self, &copy.chmod)?;
        let checksum = optional(self, &copy.checksum)?;
        if let (Some(mode), Some(word)) = (&chmod, &copy.chmod)
            && !values::is_mode(mode)
        {
            let what = format!("{mode:?} is no mode; write it as 755 or u=rwX,go=rX");
            return self.fail(word.span, what);
        }
        let paths = self.expand_all(&copy.sources)?;
        let mut sources = Vec::new();
        let from = match &copy.from {
            None => Origin::Context(String::new()),
            Some(from) => match self.origin(&from.text, from.span)? {
                Some(origin) => origin,
                None => return self.fail(from.span, "scratch has no files to copy"),
            },
        };
        if let (Some(_), Some(word)) = (&checksum, &copy.checksum)
            && paths.len() != 1
        {
            return self.fail(word.span, "--checksum is for one source");
        }
        for (path, word) in paths.into_iter().zip(&copy.sources) {
            self.charge(span, path.len() + 64)?;
            let found = match remote(&path) {
                Ok(found) => found,
                Err(fault) => return self.fail(word.span, format!("{path:?} {fault}")),
            };
            if found.is_some() && !copy.add {
                let what = "COPY takes files of a context, stage or image; use ADD for a URL";
                return self.fail(word.span, what);
            }
            sources.push(match found {
                Some(Remote::Git(git)) => self.repository(git, copy, checksum.clone(), word)?,
                Some(Remote::Url { name }) => CopySource::Url {
                    name,
                    checksum: match &checksum {
                        Some(digest) if !is_sha256(digest) => {
                            let what = "--checksum of a URL is sha256: and 64 hexadecimal digits";
                            return self.fail(word.span, what);
                        }
                        checksum => checksum.clone(),
                    },
                    unpack: copy.unpack.unwrap_or(false),
                    url: path,
                },
                None if checksum.is_some() => {
                    return self.fail(word.span, "--checksum is for a URL or a git repository");
                }
                None => CopySource::Files {
                    from: from.clone(),
                    pattern: pattern(&path, copy.parents),
                },
            });
        }
        for heredoc in &copy.inline {
            let contents = self.contents(heredoc, span)?;
            self.charge(span, contents.len())?;
            sources.push(CopySource::Inline(InlineFile {
                path: heredoc.name.clone(),
                contents,
                mode: 0o644,
            }));
        }
        let destination = self.expand(&copy.destination)?;
        Ok(build::Copy {
            sources,
            destination: self.destination(&destination),
            chown,
            chmod,
            link: copy.link,
            parents: copy.parents,
            exclude: copy.exclude.clone(),
            unpack: copy.unpack.unwrap_or(copy.add),
        })
    }

    fn repository(
        &self,
        git: Git,
        copy: &Copy,
        checksum: Option<String>,
        word: &Word,
    ) -> Result<CopySource, Error> {
        let differ = |a: &Option<String>, b: &Option<String>| a.is_some() && b.is_some() && a != b;
        if differ(&git.checksum, &checksum) {
            return self.fail(word.span, "--checksum and the URL name different commits");
        }
        let checksum = git.checksum.or(checksum);
        let is_commit = |commit: &String| {
            (7..=64).contains(&commit.len()) && commit.bytes().all(|byte| byte.is_ascii_hexdigit())
        };
        if !checksum.as_ref().is_none_or(is_commit) {
            return self.fail(word.span, "--checksum of a git repository is a commit");
        }
        if let (Some(url), Some(flag)) = (git.keep_git_dir, copy.keep_git_dir)
            && url != flag
        {
            return self.fail(word.span, "--keep-git-dir and the URL say different things");
        }
        Ok(CopySource::Git {
            url: git.url,
            reference: git.reference,
            subdirectory: git.subdirectory,
            keep_git_dir: git.keep_git_dir.or(copy.keep_git_dir).unwrap_or(false),
            submodules: git.submodules.unwrap_or(true),
            checksum,
        })
    }

    fn contents(&mut self, heredoc: &Heredoc, span: Span) -> Result<String, Error> {
        let text = heredoc.text();
        if !heredoc.expand {
            return Ok(text);
        }
        let mode = Mode {
            no_quotes: true,
            ..Mode::default()
        };
        let mut lexer = Lexer::new(&text, '\\', mode, &self.now.run, self.stages.budget);
        let expanded = lexer.word().map_err(|kind| match kind {
            ErrorKind::Variable(what) => {
                ErrorKind::Variable(format!("in the heredoc {}: {what}", heredoc.name))
            }
            kind => kind,
        });
        let unset = lexer.unset;
        self.stages.expanded(span, expanded, unset)
    }

    /// An absolute destination; a `/` at the end stays, and says that it is a directory.
    fn destination(&self, written: &str) -> String {
        let path = values::join(self.directory(), written);
        let directory = matches!(written, "" | "." | "..")
            || written.ends_with('/')
            || written.ends_with("/.")
            || written.ends_with("/..");
        match directory && path != "/" {
            true => format!("{path}/"),
            false => path,
        }
    }
}

/// A source below its root; `.` is all of it.
fn pattern(path: &str, parents: bool) -> String {
    let below = |path: &str| match values::join("/", path).split_off(1) {
        all if all.is_empty() => ".".to_owned(),
        path => path,
    };
    match path.split_once("/./") {
        Some((kept_from, rest)) if parents => format!("{}/./{}", below(kept_from), below(rest)),
        _ => below(path),
    }
}

fn is_sha256(digest: &str) -> bool {
    digest.strip_prefix("sha256:").is_some_and(|hex| {
        hex.len() == 64
            && hex
                .bytes()
                .all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
    })
}
