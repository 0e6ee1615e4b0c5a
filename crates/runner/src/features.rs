//! Installs the Features an environment's configuration asks for on its image.
//!
//! Which they are and in what order is `boatyard-devcontainer`'s thinking, fetching and building
//! are `boatyard-image`'s. Local Features and the lockfile are read with the owner's credentials
//! from a folder, and as they are from a clone, which this runner made and which is never left.
//! The lockfile is read here and never written: that is the business of whoever owns the folder.
//!
//! Crash behaviour: a killed build begins again and finds its finished steps.

use crate::context::Context;
use crate::failure::Failed;
use crate::record::Uid;
use crate::source::{self, Files};
use boatyard_api::environment::EnvironmentSpec;
use boatyard_devcontainer::build::{Base, BuildPlan};
use boatyard_devcontainer::features::{self, Lockfile};
use boatyard_devcontainer::{Document, ImageMetadata, LocalContext, devcontainer_id};
use boatyard_image::build::{BuildProgress, Folder, Request, Tree};
use boatyard_image::features::{Features, Local};
use boatyard_image::{Image, Reference};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

/// The label Features and their configuration are kept in.
const LABEL: &str = "devcontainer.metadata";

/// The image with Features in it; the image itself when none are asked for.
pub(crate) async fn installed(
    context: &Context,
    (uid, spec): (&Uid, &EnvironmentSpec),
    (document, local): (&Document, &LocalContext),
    image: Image,
    progress: Arc<dyn BuildProgress>,
) -> Result<Image, Failed> {
    let invalid = |error: boatyard_devcontainer::Error| {
        Failed::lasting("ConfigurationInvalid", error.to_string())
    };
    let failed = |error: boatyard_image::Error| Failed::image(&error);
    let request = document.features(local).map_err(invalid)?;
    if request.features.is_empty() {
        return Ok(image);
    }
    let lockfile = lockfile(context, uid, spec, &request.config_file).await?;
    let files = workspace(context, uid, spec).await?;
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
        no_cache: false,
    };
    let builder = context
        .builder
        .within(crate::egress::of(context, spec).await?);
    let built = builder.build(request, progress).await;
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

async fn lockfile(
    context: &Context,
    uid: &Uid,
    spec: &EnvironmentSpec,
    config_file: &str,
) -> Result<Option<Lockfile>, Failed> {
    let path = Lockfile::path_beside(config_file);
    let Some(text) = Files::of(context, uid, spec)?.read(&path).await? else {
        return Ok(None);
    };
    Lockfile::parse(&path, &text)
        .map_err(|error| Failed::lasting("ConfigurationInvalid", error.to_string()))
}

/// The workspace's files, for local Features.
async fn workspace(
    context: &Context,
    uid: &Uid,
    spec: &EnvironmentSpec,
) -> Result<Arc<dyn Local>, Failed> {
    let unreadable = |path: &std::path::Path, error: &dyn std::fmt::Display| {
        Failed::lasting(
            "SourceUnreadable",
            format!("the folder {} cannot be read: {error}", path.display()),
        )
    };
    let tree: Arc<dyn Tree> = match &spec.source.folder {
        Some(folder) => {
            let (user, path) = (source::owner(spec)?, PathBuf::from(folder.opened()));
            let (sandboxes, wanted) = (context.sandboxes.clone(), path.clone());
            let view = context
                .blocking(move || sandboxes.view(user, &wanted))
                .await
                .map_err(|error| unreadable(&path, &error))?;
            Arc::new(view)
        }
        None => {
            let path = context.layout.environment(uid).workspace();
            Arc::new(Folder::open(&path).map_err(|error| unreadable(&path, &error))?)
        }
    };
    Ok(Arc::new(boatyard_image::features::Files::new(tree)))
}
