//! Installs the Features an environment's configuration asks for on its image.
//!
//! Which they are and in what order is `boatyard-devcontainer`'s thinking, fetching and building
//! are `boatyard-image`'s. Local Features and the lockfile are read with the owner's credentials
//! from a folder, and as they are from a clone, which this runner made and which is never left.
//! The lockfile is read here and never written: that is the business of whoever owns the folder.
//!
//! Crash behaviour: a killed build begins again and finds its finished steps.

use crate::failure::Failed;
use crate::source::Files;
use boatyard_devcontainer::build::{Base, BuildPlan};
use boatyard_devcontainer::features::{self, Lockfile};
use boatyard_devcontainer::{Document, ImageMetadata, LocalContext, devcontainer_id};
use boatyard_image::build::{BuildProgress, Caching, Request};
use boatyard_image::features::{Features, Local};
use boatyard_image::{Image, Reference};
use boatyard_sandbox::spec::Egress;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The label Features and their configuration are kept in.
const LABEL: &str = "devcontainer.metadata";

/// The image with Features in it; the image itself when none are asked for.
pub(crate) async fn installed(
    (files, egress): (&Files, Option<Egress>),
    (document, local): (&Document, &LocalContext),
    image: Image,
    (no_cache, caching): (bool, Caching),
    progress: Arc<dyn BuildProgress>,
) -> Result<Image, Failed> {
    let context = files.context();
    let invalid = |error: boatyard_devcontainer::Error| {
        Failed::lasting("ConfigurationInvalid", error.to_string())
    };
    let failed = |error: boatyard_image::Error| Failed::image(&error);
    let request = document.features(local).map_err(invalid)?;
    if request.features.is_empty() {
        return Ok(image);
    }
    let lockfile = lockfile(files, &request.config_file).await?;
    let files = files.tree().await?;
    let files: Arc<dyn Local> = Arc::new(boatyard_image::features::Files::new(files));
    let artifacts = context.images.artifacts().map_err(failed)?;
    let found = Features::resolve(&artifacts, request, lockfile, Arc::clone(&files));
    let found = found.await.map_err(failed)?;
    let state = context.images.state(&image.reference).map_err(failed)?;
    let metadata = ImageMetadata {
        env: image.config.env.clone(),
        user: image.config.user.clone(),
        labels: state.labels.clone(),
    };
    let plan = document.run_plan(local, &metadata).map_err(invalid)?;
    let users = features::users(&plan, image.config.user.as_deref());
    let order = &found.resolution.order;
    let known = state.labels.get(LABEL).map(String::as_str);
    let label = features::metadata_label(known, order, None);
    let base = Base::Image(image.reference.to_string());
    let plan = BuildPlan {
        stages: vec![features::install(base, state, order, &users, label)],
    };
    let name = name(&image, &plan)?;
    let request = Request {
        plan,
        names: vec![name],
        contexts: found.contexts(files).await.map_err(failed)?,
        secrets: BTreeMap::new(),
        ssh: BTreeMap::new(),
        no_cache,
    };
    let builder = context.builder.within(egress);
    let built = builder.build_with(request, caching, progress).await;
    built.map_err(|error| Failed::image(&error))
}

/// The same whenever the same Features are installed on the same image.
fn name(image: &Image, plan: &BuildPlan) -> Result<Reference, Failed> {
    let what = BTreeMap::from([
        ("image".to_owned(), image.digest.clone()),
        (
            "plan".to_owned(),
            serde_json::to_string(plan).unwrap_or_default(),
        ),
    ]);
    let id = devcontainer_id(&what);
    Reference::parse(&format!("boatyard.local/features:{id}"))
        .map_err(|error| Failed::internal(&error))
}

async fn lockfile(files: &Files, config_file: &str) -> Result<Option<Lockfile>, Failed> {
    let path = Lockfile::path_beside(config_file);
    let Some(text) = files.read(&path).await? else {
        return Ok(None);
    };
    Lockfile::parse(&path, &text)
        .map_err(|error| Failed::lasting("ConfigurationInvalid", error.to_string()))
}
