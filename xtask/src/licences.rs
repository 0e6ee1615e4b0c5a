//! What may be built in: every package's licence and source, held against `deny.toml`.
//!
//! Owns the judgement of licences and sources, by what `cargo metadata` says of the packages in the
//! lock file; banned packages are `floors`'s. The list is `cargo deny`'s own file, so that who has
//! that program may run it too and hears the same.

use crate::process;
use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::path::Path;

const REGISTRY: &str = "registry+https://github.com/rust-lang/crates.io-index";

/// Fails naming every package whose licence or source is not allowed.
pub(crate) fn check(root: &Path) -> Result<()> {
    let path = root.join("deny.toml");
    let list: toml::Table = std::fs::read_to_string(&path)
        .context("deny.toml")?
        .parse()
        .context("deny.toml")?;
    let allowed = list
        .get("licenses")
        .and_then(|table| table.get("allow"))
        .and_then(toml::Value::as_array)
        .context("deny.toml has no licenses.allow")?
        .iter()
        .map(|licence| {
            let text = licence.as_str().unwrap_or_default();
            spdx::Licensee::parse(text).with_context(|| format!("deny.toml: {text:?}"))
        })
        .collect::<Result<Vec<_>>>()?;
    let metadata: Value = serde_json::from_str(&process::output(process::cargo(root).args([
        "metadata",
        "--format-version=1",
        "--locked",
    ]))?)
    .context("what cargo metadata says")?;
    let packages = metadata
        .get("packages")
        .and_then(Value::as_array)
        .context("cargo metadata names no packages")?;
    let faults: Vec<String> = packages
        .iter()
        .filter_map(|package| judge(package, &allowed))
        .collect();
    if faults.is_empty() {
        println!(
            "licences: {} packages are allowed by deny.toml",
            packages.len()
        );
        return Ok(());
    }
    bail!(
        "licences: {} faults\n  {}",
        faults.len(),
        faults.join("\n  ")
    )
}

/// What is wrong with a package; those of the house have no source and are not judged.
fn judge(package: &Value, allowed: &[spdx::Licensee]) -> Option<String> {
    let text = |key: &str| package.get(key).and_then(Value::as_str);
    let source = text("source")?;
    let name = format!(
        "{} {}",
        text("name").unwrap_or("?"),
        text("version").unwrap_or("?")
    );
    if source != REGISTRY {
        return Some(format!("{name} comes from {source}, not from crates.io"));
    }
    let Some(licence) = text("license") else {
        return Some(format!("{name} names no licence"));
    };
    // Old manifests write `MIT/Apache-2.0`.
    match spdx::Expression::parse_mode(licence, spdx::ParseMode::LAX) {
        Ok(expression)
            if expression.evaluate(|wanted| allowed.iter().any(|one| one.satisfies(wanted))) =>
        {
            None
        }
        Ok(_) => Some(format!(
            "{name} is under {licence}, which deny.toml does not allow"
        )),
        Err(error) => Some(format!(
            "{name} names a licence nobody knows, {licence:?}: {}",
            error.reason
        )),
    }
}

#[cfg(test)]
mod tests {
    //! Packages as cargo describes them.
    use super::*;
    use serde_json::json;

    #[test]
    fn licences_and_sources_are_held_against_the_list() {
        let allowed = [spdx::Licensee::parse("MIT").expect("a licence")];
        let package = |source: Value, license: Value| json!({"name": "a", "version": "1", "source": source, "license": license});
        for (package, fault) in [
            (package(REGISTRY.into(), "MIT OR GPL-3.0-only".into()), None),
            (package(REGISTRY.into(), "MIT/Apache-2.0".into()), None),
            (package(Value::Null, Value::Null), None),
            (
                package(REGISTRY.into(), "MIT AND GPL-3.0-only".into()),
                Some("does not allow"),
            ),
            (package(REGISTRY.into(), Value::Null), Some("no licence")),
            (
                package("git+https://example.org/a".into(), "MIT".into()),
                Some("not from crates.io"),
            ),
            (
                package(REGISTRY.into(), "Mine".into()),
                Some("nobody knows"),
            ),
        ] {
            let said = judge(&package, &allowed);
            assert_eq!(said.is_some(), fault.is_some(), "{package}: {said:?}");
            if let (Some(said), Some(fault)) = (said, fault) {
                assert!(said.contains(fault), "{said}");
            }
        }
    }
}
