//! `--output` and `--platform`, as buildx has them: where a built image goes beside the store of the
//! runner, and for what it is built.

use crate::args::Global;
use crate::failure::Failure;
use crate::images::{Transfer, ask};
use boatyard_link::verbs::{ArchiveFormat, Request};
use std::path::{Path, PathBuf};

/// Where an image is written to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Output {
    /// A file.
    Archive(ArchiveFormat, PathBuf),
    /// A folder that gets its files, as the caller's.
    Folder(PathBuf),
}

/// What `type=oci,dest=FILE` and the like mean; None for the store, where every image goes. A path
/// alone is a folder.
pub(crate) fn output(text: &str) -> Result<Option<Output>, Failure> {
    let wrong = |problem: &str| {
        Failure::new(format!("--output {text} {problem}"))
            .hint("write type=local,dest=FOLDER, or type=tar, oci or docker and dest=FILE")
            .code(2)
    };
    let (mut kind, mut file) = (None, None);
    for part in text.split(',') {
        match part.split_once('=') {
            Some(("type", value)) => kind = Some(value),
            Some(("dest", value)) => file = Some(value),
            Some((name, _)) => return Err(wrong(&format!("has {name}, which is not supported"))),
            None if text == part && !text.is_empty() => {
                return Ok(Some(Output::Folder(text.into())));
            }
            None => return Err(wrong(&format!("has {part:?}, which is no NAME=VALUE"))),
        }
    }
    let format = match kind {
        Some("oci") => ArchiveFormat::Oci,
        Some("docker") => ArchiveFormat::Docker,
        Some("tar") => ArchiveFormat::Files,
        Some("local") => {
            return match file {
                Some(folder) => Ok(Some(Output::Folder(folder.into()))),
                None => Err(wrong("has no dest=FOLDER")),
            };
        }
        Some("image") => return Ok(None),
        Some("registry") => return Err(wrong("goes to a registry: say --push")),
        Some(kind) => {
            return Err(wrong(&format!(
                "has the type {kind}, which is not supported"
            )));
        }
        None => return Err(wrong("has no type")),
    };
    match file {
        Some("-") => Err(wrong("goes to standard output, which is not supported")),
        Some(file) => Ok(Some(Output::Archive(format, file.into()))),
        None if format == ArchiveFormat::Docker => Ok(None),
        None => Err(wrong("has no dest=FILE")),
    }
}

impl Output {
    /// Writes the image of this name.
    pub(crate) async fn write(&self, global: &Global, reference: &str) -> Result<(), Failure> {
        let (format, file) = match self {
            Output::Archive(format, file) => (*format, file.clone()),
            Output::Folder(folder) => {
                std::fs::create_dir_all(folder)?;
                let name = format!(".boatyard-{}.tar", std::process::id());
                (ArchiveFormat::Files, folder.join(name))
            }
        };
        let request = Request::ImageExport {
            reference: reference.to_owned(),
            format,
        };
        let received = ask(global, &request, Transfer::Receive(&file)).await;
        let Output::Folder(folder) = self else {
            return received.map(drop);
        };
        let unpacked = received.and_then(|_| unpack(&file, folder));
        let _ = std::fs::remove_file(&file);
        unpacked
    }
}

/// Unpacks an image's files into a folder, as the caller's own, over what is there. None of them
/// leaves it.
fn unpack(tar: &Path, folder: &Path) -> Result<(), Failure> {
    let failed = |error: std::io::Error| {
        Failure::new(format!("cannot write into {}: {error}", folder.display()))
    };
    let mut archive = tar::Archive::new(std::fs::File::open(tar).map_err(failed)?);
    archive.set_overwrite(true);
    archive.set_preserve_ownerships(false);
    archive.unpack(folder).map_err(failed)
}

/// Refuses what is no platform of this machine.
pub(crate) fn platform(wanted: Option<&str>) -> Result<(), Failure> {
    let architecture = boatyard_image::Options::default().architecture;
    let here = format!("linux/{architecture}");
    let same = |wanted: &str| {
        wanted == here || wanted == architecture || wanted.starts_with(&format!("{here}/"))
    };
    match wanted.filter(|wanted| !same(wanted)) {
        Some(wanted) => Err(Failure::new(format!(
            "--platform {wanted} is not supported: this machine builds for {here} alone"
        ))
        .hint("build it on a runner of that kind")),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    //! Outputs and platforms as they are written.
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn outputs_are_archives_folders_or_the_store_and_others_are_refused() {
        let archive = |format, file: &str| Some(Output::Archive(format, file.into()));
        let folder = |path: &str| Some(Output::Folder(path.into()));
        for (text, wanted) in [
            (
                "type=oci,dest=/a/b.tar",
                archive(ArchiveFormat::Oci, "/a/b.tar"),
            ),
            (
                "type=tar,dest=b.tar",
                archive(ArchiveFormat::Files, "b.tar"),
            ),
            ("type=local,dest=out", folder("out")),
            ("out", folder("out")),
        ] {
            assert_eq!(output(text).unwrap(), wanted, "{text}");
        }
        for text in ["type=docker", "type=image"] {
            assert_eq!(output(text).unwrap(), None, "{text}");
        }
        for text in [
            "",
            "out,type=local",
            "type=local",
            "type=tar",
            "type=tar,dest=-",
            "type=oci",
            "type=oci,dest=-",
            "type=registry",
            "dest=x",
            "type=oci,dest=x,name=y",
        ] {
            assert!(output(text).is_err(), "{text}");
        }
    }

    #[test]
    fn only_this_machines_platform_is_taken() {
        let architecture = boatyard_image::Options::default().architecture;
        for wanted in [None, Some(format!("linux/{architecture}"))] {
            assert!(platform(wanted.as_deref()).is_ok(), "{wanted:?}");
        }
        for wanted in ["linux/s390x", "windows/amd64", "linux/amd64,linux/arm64"] {
            assert!(platform(Some(wanted)).is_err(), "{wanted}");
        }
    }
}
