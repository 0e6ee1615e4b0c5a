//! What of a class only a start takes, and what is worth a write.
#![allow(clippy::unwrap_used, reason = "tests")]
use super::*;
use boatyard_api::class::{Requests, Resources as Sizes};
use boatyard_api::environment::{Slowed, Usage};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

#[test]
fn what_applies_to_what_runs_is_no_field_of_a_start() {
    let quantity = |text: &str| Some(Quantity(text.to_owned()));
    let live = EnvironmentClassSpec {
        description: Some("d".to_owned()),
        resources: Sizes {
            cpu: quantity("1"),
            memory: quantity("1Gi"),
            pids: Some(9),
            requests: Some(Requests::default()),
            network: Some(boatyard_api::class::Bandwidth::default()),
            ..Sizes::default()
        },
        ..EnvironmentClassSpec::default()
    };
    assert_eq!(fields(&live), fields(&EnvironmentClassSpec::default()));
    let other = EnvironmentClassSpec {
        resources: Sizes {
            disk: quantity("1Gi"),
            ..Sizes::default()
        },
        ..EnvironmentClassSpec::default()
    };
    assert_eq!(
        fields(&other).get("resources.disk").map(String::as_str),
        Some("\"1Gi\"")
    );
}

#[test]
fn a_reason_is_written_at_once_and_figures_are_not() {
    let looked = |memory: &str, slowed: Option<&str>| {
        let mut looked = pass::Looked::default();
        looked.status.usage = Some(Usage {
            memory: Quantity(memory.to_owned()),
            ..Usage::default()
        });
        looked.status.slowed = slowed
            .map(|number| Slowed {
                reason: "MemoryLimit".to_owned(),
                message: number.to_owned(),
            })
            .into_iter()
            .collect();
        looked
    };
    let mut told = Told::default();
    assert!(told.is_worth(&looked("1Mi", None)), "the first");
    assert!(!told.is_worth(&looked("900Mi", None)), "figures wait");
    assert!(told.is_worth(&looked("900Mi", Some("90 of 100"))));
    assert!(!told.is_worth(&looked("901Mi", Some("91 of 100"))));
    assert!(told.is_worth(&looked("1Mi", None)), "it went");
}
