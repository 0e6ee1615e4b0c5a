//! `outdated` and `upgrade`: what a lockfile says, and what it could say.

use super::args::{Outdated, Upgrade};
use super::configuration::{self, Located};
use super::features;
use super::log::Log;
use super::registry;
use crate::failure::Failure;
use boatyard_devcontainer::features::{Lockfile, Reference, set_version, without_version};
use boatyard_image::collection;
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::ExitCode;

fn located(folder: Option<&str>, config: Option<&str>) -> Result<Located, Failure> {
    let folder = configuration::absolute(folder.unwrap_or("."))?;
    configuration::of_folder_by(folder, config)
}

/// `outdated`.
pub(crate) async fn outdated(asked: &Outdated) -> Result<ExitCode, Failure> {
    let log = Log::begin(&asked.logging);
    let located = located(asked.workspace_folder.as_deref(), asked.config.as_deref())?;
    let lockfile = features::lockfile(&located.file)?;
    let artifacts = registry::artifacts()?;
    let mut rows = Map::new();
    for feature in &features::request(&located, None)?.features {
        let row = collection::outdated(&artifacts, feature, lockfile.as_ref()).await;
        let row = row.unwrap_or_else(|error| {
            log.warn(&Failure::from_error(&error).told());
            Some(collection::Outdated::default())
        });
        rows.extend(row.map(|row| (feature.id.clone(), json!(row))));
    }
    let text = if asked.output_format == "json" {
        format!("{}\n", json!({ "features": rows }))
    } else {
        table(&rows)
    };
    crate::output::print(&text)?;
    Ok(ExitCode::SUCCESS)
}

fn table(rows: &Map<String, Value>) -> String {
    let mut lines = vec![["Feature", "Current", "Wanted", "Latest"].map(str::to_owned)];
    for (id, row) in rows {
        let cell = |name: &str| row[name].as_str().unwrap_or("-").to_owned();
        let name = without_version(id).to_owned();
        lines.push([name, cell("current"), cell("wanted"), cell("latest")]);
    }
    let width = |column: usize| {
        lines
            .iter()
            .map(|line| line[column].len())
            .max()
            .unwrap_or(0)
    };
    let widths = [0, 1, 2, 3].map(width);
    let mut text = String::new();
    for line in &lines {
        let cells = line
            .iter()
            .zip(widths)
            .map(|(cell, width)| format!("{cell:width$}"));
        let joined = cells.collect::<Vec<_>>().join("  ");
        text.push_str(joined.trim_end());
        text.push('\n');
    }
    text
}

/// `upgrade`.
pub(crate) async fn upgrade(asked: &Upgrade) -> Result<ExitCode, Failure> {
    let log = Log::of(&asked.general.log_level, false);
    let mut located = located(asked.workspace_folder.as_deref(), asked.config.as_deref())?;
    if let (Some(feature), Some(version)) = (&asked.feature, &asked.target_version) {
        located = pinned(&log, &located, feature, version, asked)?;
    }
    let request = features::request(&located, None)?;
    let resolution = features::ordered(&located, request, None).await?;
    let lockfile = Lockfile::of(&resolution, &BTreeSet::new());
    if asked.dry_run {
        crate::output::print(&lockfile.emit())?;
        return Ok(ExitCode::SUCCESS);
    }
    let path = features::lockfile_path(&located.file);
    write(path, &lockfile.emit())?;
    Ok(ExitCode::SUCCESS)
}

/// Writes the version of one Feature into the configuration.
fn pinned(
    log: &Log,
    located: &Located,
    feature: &str,
    version: &str,
    asked: &Upgrade,
) -> Result<Located, Failure> {
    let plain = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    if version.split('.').count() > 3 || !version.split('.').all(plain) {
        let message = format!("--target-version {version} is no version");
        return Err(Failure::new(message).hint("write 1, 1.2 or 1.2.3"));
    }
    let name = located.file.to_string_lossy();
    let changed = set_version(&name, &located.text, feature, version);
    match changed.map_err(|error| Failure::new(error.to_string()))? {
        Some(text) => {
            log.info(&format!("Updating {feature} to version {version}"));
            write(located.file.clone(), &text)?;
        }
        None => log.warn(&format!("{name} has no Feature {feature}")),
    }
    self::located(asked.workspace_folder.as_deref(), asked.config.as_deref())
}

fn write(path: PathBuf, text: &str) -> Result<(), Failure> {
    let fresh = path.with_extension("json.new");
    let written = std::fs::write(&fresh, text).and_then(|()| std::fs::rename(&fresh, &path));
    written.map_err(|error| Failure::new(format!("cannot write {}: {error}", path.display())))
}

/// Brings the lockfile beside a configuration up to date with what was resolved, as `--frozen-lockfile`
/// and `--no-lockfile` allow.
pub(crate) async fn settle(
    located: &Located,
    additional: Option<&str>,
    lock: &super::args::Lock,
) -> Result<(), Failure> {
    if lock.no_lockfile {
        return Ok(());
    }
    let request = features::request(located, additional)?;
    let before = features::lockfile_text(&located.file)?;
    if request.features.is_empty() && before.is_none() {
        return Ok(());
    }
    let own = features::request(located, None)?;
    let written: BTreeSet<&String> = own.features.iter().map(|feature| &feature.id).collect();
    let beside = request.features.iter().map(|feature| &feature.id);
    let left_out = beside.filter(|id| !written.contains(id)).cloned().collect();
    let resolution =
        features::ordered(located, request.clone(), features::lockfile(&located.file)?).await?;
    let lockable = |feature: &boatyard_devcontainer::features::Resolved| {
        !matches!(feature.need.reference, Reference::Local { .. })
    };
    if before.is_none() && !resolution.order.iter().any(lockable) {
        return Ok(());
    }
    let lockfile = Lockfile::of(&resolution, &left_out);
    let path = features::lockfile_path(&located.file);
    match before {
        Some(text) if lockfile.says(&text) => Ok(()),
        _ if lock.frozen_lockfile || lock.experimental_frozen_lockfile => {
            Err(Failure::new(match before {
                Some(_) => "Lockfile does not match.",
                None => "Lockfile does not exist.",
            })
            .hint(format!(
                "write {} with `devcontainer upgrade`",
                path.display()
            )))
        }
        _ => write(path, &lockfile.emit()),
    }
}
