//! Project: a repository and how its environments are made.
//!
//! An environment that names a project takes from it, once, at creation, what it leaves out itself;
//! later changes of the project are for later environments. Deleting a project deletes none of its
//! environments. Prebuilds and warm pools are not of this version.

use crate::environment::GitSource;
use crate::rules::Rules;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A repository and how its environments are made.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "boatyard.dev",
    version = "v1",
    kind = "Project",
    plural = "projects",
    shortname = "proj",
    category = "boatyard",
    namespaced,
    status = "ProjectStatus",
    derive = "PartialEq",
    selectable = ".spec.source.git.url",
    printcolumn(
        name = "Repository",
        type_ = "string",
        json_path = ".spec.source.git.url"
    ),
    printcolumn(
        name = "Environments",
        type_ = "integer",
        json_path = ".status.environments"
    ),
    printcolumn(
        name = "Ref",
        type_ = "string",
        json_path = ".spec.source.git.ref",
        priority = 1
    ),
    printcolumn(
        name = "Class",
        type_ = "string",
        json_path = ".spec.className",
        priority = 1
    ),
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp"
    )
)]
#[serde(rename_all = "camelCase")]
pub struct ProjectSpec {
    /// Name for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub display_name: Option<String>,
    /// Where the code of its environments comes from.
    pub source: ProjectSource,
    /// Name of the EnvironmentClass of its environments, where they name none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub class_name: Option<String>,
    /// Which devcontainer.json its environments are made by, where they name none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub devcontainer: Option<ProjectDevcontainer>,
}

/// Where a project's code comes from.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ProjectSource {
    /// A git repository, cloned inside a sandbox.
    pub git: GitSource,
}

/// Which devcontainer.json a project's environments are made by.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ProjectDevcontainer {
    /// Path of the devcontainer.json, relative to the source's root.
    #[schemars(length(min = 1, max = 4096))]
    #[x_kube(
        validation = Rule::new("!self.startsWith('/') && !self.split('/').exists(part, part == '..')")
            .message("must be a path inside the source")
    )]
    pub path: String,
}

/// What is, as the server counted it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ProjectStatus {
    /// Generation of the spec this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// How many environments name it.
    #[serde(default)]
    pub environments: u32,
}

impl Rules for Project {
    fn samples() -> [Self; 2] {
        let git = |reference: &str| ProjectSource {
            git: GitSource {
                url: "https://git.example.org/boats/hull.git".to_owned(),
                reference: Some(reference.to_owned()),
            },
        };
        let first = ProjectSpec {
            display_name: Some("Hull".to_owned()),
            source: git("main"),
            class_name: Some("large".to_owned()),
            devcontainer: Some(ProjectDevcontainer {
                path: ".devcontainer/devcontainer.json".to_owned(),
            }),
        };
        let second = ProjectSpec {
            source: git("next"),
            ..first.clone()
        };
        let [first, mut second] = [first, second].map(|spec| Self::new("hull", spec));
        second.status = Some(ProjectStatus {
            observed_generation: Some(1),
            environments: 7,
        });
        [first, second]
    }
}
