//! The configuration of a built image, and its entry under a local name.
//!
//! Equal inputs give equal bytes: the time is that of the youngest step, so a build that found
//! everything made gives the very same image.
//!
//! Format: the OCI image configuration, with Docker's `Healthcheck`, `OnBuild` and `Shell`.

use crate::digest::Digest;
use crate::layers::LayerId;
use boatyard_devcontainer::build::{Healthcheck, ImageState};
use serde_json::{Map, Value, json};

/// What was done for one entry of an image's history.
#[derive(Clone, Debug)]
pub(super) struct Past {
    pub(super) created: String,
    pub(super) text: String,
    pub(super) layer: Option<LayerId>,
}

/// What a stage or image consists of.
#[derive(Clone, Debug, Default)]
pub(super) struct Made {
    /// Bottom first.
    pub(super) layers: Vec<LayerId>,
    /// The history the base brought, as it came.
    pub(super) inherited: Vec<Value>,
    /// What this build did.
    pub(super) past: Vec<Past>,
    /// When the base was made.
    pub(super) created: Option<String>,
}

pub(super) fn config(made: &Made, state: &ImageState, architecture: &str) -> Vec<u8> {
    let created = made
        .past
        .iter()
        .map(|past| past.created.clone())
        .chain(made.created.clone())
        .max()
        .unwrap_or_else(|| "1980-01-01T00:00:00Z".to_owned());
    let mut history = made.inherited.clone();
    for past in &made.past {
        let mut entry = json!({
            "created": past.created,
            "created_by": past.text,
            "comment": "boatyard",
        });
        if past.layer.is_none() {
            entry["empty_layer"] = true.into();
        }
        history.push(entry);
    }
    let diff_ids: Vec<&Digest> = made.layers.iter().map(LayerId::digest).collect();
    let mut config = json!({
        "created": created,
        "architecture": architecture,
        "os": "linux",
        "config": run(state),
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
        "history": history,
    });
    if let Some(author) = &state.author {
        config["author"] = author.clone().into();
    }
    config.to_string().into_bytes()
}

fn run(state: &ImageState) -> Value {
    let mut run = Map::new();
    let mut put = |name: &str, value: Value| {
        run.insert(name.to_owned(), value);
    };
    if !state.user.is_empty() {
        put("User", state.user.clone().into());
    }
    if !state.exposed_ports.is_empty() {
        put("ExposedPorts", set(&state.exposed_ports));
    }
    let env: Vec<String> = state
        .env
        .iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    put("Env", env.into());
    if let Some(entrypoint) = &state.entrypoint {
        put("Entrypoint", entrypoint.clone().into());
    }
    if let Some(cmd) = &state.cmd {
        put("Cmd", cmd.clone().into());
    }
    if !state.volumes.is_empty() {
        put("Volumes", set(&state.volumes));
    }
    if !state.working_dir.is_empty() {
        put("WorkingDir", state.working_dir.clone().into());
    }
    if !state.labels.is_empty() {
        put("Labels", json!(state.labels));
    }
    if let Some(signal) = &state.stop_signal {
        put("StopSignal", signal.clone().into());
    }
    if let Some(check) = &state.healthcheck {
        put("Healthcheck", healthcheck(check));
    }
    if !state.shell.is_empty() {
        put("Shell", state.shell.clone().into());
    }
    if !state.onbuild.is_empty() {
        put("OnBuild", state.onbuild.clone().into());
    }
    Value::Object(run)
}

fn set(names: &[String]) -> Value {
    names
        .iter()
        .map(|name| (name.clone(), json!({})))
        .collect::<Map<_, _>>()
        .into()
}

fn healthcheck(check: &Healthcheck) -> Value {
    let mut value = json!({"Test": check.test});
    for (name, number) in [
        ("Interval", check.interval),
        ("Timeout", check.timeout),
        ("StartPeriod", check.start_period),
        ("StartInterval", check.start_interval),
        ("Retries", u64::from(check.retries)),
    ] {
        if number > 0 {
            value[name] = number.into();
        }
    }
    value
}

/// The state a configuration describes, for whoever plans on top of the image.
pub(super) fn state(config: &Value) -> ImageState {
    let run = &config["config"];
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let list = |value: &Value| -> Option<Vec<String>> {
        value
            .as_array()
            .map(|values| values.iter().map(text).collect())
    };
    let keys = |value: &Value| -> Vec<String> {
        value
            .as_object()
            .map(|map| map.keys().cloned().collect())
            .unwrap_or_default()
    };
    let number = |value: &Value| value.as_u64().unwrap_or(0);
    let check = &run["Healthcheck"];
    ImageState {
        env: list(&run["Env"])
            .unwrap_or_default()
            .iter()
            .map(|pair| {
                let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
                (name.to_owned(), value.to_owned())
            })
            .collect(),
        user: text(&run["User"]),
        working_dir: text(&run["WorkingDir"]),
        shell: list(&run["Shell"]).unwrap_or_default(),
        entrypoint: list(&run["Entrypoint"]),
        cmd: list(&run["Cmd"]),
        labels: run["Labels"]
            .as_object()
            .map(|map| {
                map.iter()
                    .map(|(name, value)| (name.clone(), text(value)))
                    .collect()
            })
            .unwrap_or_default(),
        exposed_ports: keys(&run["ExposedPorts"]),
        volumes: keys(&run["Volumes"]),
        stop_signal: run["StopSignal"].as_str().map(str::to_owned),
        healthcheck: check.is_object().then(|| Healthcheck {
            test: list(&check["Test"]).unwrap_or_default(),
            interval: number(&check["Interval"]),
            timeout: number(&check["Timeout"]),
            start_period: number(&check["StartPeriod"]),
            start_interval: number(&check["StartInterval"]),
            retries: u32::try_from(number(&check["Retries"])).unwrap_or(0),
        }),
        onbuild: list(&run["OnBuild"]).unwrap_or_default(),
        author: config["author"].as_str().map(str::to_owned),
    }
}
