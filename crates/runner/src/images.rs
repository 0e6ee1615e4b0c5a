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
use boatyard_image::build::{BuildProgress, Caching, Event, Outcome};
use boatyard_image::{Held, Image, Reference};
use boatyard_link::verbs::Prepare;
use boatyard_sandbox::spec::{Egress, User};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

/// How images of one environment are made.
pub(crate) struct Making<'a> {
    files: &'a Files,
    /// What paths of a clone begin with.
    prefix: String,
    no_cache: bool,
    /// Where else steps of the opened image are looked for and kept.
    caching: Caching,
    /// What steps may reach.
    egress: Option<Egress>,
    progress: Arc<Numbered>,
    /// Nobody collects what was made until this goes: when it is written down who uses it.
    held: Mutex<Vec<Held>>,
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
            caching: Caching::default(),
            egress,
            progress: Arc::new(Numbered::new(progress)),
            held: Mutex::default(),
        }
    }

    /// The same with registries as caches.
    fn caching(mut self, from: &[String], to: Option<&String>) -> Result<Self, Failed> {
        let reference = |name: &String| {
            Reference::parse(name)
                .map_err(|error| Failed::lasting("ImageReferenceInvalid", error.to_string()))
        };
        self.caching.from = from.iter().map(reference).collect::<Result<_, _>>()?;
        self.caching.to = to.map(reference).transpose()?;
        Ok(self)
    }

    /// Holds an image for as long as this lives.
    async fn kept(&self, image: Image) -> Result<Image, Failed> {
        let context = self.files.context();
        let (images, wanted) = (context.images.clone(), image.clone());
        let held = context.blocking(move || images.hold(&wanted)).await?;
        let Some(held) = held else {
            let message = format!("{} was removed just after it was made", image.reference);
            return Err(Failed::transient("ImageGone", message));
        };
        let mut all = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        all.push(held);
        Ok(image)
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
            let own = match self.files.clone_root() {
                Some(root) => own_name(reference, root)?,
                None => reference.clone(),
            };
            let mut source = source.clone();
            for place in source.contexts.values_mut() {
                // An image of this project's has its own name too.
                if let Some(image) = place.strip_prefix("docker-image://")
                    && image.starts_with("boatyard.local/")
                    && let (Some(root), Ok(image)) =
                        (self.files.clone_root(), Reference::parse(image))
                {
                    *place = format!("docker-image://{}", own_name(&image, root)?);
                }
            }
            let of = (&own, self.egress.clone());
            let how = (self.no_cache, self.caching.clone());
            let built = crate::build::of_files(files, &source, of, how, progress);
            return self.kept(built.await?).await;
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
        if let Err(boatyard_image::Error::NoSpace { .. }) = &ensured {
            self.files.context().garbage.full();
        }
        self.kept(ensured?).await
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
        let how = (self.no_cache, self.caching.clone());
        let installed = crate::features::installed(files, wishes, image, how, progress);
        let image = self.kept(Box::pin(installed).await?).await?;
        let verb = match &configured.dockerfile {
            _ if image.reference != base => "Features in ",
            Some(_) => "built ",
            None => "",
        };
        Ok((image, verb))
    }
}

/// The name of an image that is built of an environment's clone: paths in clones are the same
/// everywhere, and another clone's image must not take the name before Features are installed in it.
fn own_name(reference: &Reference, clone: &Path) -> Result<Reference, Failed> {
    let text = reference.to_string();
    let (name, _) = text.rsplit_once(':').unwrap_or((&text, ""));
    let what = BTreeMap::from([
        ("image".to_owned(), text.clone()),
        ("clone".to_owned(), clone.display().to_string()),
    ]);
    let id = boatyard_devcontainer::devcontainer_id(&what);
    Reference::parse(&format!("{name}:{id}")).map_err(|error| Failed::internal(&error))
}

/// Makes all images of an environment that a caller of this host is about to make, of a folder.
pub(crate) async fn prepare(
    context: &Context,
    wanted: Prepare,
    (caller, admin): (Option<User>, bool),
    progress: Arc<dyn BuildProgress>,
) -> Result<Image, Failed> {
    if wanted.cache_to.is_some() && !admin {
        return Err(crate::build::no_credentials());
    }
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
    let making = Making::new(&files, &local, egress, wanted.no_cache, progress)
        .caching(&wanted.cache_from, wanted.cache_to.as_ref())?;
    if let Some(main) = compose.as_ref().and_then(|plan| plan.main()) {
        crate::services::build_first(&making, main).await?;
    }
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

#[cfg(test)]
mod tests {
    //! Whose name an image has.
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn images_of_two_clones_have_two_names() {
        let name = Reference::parse("boatyard.local/app:0123").unwrap();
        let of = |clone: &str| own_name(&name, Path::new(clone)).unwrap().to_string();
        assert_ne!(of("/envs/1/disk/workspace"), of("/envs/2/disk/workspace"));
        assert_eq!(of("/envs/1/disk/workspace"), of("/envs/1/disk/workspace"));
        assert!(of("/envs/1").starts_with("boatyard.local/app:"));
    }
}
