//! Processes that were killed because memory ran out: which are news, and who is told.
//!
//! The developer reads it in `status.resources.memoryKills`, as an event, and on the terminals of the
//! sessions, where the line is shown by the agent.

use super::Job;
use crate::context::Context;
use crate::kernel_log::{Kill, Kills};
use boatyard_api::Environment;
use boatyard_api::environment::{MOST_KILLS, MemoryKill};
use boatyard_wire::Request;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use std::time::Duration;

/// By how much the clocks of the log and of the day may have drifted apart.
const DRIFT_SECONDS: i64 = 600;

/// Waits for kills that are not known yet; for ever where nobody can read of them.
pub(super) async fn more(kills: &mut Kills) {
    if kills.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// The kills of an environment that were not told yet, the oldest first. `counted` by its cgroups
/// are taken where the kernel's log cannot be read.
pub(super) fn fresh<'a>(
    log: &'a Kills,
    job: &'a Job,
    told: &'a [MemoryKill],
    counted: u64,
    limit: Option<Quantity>,
) -> impl FnOnce(Timestamp) -> Vec<MemoryKill> + 'a {
    move |now| {
        let readable = log.has_changed().is_ok();
        if readable {
            let known = log.borrow();
            return unknown(known.iter(), job, told, limit.as_ref());
        }
        let unnamed = MemoryKill {
            at: Time(now),
            process: None,
            memory: None,
            message: format!(
                "a process was killed: {}",
                because(false, limit.as_ref(), None)
            ),
        };
        let count = usize::try_from(counted).unwrap_or(MOST_KILLS);
        vec![unnamed; count.min(1)]
    }
}

/// Of the log, what is this start's and not told.
fn unknown<'a>(
    log: impl Iterator<Item = &'a Kill>,
    job: &Job,
    told: &[MemoryKill],
    limit: Option<&Quantity>,
) -> Vec<MemoryKill> {
    let mut fresh: Vec<MemoryKill> = Vec::new();
    let mut taken = vec![false; told.len()];
    for kill in log.filter(|kill| job.uids.contains(&kill.uid)) {
        // The range of ids may have been another environment's before.
        let began = job.started_at.is_some_and(|started| kill.at >= started);
        if !began {
            continue;
        }
        let memory = Quantity(format!("{}Mi", kill.bytes.div_ceil(1 << 20)));
        let same = |known: &MemoryKill| {
            known.process.as_ref() == Some(&kill.name)
                && known.memory.as_ref() == Some(&memory)
                && known.at.0.duration_since(kill.at).as_secs().abs() <= DRIFT_SECONDS
        };
        let known = told
            .iter()
            .zip(&mut taken)
            .find(|(known, taken)| !**taken && same(known));
        if let Some((_, taken)) = known {
            *taken = true;
            continue;
        }
        let message = format!(
            "{} was killed: {}",
            kill.name,
            because(kill.host, limit, Some(&memory))
        );
        fresh.push(MemoryKill {
            at: Time(kill.at),
            process: Some(kill.name.clone()),
            memory: Some(memory),
            message,
        });
    }
    let many = fresh.len().saturating_sub(MOST_KILLS);
    fresh.split_off(many)
}

fn because(host: bool, limit: Option<&Quantity>, held: Option<&Quantity>) -> String {
    let held = held.map_or_else(String::new, |held| format!("it held {}B, ", held.0));
    match (host, limit) {
        (true, _) => format!("{held}and the host had no memory left; stop something on it"),
        (false, Some(limit)) => format!(
            "{held}and the environment had used all of its {}B of memory; run less at once, or choose a larger class",
            limit.0
        ),
        (false, None) => format!("{held}and a limit of memory inside was reached"),
    }
}

/// Between two events about one environment: of further kills only status and terminals tell.
pub(super) const BETWEEN_EVENTS: Duration = Duration::from_secs(10);

/// Tells everybody who should know.
pub(super) async fn tell(
    context: &Context,
    object: &Environment,
    job: &Job,
    fresh: &[MemoryKill],
    post: bool,
) {
    let Some(last) = fresh.last() else { return };
    let text = match fresh.len() {
        1 => last.message.clone(),
        count => format!(
            "{} processes were killed, the last: {}",
            count, last.message
        ),
    };
    tracing::info!(environment = object.metadata.name, text, "memory ran out");
    let notice = Request::Notice {
        text: format!("[boatyard] {text}"),
    };
    let shown = crate::agent::tell(&job.socket, &notice);
    let posted = async {
        if post {
            let (client, kind) = (&context.client, "Warning");
            crate::objects::event(client, object, kind, "MemoryKill", &text).await;
        }
    };
    let (shown, ()) = tokio::join!(shown, posted);
    if let Err(error) = shown {
        tracing::debug!(%error, "no terminal was told");
    }
}

#[cfg(test)]
mod tests;
