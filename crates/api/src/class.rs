//! EnvironmentClass: the size and the isolation of environments.

use crate::egress::Egress;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The size and isolation of environments that name this class.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "boatyard.dev",
    version = "v1",
    doc = "A size and an isolation that environments name.",
    kind = "EnvironmentClass",
    plural = "environmentclasses",
    shortname = "envclass",
    category = "boatyard",
    derive = "PartialEq",
    printcolumn(name = "CPU", type_ = "string", json_path = ".spec.resources.cpu"),
    printcolumn(
        name = "Memory",
        type_ = "string",
        json_path = ".spec.resources.memory"
    ),
    printcolumn(name = "Pids", type_ = "integer", json_path = ".spec.resources.pids"),
    printcolumn(
        name = "Description",
        type_ = "string",
        json_path = ".spec.description",
        priority = 1
    ),
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp"
    )
)]
#[serde(rename_all = "camelCase")]
pub struct EnvironmentClassSpec {
    /// One sentence for the person choosing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub description: Option<String>,
    /// Limits, each absent meaning none of its own.
    #[serde(default)]
    pub resources: Resources,
    /// What separates the environment from the host.
    #[serde(default)]
    pub isolation: Isolation,
    /// Where its environments may connect to. Everywhere when absent, but never to their host, to each
    /// other or to the metadata services of clouds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub egress: Option<Egress>,
    /// Devices of the runner's host that environments of this class have, by the names of the
    /// Container Device Interface (`vendor.com/class=name`), as described by files in /etc/cdi and
    /// /var/run/cdi of that host; `boatyard.dev/kvm=kvm` is /dev/kvm. A device is a way to the host:
    /// name those only that are made to be shared.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 64),
        inner(
            length(max = 255),
            regex(
                pattern = r"^[A-Za-z]([A-Za-z0-9._-]*[A-Za-z0-9])?/[A-Za-z]([A-Za-z0-9_-]*[A-Za-z0-9])?=[A-Za-z0-9]([A-Za-z0-9_.:-]*[A-Za-z0-9])?$"
            )
        )
    )]
    pub devices: Vec<String>,
}

impl EnvironmentClassSpec {
    /// Whether one of its devices is of the kind `gpu`, whoever made it.
    #[must_use]
    pub fn has_gpu(&self) -> bool {
        self.devices.iter().any(|device| {
            let class = device
                .split_once('/')
                .and_then(|(_, rest)| rest.split_once('='));
            class.is_some_and(|(class, _)| class == "gpu")
        })
    }
}

/// Limits of one environment as a whole.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Resources {
    /// Processors, for example `2` or `500m`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu: Option<Quantity>,
    /// Memory, for example `4Gi`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<Quantity>,
    /// Size of everything the environment writes, for example `20Gi`. A disk that is made is never
    /// made smaller; named volumes have it each for themselves, and a folder of the developer's has no
    /// limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk: Option<Quantity>,
    /// Most processes and threads at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 8))]
    pub pids: Option<u32>,
    /// What a runner sets aside for the environment: environments are placed by it, so that what is
    /// more than this may be promised several times over. Nothing when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requests: Option<Requests>,
    /// How fast the environment speaks to the outside.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<Bandwidth>,
}

/// What a runner sets aside for one environment.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Requests {
    /// Processors; at most the limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu: Option<Quantity>,
    /// Memory; at most the limit. While the host is short of memory, what an idle environment holds
    /// beyond this is taken back first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<Quantity>,
}

/// How fast an environment speaks to the outside, each absent meaning as fast as it can.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Bandwidth {
    /// Bits a second it sends, for example `100M`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub egress: Option<Quantity>,
    /// Bits a second it receives.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ingress: Option<Quantity>,
}

/// What separates an environment from the host.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Isolation {
    /// Linux namespaces, id mapping and seccomp.
    #[default]
    Sandbox,
    /// A virtual machine of its own.
    VM,
}
