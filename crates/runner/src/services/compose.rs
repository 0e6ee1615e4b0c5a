//! From the files of a project to its plan and its images.

use crate::failure::Failed;
use crate::images::Making;
use crate::record::{ImageRecord, Record};
use crate::source::Files;
use crate::worker::Worker;
use boatyard_devcontainer::compose::{self, ComposePlan, Outcome, Service};
use boatyard_devcontainer::{DockerfileSource, Document, LocalContext};
use boatyard_image::Reference;

/// Most rounds of reading: each reads what the files of the last one name.
const ROUNDS: usize = 40;

/// The plan of the project a configuration names; None when it names none.
pub(crate) async fn plan(
    files: &Files,
    document: &Document,
    context: &LocalContext,
) -> Result<Option<ComposePlan>, Failed> {
    let invalid = |error: boatyard_devcontainer::Error| {
        Failed::lasting("ConfigurationInvalid", error.to_string())
    };
    let Some(request) = document.compose(context).map_err(invalid)? else {
        return Ok(None);
    };
    let mut given = compose::Files::new();
    for _ in 0..ROUNDS {
        match compose::plan(&request, &given).map_err(invalid)? {
            Outcome::Plan(plan) => return Ok(Some(*plan)),
            Outcome::Needs(needs) => {
                for path in needs {
                    let text = files
                        .read_host(&path, &context.local_workspace_folder)
                        .await?;
                    given.insert(path, text);
                }
            }
        }
    }
    Err(Failed::lasting(
        "ConfigurationInvalid",
        "the Compose files name each other in too long a chain".to_owned(),
    ))
}

/// Gives the services their numbers: each keeps the one it has, and with it its files.
pub(super) fn number(record: &mut Record) {
    let Some(plan) = &record.compose else { return };
    for service in &plan.services {
        if service.name == plan.service || record.services.contains_key(&service.name) {
            continue;
        }
        let taken = |number: &u32| record.services.values().any(|of| of.number == *number);
        // A project has fewer services than there are numbers; those that are no more free theirs.
        let free = (1..32).find(|number| !taken(number));
        let number = free.or_else(|| {
            let gone = record
                .services
                .iter()
                .find(|(name, _)| plan.named(name).is_none());
            gone.map(|(name, of)| (name.clone(), of.number))
                .map(|(name, number)| {
                    record.services.remove(&name);
                    number
                })
        });
        if let Some(number) = number {
            let service_record = crate::record::ServiceRecord {
                number,
                image: None,
            };
            record.services.insert(service.name.clone(), service_record);
        }
    }
}

/// Makes the images of the services beside the environment's own present.
pub(crate) async fn fetch_images(
    worker: &mut Worker,
    making: &Making<'_>,
) -> Result<Option<String>, Failed> {
    let Some(record) = &mut worker.record else {
        return Ok(None);
    };
    number(record);
    let Some(plan) = record.compose.clone() else {
        return Ok(None);
    };
    let mut names = Vec::new();
    for service in &plan.services {
        if service.name == plan.service {
            continue;
        }
        let image = self::image(making, service).await?;
        names.push(format!("{} {}", service.name, image.reference));
        if let Some(record) = &mut worker.record
            && let Some(of) = record.services.get_mut(&service.name)
        {
            of.image = Some(image);
        }
    }
    Ok((!names.is_empty()).then(|| names.join(", ")))
}

/// Builds the images that are contexts of a service's.
pub(crate) async fn build_first(making: &Making<'_>, service: &Service) -> Result<(), Failed> {
    for (name, source) in &service.built_first {
        let reference = Reference::parse(name)
            .map_err(|error| Failed::lasting("ImageReferenceInvalid", error.to_string()))?;
        making.image(&reference, Some(source)).await?;
    }
    Ok(())
}

/// Makes the image of one service present.
pub(crate) async fn image(making: &Making<'_>, service: &Service) -> Result<ImageRecord, Failed> {
    build_first(making, service).await?;
    let (text, dockerfile) = origin(service)?;
    let reference = Reference::parse(&text).map_err(|error| {
        let message = format!("service {}: {error}", service.name);
        Failed::lasting("ImageReferenceInvalid", message)
    })?;
    let image = making.image(&reference, dockerfile.as_ref()).await?;
    Ok(ImageRecord::of(text, &image))
}

/// The image of a service, and what it is built from when it is.
pub(crate) fn origin(service: &Service) -> Result<(String, Option<DockerfileSource>), Failed> {
    let refused = |message| Failed::lasting("ServiceBuild", message);
    service.image().map_err(refused)
}
