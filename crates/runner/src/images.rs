//! The images of an environment: of what its configuration says, its Features in it, and those of
//! its services.
//!
//! The same for an environment that is there, whose owner is read from its object, and for one that
//! somebody is about to make and wants to see built first ([`prepare`]): then the environment's own
//! step finds everything made.
//!
//! Crash behaviour: a killed build begins again and finds its finished steps.

use crate::build::{Noting, Numbered};
use crate::configuration::{self, Read};
use crate::context::Context;
use crate::failure::Failed;
use crate::record::Configured;
use crate::source::Files;
use boatyard_devcontainer::{DockerfileSource, Document, LocalContext};
use boatyard_image::build::{BuildProgress, Event, Outcome};
use boatyard_image::{Image, Reference};
use boatyard_link::verbs::Prepare;
use boatyard_sandbox::spec::{Egress, User};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

/// How images of one environment are made.
pub(crate) struct Making<'a> {
    files: &'a Files,
    /// What paths of a clone begin with.
    prefix: String,
    no_cache: bool,
    /// What steps may reach.
    egress: Option<Egress>,
    progress: Arc<Numbered>,
}

impl<'a> Making<'a> {
    pub(crate) fn new(
        files: &'a Files,
        local: &LocalContext,
        egress: Option<Egress>,
        no_cache: bool,
        progress: Arc<dyn BuildProgress>,
    ) -> Self {
        let root = local.repository_root.clone();
        Self {
            files,
            prefix: root.unwrap_or_else(|| local.local_workspace_folder.clone()),
            no_cache,
            egress,
            progress: Arc::new(Numbered::new(progress)),
        }
    }

    /// An image by its name, built when there is something to build it from.
    pub(crate) async fn image(
        &self,
        reference: &Reference,
        dockerfile: Option<&DockerfileSource>,
    ) -> Result<Image, Failed> {
        let progress = self.progress.next();
        if let Some(source) = dockerfile {
            let files = (self.files, self.prefix.as_str());
            let of = (reference, self.egress.clone());
            return crate::build::of_files(files, source, of, self.no_cache, progress).await;
        }
        let images = &self.files.context().images;
        let began = Instant::now();
        // Of what is here there is nothing to say.
        let absent = images.state(reference).is_err();
        if absent {
            progress.event(Event::Began {
                vertex: 1,
                name: format!("[internal] load image {reference}"),
            });
        }
        let noting = Arc::new(Noting(Arc::clone(&progress), 1));
        let ensured = images.ensure(reference, noting).await;
        if absent {
            progress.event(Event::Ended {
                vertex: 1,
                outcome: if ensured.is_ok() {
                    Outcome::Done
                } else {
                    Outcome::Failed
                },
                took: began.elapsed(),
            });
        }
        ensured.map_err(|error| Failed::image(&error))
    }

    /// The image of what is opened, Features included, and how it came to be.
    pub(crate) async fn opened(
        &self,
        configured: &Configured,
        document: &Document,
        local: &LocalContext,
    ) -> Result<(Image, &'static str), Failed> {
        let reference = Reference::parse(&configured.image)
            .map_err(|error| Failed::lasting("ImageReferenceInvalid", error.to_string()))?;
        let image = self
            .image(&reference, configured.dockerfile.as_ref())
            .await?;
        let base = image.reference.clone();
        let progress = self.progress.next();
        let (files, wishes) = ((self.files, self.egress.clone()), (document, local));
        let installed = crate::features::installed(files, wishes, image, self.no_cache, progress);
        let image = Box::pin(installed).await?;
        let verb = match &configured.dockerfile {
            _ if image.reference != base => "Features in ",
            Some(_) => "built ",
            None => "",
        };
        Ok((image, verb))
    }
}

/// Makes all images of an environment that a caller of this host is about to make, of a folder.
pub(crate) async fn prepare(
    context: &Context,
    wanted: Prepare,
    caller: Option<User>,
    progress: Arc<dyn BuildProgress>,
) -> Result<Image, Failed> {
    let (Some(owner), Some(folder)) = (caller, &wanted.spec.source.folder) else {
        return Err(Failed::lasting(
            "SourceNotLocal",
            "folders can be built only for callers on this host's unix socket",
        ));
    };
    let files = Files::folder(context, PathBuf::from(folder.opened()), owner).await?;
    let local = configuration::local(&wanted.spec, None);
    let Read {
        configured,
        compose,
        ..
    } = configuration::read(&files, &wanted.spec, &local).await?;
    let document = configuration::document(&configured)?;
    let egress = crate::egress::of(context, &wanted.spec).await?;
    let making = Making::new(&files, &local, egress, wanted.no_cache, progress);
    let (image, _) = making.opened(&configured, &document, &local).await?;
    let Some(plan) = compose.filter(|_| !wanted.opened_only) else {
        return Ok(image);
    };
    for service in &plan.services {
        if service.name != plan.service {
            crate::services::image(&making, service).await?;
        }
    }
    Ok(image)
}
