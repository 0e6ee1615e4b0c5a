//! Build contexts that are other services' images: `service:NAME` in `additional_contexts`.
//!
//! Such a service is built first, whether it runs or not; the context then names its image. What a
//! service needs built before it is in its plan, in order.

use super::plan::{Origin, Service};
use std::collections::BTreeMap;

const PREFIX: &str = "service:";

/// The services whose images are contexts of a service.
pub(super) fn wanted(service: &Service) -> Vec<String> {
    let Origin::Build(build) = &service.origin else {
        return Vec::new();
    };
    let names = build.contexts.values();
    names
        .filter_map(|place| place.strip_prefix(PREFIX))
        .map(str::to_owned)
        .collect()
}

/// Names the images in place of the services, of which `others` are only built.
///
/// # Errors
/// A sentence: services wait for each other, or one cannot be built.
pub(super) fn settle(
    services: &mut BTreeMap<String, Service>,
    others: &BTreeMap<String, Service>,
) -> Result<(), String> {
    let mut all = others.clone();
    all.extend(services.iter().map(|(name, of)| (name.clone(), of.clone())));
    let mut done = BTreeMap::new();
    for (name, service) in services.iter_mut() {
        one(name, &all, &mut done, &mut Vec::new())?;
        if let Some(settled) = done.get(name) {
            service.clone_from(settled);
        }
    }
    Ok(())
}

fn one(
    name: &str,
    all: &BTreeMap<String, Service>,
    done: &mut BTreeMap<String, Service>,
    above: &mut Vec<String>,
) -> Result<(), String> {
    if done.contains_key(name) {
        return Ok(());
    }
    if above.iter().any(|other| other == name) {
        let chain = above.join(", ");
        return Err(format!(
            "services are build contexts of each other ({chain}): one of them has to be built first"
        ));
    }
    let mut service = all.get(name).cloned().ok_or_else(|| {
        format!("service {name}, which is a build context, is not in the project")
    })?;
    above.push(name.to_owned());
    for other in wanted(&service) {
        one(&other, all, done, above)?;
        let Some(settled) = done.get(&other) else {
            continue;
        };
        let (image, source) = settled.image()?;
        for (image, source) in settled
            .built_first
            .iter()
            .cloned()
            .chain(source.map(|source| (image.clone(), source)))
        {
            if !service.built_first.iter().any(|(known, _)| *known == image) {
                service.built_first.push((image, source));
            }
        }
        if let Origin::Build(build) = &mut service.origin {
            let place = format!("{PREFIX}{other}");
            for context in build.contexts.values_mut().filter(|at| **at == place) {
                *context = format!("docker-image://{image}");
            }
        }
    }
    above.pop();
    done.insert(name.to_owned(), service);
    Ok(())
}
