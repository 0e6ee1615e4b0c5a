//! `top`: what environments use, and why each is slowed.
//!
//! The list is the API's, so that everybody sees what they may; the figures come live from each
//! environment's runner, through its `usage`. On a terminal the table is drawn anew each second until
//! interrupted; elsewhere, or with `--once`, it is printed once.

use crate::args::{Format, Global, Top};
use crate::connect;
use crate::exec::{PROTOCOL, path};
use crate::failure::Failure;
use crate::output;
use boatyard_api::Environment;
use boatyard_api::environment::{Phase, ResourcesStatus};
use boatyard_link::client::Endpoint;
use boatyard_link::usage::{LONGEST_LINE, Live};
use kube::ResourceExt;
use kube::api::{Api, ListParams};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

/// Streams open at once: of further environments the status is shown.
const MOST_STREAMS: usize = 64;
/// Between two drawings.
const PACE: Duration = Duration::from_secs(1);
/// Between two looks which environments there are.
const LIST: Duration = Duration::from_secs(5);
/// How long the first figures may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// Namespace and name.
type Name = (String, String);

/// Shows it.
pub(crate) async fn run(global: &Global, top: &Top) -> Result<(), Failure> {
    let endpoint = connect::endpoint(global).await?;
    let terminal = std::io::stdout().is_terminal() && top.output.format.is_none();
    if top.once || !terminal {
        let environments = list(&endpoint, global, top).await?;
        let live = once(&endpoint, &environments).await;
        return print(top, &environments, &live);
    }
    output::print("\x1b[?1049h\x1b[?25l")?;
    let outcome = tokio::select! {
        outcome = follow(&endpoint, global, top) => outcome,
        _ = tokio::signal::ctrl_c() => Ok(()),
    };
    output::print("\x1b[?25h\x1b[?1049l")?;
    outcome
}

async fn list(
    endpoint: &Endpoint,
    global: &Global,
    top: &Top,
) -> Result<Vec<Environment>, Failure> {
    let client = endpoint.kube();
    let api: Api<Environment> = if top.all_namespaces {
        Api::all(client)
    } else {
        Api::namespaced(client, &global.namespace)
    };
    Ok(api.list(&ListParams::default()).await?.items)
}

fn runs(environment: &&Environment) -> bool {
    let status = environment.status.as_ref();
    status.is_some_and(|status| matches!(status.phase, Phase::Running | Phase::Starting))
}

fn name(environment: &Environment) -> Name {
    let namespace = environment.namespace().unwrap_or_default();
    (namespace, environment.name_any())
}

/// The first figures of each that runs.
async fn once(endpoint: &Endpoint, environments: &[Environment]) -> BTreeMap<Name, Live> {
    let (sender, mut figures) = mpsc::channel(MOST_STREAMS);
    let mut streams = JoinSet::new();
    for environment in environments.iter().filter(runs).take(MOST_STREAMS) {
        let name = name(environment);
        let one = watch(endpoint.clone(), name, sender.clone(), true);
        streams.spawn(tokio::time::timeout(PATIENCE, one));
    }
    drop(sender);
    let mut live = BTreeMap::new();
    while let Some((name, figure)) = figures.recv().await {
        live.insert(name, figure);
    }
    live
}

/// Passes an environment's figures on; of one that does not tell, none.
async fn watch(endpoint: Endpoint, name: Name, to: mpsc::Sender<(Name, Live)>, once: bool) {
    let Ok(stream) = endpoint
        .upgrade(&path(&name.0, &name.1, "usage"), PROTOCOL)
        .await
    else {
        return;
    };
    let mut lines = BufReader::new(stream);
    let mut line = Vec::new();
    loop {
        line.clear();
        let longest = u64::try_from(LONGEST_LINE).unwrap_or(u64::MAX);
        let mut bounded = (&mut lines).take(longest);
        if !matches!(bounded.read_until(b'\n', &mut line).await, Ok(1..)) {
            return;
        }
        let Ok(live) = serde_json::from_slice(&line) else {
            return;
        };
        if to.send((name.clone(), live)).await.is_err() || once {
            return;
        }
    }
}

/// Draws until interrupted.
async fn follow(endpoint: &Endpoint, global: &Global, top: &Top) -> Result<(), Failure> {
    let (sender, mut figures) = mpsc::channel(MOST_STREAMS);
    let mut streams: JoinSet<Name> = JoinSet::new();
    let mut open: Vec<Name> = Vec::new();
    let mut live = BTreeMap::new();
    let mut environments = Vec::new();
    let mut relist = tokio::time::interval(LIST);
    let mut draw = tokio::time::interval(PACE);
    loop {
        tokio::select! {
            _ = relist.tick() => {
                environments = list(endpoint, global, top).await?;
                for environment in environments.iter().filter(runs) {
                    let name = name(environment);
                    if open.len() >= MOST_STREAMS || open.contains(&name) {
                        continue;
                    }
                    open.push(name.clone());
                    let (endpoint, sender) = (endpoint.clone(), sender.clone());
                    streams.spawn(async move {
                        watch(endpoint, name.clone(), sender, false).await;
                        name
                    });
                }
            }
            Some((name, figure)) = figures.recv() => {
                live.insert(name, figure);
            }
            Some(ended) = streams.join_next(), if !streams.is_empty() => {
                if let Ok(name) = ended {
                    open.retain(|one| *one != name);
                    live.remove(&name);
                }
            }
            _ = draw.tick() => {
                output::print("\x1b[H\x1b[J")?;
                print(top, &environments, &live)?;
            }
        }
    }
}

fn print(
    top: &Top,
    environments: &[Environment],
    live: &BTreeMap<Name, Live>,
) -> Result<(), Failure> {
    let mut shown: Vec<&Environment> = environments.iter().collect();
    let used = |environment: &&Environment| live.get(&name(environment)).map(|one| one.cpu_millis);
    shown.sort_by(|a, b| used(b).cmp(&used(a)).then_with(|| name(a).cmp(&name(b))));
    match top.output.format {
        None | Some(Format::Wide) => {
            let heads = [
                "NAME", "PHASE", "CPU", "MEMORY", "PIDS", "PRESSURE", "SLOWED",
            ];
            let mut heads: Vec<String> = heads.map(str::to_owned).into();
            if top.all_namespaces {
                heads.insert(0, "NAMESPACE".to_owned());
            }
            let rows: Vec<Vec<String>> = shown
                .into_iter()
                .map(|environment| {
                    let mut row = row(environment, live.get(&name(environment)));
                    if top.all_namespaces {
                        row.insert(0, name(environment).0);
                    }
                    row
                })
                .collect();
            output::table(&heads, &rows)
        }
        Some(Format::Name) => output::print(
            &shown
                .into_iter()
                .map(|environment| format!("environment/{}\n", environment.name_any()))
                .collect::<String>(),
        ),
        Some(format) => {
            let items: Vec<Value> = shown
                .into_iter()
                .map(|environment| whole(environment, live.get(&name(environment))))
                .collect();
            match format {
                Format::Yaml => output::yaml(&items),
                _ => output::json(&items),
            }
        }
    }
}

fn resources(environment: &Environment, live: Option<&Live>) -> ResourcesStatus {
    let written = environment.status.as_ref();
    let written = || written.and_then(|status| status.resources.clone());
    live.map(|live| live.resources.clone())
        .or_else(written)
        .unwrap_or_default()
}

/// For programs.
fn whole(environment: &Environment, live: Option<&Live>) -> Value {
    let phase = environment.status.as_ref().map(|status| status.phase);
    let (namespace, name) = name(environment);
    json!({
        "namespace": namespace, "name": name, "phase": phase,
        "resources": resources(environment, live),
        "cpuMillis": live.map(|live| live.cpu_millis),
        "memoryBytes": live.map(|live| live.memory_bytes),
        "pids": live.map(|live| live.pids),
        "pressure": live.and_then(|live| live.pressure),
    })
}

/// For people.
fn row(environment: &Environment, live: Option<&Live>) -> Vec<String> {
    let phase = environment.status.as_ref().map(|status| status.phase);
    let resources = resources(environment, live);
    let of = |used: Option<String>, limit: Option<String>| match (used, limit) {
        (None, _) => "-".to_owned(),
        (Some(used), None) => used,
        (Some(used), Some(limit)) => format!("{used}/{limit}"),
    };
    let seconds = |millis: u64| format!("{}.{:02}", millis / 1000, millis % 1000 / 10);
    let mut why: Vec<String> = resources
        .slowed
        .iter()
        .map(|slowed| slowed.message.clone())
        .collect();
    why.extend(resources.pending.iter().map(|one| one.message.clone()));
    vec![
        environment.name_any(),
        phase.map_or_else(|| "Pending".to_owned(), |phase| format!("{phase:?}")),
        of(
            live.map(|live| seconds(live.cpu_millis)),
            resources.cpu.map(|cpu| cpu.0),
        ),
        of(
            live.map(|live| format!("{}Mi", live.memory_bytes.div_ceil(1 << 20))),
            resources.memory.map(|memory| memory.0),
        ),
        of(
            live.map(|live| live.pids.to_string()),
            resources.pids.map(|pids| pids.to_string()),
        ),
        live.and_then(|live| live.pressure).map_or_else(
            || "-".to_owned(),
            |pressure| {
                format!(
                    "cpu {:.0}% mem {:.0}% io {:.0}%",
                    pressure.cpu, pressure.memory, pressure.io
                )
            },
        ),
        why.join("; "),
    ]
}

#[cfg(test)]
mod tests;
