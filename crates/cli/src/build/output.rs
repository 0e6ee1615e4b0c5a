//! `--output` and `--platform`, as buildx has them: where a built image goes beside the store of the
//! runner, and for what it is built.

use crate::args::Global;
use crate::failure::Failure;
use crate::images::{Transfer, ask};
use boatyard_link::verbs::{ArchiveFormat, Request};
use std::path::PathBuf;

/// A file that an image is written to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Output {
    format: ArchiveFormat,
    file: PathBuf,
}

/// What `type=oci,dest=FILE` and the like mean; None for the store, where every image goes.
pub(crate) fn output(text: &str) -> Result<Option<Output>, Failure> {
    let wrong = |problem: &str| {
        Failure::new(format!("--output {text} {problem}"))
            .hint("write type=oci,dest=FILE or type=docker,dest=FILE")
            .code(2)
    };
    let (mut kind, mut file) = (None, None);
    for part in text.split(',') {
        match part.split_once('=') {
            Some(("type", value)) => kind = Some(value),
            Some(("dest", value)) => file = Some(value),
            Some((name, _)) => return Err(wrong(&format!("has {name}, which is not supported"))),
            None => return Err(wrong("would be a folder of files, which is not supported")),
        }
    }
    let format = match kind {
        Some("oci") => ArchiveFormat::Oci,
        Some("docker") => ArchiveFormat::Docker,
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
        Some(file) => Ok(Some(Output {
            format,
            file: file.into(),
        })),
        None if format == ArchiveFormat::Docker => Ok(None),
        None => Err(wrong("has no dest=FILE")),
    }
}

impl Output {
    /// Writes the image of this name.
    pub(crate) async fn write(&self, global: &Global, reference: &str) -> Result<(), Failure> {
        let request = Request::ImageExport {
            reference: reference.to_owned(),
            format: self.format,
        };
        ask(global, &request, Transfer::Receive(&self.file))
            .await
            .map(drop)
    }
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
    fn outputs_are_archives_or_the_store_and_others_are_refused() {
        let oci = output("type=oci,dest=/a/b.tar").unwrap().unwrap();
        assert_eq!(oci.format, ArchiveFormat::Oci);
        assert_eq!(oci.file, PathBuf::from("/a/b.tar"));
        for text in ["type=docker", "type=image"] {
            assert_eq!(output(text).unwrap(), None, "{text}");
        }
        for text in [
            "out",
            "type=local,dest=out",
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
